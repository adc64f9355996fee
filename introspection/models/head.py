"""The language-model head, in token chunks: logits of a whole batch are never in memory."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from introspection.models.config import LoraConfig, ModelConfig

KL_DIRECTIONS = ("reference_to_current", "current_to_reference", "symmetric")
HEAD_ADAPTER = "head_adapter"  # of the collection `lora`


def head_matrix(variables: Mapping[str, Any], config: ModelConfig) -> Float[Array, "vocab width"]:
    """The matrix that turns a final hidden state into logits, with its adapter, if it has one."""
    params = variables["params"]
    head = params["embedding"] if config.tied_head else params["head"]
    if config.lora is None or not config.lora.adapts_head:
        return head
    return adapted_head(head, variables["lora"], config.lora)


def adapted_head(
    head: Float[Array, "vocab width"], adapters: Mapping[str, Any], lora: LoraConfig
) -> Float[Array, "vocab width"]:
    """`W + alpha / rank · (A B)ᵀ` in float32; `token_logits` rounds the sum to its own dtype."""
    update = jnp.einsum("wr,rv->vw", adapters[HEAD_ADAPTER]["A"], adapters[HEAD_ADAPTER]["B"])
    return head.astype(jnp.float32) + lora.alpha / lora.rank * update


def token_logits(
    head: Float[Array, "vocab width"],
    hidden: Float[Array, "tokens width"],
    softcap: float | None = None,
    temperature: float = 1.0,
) -> Float[Array, "tokens vocab"]:
    """Logits in float32, squashed into ±`softcap` (`ModelConfig.final_softcap`), if given, by a tanh, and
    divided by the temperature."""
    logits = jnp.einsum("nw,vw->nv", hidden, head.astype(hidden.dtype), preferred_element_type=jnp.float32)
    logits = logits if softcap is None else softcap * jnp.tanh(logits / softcap)
    return logits if temperature == 1.0 else logits / temperature


def _in_chunks(function: Callable, arrays: tuple[Array, ...], chunk: int):
    """Maps `function` over chunks of the leading axis; the backward pass recomputes each chunk."""
    tokens = arrays[0].shape[0]
    if any(array.shape[0] != tokens for array in arrays):
        raise ValueError(f"arrays of {[array.shape[0] for array in arrays]} positions")
    if tokens <= chunk:
        return function(*arrays)
    chunks = tuple(_split(array, chunk) for array in arrays)
    results = jax.lax.map(lambda chunked: jax.checkpoint(function)(*chunked), chunks)
    return jax.tree.map(lambda r: r.reshape(-1, *r.shape[2:])[:tokens], results)


def _split(array: Array, chunk: int) -> Array:
    """Splits the leading axis into equal chunks, the last one padded with zeros."""
    padded = jnp.pad(array, ((0, -array.shape[0] % chunk), *(((0, 0),) * (array.ndim - 1))))
    return padded.reshape(-1, chunk, *array.shape[1:])


def target_logprobs(
    head: Float[Array, "vocab width"],
    hidden: Float[Array, "tokens width"],
    targets: Int[Array, "tokens targets"],
    chunk: int,
    softcap: float | None = None,
    temperature: float = 1.0,
) -> Float[Array, "tokens targets"]:
    """Log-probabilities (nats) of each position's targets, computed for `chunk` positions at a time."""

    def logprobs(hidden, targets):
        logits = token_logits(head, hidden, softcap, temperature)
        chosen = jnp.take_along_axis(logits, targets, axis=-1)
        return chosen - jax.nn.logsumexp(logits, axis=-1, keepdims=True)

    with jax.named_scope("head"):
        return _in_chunks(logprobs, (hidden, targets), chunk)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def cross_entropy(
    head: Float[Array, "vocab width"],
    hidden: Float[Array, "tokens width"],
    targets: Int[Array, " tokens"],
    weights: Float[Array, " tokens"],
    chunk: int,
    softcap: float | None = None,
) -> Float[Array, ""]:
    """Weighted sum of the targets' negative log-probabilities (nats), for `chunk` positions at a time.

    The forward pass computes each chunk's gradient with respect to `head` and `hidden` while it has the
    chunk's logits, and the backward pass only scales it: nothing is computed twice.
    """
    return -jnp.sum(weights * target_logprobs(head, hidden, targets[:, None], chunk, softcap)[:, 0])


def _cross_entropy_forward(head, hidden, targets, weights, chunk, softcap):
    def one_chunk(head_gradient, arrays):
        hidden, targets, weights = arrays
        logits = token_logits(head, hidden, softcap)
        chosen = jnp.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
        normaliser = jax.nn.logsumexp(logits, axis=-1)
        chosen_now = jnp.arange(logits.shape[-1]) == targets[:, None]
        slope = (jnp.exp(logits - normaliser[:, None]) - chosen_now) * weights[:, None]
        if softcap is not None:
            slope *= 1.0 - jnp.square(logits / softcap)  # of the tanh, whose value is logits / softcap
        slope = slope.astype(hidden.dtype)
        head_gradient += jnp.einsum("nv,nw->vw", slope, hidden, preferred_element_type=jnp.float32)
        hidden_gradient = jnp.einsum("nv,vw->nw", slope, head.astype(hidden.dtype))
        return head_gradient, (jnp.sum(weights * (normaliser - chosen)), hidden_gradient)

    with jax.named_scope("cross_entropy"):
        start = jnp.zeros(head.shape, jnp.float32)
        arrays = (hidden, targets, weights)
        if hidden.shape[0] <= chunk:
            head_gradient, (loss, hidden_gradient) = one_chunk(start, arrays)
        else:
            chunks = jax.tree.map(lambda array: _split(array, chunk), arrays)
            head_gradient, (losses, hidden_gradient) = jax.lax.scan(one_chunk, start, chunks)
            loss = jnp.sum(losses)
            hidden_gradient = hidden_gradient.reshape(-1, hidden.shape[1])[: hidden.shape[0]]
    return loss, (head_gradient.astype(head.dtype), hidden_gradient)


def _cross_entropy_backward(chunk, softcap, gradients, slope):
    head_gradient, hidden_gradient = gradients
    scaled = hidden_gradient * slope.astype(hidden_gradient.dtype)
    return head_gradient * slope, scaled, None, None


cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)


def vocabulary_kl(
    head: Float[Array, "vocab width"],
    hidden: Float[Array, "tokens width"],
    reference_head: Float[Array, "vocab reference_width"],
    reference_hidden: Float[Array, "tokens reference_width"],
    chunk: int,
    direction: str = "reference_to_current",
    softcap: float | None = None,
    reference_softcap: float | None = None,
) -> Float[Array, " tokens"]:
    """`divergence` over the whole vocabulary.

    The reference is stored as final hidden states (width numbers per position), not as log-probabilities
    (vocabulary numbers per position). Its logits have the current model's precision, so that a model does not
    differ from itself.
    """

    def at_tokens(hidden, reference_hidden):
        current = jax.nn.log_softmax(token_logits(head, hidden, softcap))
        reference_logits = token_logits(
            reference_head, reference_hidden.astype(hidden.dtype), reference_softcap
        )
        reference = jax.lax.stop_gradient(jax.nn.log_softmax(reference_logits))
        return divergence(current, reference, direction)

    with jax.named_scope("vocabulary_kl"):
        return _in_chunks(at_tokens, (hidden, reference_hidden), chunk)


def divergence(
    current: Float[Array, "*batch outcomes"], reference: Float[Array, "*batch outcomes"], direction: str
) -> Float[Array, "*batch"]:
    """KL in nats of two distributions, given as log-probabilities.

    `direction` is one of `KL_DIRECTIONS`: KL(reference ‖ current), KL(current ‖ reference), or the mean of
    both (half of Jeffreys's divergence, 1946).
    """
    if direction == "symmetric":  # (p - q)(log p - log q) sums both directions
        return jnp.sum((jnp.exp(reference) - jnp.exp(current)) * (reference - current), axis=-1) / 2
    if direction == "current_to_reference":
        current, reference = reference, current
    return jnp.sum(jnp.exp(reference) * (reference - current), axis=-1)
