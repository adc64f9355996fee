"""The head's loss in token chunks against full-vocabulary logits: time and memory of loss and gradient."""

import dataclasses

import jax
import jax.numpy as jnp

from experiments.benchmarks.timing import Measure, alternate, temporary_bytes
from introspection.errors import RunError
from introspection.models.head import cross_entropy, target_logprobs

# Of the gradients, relative to their largest entry; sums over tokens are taken in another order.
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Size:
    vocab_size: int = 50_304
    width: int = 256
    tokens: int = 2048  # 4 rows of 512 scored positions
    chunk: int = 512
    runs: int = 7


TINY = Size(64, 8, 12, 4, runs=2)


def run(size: Size | None = None) -> list[Measure]:
    """Mean cross-entropy of random hidden states and its gradient in the hidden states and the head.

    The chunked side is the training loss, `models.head.cross_entropy`. The full side computes all logits and
    keeps them for the backward pass. Raises RunError if losses or gradients differ.
    """
    size = size or Size()
    keys = jax.random.split(jax.random.key(0), 3)
    head = jax.random.normal(keys[0], (size.vocab_size, size.width)) * 0.02
    hidden = jax.random.normal(keys[1], (size.tokens, size.width))
    targets = jax.random.randint(keys[2], (size.tokens,), 0, size.vocab_size)
    weights = jnp.ones(size.tokens)

    def full(head, hidden):
        return -jnp.mean(target_logprobs(head, hidden, targets[:, None], size.tokens))

    def chunked(head, hidden):
        total: jax.Array = cross_entropy(head, hidden, targets, weights, size.chunk)
        return total / size.tokens

    losses = {"full": full, "chunked": chunked}
    programs = {name: jax.jit(jax.value_and_grad(loss, argnums=(0, 1))) for name, loss in losses.items()}
    check_equal(programs["full"](head, hidden), programs["chunked"](head, hidden))
    temporary = {name: temporary_bytes(jitted, head, hidden) for name, jitted in programs.items()}
    ways = {name: lambda jitted=jitted: jitted(head, hidden) for name, jitted in programs.items()}
    times = alternate(ways, size.runs)
    shapes = {"chunk": size.chunk, "tokens": size.tokens, "vocab_size": size.vocab_size}
    megabytes = {name: round(count / 1e6, 3) for name, count in temporary.items()}
    return [
        Measure(
            name="chunked_loss.memory",
            value=round(1 - temporary["chunked"] / temporary["full"], 4),
            unit="share of temporary memory saved",
            reference=0.0,
            ratio=temporary["chunked"] / temporary["full"],
            extra={
                "ratio_is": "chunked / full logits",
                "target": "value >= 0.4",
                "chunked_mb": megabytes["chunked"],
                "full_mb": megabytes["full"],
                **shapes,
            },
        ),
        Measure(
            name="chunked_loss.time",
            value=round(times["chunked"].median * 1e3, 3),
            unit="ms, loss and gradient",
            reference=round(times["full"].median * 1e3, 3),
            ratio=times["chunked"].median / times["full"].median,
            extra={
                "ratio_is": "chunked / full logits",
                "target": "<= 1",
                **times["chunked"].numbers("chunked"),
                **times["full"].numbers("full"),
                **shapes,
            },
        ),
    ]


def check_equal(one, other) -> None:
    """Raises RunError unless two trees are equal up to rounding."""
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        difference = float(jnp.abs(left - right).max() / jnp.abs(left).max())
        if not difference <= TOLERANCE:
            raise RunError(f"chunked and full loss or gradients differ by {difference:.2e}, relatively")
