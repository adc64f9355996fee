"""What one arm shows over several base models: the base is the unit that varies.

A base's records are reduced at once to sums by seed, group and subset, so a study of any size fits in memory
and every measure is a function of summed counts. Means are over the items of all seeds and bases. Intervals
resample bases, then each one's seeds, and one set of groups for all bases, since all bases answer the same
facts (`hierarchical_bootstrap`, `crossed_groups`); of one base, its seeds and groups.

Everything returned is strict JSON: an undefined value is None, never NaN.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from introspection.coupling.arm_counts import MORE_COUNTS, ArmCounts, ByBase, subset_counts
from introspection.coupling.metrics import MATCH_COUNTS, METRICS, divide, match_metrics
from introspection.coupling.statistics import hierarchical_bootstrap, sign_flip_test
from introspection.errors import InputError

SCORES = ("self", "orig", "gap")
SCORED = tuple((score, metric) for score in SCORES for metric in METRICS)
# Shares of all items, by the column that counts them.
SHARES = {
    "drift": "disagrees",
    "invalid_rate": "invalid",
    "teacher_right": "teacher_right",
    "current_right": "current_right",
    "teacher_changed": "teacher_changed",
    "current_changed": "current_changed",
}


@dataclasses.dataclass(frozen=True)
class StudyPart:
    """All arms of one part of a study.

    `foreign` holds, under an arm's name, its foreign explainer's explanations on that arm's records, and
    `agreement` each arm's agreement at the end, the mean over its seeds.
    """

    name: str
    arms: Mapping[str, ByBase]
    foreign: Mapping[str, ByBase]
    agreement: Mapping[str, Mapping[str, float]]


def part_results(part: StudyPart, seed: int = 0) -> dict[str, dict[str, Any]]:
    """`pooled_results` of every arm, with `foreign` (`paired_contrast`; None without a foreign explainer) and
    `agreement` at the end, the mean of the bases that logged it and each base's.

    Every interval has the same resamples, so that none depends on which other arms there are.
    """
    results = {}
    for arm, by_base in part.arms.items():
        foreign = part.foreign.get(arm, {})
        agreement = dict(sorted(part.agreement.get(arm, {}).items()))
        paired = None
        if by_base.keys() & foreign.keys():
            paired = paired_contrast(by_base, foreign, np.random.default_rng(seed))
        results[arm] = {
            **pooled_results(by_base, np.random.default_rng(seed)),
            "foreign": paired,
            "agreement": {
                "end": float(np.mean(list(agreement.values()))) if agreement else None,
                "by_base": agreement,
            },
        }
    return results


def pooled_results(by_base: ByBase, rng: np.random.Generator) -> dict[str, Any]:
    """One arm over its bases, likewise each base by itself, and each subset where items are of several.

    Beside the fields of `arm_results`: `over_bases`, of the exact match's gap, with how many bases are above
    0, the standard deviation between bases, and the p-value of a sign-flip test over bases, a check of the
    interval that knows nothing of how bases are distributed but that without coupling either sign is as
    likely (with 8 bases it is at least 2/256).
    """
    entry = _entry(by_base, rng)
    each = {base: _entry({base: by_base[base]}, rng) for base in sorted(by_base)}
    gaps = [found["gap"]["exact_match"]["mean"] for found in each.values()]
    subsets = sorted({subset for counts in by_base.values() for subset in counts.subsets.tolist()})
    by_subset = {}
    if len(subsets) > 1:
        by_subset = {subset: _entry(subset_counts(by_base, subset), rng) for subset in subsets}
    return {
        **entry,
        "bases": sorted(by_base),
        "over_bases": over_bases(gaps, rng),
        "by_base": each,
        "by_subset": by_subset,
    }


def paired_contrast(first: ByBase, second: ByBase, rng: np.random.Generator) -> dict[str, Any]:
    """One arm minus another (or minus a control), paired by base, seed and item.

    Returns:
        For `self`, `orig` and `gap`, for each metric: the levels `first` and `second`, their difference
        `mean` and its `ci95`; the same of each base under `by_base`; the `bases` that have both, which alone
        are compared; and `over_bases` as `pooled_results` has it.

    Raises:
        InputError: no base has both, or the two hold other items or seeds in a base.
    """
    bases = sorted(first.keys() & second.keys())
    if not bases:
        raise InputError(f"no base has both arms: {', '.join(sorted(first))}; {', '.join(sorted(second))}")
    for base in bases:
        if first[base].items != second[base].items:
            sizes = [f"{round(c[base].counts[:, 0].sum())} items of seeds" for c in (first, second)]
            seeds = [sorted(set(c[base].seeds.tolist())) for c in (first, second)]
            raise InputError(
                f"base {base}: two arms to compare don't hold the same items and seeds"
                f" ({sizes[0]} {seeds[0]}; {sizes[1]} {seeds[1]})"
            )
    both = {base: (first[base], second[base]) for base in bases}
    entry = _difference(both, rng)
    each = {base: _difference({base: both[base]}, rng) for base in bases}
    gaps = [found["gap"]["exact_match"]["mean"] for found in each.values()]
    return {**entry, "bases": bases, "over_bases": over_bases(gaps, rng), "by_base": each}


def over_bases(values: Sequence[float | None], rng: np.random.Generator) -> dict[str, Any]:
    """How one value a base spreads: how many are above 0, their standard deviation, the sign-flip p-value."""
    known = np.array([value for value in values if value is not None], dtype=float)
    return {
        "n": len(known),
        "above_0": int(np.sum(known > 0)),
        "standard_deviation": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "sign_flip_p": sign_flip_test(known, rng) if len(known) > 1 else None,
    }


def _scores(
    sums: Float[np.ndarray, "resamples 28"],
) -> dict[tuple[str, str], Float[np.ndarray, " resamples"]]:
    """Every score by every metric, in the order of `SCORED`."""
    width = len(MATCH_COUNTS)
    own, orig = match_metrics(sums[:, :width]), match_metrics(sums[:, width : 2 * width])
    gap = {metric: own[metric] - orig[metric] for metric in METRICS}
    by_score = {"self": own, "orig": orig, "gap": gap}
    return {(score, metric): by_score[score][metric] for score, metric in SCORED}


def _more(sums: Float[np.ndarray, "resamples 28"]) -> dict[str, Float[np.ndarray, " resamples"]]:
    column = dict(zip(MORE_COUNTS, sums[:, 2 * len(MATCH_COUNTS) :].T, strict=True))
    current, teacher = (column[f"matches_{who}_in_disagreement"] for who in ("current", "teacher"))
    return {
        **{name: divide(column[counted], sums[:, 0]) for name, counted in SHARES.items()},
        "current_share": divide(current, current + teacher),
        "disagreement_self": divide(current, column["disagrees"]),
        "disagreement_orig": divide(teacher, column["disagrees"]),
    }


def _entry(by_base: ByBase, rng: np.random.Generator) -> dict[str, Any]:
    """The fields of `arm_results` that summed counts give, over some bases."""
    counts = np.concatenate([by_base[base].counts for base in sorted(by_base)])

    def statistic(sums: Float[np.ndarray, "resamples 28"]) -> Float[np.ndarray, "resamples outputs"]:
        return np.column_stack([*_scores(sums).values(), *_more(sums).values()])

    total = counts.sum(0, keepdims=True)
    names = [*_scores(total), *_more(total)]
    found = dict(zip(names, _estimates(by_base, counts, statistic, rng), strict=True))
    share = found["current_share"]
    return {
        **{score: {metric: found[score, metric] for metric in METRICS} for score in SCORES},
        "disagreement": {
            "n": round(float(total[0, 2 * len(MATCH_COUNTS)])),
            "self": found["disagreement_self"]["mean"],
            "orig": found["disagreement_orig"]["mean"],
            "current_share": share["mean"],
            "current_share_ci95": share["ci95"],
        },
        "drift": found["drift"]["mean"],
        "drift_ci95": found["drift"]["ci95"],
        "changed_rate": {who: found[f"{who}_changed"]["mean"] for who in ("teacher", "current")},
        "behavior_accuracy": {who: found[f"{who}_right"]["mean"] for who in ("teacher", "current")},
        "invalid_rate": found["invalid_rate"]["mean"],
        "n": round(float(total[0, 0])),
        "seeds": {base: sorted(set(by_base[base].seeds.tolist())) for base in sorted(by_base)},
    }


def _difference(both: Mapping[str, tuple[ArmCounts, ArmCounts]], rng: np.random.Generator) -> dict[str, Any]:
    # Equal items mean equal cells in the same order, so columns stand side by side.
    counts = np.concatenate(
        [np.concatenate([arm.counts for arm in both[base]], axis=1) for base in sorted(both)]
    )
    width = counts.shape[1] // 2

    def levels(sums: Float[np.ndarray, "resamples 56"]) -> list[Float[np.ndarray, "resamples outputs"]]:
        return [np.column_stack(list(_scores(half).values())) for half in (sums[:, :width], sums[:, width:])]

    def statistic(sums: Float[np.ndarray, "resamples 56"]) -> Float[np.ndarray, "resamples outputs"]:
        first, second = levels(sums)
        return first - second

    estimates = _estimates({base: arms[0] for base, arms in both.items()}, counts, statistic, rng)
    first, second = (level[0] for level in levels(counts.sum(0, keepdims=True)))
    found: dict[str, dict[str, Any]] = {score: {} for score in SCORES}
    for (score, metric), a, b, estimate in zip(SCORED, first, second, estimates, strict=True):
        found[score][metric] = {"first": _null(a), "second": _null(b), **estimate}
    return found


def _estimates(
    by_base: ByBase,
    counts: Float[np.ndarray, "cells statistics"],
    statistic: Callable,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Each output's `mean` and `ci95`; the counts are those of the bases in alphabetical order."""
    bases = sorted(by_base)
    lengths = [len(by_base[base].seeds) for base in bases]
    interval = hierarchical_bootstrap(
        counts,
        np.concatenate([by_base[base].groups for base in bases]),
        statistic,
        rng,
        seeds=np.concatenate([by_base[base].seeds for base in bases]),
        bases=np.repeat(np.arange(len(bases)), lengths),
        crossed_groups=True,
    )
    means = statistic(counts.sum(0, keepdims=True))[0]
    return [
        {"mean": _null(mean), "ci95": None if np.isnan(low) else [float(low), float(high)]}
        for mean, (low, high) in zip(means, interval.T, strict=True)
    ]


def _null(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
