"""A step in parts: gradients of some of its rows after those of others, summed, for want of memory.

Each term of the objective is a sum over its tokens, prompts or pairs, divided by how many the whole step
has. Of a part, `batch_loss` divides by how many the part has; so a part's terms, and its metrics, count here
by its share of them. The sum is the whole step's, to rounding.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from introspection.text.rows import Rows
from introspection.training.objectives import Batch, ObjectiveWeights
from introspection.training.policy_gradient import Groups
from introspection.training.preference import Pairs

Metrics = dict[str, Array]
# What a metric is a mean over; "groups" are as many in every part.
COUNTED = {
    "explanation_loss": "explanation",
    "kl": "kl",
    "agreement": "labelled",
    "kept_behavior": "labelled",
    **dict.fromkeys(("reward", "constant_groups"), "groups"),
}  # others are of the shift


def summed_gradient(
    loss: Callable[[Any, Batch, ObjectiveWeights], tuple[Float[Array, ""], Metrics]],
    trainable: Any,
    batch: Batch,
    weights: ObjectiveWeights,
    parts: int,
) -> tuple[Any, Metrics]:
    """`jax.grad(loss, has_aux=True)` of a batch in so many equal parts, one after another."""
    gradient = jax.grad(loss, has_aux=True)
    if parts == 1:
        return gradient(trainable, batch, weights)
    split = jax.tree.map(lambda leaf: interleaved(leaf, parts), batch)
    counts = jax.vmap(term_counts)(split)
    shares = {term: count / jnp.maximum(jnp.sum(count), 1) for term, count in counts.items()}

    def of_part(part: Batch, share: dict[str, Any]) -> tuple[Any, Metrics]:
        own = ObjectiveWeights(
            *(getattr(weights, term) * share.get(term, 0.0) for term in ObjectiveWeights._fields)
        )
        found, metrics = gradient(trainable, part, own)
        return found, {
            name: value if name == "loss" else value * share[COUNTED.get(name, "shift")]
            for name, value in metrics.items()
        }

    def add(total: Any, now: tuple[Batch, dict[str, Any]]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, of_part(*now)), None

    first = jax.tree.map(lambda leaf: leaf[0], (split, shares))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(of_part, *first))
    return jax.lax.scan(add, zeros, (split, shares))[0]


def interleaved(rows: Shaped[Array, "rows ..."], parts: int) -> Shaped[Array, "parts part_rows ..."]:
    """Every `parts`-th row in one part, so that rows which devices share out stay where they are."""
    return jnp.swapaxes(rows.reshape(rows.shape[0] // parts, parts, *rows.shape[1:]), 0, 1)


def term_counts(batch: Batch) -> dict[str, Array]:
    """How many tokens, prompts, pairs or items each term, or metric, of a batch is a mean over."""
    counts: dict[str, Any] = {"groups": 1.0}
    if batch.explanation is not None:
        counts["explanation"] = _tokens(batch.explanation)
    if batch.behavior is not None:
        counts["kl"] = jnp.sum(batch.behavior.kl_mask)
        if batch.behavior.answers is not None:
            counts["labelled"] = jnp.sum(batch.behavior.answers.labelled)
    if batch.text is not None:
        counts["kl"] = batch.text.reference_hidden.shape[0]
    if isinstance(batch.shift, Pairs):
        counts["shift"] = batch.shift.reference_logprobs.shape[0]
    elif batch.shift is not None:
        counts["shift"] = _tokens(batch.shift.rows if isinstance(batch.shift, Groups) else batch.shift)
    return {term: jnp.float32(count) for term, count in counts.items()}


def _tokens(rows: Rows) -> Array:
    return jnp.sum(jnp.asarray(rows.continuation) >= 0)
