"""Sequences of items that are made when read, so that they take no memory."""

import dataclasses
import hashlib
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsIndex, overload

from introspection.tasks.items import Item

Row = Mapping[str, Any]  # by column: text, numbers, and lists of them


class ItemSequence(Sequence[Item]):
    def item(self, place: int) -> Item:
        """The item at a place from 0 to below the length."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Item, ...]: ...
    def __getitem__(self, index: int | slice) -> Item | tuple[Item, ...]:
        if isinstance(index, slice):
            return tuple(self.item(place) for place in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.item(index % len(self))


@dataclasses.dataclass(frozen=True)
class LazyItems(Sequence[Item]):
    """Items made from rows on access, `variants` per row; none is cached, and slices are lazy too.

    `convert` makes an item from a row and a number below `variants`, deterministically.
    """

    rows: Sequence[Row]
    convert: Callable[[Row, int], Item]
    variants: int = 1
    chosen: range | None = None  # indices; None is all

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: SupportsIndex | slice) -> "Item | LazyItems":
        if isinstance(index, slice):
            return dataclasses.replace(self, chosen=self._chosen[index])
        row, variant = divmod(self._chosen[operator.index(index)], self.variants)
        return self.convert(self.rows[row], variant)

    @property
    def _chosen(self) -> range:
        return range(len(self.rows) * self.variants) if self.chosen is None else self.chosen


def permuted(index: int, size: int, seed: int) -> int:
    """The position of `index` in a pseudorandom permutation of `size` things, in constant memory.

    A Feistel network over the next power of four, iterated until it lands in range (Black & Rogaway 2002).
    """
    half = max((size - 1).bit_length() + 1, 2) // 2
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(4):
            key = f"{seed} {turn} {right}".encode()
            drawn = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
            left, right = right, left ^ (drawn & mask)
        index = left << half | right
        if index < size:
            return index
