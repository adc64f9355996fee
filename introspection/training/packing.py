"""Batches whose rows lie in packs: what several rows begin with is read once, and little is padding.

The losses and their gradients are those of the rows by themselves, to rounding. A pack's shape is the same at
every step, for one executable.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jax.sharding import Mesh

from introspection.errors import InputError
from introspection.runtime.mesh import row_parts
from introspection.text.packs import Texts, least_shape, pack_rows, texts_of
from introspection.training.batches import rows_of
from introspection.training.objectives import Batch, batch_parts


def packed(batch: Batch, time: int, packs: int | None = None) -> Batch:
    """The batch with its rows in `packs` packs of `time` tokens (None: as many as are needed).

    Raises:
      InputError: as `pack_rows`.
    """
    return batch._replace(packs=pack_rows(batch_parts(batch), time, packs))


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """What the batches of all steps hold, made anew whenever they are gone through: at once they would take
    gigabytes."""

    batch: Callable[[int, int], Batch]
    steps: int
    seeds: Sequence[int]

    def __iter__(self) -> Iterator[list[Texts]]:
        drawn = itertools.product(range(self.steps), self.seeds)
        return (texts_of(batch_parts(self.batch(step, seed))) for step, seed in drawn)


def in_packs(
    batch: Callable[[int, int], Batch], steps: int, seeds: Sequence[int], time: int, mesh: Mesh
) -> Callable[[int, int], Batch]:
    """`batch` (step, seed) with its rows in packs of at most `time` tokens, of one shape at every step.

    Raises:
      InputError: a row is longer than a pack.
    """
    packs, longest = least_shape(_Drawn(batch, steps, seeds), time, row_parts(mesh))
    return lambda step, seed: packed(batch(step, seed), longest, packs)


def check_fits(part: Any, time: int, what: str) -> None:
    """Raises InputError if one of a part's rows, if there are any, is longer than a pack of `time` tokens."""
    if part is None:
        return
    longest = int((rows_of(part).segments >= 0).sum(axis=-1).max())
    if longest > time:
        raise InputError(
            f"config.train.pack_tokens is {time}, but {what} has {longest} tokens: give at least as many, or "
            "0 for no packs"
        )
