"""Which items of a list are taken: evenly, drawn, or by group."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from introspection.errors import InputError

T = TypeVar("T")


def evenly(items: Sequence[T], limit: int) -> tuple[T, ...]:
    """At most `limit` items (0: all), taken evenly so that all groups and cue kinds stay in.

    Raises:
      InputError: the limit is below 0.
    """
    if limit < 0:
        raise InputError(f"--limit is {limit}; it must be 0 (all items) or more")
    if not limit or limit >= len(items):
        return tuple(items)
    return tuple(items[i] for i in np.linspace(0, len(items) - 1, limit).astype(int))


def drawn_places(available: int, wanted: int, seed: int) -> list[int]:
    """Places of `wanted` items (or all), drawn, in their order: the first ones are of a few facts."""
    return np.sort(np.random.default_rng([seed, 60]).permutation(available)[:wanted]).tolist()


def kept_places(ids: Sequence[str], most: int) -> list[int]:
    """At most `most` places, taken evenly over the items; an item is kept with all its arms and seeds.

    So what is shown can still be compared across arms.
    """
    if len(ids) <= most:
        return list(range(len(ids)))
    distinct = list(dict.fromkeys(ids))
    kept = set(evenly(distinct, max(1, most * len(distinct) // len(ids))))
    return [place for place, name in enumerate(ids) if name in kept][:most]
