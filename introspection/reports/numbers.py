"""The numbers of a run as typed values: what `results.json` and `matrix.json` say, nulls and all."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

DASH = "–"  # what stands where there is no number
MINUS = "−"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean and its 95% interval; each part may be missing."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def has_interval(self) -> bool:
        return self.interval is not None


@dataclasses.dataclass(frozen=True)
class Scores:
    """How well explanations match one model's behaviour, or the difference of two such scores."""

    exact_match: Estimate
    has_changed_f1: Estimate
    content_match: Estimate
    changed_accuracy: Estimate


@dataclasses.dataclass(frozen=True)
class Disagreement:
    """What happens on the items where the current model and the label teacher differ."""

    n: int | None
    self_share: float | None
    orig_share: float | None
    current_share: Estimate
    sign_flip_p: float | None
    sign_flip_note: str  # why there is no p-value, or ""


@dataclasses.dataclass(frozen=True)
class Slice:
    """Self and Orig on a part of the items: one cue kind, or one direction of drift."""

    name: str
    n: int | None
    self_match: Estimate
    orig_match: Estimate
    gap: Estimate
    changed_rate: Mapping[str, float | None]  # "teacher", "current"


@dataclasses.dataclass(frozen=True)
class Control:
    name: str
    self_scores: Scores
    orig_scores: Scores
    gap: Scores
    paired_self: Estimate  # the arm's Self minus this control's, paired by item and seed
    paired_gap: Estimate  # likewise of the gaps
    invalid_rate: float | None
    n: int | None
    seeds: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Reference:
    """Another emitter's explanations of an arm's items, which the arm's gap is held against."""

    name: str
    self_match: float | None
    orig_match: float | None
    gap: float | None
    gap_difference: Estimate  # the arm's gap minus this one's, paired by item and seed
    shifted_difference: Estimate  # likewise of the gaps of shifted groups minus those of the others
    invalid_rate: float | None
    usable: bool  # says enough that is valid to be used in a verdict


@dataclasses.dataclass(frozen=True)
class Askable:
    """Whether labels taught in a run, so that its gaps can be read at all."""

    askable: bool | None  # None: not known
    words: str


NOT_RECORDED = Askable(None, "askable: not recorded")  # of results written before it was


@dataclasses.dataclass(frozen=True)
class Arm:
    name: str
    self_scores: Scores
    orig_scores: Scores
    initial_scores: Scores
    gap: Scores
    disagreement: Disagreement
    drift: float | None  # of held-out facts
    drift_explained: float | None
    agreement: Mapping[str, float | None]  # "start", "end", "min", "mean"; of trained labels
    kept_behavior: Mapping[str, float | None]  # likewise, of clean labels
    changed_rate: Mapping[str, float | None]  # "teacher", "current"
    behavior_accuracy: Mapping[str, float | None]
    behavior_accuracy_with_cue: Mapping[str, float | None]
    none_rate: Mapping[str, float | None]
    invalid_rate: float | None
    commonest_explanation: Mapping[str, float | None]  # "share", "self", "orig"
    by_cue_kind: tuple[Slice, ...]
    by_drift: tuple[Slice, ...]
    by_shifted: tuple[Slice, ...]
    shifted_minus_unshifted: Estimate  # of the gaps
    references: tuple[Reference, ...]
    best_static: str
    controls: tuple[Control, ...]
    seeds: tuple[Any, ...]
    n: int | None
    runtime_s: float | None


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Every emitter's explanations (rows) scored against every teacher's behaviour (columns)."""

    emitters: tuple[str, ...]
    teachers: tuple[str, ...]
    cells: tuple[tuple[Estimate, ...], ...]
    n: int | None
    own: float | None  # mean match with oneself, over the names that are emitter and teacher
    others: float | None  # mean match with the others
    own_minus_others: Estimate

    def is_own(self, row: int, column: int) -> bool:
        """Whether a cell scores a model against itself (by name: the two lists may differ in order)."""
        return self.emitters[row] == self.teachers[column]


def number(value: Any) -> float | None:
    """A finite number, or None: NaN and infinities say as little as null."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def estimate(value: Any, interval: Any = None) -> Estimate:
    """Reads `0.5`, `{"mean": 0.5, "ci95": [0.4, 0.6]}` or null."""
    if isinstance(value, Mapping):
        return estimate(value.get("mean"), value.get("ci95"))
    low, high = interval if isinstance(interval, Sequence) and len(interval) == 2 else (None, None)
    return Estimate(number(value), number(low), number(high))


def read_scores(value: Any) -> Scores:
    fields = value if isinstance(value, Mapping) else {"exact_match": value}
    return Scores(**{field.name: estimate(fields.get(field.name)) for field in dataclasses.fields(Scores)})


def read_arm(name: str, fields: Mapping[str, Any], controls: tuple[Control, ...]) -> Arm:
    disagreement = fields.get("disagreement") or {}
    shifted = fields.get("by_shifted") or {}
    return Arm(
        name=name,
        self_scores=read_scores(fields.get("self")),
        orig_scores=read_scores(fields.get("orig")),
        initial_scores=read_scores(fields.get("initial")),
        gap=read_scores(fields.get("gap")),
        disagreement=Disagreement(
            n=_count(disagreement.get("n")),
            self_share=estimate(disagreement.get("self")).mean,
            orig_share=estimate(disagreement.get("orig")).mean,
            current_share=_with_interval(
                estimate(disagreement.get("current_share")), disagreement.get("current_share_ci95")
            ),
            sign_flip_p=number(disagreement.get("sign_flip_p")),
            sign_flip_note=str(disagreement.get("sign_flip_note") or ""),
        ),
        drift=estimate(fields.get("drift")).mean,
        drift_explained=number(fields.get("drift_explained")),
        agreement=_numbers(fields.get("agreement")),
        kept_behavior=_numbers(fields.get("kept_behavior")),
        changed_rate=_numbers(fields.get("changed_rate")),
        behavior_accuracy=_numbers(fields.get("behavior_accuracy")),
        behavior_accuracy_with_cue=_numbers(fields.get("behavior_accuracy_with_cue")),
        none_rate=_numbers(fields.get("none_rate")),
        invalid_rate=estimate(fields.get("invalid_rate")).mean,
        commonest_explanation=_numbers(fields.get("commonest_explanation")),
        by_cue_kind=_read_slices(fields.get("by_cue_kind")),
        by_drift=_read_slices(fields.get("by_drift")),
        by_shifted=_read_slices({part: shifted.get(part) for part in ("shifted", "unshifted")}),
        shifted_minus_unshifted=read_scores(
            (shifted.get("shifted_minus_unshifted") or {}).get("gap")
        ).exact_match,
        references=_read_references(fields.get("references")),
        best_static=str(fields.get("best_static") or ""),
        controls=controls,
        seeds=tuple(fields.get("seeds") or ()),
        n=_count(fields.get("n")),
        runtime_s=number(fields.get("runtime_s")),
    )


def _read_references(value: Any) -> tuple[Reference, ...]:
    return tuple(
        Reference(
            name=str(name),
            self_match=number(fields.get("self")),
            orig_match=number(fields.get("orig")),
            gap=number(fields.get("gap")),
            gap_difference=estimate(fields.get("gap_difference")),
            shifted_difference=estimate((fields.get("by_shifted") or {}).get("shifted_minus_unshifted")),
            invalid_rate=number(fields.get("invalid_rate")),
            usable=bool(fields.get("usable")) and number(fields.get("orig")) is not None,
        )
        for name, fields in (value or {}).items()
    )


def read_askable(value: Any) -> Askable:
    """The top-level `askable` of a run's results."""
    if not isinstance(value, Mapping):
        return NOT_RECORDED
    askable = value.get("askable")
    return Askable(
        askable if isinstance(askable, bool) else None, str(value.get("words") or NOT_RECORDED.words)
    )


def read_controls(
    arm: str, controls: Mapping[str, Any], paired: Mapping[str, Any] | None = None
) -> tuple[Control, ...]:
    """The controls that were scored for one arm, in the order of the file.

    Paired differences stand in the control's entry under `paired`, or apart as `{control: {arm: ..}}`.
    """
    found = []
    for name, arms in controls.items():
        fields = (arms or {}).get(arm)
        if not fields:
            continue
        differences = fields.get("paired") or ((paired or {}).get(name) or {}).get(arm) or {}
        found.append(
            Control(
                name=name,
                self_scores=read_scores(fields.get("self")),
                orig_scores=read_scores(fields.get("orig")),
                gap=read_scores(fields.get("gap")),
                paired_self=read_scores(differences.get("self")).exact_match,
                paired_gap=read_scores(differences.get("gap")).exact_match,
                invalid_rate=estimate(fields.get("invalid_rate")).mean,
                n=_count(fields.get("n")),
                seeds=tuple(fields.get("seeds") or ()),
            )
        )
    return tuple(found)


def read_matrix(fields: Mapping[str, Any]) -> Matrix:
    emitters, teachers = tuple(fields["emitters"]), tuple(fields["teachers"])
    means = fields["exact_match"]
    intervals = fields.get("ci95") or [[None] * len(teachers) for _ in emitters]
    if len(means) != len(emitters) or any(len(row) != len(teachers) for row in means):
        raise ValueError("exact_match needs a row for each emitter and a column for each teacher")
    cells = tuple(
        tuple(estimate(mean, interval) for mean, interval in zip(mean_row, interval_row, strict=True))
        for mean_row, interval_row in zip(means, intervals, strict=True)
    )
    matrix = Matrix(emitters, teachers, cells, _count(fields.get("n")), None, None, Estimate())
    diagonal = fields.get("diagonal") or _diagonal(matrix)
    return dataclasses.replace(
        matrix,
        own=number(diagonal.get("own")),
        others=number(diagonal.get("others")),
        own_minus_others=estimate(diagonal.get("difference")),
    )


def _diagonal(matrix: Matrix) -> dict[str, float]:
    """The mean match with oneself and with the others, where the file has only the cells; no interval."""
    shared = set(matrix.emitters) & set(matrix.teachers)
    own, others = [], []
    for row, emitter in enumerate(matrix.emitters):
        for column, teacher in enumerate(matrix.teachers):
            mean = matrix.cells[row][column].mean
            if mean is not None and {emitter, teacher} <= shared:
                (own if matrix.is_own(row, column) else others).append(mean)
    if not own or not others:
        return {}
    levels = {"own": sum(own) / len(own), "others": sum(others) / len(others)}
    return {**levels, "difference": levels["own"] - levels["others"]}


def percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent, without the sign: `0.834` is `83.4`."""
    return DASH if value is None else f"{100 * value:.{digits}f}".replace("-", MINUS)


def points(value: float | None) -> str:
    """A difference of shares in points, always signed: `0.111` is `+11.1`."""
    if value is None:
        return DASH
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def count(value: float | int | None) -> str:
    return DASH if value is None else f"{value:,.0f}"


def _with_interval(value: Estimate, interval: Any) -> Estimate:
    return value if interval is None else estimate(value.mean, interval)


def _count(value: Any) -> int | None:
    found = number(value)
    return None if found is None else round(found)


def _numbers(value: Any) -> dict[str, float | None]:
    if not isinstance(value, Mapping):
        return {} if value is None else {"current": estimate(value).mean}
    return {str(key): estimate(inner).mean for key, inner in value.items()}


def _read_slices(value: Any) -> tuple[Slice, ...]:
    return tuple(
        Slice(
            name=str(name),
            n=_count(fields.get("n")),
            self_match=_slice_match(fields.get("self")),
            orig_match=_slice_match(fields.get("orig")),
            gap=_with_interval(_slice_match(fields.get("gap")), fields.get("gap_ci95")),
            changed_rate=_numbers(fields.get("changed_rate")),
        )
        for name, fields in (value or {}).items()
        if isinstance(fields, Mapping)
    )


def _slice_match(value: Any) -> Estimate:
    """A slice may give the exact match alone, or every score under its name."""
    return estimate(value["exact_match"] if isinstance(value, Mapping) and "exact_match" in value else value)
