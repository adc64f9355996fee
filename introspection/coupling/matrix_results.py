"""What `matrix.json` holds (workdir_files.md), as values: a field is a key."""

import dataclasses
from collections.abc import Mapping

from introspection.coupling.estimates import Ends, Estimate, is_silent, too_few

# Controls, and what each gives explanations from.
RECIPES = {
    "initial": "the model before explanation training",
    "few_shot": "the model before training after worked examples",
    "majority": "the majority of the labels",
    "input_only": "the input alone",
    "shuffled": "training on labels without content",
    "foreign": "another base trained on the same labels",
    "aligned_foreign": "another base aligned in behaviour and trained on the same labels",
}


@dataclasses.dataclass(frozen=True)
class Diagonal:
    """Mean exact match over the models: with oneself, with the others."""

    own: float | None = None
    others: float | None = None
    difference: Estimate = Estimate()


@dataclasses.dataclass(frozen=True)
class Lead:
    """How far a model's explanations fit its own behaviour better than other models' behaviour (its row), and
    its behaviour is better explained by itself than by other models (its column), by exact match."""

    model: str
    row: Estimate
    column: Estimate
    row_p: float  # permutation tests within groups of items, one-sided
    column_p: float


@dataclasses.dataclass(frozen=True)
class Permutation:
    """Of the whole diagonal, one-sided: the null is that it does not matter whose behaviour is whose."""

    models_p: float  # whole models permuted
    least_models_p: float  # that so many models can give
    groups_p: float  # permuted within each group of items, for these models


@dataclasses.dataclass(frozen=True)
class PairMatches:
    """How often an emitter matches each of two teachers on the items where they differ."""

    emitter: str
    first: float
    second: float
    difference: Estimate  # first minus second


@dataclasses.dataclass(frozen=True)
class PairDisagreement:
    """The items on which two teachers differ; with several seeds, the mean number over pairs of seeds."""

    first: str
    second: str
    n: float
    groups: int  # of these items
    matches: tuple[PairMatches, ...] = ()

    @property
    def few(self) -> int | None:
        return too_few(self.groups)


@dataclasses.dataclass(frozen=True)
class Excess:
    """The models' gap (with themselves minus with the model that they started from) minus a control's, on
    the same items."""

    control: str  # the recipe
    emitters: tuple[str, ...]  # the rows made by it
    gap_difference: Estimate
    groups: int | None = None  # where a model differs from its start: only these carry a gap


@dataclasses.dataclass(frozen=True)
class Conclusion:
    """Which explanations of the diagonal and of the gap the data exclude."""

    sentence: str
    excluded: tuple[str, ...] = ()
    not_excluded: tuple[str, ...] = ()
    not_asked: tuple[str, ...] = ()  # controls


@dataclasses.dataclass(frozen=True)
class Matrix:
    """A comparison's `matrix.json`: emitters (rows) against teachers (columns) on the same `n` items.

    With several seeds a cell is the mean over them: with oneself of each seed with itself, with another model
    of all pairs of seeds.
    """

    emitters: tuple[str, ...]
    teachers: tuple[str, ...]
    n: int
    exact_match: tuple[tuple[float | None, ...], ...]
    has_changed_f1: tuple[tuple[float | None, ...], ...] = ()
    content_match: tuple[tuple[float | None, ...], ...] = ()
    changed_accuracy: tuple[tuple[float | None, ...], ...] = ()
    ci95: tuple[tuple[Ends | None, ...], ...] = ()  # of exact_match
    diagonal: Diagonal | None = None  # None with fewer than two models
    invalid_rate: tuple[float, ...] = ()  # of each emitter's explanations
    none_rate: tuple[float, ...] = ()  # of each teacher's decisions, with and without the cue
    groups: int | None = None  # of the items
    fingerprints: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()  # on how the models are asked
    seeds: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)  # of models with several
    controls: Mapping[str, str] = dataclasses.field(default_factory=dict)  # rows that are, with their recipe
    leads: tuple[Lead, ...] = ()
    permutation: Permutation | None = None
    pairs: tuple[PairDisagreement, ...] = ()
    excess: tuple[Excess, ...] = ()
    conclusion: Conclusion | None = None

    def __post_init__(self):
        rows = {len(row) for row in self.exact_match}
        if len(self.exact_match) != len(self.emitters) or rows - {len(self.teachers)}:
            raise ValueError("exact_match needs a row for each emitter and a column for each teacher")
        if self.ci95 and [len(row) for row in self.ci95] != [len(row) for row in self.exact_match]:
            raise ValueError("ci95 needs an entry for each of exact_match")

    @property
    def models(self) -> tuple[str, ...]:
        """The names that are emitter and teacher and no control: those of the diagonal."""
        return tuple(name for name in self.emitters if name in self.teachers and name not in self.controls)

    @property
    def is_silent(self) -> bool:
        """Whether no explanation of a model is valid, so that nothing it says is about anyone."""
        rates = dict(zip(self.emitters, self.invalid_rate, strict=False))
        return bool(self.models) and all(is_silent(rates.get(name)) for name in self.models)

    def shown_excess(self, excess: Excess) -> Estimate:
        """Without an interval if too few groups carry the gap; none of models that say nothing valid."""
        if self.is_silent:
            return Estimate()
        groups = self.groups if excess.groups is None else excess.groups
        return excess.gap_difference.resting_on(too_few(groups))

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
