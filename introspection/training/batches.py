"""`batch = f(step, seed)`: the step is the only data state, so a resumed run sees the same batches."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from introspection.errors import InputError
from introspection.text.rows import Rows
from introspection.training.objectives import Batch, BehaviorBatch, ReplyBatch

# One stream of permutations each, so that adding a kind of rows leaves the others' order alone.
_EXPLANATION, _BEHAVIOR, _SHIFT = 1, 2, 3


@functools.lru_cache(maxsize=64)
def _permutation(size: int, seed: int, stream: int, epoch: int) -> Int[np.ndarray, " size"]:
    return np.random.default_rng([seed, stream, epoch]).permutation(size)


def epoch_indices(size: int, count: int, step: int, seed: int, stream: int = 0) -> Int[np.ndarray, " count"]:
    """The `count` indices of step `step`: every index comes once an epoch, each epoch in a new order."""
    places = range(step * count, (step + 1) * count)
    return np.array([_permutation(size, seed, stream, place // size)[place % size] for place in places])


class TrainingRows(NamedTuple):
    """Everything that the steps of one seed draw from; parts that are None are not trained."""

    explanation: Rows
    behavior: BehaviorBatch | None
    shift: Rows | None
    replies: ReplyBatch | None = None  # in place of `behavior` where behaviour is generated


@dataclasses.dataclass(frozen=True)
class BatchSizes:
    explanation: int  # rows a step and seed
    behavior: int  # items a step and seed; each is two rows
    shift: int  # rows a step and seed, where there is a shift

    def __post_init__(self):
        for name, size in dataclasses.asdict(self).items():
            if size < 1:
                raise InputError(f"a step needs at least one row of every kind; {name} has {size}")


def make_batch(rows: TrainingRows, sizes: BatchSizes, step: int, seed: int) -> Batch:
    """The rows of one step and seed, as host arrays."""

    def draw(part, stream: int, count: int):
        if part is None:
            return None
        size = jax.tree.leaves(part)[0].shape[0]
        index = epoch_indices(size, count, step, seed, stream)
        return jax.tree.map(lambda array: array[index], part)

    return Batch(
        explanation=draw(rows.explanation, _EXPLANATION, sizes.explanation),
        behavior=draw(rows.behavior, _BEHAVIOR, sizes.behavior),
        shift=draw(rows.shift, _SHIFT, sizes.shift),
        replies=draw(rows.replies, _BEHAVIOR, sizes.behavior),
    )


def stack_batches(batches: Sequence[Sequence[Batch]]) -> Batch:
    """`[step][seed]` batches to one whose leaves are `steps seeds rows …`."""
    by_step = [jax.tree.map(lambda *leaves: np.stack(leaves), *seeds) for seeds in batches]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *by_step)
