"""Batched decoding in one compiled loop, with an early exit and the log-probability of each token.

Replies are greedy, or groups of samples that share their prompt's keys and values.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from introspection.models.attention import PrefixBlock
from introspection.models.config import ModelConfig
from introspection.models.decoder import count_parameters, forward
from introspection.models.head import head_matrix, token_logits
from introspection.models.model import Model
from introspection.probes.scoring import (
    ScoreRequest,
    check_finite,
    exact_products,
    pad_requests,
    read_prompts,
)
from introspection.runtime.mesh import put_rows, row_parts
from introspection.runtime.processes import gather
from introspection.runtime.session import Session
from introspection.runtime.stopping import stop_if_asked
from introspection.text.buckets import joined_batches, score_shape
from introspection.text.tokenizer import ChatTokenizer

# A decoding step waits for the weights: dozens of rows take hardly longer than a few. (SmolLM2 on 2 cores:
# 0.20 s in 16 rows, 0.25 s in 64, one manual run.)
LEAST_ROWS = 8


class Decoded(NamedTuple):
    """A reply's tokens, including its end token if reached, and their log-probabilities (nats)."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]


def end_tokens(tokenizer: ChatTokenizer) -> tuple[int, ...]:
    """The tokens that end a reply: the end of the turn, and others at which the family stops."""
    return tuple(sorted({tokenizer.end_id, *tokenizer.stop_ids}))


class _LoopState(NamedTuple):
    step: Int[Array, ""]
    hidden: Float[Array, "rows width"]
    tokens: Int[Array, "rows steps"]
    logprobs: Float[Array, "rows steps"]
    keys: Float[Array, "layers rows steps kv_heads head_dim"]
    values: Float[Array, "layers rows steps kv_heads head_dim"]
    lengths: Int[Array, " rows"]  # tokens so far; constant once a row has ended
    ended: Array


# Logits of the next token and its place in the reply, to the token and its log-probability.
Choose = Callable[
    [Float[Array, "rows vocab"], Int[Array, ""]], tuple[Int[Array, " rows"], Float[Array, " rows"]]
]
Replied = tuple[Int[Array, "rows max_tokens"], Float[Array, "rows max_tokens"], Int[Array, " rows"]]


def greedy_decode(
    config: ModelConfig,
    variables,
    prompts: Int[Array, "prompts length"],
    prompt_lengths: Int[Array, " prompts"],
    active: Array,
    *,
    end_ids: tuple[int, ...],
    max_tokens: int,
) -> Replied:
    """Greedy replies of up to `max_tokens` tokens: tokens, log-probabilities, lengths."""

    def choose(logits, step):
        del step
        likeliest = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        return likeliest, jnp.max(logits, axis=-1) - jax.nn.logsumexp(logits, axis=-1)

    return _decode(
        config, variables, prompts, prompt_lengths, active, choose, 1, end_ids=end_ids, max_tokens=max_tokens
    )


def sample_decode(
    config: ModelConfig,
    variables,
    prompts: Int[Array, "prompts length"],
    prompt_lengths: Int[Array, " prompts"],
    active: Array,
    places: Int[Array, " prompts"],
    key: Array,
    *,
    group_size: int,
    temperature: float,
    end_ids: tuple[int, ...],
    max_tokens: int,
) -> Replied:
    """`group_size` sampled replies to each prompt, in consecutive rows, as `greedy_decode`.

    A token is drawn by the typed `key`, its prompt's place, its reply and its place in the reply, so a reply
    is the same in any batch. Log-probabilities are of the distribution at `temperature`, from which it is
    drawn.
    """
    of_prompts = jax.vmap(jax.random.fold_in, (None, 0))(key, places)
    of_replies = jax.vmap(lambda one: jax.vmap(jax.random.fold_in, (None, 0))(one, jnp.arange(group_size)))
    keys = of_replies(of_prompts).reshape(-1)

    def choose(logits, step):
        scaled = logits / temperature
        drawn = jax.vmap(lambda one, row: jax.random.categorical(jax.random.fold_in(one, step), row))
        token = drawn(keys, scaled).astype(jnp.int32)
        chosen = jnp.take_along_axis(scaled, token[:, None], axis=-1)[:, 0]
        return token, chosen - jax.nn.logsumexp(scaled, axis=-1)

    return _decode(
        config,
        variables,
        prompts,
        prompt_lengths,
        active,
        choose,
        group_size,
        end_ids=end_ids,
        max_tokens=max_tokens,
    )


def _decode(
    config: ModelConfig,
    variables,
    prompts: Int[Array, "prompts length"],
    prompt_lengths: Int[Array, " prompts"],
    active: Array,
    choose: Choose,
    replies: int,
    *,
    end_ids: tuple[int, ...],
    max_tokens: int,
) -> Replied:
    """`replies` rows a prompt.

    The loop ends once every active row has generated one of `end_ids`. The prompt is one prefix block and the
    generated tokens a second one, so a step attends exactly as a full forward pass.
    """
    prompt = read_prompts(config, variables, prompts, prompt_lengths)
    head = head_matrix(variables, config)
    starts = jnp.repeat(prompt_lengths, replies)
    layers, rows = prompt.block.keys.shape[0], starts.shape[0]
    cache_shape = (layers, rows, max_tokens, config.kv_heads, config.head_dim)

    def say(state: _LoopState) -> _LoopState:
        logits = token_logits(head, state.hidden, config.final_softcap)
        token, logprob = choose(logits, state.step)
        said = PrefixBlock(
            state.keys,
            state.values,
            jnp.broadcast_to(jnp.arange(max_tokens) < state.step, (rows, max_tokens)),
            starts[:, None] + jnp.arange(max_tokens),
        )
        out = forward(
            config,
            variables,
            token[:, None],
            (starts + state.step)[:, None],
            jnp.zeros((rows, 1), jnp.int32),
            (prompt.block, said),
            return_cache=True,
        )
        assert out.keys is not None  # `return_cache`
        assert out.values is not None
        return _LoopState(
            step=state.step + 1,
            hidden=out.hidden[:, 0],
            tokens=jax.lax.dynamic_update_slice(state.tokens, token[:, None], (0, state.step)),
            logprobs=jax.lax.dynamic_update_slice(state.logprobs, logprob[:, None], (0, state.step)),
            keys=jax.lax.dynamic_update_slice(state.keys, out.keys, (0, 0, state.step, 0, 0)),
            values=jax.lax.dynamic_update_slice(state.values, out.values, (0, 0, state.step, 0, 0)),
            lengths=state.lengths + ~state.ended,
            ended=state.ended | jnp.isin(token, jnp.array(end_ids, jnp.int32)),
        )

    final = jax.lax.while_loop(
        lambda state: (state.step < max_tokens) & ~jnp.all(state.ended),
        say,
        _LoopState(
            step=jnp.zeros((), jnp.int32),
            hidden=jnp.repeat(prompt.last_hidden, replies, axis=0),
            tokens=jnp.zeros((rows, max_tokens), jnp.int32),
            logprobs=jnp.zeros((rows, max_tokens), jnp.float32),
            keys=jnp.zeros(cache_shape, prompt.block.keys.dtype),
            values=jnp.zeros(cache_shape, prompt.block.values.dtype),
            lengths=jnp.zeros(rows, jnp.int32),
            ended=jnp.repeat(~active, replies),
        ),
    )
    return final.tokens, final.logprobs, final.lengths


def decode(
    model: Model,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
    names: Sequence[str] = (),
) -> list[Decoded]:
    """Greedy replies to tokenised prompts, in order; batches are padded to shape buckets.

    Of equally likely tokens the first in the vocabulary is said. `names` are the prompts' own, for errors.

    Raises:
      RunError: a token's log-probability is not finite. (If any logit is NaN, all tokens' are.)
    """
    end_ids = end_tokens(model.tokenizer)
    config = model.config.for_probes()
    program = session.programs.program(
        "greedy_decode",
        (config, end_ids, max_tokens),
        lambda: exact_products(
            lambda *arrays: greedy_decode(config, *arrays, end_ids=end_ids, max_tokens=max_tokens)
        ),
        data=(1,),
    )

    def said(variables, padded, lengths, active, places):
        del places
        return program(variables, padded, lengths, active)

    read = _read_batches(model, prompts, 1, max_tokens, said, session, progress, names)
    return [replies[0] for replies in read]


def sample(
    model: Model,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    max_tokens: int,
    temperature: float,
    key: Array,
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
    names: Sequence[str] = (),
) -> list[list[Decoded]]:
    """`group_size` replies to each tokenised prompt, in order, drawn by the typed `key`.

    Equal prompts at different places get replies of their own. Raises RunError as `decode`.
    """
    end_ids = end_tokens(model.tokenizer)
    config = model.config.for_probes()
    options: dict[str, Any] = dict(
        group_size=group_size, temperature=temperature, end_ids=end_ids, max_tokens=max_tokens
    )
    program = session.programs.program(
        "sample_decode",
        (config, *options.values()),
        lambda: exact_products(lambda *arrays: sample_decode(config, *arrays, **options)),
        data=(1,),
    )

    def sampled(variables, padded, lengths, active, places):
        return program(variables, padded, lengths, active, places, key)

    return _read_batches(model, prompts, group_size, max_tokens, sampled, session, progress, names)


def _read_batches(
    model: Model,
    prompts: Sequence[Sequence[int]],
    replies: int,
    max_tokens: int,
    program: Callable,
    session: Session,
    progress: Callable[[int], None],
    names: Sequence[str],
) -> list[list[Decoded]]:
    """Each prompt's replies; `program` reads prompts, their lengths, which of them count, and places."""
    by_shape = defaultdict(list)
    for index, prompt in enumerate(prompts):
        by_shape[score_shape(len(prompt), replies, max_tokens)].append(index)
    results: list[list[Decoded]] = [[] for _ in prompts]
    parameters = count_parameters(model.variables)
    for chunk, shape in joined_batches(by_shape, parameters, row_parts(session.mesh), LEAST_ROWS):
        padded, lengths, _, _ = pad_requests([ScoreRequest(prompts[i], ()) for i in chunk], shape)
        active = np.arange(shape.prompts) < len(chunk)
        places = np.zeros(shape.prompts, np.int32)
        places[: len(chunk)] = chunk
        arrays = put_rows((padded, lengths, active, places), session.mesh)
        stop_if_asked()
        tokens, logprobs, said = map(gather, program(model.variables, *arrays))
        for row in range(replies * len(chunk)):
            i = chunk[row // replies]
            check_finite(logprobs[row, : said[row]], model, str(names[i]) if names else "a prompt")
            results[i].append(
                Decoded(tuple(tokens[row, : said[row]].tolist()), tuple(logprobs[row, : said[row]].tolist()))
            )
        progress(len(chunk))
    return results
