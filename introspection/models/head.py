"""The language-model head, in token chunks: full-vocabulary logits of a whole batch never exist."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from introspection.models.config import ModelConfig


def head_matrix(params: dict, config: ModelConfig) -> Float[Array, "vocab width"]:
    """The matrix that turns a final hidden state into logits."""
    return params["embedding"] if config.tied_head else params["head"]


def token_logits(
    head: Float[Array, "vocab width"], hidden: Float[Array, "tokens width"]
) -> Float[Array, "tokens vocab"]:
    return jnp.einsum("nw,vw->nv", hidden, head.astype(hidden.dtype), preferred_element_type=jnp.float32)


def _in_chunks(function: Callable, arrays: tuple[Array, ...], chunk: int):
    """`function` over equal chunks of the arrays' leading axis, each recomputed in the backward pass."""
    tokens = arrays[0].shape[0]
    if tokens <= chunk:
        return function(*arrays)
    chunks = -(-tokens // chunk)
    padding = chunks * chunk - tokens

    def split(array):
        padded = jnp.pad(array, ((0, padding), *(((0, 0),) * (array.ndim - 1))))
        return padded.reshape(chunks, chunk, *array.shape[1:])

    results = jax.lax.map(lambda chunked: jax.checkpoint(function)(*chunked), jax.tree.map(split, arrays))
    return jax.tree.map(lambda r: r.reshape(chunks * chunk, *r.shape[2:])[:tokens], results)


def target_logprobs(
    head: Float[Array, "vocab width"],
    hidden: Float[Array, "tokens width"],
    targets: Int[Array, "tokens targets"],
    chunk: int,
) -> Float[Array, "tokens targets"]:
    """Log-probabilities (nats) of each position's targets; `chunk` positions' logits exist at a time."""

    def logprobs(hidden, targets):
        logits = token_logits(head, hidden)
        chosen = jnp.take_along_axis(logits, targets, axis=-1)
        return chosen - jax.nn.logsumexp(logits, axis=-1, keepdims=True)

    with jax.named_scope("head"):
        return _in_chunks(logprobs, (hidden, targets), chunk)


def vocabulary_kl(
    head: Float[Array, "vocab width"],
    hidden: Float[Array, "tokens width"],
    reference_head: Float[Array, "vocab reference_width"],
    reference_hidden: Float[Array, "tokens reference_width"],
    chunk: int,
    reverse: bool = False,
) -> Float[Array, " tokens"]:
    """KL(reference ‖ current) in nats over the whole vocabulary, or KL(current ‖ reference) if `reverse`.

    The reference is kept as final hidden states (width numbers a position), not as log-probabilities
    (vocabulary numbers a position). Its logits have the current model's precision: in another one, a
    model would differ from itself.
    """

    def divergence(hidden, reference_hidden):
        current = jax.nn.log_softmax(token_logits(head, hidden))
        reference_logits = token_logits(reference_head, reference_hidden.astype(hidden.dtype))
        reference = jax.lax.stop_gradient(jax.nn.log_softmax(reference_logits))
        if reverse:
            current, reference = reference, current
        return jnp.sum(jnp.exp(reference) * (reference - current), axis=-1)

    with jax.named_scope("vocabulary_kl"):
        return _in_chunks(divergence, (hidden, reference_hidden), chunk)
