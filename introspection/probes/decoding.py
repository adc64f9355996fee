"""Batched greedy decoding in one compiled loop, with an early exit and the log-probability of each token."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

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
from introspection.runtime.session import Session
from introspection.text.buckets import joined_batches, score_shape
from introspection.text.tokenizer import ChatTokenizer

# A decoding step waits for the weights: dozens of rows take hardly longer than a few. (SmolLM2 on 2 cores:
# 0.20 s in 16 rows, 0.25 s in 64, one manual run.)
LEAST_ROWS = 8


class Decoded(NamedTuple):
    """A greedy reply's tokens, including its end token if reached, and their log-probabilities."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]


def end_tokens(tokenizer: ChatTokenizer) -> tuple[int, ...]:
    """The tokens that end a reply: the end of the turn, and others at which the family stops."""
    return tuple(sorted({tokenizer.end_id, *tokenizer.stop_ids}))


class _LoopState(NamedTuple):
    step: Int[Array, ""]
    hidden: Float[Array, "prompts width"]
    tokens: Int[Array, "prompts steps"]
    logprobs: Float[Array, "prompts steps"]
    keys: Float[Array, "layers prompts steps kv_heads head_dim"]
    values: Float[Array, "layers prompts steps kv_heads head_dim"]
    lengths: Int[Array, " prompts"]  # tokens so far; constant once a row has ended
    ended: Array


def greedy_decode(
    config: ModelConfig,
    variables,
    prompts: Int[Array, "prompts length"],
    prompt_lengths: Int[Array, " prompts"],
    active: Array,
    *,
    end_ids: tuple[int, ...],
    max_tokens: int,
) -> tuple[Int[Array, "prompts max_tokens"], Float[Array, "prompts max_tokens"], Int[Array, " prompts"]]:
    """Greedy replies of up to `max_tokens` tokens: tokens, log-probabilities, lengths.

    The loop ends once every active row has generated one of `end_ids`. The prompt is one prefix block and the
    generated tokens a second one, so a step attends exactly as a full forward pass.
    """
    prompt = read_prompts(config, variables, prompts, prompt_lengths)
    head = head_matrix(variables["params"], config)
    layers, count = prompt.block.keys.shape[:2]
    cache_shape = (layers, count, max_tokens, config.kv_heads, config.head_dim)

    def say(state: _LoopState) -> _LoopState:
        logits = token_logits(head, state.hidden, config.final_softcap)
        token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        logprob = jnp.max(logits, axis=-1) - jax.nn.logsumexp(logits, axis=-1)
        said = PrefixBlock(
            state.keys,
            state.values,
            jnp.broadcast_to(jnp.arange(max_tokens) < state.step, (count, max_tokens)),
            prompt_lengths[:, None] + jnp.arange(max_tokens),
        )
        out = forward(
            config,
            variables,
            token[:, None],
            (prompt_lengths + state.step)[:, None],
            jnp.zeros((count, 1), jnp.int32),
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
            hidden=prompt.last_hidden,
            tokens=jnp.zeros((count, max_tokens), jnp.int32),
            logprobs=jnp.zeros((count, max_tokens), jnp.float32),
            keys=jnp.zeros(cache_shape, prompt.block.keys.dtype),
            values=jnp.zeros(cache_shape, prompt.block.values.dtype),
            lengths=jnp.zeros(count, jnp.int32),
            ended=~active,
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
    by_shape = defaultdict(list)
    for index, prompt in enumerate(prompts):
        by_shape[score_shape(len(prompt), 1, max_tokens)].append(index)
    results: list[Decoded] = [Decoded((), ())] * len(prompts)
    parameters = count_parameters(model.variables)
    for chunk, shape in joined_batches(by_shape, parameters, max(LEAST_ROWS, row_parts(session.mesh))):
        padded, lengths, _, _ = pad_requests([ScoreRequest(prompts[i], ()) for i in chunk], shape)
        active = np.arange(shape.prompts) < len(chunk)
        arrays = put_rows((padded, lengths, active), session.mesh)
        tokens, logprobs, said = map(np.asarray, program(model.variables, *arrays))
        for row, i in enumerate(chunk):
            check_finite(logprobs[row, : said[row]], model, str(names[i]) if names else "a prompt")
            results[i] = Decoded(
                tuple(tokens[row, : said[row]].tolist()), tuple(logprobs[row, : said[row]].tolist())
            )
        progress(len(chunk))
    return results
