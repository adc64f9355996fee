"""The shared-prefix scorer: log-probabilities of K continuations of one prompt.

The prompt is read once, its keys and values serve all continuations through a log-sum-exp merge
(`models.attention`), and only positions that predict a scored token reach the language-model head. So K
continuations of C tokens cost P + K C tokens instead of K (P + C).
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from introspection.errors import InputError, RunError
from introspection.models.attention import PrefixBlock
from introspection.models.config import ModelConfig
from introspection.models.decoder import count_parameters, forward
from introspection.models.head import head_matrix, target_logprobs
from introspection.models.model import Model
from introspection.runtime.mesh import put_rows, row_parts
from introspection.runtime.processes import gather
from introspection.runtime.session import Session
from introspection.runtime.stopping import stop_if_asked
from introspection.text.buckets import ScoreShape, batches, score_shape

# Positions whose full-vocabulary logits are in memory at a time.
HEAD_CHUNK = 2048


class ScoreRequest(NamedTuple):
    prompt: Sequence[int]
    continuations: Sequence[Sequence[int]]  # with their end tokens, if these count


class PromptState(NamedTuple):
    block: PrefixBlock
    last_hidden: Float[Array, "prompts width"]  # predicts the first token of every continuation


def read_prompts(
    config: ModelConfig, variables, prompts: Int[Array, "prompts length"], lengths: Int[Array, " prompts"]
) -> PromptState:
    """Runs right-padded prompts through the decoder and keeps their keys and values."""
    index = jnp.arange(prompts.shape[1])
    inside = index < lengths[:, None]
    segments = jnp.where(inside, 0, -1)
    positions = jnp.broadcast_to(index, prompts.shape)
    with jax.named_scope("read_prompts"):
        out = forward(config, variables, prompts, positions, segments, return_cache=True, branched=False)
    assert out.keys is not None  # `return_cache`
    assert out.values is not None
    last = jnp.take_along_axis(out.hidden, (lengths - 1)[:, None, None], axis=1)[:, 0]
    return PromptState(PrefixBlock(out.keys, out.values, inside, positions), last)


def continuation_logprobs(
    config: ModelConfig,
    variables,
    prompts: Int[Array, "prompts length"],
    prompt_lengths: Int[Array, " prompts"],
    continuations: Int[Array, "prompts continuations tokens"],
    continuation_lengths: Int[Array, "prompts continuations"],
) -> Float[Array, "prompts continuations"]:
    """Summed log-probability (nats) of each continuation; length 0 marks padding and gives 0."""
    state = read_prompts(config, variables, prompts, prompt_lengths)
    head = head_matrix(variables, config)
    count, k, length = continuations.shape
    softcap = config.final_softcap
    first = target_logprobs(head, state.last_hidden, continuations[:, :, 0], HEAD_CHUNK, softcap)
    logprobs = first * (continuation_lengths > 0)
    if length > 1:
        index = jnp.arange(length - 1)
        inputs = continuations[:, :, :-1].reshape(count * k, length - 1)
        lengths = continuation_lengths.reshape(count * k, 1)
        positions = jnp.repeat(prompt_lengths, k)[:, None] + index
        # In a continuation row, segment 0 is the continuation; the prompt is the prefix block.
        segments = jnp.where(index < lengths, 0, -1)
        with jax.named_scope("read_continuations"):
            hidden = forward(config, variables, inputs, positions, segments, (state.block,)).hidden
        targets = continuations[:, :, 1:].reshape(-1, 1)
        rest = target_logprobs(head, hidden.reshape(-1, config.width), targets, HEAD_CHUNK, softcap)
        counted = (index + 1 < lengths).reshape(count, k, length - 1)
        logprobs += jnp.sum(rest.reshape(count, k, length - 1) * counted, axis=-1)
    return logprobs


def exact_products(function: Callable) -> Callable:
    """The function with true float32 products; accelerators round the inputs by default."""

    def exact(*arrays):
        with jax.default_matmul_precision("highest"):
            return function(*arrays)

    return exact


def score(
    model: Model,
    requests: Sequence[ScoreRequest],
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
    names: Sequence[str] = (),
) -> list[Float[np.ndarray, " continuations"]]:
    """Log-probabilities of every request's continuations, in order.

    Requests are padded to their shape bucket, never to their neighbours. `progress` is called with the number
    of requests just finished; `names` are the requests' own, for errors.

    Raises:
      RunError: a log-probability is not finite.
    """
    config = model.config.for_probes()
    program = session.programs.program(
        "score_continuations",
        config,
        lambda: exact_products(lambda *arrays: continuation_logprobs(config, *arrays)),
        data=(1, 3),
    )
    by_shape: dict[ScoreShape, list[int]] = defaultdict(list)
    for index, request in enumerate(requests):
        longest = max(map(len, request.continuations))
        by_shape[score_shape(len(request.prompt), len(request.continuations), longest)].append(index)
    results: list[np.ndarray] = [np.empty(0)] * len(requests)
    parameters = count_parameters(model.variables)
    for bucket_shape, indices in by_shape.items():
        for chunk, shape in batches(indices, bucket_shape, parameters, row_parts(session.mesh)):
            arrays = pad_requests([requests[i] for i in chunk], shape)
            stop_if_asked()
            logprobs = gather(program(model.variables, *put_rows(arrays, session.mesh)))
            for i, row in zip(chunk, logprobs, strict=False):  # the last batch has padding rows
                results[i] = row[: len(requests[i].continuations)]
                check_finite(results[i], model, str(names[i]) if names else "a prompt")
            progress(len(chunk))
    return results


def check_finite(logprobs: Sequence[float] | np.ndarray, model: Model, of: str) -> None:
    """Raises RunError, which names the model and what was scored, if a log-probability is not finite."""
    if not np.isfinite(logprobs).all():
        raise RunError(
            f"{model.name or 'the model'}: on {of}, log-probabilities are not finite (NaN or infinite), so "
            "they decide nothing; its weights are damaged or too large: give another checkpoint"
        )


def single_best(scores: Float[np.ndarray, " choices"]) -> int | None:
    """The place of the highest score; None where several share it, since order is no reason to prefer one."""
    best = np.flatnonzero(scores == np.max(scores))
    return int(best[0]) if len(best) == 1 else None


def pad_requests(requests: Sequence[ScoreRequest], shape: ScoreShape) -> tuple[np.ndarray, ...]:
    """The arrays of `continuation_logprobs` for up to `shape.prompts` requests.

    Raises InputError if a prompt or continuation is empty, as `text.rows.build_row`: it would score as
    certain.
    """
    prompts = np.zeros((shape.prompts, shape.prompt_length), np.int32)
    prompt_lengths = np.ones(shape.prompts, np.int32)
    continuations = np.zeros((shape.prompts, shape.continuations, shape.continuation_length), np.int32)
    continuation_lengths = np.zeros((shape.prompts, shape.continuations), np.int32)
    for row, request in enumerate(requests):
        if not all(map(len, (request.prompt, *request.continuations))):
            raise InputError("a request needs a prompt and continuations with at least one token each")
        prompts[row, : len(request.prompt)] = request.prompt
        prompt_lengths[row] = len(request.prompt)
        for k, continuation in enumerate(request.continuations):
            continuations[row, k, : len(continuation)] = continuation
            continuation_lengths[row, k] = len(continuation)
    return prompts, prompt_lengths, continuations, continuation_lengths
