"""Sequences of items that are made when they are read, so that any number of them takes no memory."""

from collections.abc import Sequence
from typing import overload

from introspection.tasks.items import Item


class ItemSequence(Sequence[Item]):
    """Items that are made when they are read, by place."""

    def item(self, place: int) -> Item:
        """The item of a place from 0 to below the length."""
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
