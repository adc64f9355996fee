"""What `matrix.json` holds (design.md §7), as values: a field is a key."""

import dataclasses
from collections.abc import Mapping

from introspection.coupling.run_results import Ends, Estimate, too_few


@dataclasses.dataclass(frozen=True)
class Diagonal:
    """Mean exact match over the names that are emitter and teacher: with oneself, with the others."""

    own: float | None = None
    others: float | None = None
    difference: Estimate = Estimate()


@dataclasses.dataclass(frozen=True)
class Matrix:
    """A comparison's `matrix.json`: emitters (rows) against teachers (columns) on the same `n` items."""

    emitters: tuple[str, ...]
    teachers: tuple[str, ...]
    n: int
    exact_match: tuple[tuple[float | None, ...], ...]
    has_changed_f1: tuple[tuple[float | None, ...], ...] = ()
    content_match: tuple[tuple[float | None, ...], ...] = ()
    changed_accuracy: tuple[tuple[float | None, ...], ...] = ()
    ci95: tuple[tuple[Ends | None, ...], ...] = ()  # of exact_match
    diagonal: Diagonal | None = None  # None with fewer than two names that are both
    invalid_rate: tuple[float, ...] = ()  # of each emitter's explanations
    none_rate: tuple[float, ...] = ()  # of each teacher's decisions, with and without the cue
    groups: int | None = None  # of the items
    fingerprints: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()  # on how the models are asked

    def __post_init__(self):
        rows = {len(row) for row in self.exact_match}
        if len(self.exact_match) != len(self.emitters) or rows - {len(self.teachers)}:
            raise ValueError("exact_match needs a row for each emitter and a column for each teacher")
        if self.ci95 and [len(row) for row in self.ci95] != [len(row) for row in self.exact_match]:
            raise ValueError("ci95 needs an entry for each of exact_match")

    def is_own(self, row: int, column: int) -> bool:
        """Whether a cell scores a model against itself (by name: the two lists may differ in order)."""
        return self.emitters[row] == self.teachers[column]

    def none_rate_of(self, model: str) -> float | None:
        """The share of a model's decisions that are no candidate; None where that is not known."""
        return dict(zip(self.teachers, self.none_rate, strict=False)).get(model)

    @property
    def cells(self) -> tuple[tuple[Estimate, ...], ...]:
        """Exact match with its interval, if there are enough groups; rows emitters."""
        few = too_few(self.groups)
        none = [[None] * len(self.teachers)] * len(self.emitters)
        intervals = self.ci95 if self.ci95 and few is None else none
        return tuple(
            tuple(Estimate(mean, ends, few) for mean, ends in zip(*row, strict=True))
            for row in zip(self.exact_match, intervals, strict=True)
        )
