"""One arm's results pooled over several bases, which are the units of variation.

Each base's records are reduced to sums by cell, so a study of any size fits in memory and every metric is a
function of summed counts. Means are over the items of all seeds and bases; intervals are from
`base_bootstrap`. Everything returned is strict JSON: an undefined value is None, never NaN.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from introspection.coupling.metrics import MATCH_COUNTS, METRICS, divide, match_metrics
from introspection.study.base_bootstrap import USUAL, Resamples, estimates, over_bases
from introspection.study.counts import MORE_COUNTS, ByBase, shifted_counts, subset_counts

SCORES = ("self", "orig", "gap")
SCORED = tuple((score, metric) for score in SCORES for metric in METRICS)
SHIFTED = {"shifted": True, "unshifted": False}
# Shares of all items, and the count column of each; and shares of items whose right answer is known.
SHARES = {
    "drift": "disagrees",
    "invalid_rate": "invalid",
    "teacher_changed": "teacher_changed",
    "current_changed": "current_changed",
}
RIGHT = ("teacher_right", "current_right", "initial_right")


def pooled_results(by_base: ByBase, rng: np.random.Generator, resamples: Resamples = USUAL) -> dict[str, Any]:
    """One arm over its bases (the fields of `arm_results`), with the same fields for parts of its items:

    `by_base`; `by_subset`, if there are several subsets; and `by_shifted`, if there are both shifted and
    unshifted groups. `over_bases` describes the exact-match gaps of bases: how many are above 0, their
    standard deviation, and a sign-flip test over bases. That test checks the interval; it only assumes that
    without coupling both signs are equally likely (with 8 bases p is at least 2/256).
    """
    entry = _entry(by_base, rng, resamples)
    each = {base: _entry({base: by_base[base]}, rng, resamples) for base in sorted(by_base)}
    gaps = [found["gap"]["exact_match"]["mean"] for found in each.values()]
    subsets = sorted({subset for counts in by_base.values() for subset in counts.subsets.tolist()})
    by_subset = {}
    if len(subsets) > 1:
        by_subset = {subset: _entry(subset_counts(by_base, subset), rng, resamples) for subset in subsets}
    halves = {name: shifted_counts(by_base, shifted) for name, shifted in SHIFTED.items()}
    return {
        **entry,
        "bases": sorted(by_base),
        "over_bases": over_bases(gaps, rng),
        "by_base": each,
        "by_subset": by_subset,
        "by_shifted": {name: _entry(half, rng, resamples) for name, half in halves.items()}
        if all(halves.values())
        else {},
    }


def _scores(
    sums: Float[np.ndarray, "resamples 30"],
) -> dict[tuple[str, str], Float[np.ndarray, " resamples"]]:
    """Each of `SCORED`, in its order."""
    width = len(MATCH_COUNTS)
    own, orig = match_metrics(sums[:, :width]), match_metrics(sums[:, width : 2 * width])
    gap = {metric: own[metric] - orig[metric] for metric in METRICS}
    by_score = {"self": own, "orig": orig, "gap": gap}
    return {(score, metric): by_score[score][metric] for score, metric in SCORED}


def _more(sums: Float[np.ndarray, "resamples 30"]) -> dict[str, Float[np.ndarray, " resamples"]]:
    column: dict[str, np.ndarray] = dict(zip(MORE_COUNTS, sums[:, 2 * len(MATCH_COUNTS) :].T, strict=True))
    current, teacher = (column[f"matches_{who}_in_disagreement"] for who in ("current", "teacher"))
    return {
        **{name: divide(column[counted], sums[:, 0]) for name, counted in SHARES.items()},
        **{name: divide(column[name], column["known"]) for name in RIGHT},
        "current_share": divide(current, current + teacher),
        "disagreement_self": divide(current, column["disagrees"]),
        "disagreement_orig": divide(teacher, column["disagrees"]),
    }


def _entry(by_base: ByBase, rng: np.random.Generator, resamples: Resamples) -> dict[str, Any]:
    """The fields of `arm_results` that are functions of summed counts, over the given bases."""
    counts = np.concatenate([by_base[base].counts for base in sorted(by_base)])

    def statistic(sums: Float[np.ndarray, "resamples 30"]) -> Float[np.ndarray, "resamples outputs"]:
        return np.column_stack([*_scores(sums).values(), *_more(sums).values()])

    total = counts.sum(0, keepdims=True)
    names = [*_scores(total), *_more(total)]
    found = dict(zip(names, estimates(by_base, counts, statistic, rng, resamples), strict=True))
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
        "behavior_accuracy": {
            who: found[f"{who}_right"]["mean"] for who in ("initial", "teacher", "current")
        },
        "invalid_rate": found["invalid_rate"]["mean"],
        "n": round(float(total[0, 0])),
        "seeds": {base: sorted(set(by_base[base].seeds.tolist())) for base in sorted(by_base)},
    }
