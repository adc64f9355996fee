"""The `arms` and `controls` of `results.json` (design.md §7), from prediction records and logged agreement.

Everything returned is strict JSON: an undefined value is None, never NaN.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from rich import box
from rich.markup import escape
from rich.table import Table

from introspection.coupling import metrics
from introspection.coupling.metrics import MATCH_COUNTS, METRICS, divide, match_metrics
from introspection.coupling.records import PredictionRecord, check_one_arm
from introspection.coupling.statistics import Statistic, hierarchical_bootstrap, sign_flip_test
from introspection.errors import InputError

AgreementSeries = Mapping[int, Sequence[tuple[int, float]]]

TARGETS = {"self": "current", "orig": "teacher", "initial": "initial"}
SCORES = (*TARGETS, "gap")
OUTPUTS = (*((score, metric) for score in SCORES for metric in METRICS), ("disagreement", "current_share"))


def arm_results(
    records: Sequence[PredictionRecord],
    agreement_by_seed: AgreementSeries,
    runtime_s: float,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """One arm's entry in `results.json`: means over the items of all seeds, intervals over groups and seeds.

    Args:
        records: the arm's, of all seeds.
        agreement_by_seed: what `agreement_series` returns; may be empty.
        runtime_s: seconds, passed through.
        rng: for the intervals and the sign-flip test; the order of the records doesn't matter.

    Raises:
        InputError: no records, several arms, or an item twice in a seed.
    """
    check_one_arm(records)
    teacher, current = [r.teacher for r in records], [r.current for r in records]
    gold = [r.gold for r in records]
    counts = _counts(records)
    scores = _scores(records, counts, rng)
    return {
        **{name: scores[name] for name in ("self", "orig", "gap", "initial")},
        "disagreement": _disagreement(records, counts, scores["disagreement"]["current_share"], rng),
        "drift": metrics.drift(records),
        "agreement": agreement_levels(agreement_by_seed),
        "changed_rate": {
            "teacher": metrics.changed_rate(teacher),
            "current": metrics.changed_rate(current),
        },
        "none_rate": {"teacher": metrics.none_rate(teacher), "current": metrics.none_rate(current)},
        "behavior_accuracy": {
            "teacher": metrics.behavior_accuracy(teacher, gold),
            "current": metrics.behavior_accuracy(current, gold),
        },
        "behavior_accuracy_with_cue": {
            "teacher": metrics.behavior_accuracy(teacher, gold, with_cue=True),
            "current": metrics.behavior_accuracy(current, gold, with_cue=True),
        },
        "invalid_rate": metrics.invalid_rate([r.explanation for r in records]),
        "commonest_explanation": metrics.commonest_explanation(records),
        "by_cue_kind": _by_cue_kind(records, rng),
        **({"by_subset": _by_subset(records, rng)} if any(r.subset for r in records) else {}),
        "by_drift": _by_drift(records, "either"),
        "by_drift_with_cue": _by_drift(records, "with_cue"),
        "by_drift_without_cue": _by_drift(records, "without_cue"),
        "n": len(records),
        "seeds": sorted({r.seed for r in records}),
        "runtime_s": runtime_s,
    }


def control_results(
    records: Sequence[PredictionRecord], rng: np.random.Generator | None = None
) -> dict[str, Any]:
    """One control's entry, on one arm's behaviours; `rng` is seeded with 0 if none is given."""
    check_one_arm(records)
    scores = _scores(records, _counts(records), rng or np.random.default_rng(0))
    return {
        **{name: scores[name] for name in ("self", "orig", "gap")},
        "invalid_rate": metrics.invalid_rate([r.explanation for r in records]),
        "n": len(records),
        "seeds": sorted({r.seed for r in records}),
    }


def paired_results(
    records: Sequence[PredictionRecord], control: Sequence[PredictionRecord], rng: np.random.Generator
) -> dict[str, Any]:
    """An arm minus its control, paired by item and seed: the headline Self minus foreign (design.md §4.4).

    Returns:
        For `self` (both scored against E(current)), `orig` and `gap`, for each metric: the levels `arm` and
        `control`, their difference `mean` and its `ci95`.

    Raises:
        InputError: the two don't hold the same items and seeds.
    """
    check_one_arm(records)
    check_one_arm(control)
    control_of = {(r.seed, r.id): r for r in control}
    if control_of.keys() != {(r.seed, r.id) for r in records}:
        raise InputError(f"arm {records[0].arm} and its control don't hold the same items and seeds")
    control = [control_of[r.seed, r.id] for r in records]
    names = [(score, metric) for score in ("self", "orig", "gap") for metric in METRICS]
    columns = [OUTPUTS.index(name) for name in names]

    def levels(
        sums: Float[np.ndarray, "resamples statistics"],
    ) -> list[Float[np.ndarray, "resamples outputs"]]:
        return [_statistic(half)[:, columns] for half in np.split(sums, 2, axis=1)]

    def statistic(sums: Float[np.ndarray, "resamples statistics"]) -> Float[np.ndarray, "resamples outputs"]:
        arm, other = levels(sums)
        return arm - other

    counts = np.concatenate([_counts(records), _counts(control)], axis=1)
    intervals = _intervals(records, counts, statistic, rng)
    arm, other = (level[0] for level in levels(counts.sum(0, keepdims=True)))
    paired: dict[str, Any] = {"self": {}, "orig": {}, "gap": {}}
    for (score, metric), a, b, ci95 in zip(names, arm, other, intervals, strict=True):
        paired[score][metric] = {
            "arm": _null(a),
            "control": _null(b),
            "mean": _null(a - b),
            "ci95": ci95,
        }
    return paired


def agreement_series(metrics_path: Path, arm: str) -> dict[int, list[tuple[int, float]]]:
    """Agreement of an arm's seeds as (step, value), ascending, from `metrics.jsonl`.

    Lines of other arms, and those without a finite `agreement`, are other events. Of a step that was logged
    twice (before and after a resume) the last line counts. An unfinished last line is one being written.

    Raises:
        InputError: a line is not JSON, or lacks its seed or step.
    """
    series: dict[int, dict[int, float]] = {}
    with metrics_path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                event = json.loads(line)
                if event.get("arm") != arm or event.get("agreement") is None:
                    continue
                seed, step, value = int(event["seed"]), int(event["step"]), float(event["agreement"])
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                if not line.endswith("\n"):
                    break
                raise InputError(f"{metrics_path}, line {number}: not a metrics event ({error!r})") from error
            if math.isfinite(value):
                series.setdefault(seed, {})[step] = value
    return {seed: sorted(values.items()) for seed, values in sorted(series.items())}


def format_results_table(results: Mapping[str, Any]) -> Table:
    """Every arm and, indented below it, the controls scored on it; in percent (differences in points)."""
    table = Table(
        title="Do explanations follow the current model (Self) or the labels (Orig)?",
        caption="In percent. [95% interval]; → from the label teacher to current\n"
        "current share: of the matches where the two disagree\n"
        "agree: labels that still hold at the end; right: decisions without the cue",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("", overflow="fold", min_width=14)
    headings = (
        "Self",
        "Orig",
        "gap",
        "drift",
        "current\nshare",
        "agree",
        "not\nvalid",
        "right",
    )
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for arm, entry in results.get("arms", {}).items():
        _add_row(table, arm, entry)
        for control, by_arm in results.get("controls", {}).items():
            if "n" in by_arm.get(arm, {}):  # a paired difference has no levels
                _add_row(table, f" {control}", by_arm[arm])
        table.add_section()
    return table


def _add_row(table: Table, name: str, entry: Mapping[str, Any]) -> None:
    gap, disagreement = entry["gap"]["exact_match"], entry.get("disagreement", {})
    table.add_row(
        escape(f"{name}\n {entry['n']} items" if disagreement else name),
        _percent(entry["self"]["exact_match"]["mean"]),
        _percent(entry["orig"]["exact_match"]["mean"]),
        _percent(gap["mean"], "+") + _percent_interval(gap["ci95"], "+").replace("\n", " "),
        _percent(entry.get("drift")),
        _percent(disagreement.get("current_share")),
        _percent(entry.get("agreement", {}).get("end")),
        _percent(entry["invalid_rate"]),
        "\n→ ".join(_percent(entry["behavior_accuracy"][model]) for model in ("teacher", "current"))
        if "behavior_accuracy" in entry
        else "–",
    )


def _percent(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{100 * value:{sign}.1f}"


def _percent_interval(ends: Sequence[float] | None, sign: str = "") -> str:
    return "" if ends is None else f"\n[{','.join(_percent(end, sign) for end in ends)}]"


def _counts(records: Sequence[PredictionRecord]) -> Float[np.ndarray, "items statistics"]:
    """Each item's `match_counts` for all of `TARGETS`, then its matches with current and teacher in D."""
    by_target = [metrics.record_match_counts(records, target) for target in TARGETS.values()]
    in_disagreement = np.array([metrics.disagrees(r) for r in records])
    exact = MATCH_COUNTS.index("exact_match")
    matches = [in_disagreement * by_target[index][:, exact] for index in (0, 1)]
    return np.column_stack([*by_target, *matches])


def _statistic(sums: Float[np.ndarray, "resamples statistics"]) -> Float[np.ndarray, "resamples outputs"]:
    """`OUTPUTS` of sums of `_counts`."""
    *by_target, current_matches, teacher_matches = np.split(
        sums, np.cumsum([len(MATCH_COUNTS)] * len(TARGETS) + [1]), axis=1
    )
    score = {name: match_metrics(part) for name, part in zip(TARGETS, by_target, strict=True)}
    score["gap"] = {metric: score["self"][metric] - score["orig"][metric] for metric in METRICS}
    current_share = divide(current_matches, current_matches + teacher_matches)[:, 0]
    return np.column_stack([*(score[s][metric] for s in SCORES for metric in METRICS), current_share])


def _intervals(
    records: Sequence[PredictionRecord],
    counts: Float[np.ndarray, "items statistics"],
    statistic: Statistic,
    rng: np.random.Generator,
) -> list[list[float] | None]:
    groups, seeds = (np.array([getattr(r, name) for r in records]) for name in ("group", "seed"))
    interval = hierarchical_bootstrap(counts, groups, statistic, rng, seeds=seeds)
    return [None if np.isnan(low) else [float(low), float(high)] for low, high in interval.T]


def _scores(
    records: Sequence[PredictionRecord],
    counts: Float[np.ndarray, "items statistics"],
    rng: np.random.Generator,
) -> dict[str, dict[str, Any]]:
    """`OUTPUTS` as {score: {metric: {"mean", "ci95"}}}."""
    scores: dict[str, dict[str, Any]] = {}
    values = _statistic(counts.sum(0, keepdims=True))[0]
    intervals = _intervals(records, counts, _statistic, rng)
    for (score, metric), value, ci95 in zip(OUTPUTS, values, intervals, strict=True):
        scores.setdefault(score, {})[metric] = {"mean": _null(value), "ci95": ci95}
    return scores


def _disagreement(
    records: Sequence[PredictionRecord],
    counts: Float[np.ndarray, "items statistics"],
    current_share: Mapping[str, Any],
    rng: np.random.Generator,
) -> dict[str, Any]:
    n = sum(metrics.disagrees(r) for r in records)
    current_matches, teacher_matches = counts[:, -2:].sum(0)
    _, group_index = np.unique([r.group for r in records], return_inverse=True)
    group_sums = np.bincount(group_index, weights=counts[:, -2] - counts[:, -1])
    return {
        "n": n,
        "self": _null(divide(current_matches, n)),
        "orig": _null(divide(teacher_matches, n)),
        "current_share": current_share["mean"],
        "current_share_ci95": current_share["ci95"],
        "sign_flip_p": sign_flip_test(group_sums, rng) if n else None,
    }


def agreement_levels(series: AgreementSeries) -> dict[str, float | None]:
    """Start, end and minimum of the mean over seeds, at the steps that every seed logged."""
    by_seed = [dict(points) for points in series.values()]
    steps = sorted(set.intersection(*map(set, by_seed))) if by_seed else []
    if not steps:
        return {"start": None, "end": None, "min": None}
    means = [float(np.mean([values[step] for values in by_seed])) for step in steps]
    return {"start": means[0], "end": means[-1], "min": min(means)}


def _by_cue_kind(records: Sequence[PredictionRecord], rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    parts = {}
    records_of = metrics.split_records(records, lambda r: r.cue_kind)
    for kind, levels in metrics.levels_by_cue_kind(records).items():
        part = records_of[kind]
        parts[kind] = {
            **levels,
            **_gap_and_drift(part, rng),
            "changed_rate": {
                "teacher": metrics.changed_rate([r.teacher for r in part]),
                "current": metrics.changed_rate([r.current for r in part]),
            },
            "invalid_rate": metrics.invalid_rate([r.explanation for r in part]),
        }
    return parts


def _by_subset(records: Sequence[PredictionRecord], rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """Levels and gap of items about entities that training knew ("seen") and about others ("held_out")."""
    by_subset = sorted(metrics.split_records(records, lambda r: r.subset).items())
    return {subset: {**metrics.levels(part), **_gap_and_drift(part, rng)} for subset, part in by_subset}


def _gap_and_drift(part: Sequence[PredictionRecord], rng: np.random.Generator) -> dict[str, Any]:
    gap = _scores(part, _counts(part), rng)["gap"]["exact_match"]
    return {"gap": gap["mean"], "gap_ci95": gap["ci95"], "drift": metrics.drift(part)}


def _by_drift(
    records: Sequence[PredictionRecord], decision: Literal["either", "with_cue", "without_cue"]
) -> dict[str, dict[str, Any]]:
    by_direction = metrics.levels_by_drift(records, decision)
    return {
        direction: {"n": part["n"], "self": _null(part["self"]), "orig": _null(part["orig"])}
        for direction, part in by_direction.items()
    }


def _null(value: Float[np.ndarray, ""] | np.number | float) -> float | None:
    return None if np.isnan(value) else float(value)
