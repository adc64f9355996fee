"""Subsets of items: evenly spaced, drawn, or by item; and the cue kinds drawn for each."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from introspection.errors import InputError

T = TypeVar("T")


def evenly(items: Sequence[T], limit: int) -> tuple[T, ...]:
    """At most `limit` items (0: all), evenly spaced so that all groups and cue kinds stay represented.

    Raises:
      InputError: the limit is below 0.
    """
    if limit < 0:
        raise InputError(f"--limit is {limit}; it must be 0 (all items) or more")
    if not limit or limit >= len(items):
        return tuple(items)
    return tuple(items[i] for i in np.linspace(0, len(items) - 1, limit).astype(int))


def drawn_places(available: int, wanted: int, seed: int) -> list[int]:
    """Places of `wanted` items (or all), drawn and sorted: the first items are about few facts."""
    return np.sort(np.random.default_rng([seed, 60]).permutation(available)[:wanted]).tolist()


def kept_places(ids: Sequence[str], most: int) -> list[int]:
    """At most `most` places, evenly spaced over items; an item keeps all its arms and seeds, to compare."""
    if len(ids) <= most:
        return list(range(len(ids)))
    distinct = list(dict.fromkeys(ids))
    kept = set(evenly(distinct, max(1, most * len(distinct) // len(ids))))
    return [place for place, name in enumerate(ids) if name in kept][:most]


def drawn_kinds(
    things: Sequence[T], kinds_of: Callable[[T], Sequence[str]], count: int, seed: Sequence[int]
) -> list[tuple[T, str]]:
    """Each thing with `count` (0: all) of its cue kinds, drawn; things without any are skipped."""
    rng = np.random.default_rng(seed)
    drawn = []
    for thing in things:
        kinds = kinds_of(thing)
        chosen = rng.permutation(len(kinds))[: count or len(kinds)]
        drawn += [(thing, kinds[place]) for place in sorted(chosen)]
    return drawn
