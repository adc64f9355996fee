"""The arms and controls of `results.json` (workdir_files.md), from records and logged agreement."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from introspection.coupling import metrics
from introspection.coupling.by_shifted import shifted_results
from introspection.coupling.metrics import METRICS
from introspection.coupling.records import PredictionRecord, check_one_arm
from introspection.coupling.run_results import ArmResults, ControlResults, Paired
from introspection.coupling.scores import (
    OUTPUTS,
    estimates,
    item_counts,
    measures,
    record_scores,
    score_outputs,
)
from introspection.coupling.soft import soft_results
from introspection.coupling.statistics import null
from introspection.coupling.training_log import AgreementSeries, agreement_levels
from introspection.errors import InputError
from introspection.runtime.json_values import from_json

MODELS = ("teacher", "current")
PAIRED_SCORES = ("self", "orig", "gap")


def arm_results(
    records: Sequence[PredictionRecord],
    agreement_by_seed: AgreementSeries,
    runtime_s: float,
    rng: np.random.Generator,
    *,
    kept_by_seed: AgreementSeries | None = None,
) -> ArmResults:
    """One arm's results: means over the items of all seeds, intervals over groups and seeds.

    What needs other emitters or arms (`references`, `best_static`, `askable`) is added by whoever has them.

    Args:
        records: the arm's, of all seeds.
        agreement_by_seed: what `read_series` gives of an arm, of trained labels; may be empty.
        runtime_s: seconds, passed through.
        rng: for the intervals and the sign-flip test; the order of the records doesn't matter.
        kept_by_seed: likewise of the clean labels; runs before there were both lack it.

    Raises:
        InputError: no records, several arms, or an item twice in a seed.
    """
    check_one_arm(records)
    decisions = {model: [getattr(r, model) for r in records] for model in MODELS}
    gold = [r.gold for r in records]
    scores = record_scores(records, rng)
    kept = agreement_levels(kept_by_seed or {})
    found = {
        **measures(records, scores, rng),
        "initial": scores["initial"],
        # Of the facts that are explained, beside that of the held-out ones.
        "drift_explained": None if kept["end"] is None else 1 - kept["end"],
        "agreement": agreement_levels(agreement_by_seed),
        "kept_behavior": kept,
        "none_rate": {model: metrics.none_rate(decisions[model]) for model in MODELS},
        "behavior_accuracy_with_cue": {
            model: metrics.behavior_accuracy(decisions[model], gold, with_cue=True) for model in MODELS
        },
        "commonest_explanation": metrics.commonest_explanation(records),
        "by_cue_kind": _by_cue_kind(records, rng),
        **({"by_subset": _by_subset(records, rng)} if any(r.subset for r in records) else {}),
        **({"by_shifted": shifted_results(records, rng)} if any(r.shifted for r in records) else {}),
        "by_drift": _by_drift(records, "either"),
        "by_drift_with_cue": _by_drift(records, "with_cue"),
        "by_drift_without_cue": _by_drift(records, "without_cue"),
        "seeds": sorted({r.seed for r in records}),
        "runtime_s": runtime_s,
    }
    return dataclasses.replace(from_json(ArmResults, found), soft=soft_results(records, rng))


def control_results(
    records: Sequence[PredictionRecord], rng: np.random.Generator | None = None
) -> ControlResults:
    """One control on one arm's behaviours; `rng` is seeded with 0 if none is given."""
    check_one_arm(records)
    rng = rng or np.random.default_rng(0)
    scores = record_scores(records, rng)
    found = {
        **{name: scores[name] for name in PAIRED_SCORES},
        "invalid_rate": metrics.invalid_rate([r.explanation for r in records]),
        "n": len(records),
        "seeds": sorted({r.seed for r in records}),
    }
    return dataclasses.replace(from_json(ControlResults, found), soft=soft_results(records, rng))


def paired_results(
    records: Sequence[PredictionRecord], control: Sequence[PredictionRecord], rng: np.random.Generator
) -> Paired:
    """An arm minus its control, paired by item and seed (coupling/README.md: what a gap is held against).

    In `self` both are scored against E(current).

    Raises:
        InputError: the two don't hold the same items and seeds.
    """
    check_one_arm(records)
    check_one_arm(control)
    control_of = {(r.seed, r.id): r for r in control}
    if control_of.keys() != {(r.seed, r.id) for r in records}:
        raise InputError(f"arm {records[0].arm} and its control don't hold the same items and seeds")
    control = [control_of[r.seed, r.id] for r in records]
    names = [(score, metric) for score in PAIRED_SCORES for metric in METRICS]
    columns = [OUTPUTS.index(name) for name in names]

    def levels(
        sums: Float[np.ndarray, "resamples statistics"],
    ) -> list[Float[np.ndarray, "resamples outputs"]]:
        return [score_outputs(half)[:, columns] for half in np.split(sums, 2, axis=1)]

    def statistic(sums: Float[np.ndarray, "resamples statistics"]) -> Float[np.ndarray, "resamples outputs"]:
        arm, other = levels(sums)
        return arm - other

    counts = np.concatenate([item_counts(records), item_counts(control)], axis=1)
    differences = estimates(records, counts, statistic, rng)
    arm, other = (level[0] for level in levels(counts.sum(0, keepdims=True)))
    paired: dict[str, Any] = {score: {} for score in PAIRED_SCORES}
    for (score, metric), a, b, difference in zip(names, arm, other, differences, strict=True):
        paired[score][metric] = {"arm": null(a), "control": null(b), **difference}
    return from_json(Paired, paired)


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
        }
    return parts


def _by_subset(records: Sequence[PredictionRecord], rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """Levels and gap of items about entities that training knew ("seen") and about others ("held_out")."""
    by_subset = sorted(metrics.split_records(records, lambda r: r.subset).items())
    return {subset: {**metrics.levels(part), **_gap_and_drift(part, rng)} for subset, part in by_subset}


def _gap_and_drift(part: Sequence[PredictionRecord], rng: np.random.Generator) -> dict[str, Any]:
    gap = record_scores(part, rng)["gap"]["exact_match"]
    return {
        "gap": gap["mean"],
        "gap_ci95": gap["ci95"],
        "drift": metrics.drift(part),
        "groups": len({r.group for r in part if metrics.disagrees(r)}),
        "invalid_rate": metrics.invalid_rate([r.explanation for r in part]),
    }


def _by_drift(
    records: Sequence[PredictionRecord], decision: Literal["either", "with_cue", "without_cue"]
) -> dict[str, dict[str, Any]]:
    by_direction = metrics.levels_by_drift(records, decision)
    return {
        direction: {"n": part["n"], "self": null(part["self"]), "orig": null(part["orig"])}
        for direction, part in by_direction.items()
    }
