"""Packs: rows of several texts, in which a start that texts have in common stands once.

Rows go into packs by first-fit-decreasing (Johnson 1973), the longest first, each into the pack with room to
which it adds the fewest tokens. Where nothing is shared, that is the first with room, and a function of the
rows' lengths alone.
"""

import bisect
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from introspection.errors import InputError
from introspection.text.rows import Rows

ROOT = -1


class Packs(NamedTuple):
    """Token rows that hold other rows' tokens; every array is int32. A token's position is its place in its
    own text, and `ends` is read by `models.attention.span_mask`."""

    tokens: Int[np.ndarray, "*batch packs time"]
    positions: Int[np.ndarray, "*batch packs time"]
    ends: Int[np.ndarray, "*batch packs time"]
    # By kind of rows: where the packs, one after another, have the token of each scored position.
    places: dict[str, Int[np.ndarray, "*batch rows scored"]]


class _Pack:
    """A tree of tokens: a node is a token after all those on the way to it."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], int] = {}  # (node before, token) -> node

    def follow(self, before: int, tokens: Sequence[int]) -> tuple[int, int]:
        """The last node on the way of `tokens` from a node, and how many of them lead there."""
        for count, token in enumerate(tokens):
            if (node := self.known.get((before, token))) is None:
                return before, count
            before = node
        return before, len(tokens)

    def added(self, row: "Texts") -> int:
        """How many tokens a row would add."""
        before, shared = self.follow(ROOT, row.prompt)
        new = len(row.prompt) - shared
        for continuation in row.continuations:
            new += len(continuation) - (
                0 if shared < len(row.prompt) else self.follow(before, continuation)[1]
            )
        return new

    def add(self, row: "Texts") -> list[int]:
        """Adds a row; the nodes of its tokens in their order."""
        prompt = self._add(ROOT, row.prompt)
        return prompt + [node for one in row.continuations for node in self._add(prompt[-1], one)]

    def _add(self, before: int, tokens: Sequence[int]) -> list[int]:
        nodes = []
        for token in tokens:
            before = self.known.setdefault((before, token), len(self.known))
            nodes.append(before)
        return nodes

    def laid_out(self) -> tuple[Int[np.ndarray, "3 nodes"], Int[np.ndarray, " nodes"]]:
        """Tokens, positions and ends, depth first; and the place of every node."""
        tokens, parents = [token for _, token in self.known], [before for before, _ in self.known]
        size, depth = [1] * len(tokens), [0] * len(tokens)
        for node in reversed(range(len(tokens))):  # a node comes after the one before it
            if parents[node] != ROOT:
                size[parents[node]] += size[node]
        # The next free place of each node's children, in the order in which they were added.
        places, free = [0] * len(tokens), {ROOT: 0}
        for node, parent in enumerate(parents):
            places[node] = free[parent]
            free[parent] += size[node]
            free[node] = places[node] + 1
            depth[node] = 0 if parent == ROOT else depth[parent] + 1
        at = np.array(places)
        laid = np.empty((3, len(tokens)), np.int32)
        laid[:, at] = [tokens, depth, at + size]
        return laid, at


class Texts(NamedTuple):
    """What a row holds, as far as it is an input."""

    prompt: list[int]
    continuations: list[list[int]]

    @property
    def length(self) -> int:
        return len(self.prompt) + sum(map(len, self.continuations))


def _texts(tokens: Int[np.ndarray, " time"], segments: Int[np.ndarray, " time"]) -> Texts:
    return Texts(
        tokens[segments == 0].tolist(),
        [tokens[segments == k].tolist() for k in range(1, int(segments.max()) + 1)],
    )


def texts_of(parts: dict[str, Rows]) -> list["Texts"]:
    """What the rows of several kinds, each of shape `rows …`, hold."""
    both = [(rows.tokens, rows.segments) for rows in parts.values()]
    return [_texts(*row) for tokens, segments in both for row in zip(tokens, segments, strict=True)]


def least_shape(batches: Iterable[Sequence["Texts"]], longest: int, multiple: int = 1) -> tuple[int, int]:
    """The shape `packs time` that holds the rows of any of some batches: as few packs of at most `longest`
    tokens as they need, rounded up to a multiple, and these as short as can be, in eights.

    Args:
      batches: gone through several times, one batch at a time, so that they need not be in memory at once.

    Raises:
      InputError: a row is longer than a pack.
    """
    most, shortest = 0, 0
    for rows in batches:
        most = max(most, len(_assigned(rows, longest)[0]))
        shortest = max(shortest, *(row.length for row in rows))
    packs = -(-most // multiple) * multiple
    times = range(-(-shortest // 8) * 8, longest, 8)

    def fits(time: int) -> bool:
        return all(len(_assigned(rows, time)[0]) <= packs for rows in batches)

    place = bisect.bisect_left(times, True, key=fits)
    return packs, times[place] if place < len(times) else longest


def pack_rows(parts: dict[str, Rows], time: int, packs: int | None = None) -> Packs:
    """Packs of `time` tokens with the rows of several kinds, each of shape `rows …`.

    Args:
      packs: how many there are, empty ones included; None: as many as are needed.

    Raises:
      InputError: a row is longer than a pack, or the rows need more packs.
    """
    flat = texts_of(parts)
    made, nodes_of = _assigned(flat, time)
    count = len(made) if packs is None else packs
    if len(made) > count:
        raise InputError(f"{len(flat)} rows need {len(made)} packs of {time} tokens; there are {count}")
    arrays = np.zeros((3, count, time), np.int32)
    places = []
    for index, pack in enumerate(made):
        laid, at = pack.laid_out()
        arrays[:, index, : laid.shape[1]] = laid
        places.append(index * time + at)
    of_tokens = [places[pack][nodes] for pack, nodes in nodes_of]
    starts = np.cumsum([0, *(len(rows.tokens) for rows in parts.values())])
    scored = {
        name: np.stack([at[row] for at, row in zip(of_tokens[start:], rows.scored, strict=False)]).astype(
            np.int32
        )
        for (name, rows), start in zip(parts.items(), starts, strict=False)
    }
    tokens, positions, ends = arrays
    return Packs(tokens, positions, ends, scored)


def _assigned(rows: Sequence[Texts], time: int) -> tuple[list[_Pack], list[tuple[int, list[int]]]]:
    """The packs; and of each row its pack and the nodes of its tokens there."""
    made: list[_Pack] = []
    nodes_of: dict[int, tuple[int, list[int]]] = {}
    for index in sorted(range(len(rows)), key=lambda index: -rows[index].length):
        row = rows[index]
        if row.length > time:
            raise InputError(
                f"a row has {row.length} tokens, but a pack has room for {time}; shorten the texts"
            )
        fitting = [(pack.added(row), place) for place, pack in enumerate(made)]
        fitting = [(new, place) for new, place in fitting if len(made[place].known) + new <= time]
        if not fitting:
            made.append(_Pack())
        place = min(fitting)[1] if fitting else len(made) - 1
        nodes_of[index] = place, made[place].add(row)
    return made, [nodes_of[index] for index in range(len(rows))]
