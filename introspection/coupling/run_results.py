"""What `results.json` holds (workdir_files.md), as values: a field is a key.

Shares and differences of shares lie between −1 and 1. None is an undefined value, such as a share of nothing.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from introspection.coupling.estimates import Ends, Estimate, is_silent, too_few
from introspection.coupling.matrix_results import Matrix
from introspection.runtime.json_values import optional, unstored


@dataclasses.dataclass(frozen=True)
class Scores:
    """How well explanations match one model's behaviour, or the difference of two such scores."""

    exact_match: Estimate
    has_changed_f1: Estimate
    content_match: Estimate
    changed_accuracy: Estimate


@dataclasses.dataclass(frozen=True)
class SoftEstimate(Estimate):
    note: str | None = optional()  # why there is no mean


@dataclasses.dataclass(frozen=True)
class SoftScores:
    """What the probabilities of explanations add, against one model's behaviour, and other papers' figures
    (introspection/coupling/README.md has the definitions)."""

    logprob: SoftEstimate  # nats, mean, of the faithful explanation
    calibration_error: SoftEstimate  # expected calibration error of the likeliest explanation
    changed_auroc: SoftEstimate  # of P(changed), within cue kinds
    effect_correlation: SoftEstimate  # Spearman's, of the stated effect and the actual one
    phi_cct: SoftEstimate
    simulatability_gain: SoftEstimate  # normalised


@dataclasses.dataclass(frozen=True)
class ReliabilityBin:
    """The items whose likeliest explanation has a probability from `low` to `high`."""

    low: float
    high: float
    n: int
    confidence: float  # mean of that probability
    self: float  # share that is right about the current model
    orig: float


@dataclasses.dataclass(frozen=True)
class Soft:
    """Soft faithfulness; an estimate is in nats, a share, or a correlation."""

    self: SoftScores
    orig: SoftScores
    gap: SoftScores
    reliability: tuple[ReliabilityBin, ...] = ()  # without empty bins


@dataclasses.dataclass(frozen=True)
class Disagreement:
    """The items where the current model and the label teacher differ."""

    n: int
    self: float | None
    orig: float | None
    current_share: float | None
    current_share_ci95: Ends | None = None
    sign_flip_p: float | None = None
    sign_flip_note: str | None = None  # why there is no p
    groups: int | None = None  # of these items

    @property
    def few(self) -> int | None:
        """The number of groups, or of items where that is not known, if it is too small for an interval."""
        return too_few(self.n if self.groups is None else self.groups)

    @property
    def share(self) -> Estimate:
        return Estimate(self.current_share, self.current_share_ci95).resting_on(self.few)


@dataclasses.dataclass(frozen=True)
class Rates:
    """One share of two models."""

    teacher: float | None = None
    current: float | None = None


@dataclasses.dataclass(frozen=True)
class Course:
    """A share over training: of the mean over seeds, at the steps that all seeds logged."""

    start: float | None = None
    end: float | None = None
    min: float | None = None
    mean: float | None = None


@dataclasses.dataclass(frozen=True)
class Commonest:
    """The commonest explanation: its share, and its Self and Orig if it were said of every item."""

    share: float | None = None
    self: float | None = None
    orig: float | None = None


@dataclasses.dataclass(frozen=True)
class Levels:
    """Exact match on a part of the items, by where behaviour drifted."""

    n: int
    self: float | None
    orig: float | None

    @property
    def gap_estimate(self) -> Estimate:
        return Estimate() if self.self is None or self.orig is None else Estimate(self.self - self.orig)


@dataclasses.dataclass(frozen=True)
class Subset(Levels):
    gap: float | None = None
    gap_ci95: Ends | None = None
    drift: float | None = None
    groups: int | None = None  # of the items on which behaviour drifted
    invalid_rate: float | None = None

    @property
    def gap_estimate(self) -> Estimate:
        """None if no explanation is valid; without an interval if too few groups carry it."""
        if is_silent(self.invalid_rate):
            return Estimate()
        drifted = None if self.drift is None else round(self.drift * self.n)  # items: at least as many
        few = too_few(drifted if self.groups is None else self.groups)
        return Estimate(self.gap, self.gap_ci95).resting_on(few)


@dataclasses.dataclass(frozen=True)
class CueKind(Subset):
    changed_rate: Rates = Rates()


@dataclasses.dataclass(frozen=True)
class Part:
    """What is reported of an arm, and of any part of its items."""

    self: Scores
    orig: Scores
    gap: Scores
    disagreement: Disagreement
    drift: float | None
    changed_rate: Rates
    behavior_accuracy: Rates
    invalid_rate: float | None
    n: int


@dataclasses.dataclass(frozen=True)
class ExactMatch:
    exact_match: Estimate


@dataclasses.dataclass(frozen=True)
class GapDifference:
    gap: ExactMatch


@dataclasses.dataclass(frozen=True)
class ShiftedParts:
    """An arm's results apart for the groups that its shift trains and for the others, and the first minus the
    second."""

    shifted: Part | None
    unshifted: Part | None
    shifted_minus_unshifted: GapDifference


@dataclasses.dataclass(frozen=True)
class ShiftedDifferences:
    """An arm's gap minus a reference's, likewise."""

    shifted: Estimate
    unshifted: Estimate
    shifted_minus_unshifted: Estimate


@dataclasses.dataclass(frozen=True)
class Reference:
    """Another emitter's explanations of an arm's items, by exact match; differences are the arm's minus this
    one's, paired by item and seed."""

    self: float | None
    orig: float | None
    gap: float | None
    invalid_rate: float
    usable: bool  # says enough that is valid to be used in a verdict
    self_difference: Estimate
    orig_difference: Estimate
    gap_difference: Estimate
    by_shifted: ShiftedDifferences | None = optional()
    no_verdict: str | None = optional()  # why none rests on it, beside invalid explanations
    name: str = unstored("")


@dataclasses.dataclass(frozen=True)
class Criterion:
    """One of those by which a run is askable (coupling/README.md)."""

    against: str | None
    mean: float | None
    ci95: Ends | None
    threshold: float
    met: bool | None  # None: not known
    note: str | None


@dataclasses.dataclass(frozen=True)
class Askable:
    """Whether labels taught, so that gaps can be read at all."""

    arm: str | None = None  # the main arm
    askable: bool | None = None  # None: not known
    words: str = "askable: not recorded"
    criteria: Mapping[str, Criterion] = dataclasses.field(default_factory=dict)


NOT_RECORDED = Askable()  # of results written before it was


@dataclasses.dataclass(frozen=True)
class PairedScore:
    """An arm's and a control's levels, and their difference, paired by item and seed."""

    arm: float | None
    control: float | None
    mean: float | None
    ci95: Ends | None

    @property
    def difference(self) -> Estimate:
        return Estimate(self.mean, self.ci95)


@dataclasses.dataclass(frozen=True)
class PairedScores:
    exact_match: PairedScore
    has_changed_f1: PairedScore
    content_match: PairedScore
    changed_accuracy: PairedScore


@dataclasses.dataclass(frozen=True)
class Paired:
    self: PairedScores
    orig: PairedScores
    gap: PairedScores


@dataclasses.dataclass(frozen=True)
class ControlResults:
    """A control on one arm's items: its explanations against the arm's two behaviours."""

    self: Scores
    orig: Scores
    gap: Scores
    invalid_rate: float | None
    n: int
    seeds: tuple[int, ...]
    paired: Paired | None = optional()
    soft: Soft | None = optional()
    name: str = unstored("")

    @property
    def paired_self(self) -> Estimate:
        """The arm's Self minus the control's, exact match; undefined where they are not paired."""
        return Estimate() if self.paired is None else self.paired.self.exact_match.difference


@dataclasses.dataclass(frozen=True)
class ArmResults(Part):
    """An arm: means over the items of all seeds, intervals over groups and seeds."""

    initial: Scores
    agreement: Course  # of trained labels
    seeds: tuple[int, ...]
    runtime_s: float
    kept_behavior: Course = Course()  # of clean labels
    drift_explained: float | None = None  # of the facts that are explained, at the end
    # Euclidean norm of the change of all parameters, adapters merged; mean over seeds.
    update_norm: float | None = None
    none_rate: Rates = Rates()
    behavior_accuracy_with_cue: Rates = Rates()
    commonest_explanation: Commonest = Commonest()
    by_cue_kind: Mapping[str, CueKind] = dataclasses.field(default_factory=dict)
    by_subset: Mapping[str, Subset] | None = optional()
    by_shifted: ShiftedParts | None = optional()
    by_drift: Mapping[str, Levels] = dataclasses.field(default_factory=dict)
    by_drift_with_cue: Mapping[str, Levels] = dataclasses.field(default_factory=dict)
    by_drift_without_cue: Mapping[str, Levels] = dataclasses.field(default_factory=dict)
    references: Mapping[str, Reference] = dataclasses.field(default_factory=dict)
    best_static: str | None = None
    askable: Mapping[str, Criterion] = dataclasses.field(default_factory=dict)
    soft: Soft | None = optional()
    no_verdict: str | None = optional()  # why there is none, whatever the gaps are
    name: str = unstored("")
    controls: tuple[ControlResults, ...] = unstored(())  # those of this arm

    @property
    def shifted_minus_unshifted(self) -> Estimate:
        """Of the gaps, exact match; undefined without a shift."""
        parts = self.by_shifted
        return Estimate() if parts is None else parts.shifted_minus_unshifted.gap.exact_match


@dataclasses.dataclass(frozen=True)
class Similarity:
    """How alike two models behave before any training, as shares of the `n` test items."""

    decisions: float  # equal with and without the cue, over both prompts
    explanations: float  # E(.) equal: `changed` and the answer
    n: int


@dataclasses.dataclass(frozen=True)
class Alignment:
    """How far config.foreign decides as config.initial once it is distilled on that one's behaviour alone:
    shares of items on which both decisions are the same."""

    threshold: float  # what the shares `trained` and `held_out` must both reach
    before: float  # of all items, before
    trained: float  # of items with both prompts distilled
    held_out: float  # of items with a prompt that was held out
    steps: int
    reached: bool


@dataclasses.dataclass(frozen=True)
class RunResults:
    """A run's `results.json`."""

    arms: Mapping[str, ArmResults]
    # By control and arm.
    controls: Mapping[str, Mapping[str, ControlResults]] = dataclasses.field(default_factory=dict)
    askable: Askable = NOT_RECORDED
    tiny: bool = False  # no evidence
    fingerprints: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    runtime_s: float | None = None
    notes: tuple[str, ...] = ()  # on how the models are asked
    # With `initial`, of the label teacher and the foreign model, where they are other models.
    similarity: Mapping[str, Similarity] = dataclasses.field(default_factory=dict)
    alignment: Alignment | None = optional()  # of config.foreign with config.initial
    # By arm: it and its aligned foreign explainer, each explaining itself, the other and config.initial.
    explained_both: Mapping[str, Matrix] = dataclasses.field(default_factory=dict)
