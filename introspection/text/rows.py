"""Rows of tokens with scored positions.

A row is a prompt and any number of continuations, side by side: each continuation sees the prompt and itself
(`segments`, read by `models.attention.row_ends`), and its positions start at the prompt's end. So an
explanation row (one continuation) and a behaviour row (a prompt and its K candidate answers) have the same
form and need one forward pass.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from introspection.errors import InputError


class Rows(NamedTuple):
    """`rows` token rows; every array is int32.

    `scored` has the indices of tokens whose hidden states predict; each predicts up to `targets` tokens (the
    first tokens of all continuations share the prompt's last hidden state). `continuation` is the
    continuation of each target, -1 for padding: it gives the loss mask and the sum over a candidate's tokens.
    """

    tokens: Int[np.ndarray, "*batch time"]
    positions: Int[np.ndarray, "*batch time"]
    segments: Int[np.ndarray, "*batch time"]
    scored: Int[np.ndarray, "*batch scored"]
    targets: Int[np.ndarray, "*batch scored targets"]
    continuation: Int[np.ndarray, "*batch scored targets"]


def build_row(prompt: Sequence[int], continuations: Sequence[Sequence[int]]) -> Rows:
    """One row, unpadded and without a leading axis.

    The last token of a continuation is predicted but not an input. Raises InputError if the prompt or a
    continuation is empty, since its loss mask would be.
    """
    if not prompt or not continuations or not all(continuations):
        raise InputError("a row needs a prompt and continuations with at least one token each")
    tokens, positions, segments = list(prompt), list(range(len(prompt))), [0] * len(prompt)
    scored, targets, owners = (
        [len(prompt) - 1],
        [[c[0] for c in continuations]],
        [[*range(len(continuations))]],
    )
    for k, continuation in enumerate(continuations):
        for offset, (token, following) in enumerate(itertools.pairwise(continuation)):
            scored.append(len(tokens))
            targets.append([following])
            owners.append([k])
            tokens.append(token)
            positions.append(len(prompt) + offset)
            segments.append(k + 1)
    width = len(continuations)
    padded_targets = [row + [0] * (width - len(row)) for row in targets]
    padded_owners = [row + [-1] * (width - len(row)) for row in owners]
    arrays = (tokens, positions, segments, scored, padded_targets, padded_owners)
    return Rows(*(np.asarray(array, np.int32) for array in arrays))


def stack_rows(rows: Sequence[Rows], time: int | None = None) -> Rows:
    """Pads rows to a common shape (or `time` tokens) and stacks them.

    Raises InputError if a row is longer than `time`: truncating an answer would change it.
    """
    longest = max(len(row.tokens) for row in rows)
    time = longest if time is None else time
    if longest > time:
        raise InputError(f"a row has {longest} tokens, but the batch has room for {time}; shorten the texts")
    scored = max(row.scored.shape[0] for row in rows)
    targets = max(row.targets.shape[1] for row in rows)

    def pad(name: str, shape: tuple[int, ...], value: int) -> np.ndarray:
        out = np.full((len(rows), *shape), value, np.int32)
        for i, row in enumerate(rows):
            array = getattr(row, name)
            out[(i, *(slice(n) for n in array.shape))] = array
        return out

    return Rows(
        tokens=pad("tokens", (time,), 0),
        positions=pad("positions", (time,), 0),
        segments=pad("segments", (time,), -1),
        scored=pad("scored", (scored,), 0),
        targets=pad("targets", (scored, targets), 0),
        continuation=pad("continuation", (scored, targets), -1),
    )


def pad_scored(rows: Rows, scored: int) -> Rows:
    """The same rows with room for `scored` scored positions."""
    extra = [(0, 0)] * (rows.scored.ndim - 1) + [(0, _extra(rows.scored, scored))]
    return rows._replace(
        scored=np.pad(rows.scored, extra),
        targets=np.pad(rows.targets, [*extra, (0, 0)]),
        continuation=np.pad(rows.continuation, [*extra, (0, 0)], constant_values=-1),
    )


def _extra(array: np.ndarray, room: int) -> int:
    extra = room - array.shape[-1]
    if extra < 0:
        raise InputError(f"rows of {array.shape[-1]} tokens do not fit into {room}; shorten the texts")
    return extra


def pad_time(rows: Rows, time: int) -> Rows:
    """The same rows with `time` tokens of room."""
    widths = [(0, 0)] * (rows.tokens.ndim - 1) + [(0, _extra(rows.tokens, time))]
    return rows._replace(
        tokens=np.pad(rows.tokens, widths),
        positions=np.pad(rows.positions, widths),
        segments=np.pad(rows.segments, widths, constant_values=-1),
    )
