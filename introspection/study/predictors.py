"""Which properties of a base correlate with its gap, over the bases of a study's part. Exploratory.

With eight bases and several candidates some correlation is expected by chance, so nothing here gets a
verdict: it says where to look next.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy  # loads scipy.stats, which takes a second, at its first use

Entry = Mapping[str, Any]  # a part of `study.json`


def base_predictors(part: Entry, arm: str = "kl") -> list[dict[str, Any]]:
    """Spearman's correlation of each candidate with the arm's exact-match gap, over bases.

    Returns:
        One entry per candidate that at least four bases have, in a fixed order: `name`, the `values` and
        `gaps` by base, `correlation`, and `p` by permutation (two-sided, not corrected for the number of
        candidates). Both are None if a candidate or the gap is the same in all bases.
    """
    found = []
    gaps = {b: entry["gap"]["exact_match"]["mean"] for b, entry in _bases(part, arm).items()}
    for name, value_of in CANDIDATES.items():
        values = {}
        for base in sorted(gaps):
            value = value_of(part, arm, base)
            if value is not None and gaps[base] is not None:
                values[base] = float(value)
        if len(values) < 4:
            continue
        correlation, p = rank_correlation(list(values.values()), [gaps[base] for base in values])
        found.append(
            {
                "name": name,
                "arm": arm,
                "values": values,
                "gaps": {base: gaps[base] for base in values},
                "correlation": correlation,
                "p": p,
            }
        )
    return found


def rank_correlation(first: list[float], second: list[float]) -> tuple[float | None, float | None]:
    """Spearman's correlation and its p-value by permutation; both None if a variable is constant."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None, None

    def correlation(ranks: np.ndarray) -> float:
        return float(scipy.stats.spearmanr(ranks, second).statistic)

    # Exact up to seven bases: 7! = 5,040 pairings.
    test = scipy.stats.permutation_test(
        (first,), correlation, permutation_type="pairings", n_resamples=5_040, rng=np.random.default_rng(0)
    )
    return float(test.statistic), float(test.pvalue)


def _bases(part: Entry, arm: str) -> Entry:
    return part["arms"].get(arm, {}).get("by_base", {})


def _of_arm(read: Callable[[Entry], float | None]) -> Callable[[Entry, str, str], float | None]:
    return lambda part, arm, base: read(_bases(part, arm)[base])


def _of_control(control: str) -> Callable[[Entry, str, str], float | None]:
    """A control's Orig; the label teacher here is the base itself."""

    def read(part: Entry, arm: str, base: str) -> float | None:
        entry = part["controls"].get(control, {}).get(arm, {}).get("by_base", {}).get(base)
        return None if entry is None else entry["orig"]["exact_match"]["second"]

    return read


def _of_circuits(read: Callable[[Entry], float | None]) -> Callable[[Entry, str, str], float | None]:
    """A value from the base's circuits; None if they were not measured."""

    def of_base(part: Entry, arm: str, base: str) -> float | None:
        entry = part.get("circuits", {}).get(base)
        return None if entry is None else read(entry)

    return of_base


CANDIDATES: dict[str, Callable[[Entry, str, str], float | None]] = {
    "untrained explanations that match the base": _of_control("initial"),
    "Bayes-optimal explanations that match the base": _of_control("bayes_optimal"),
    "right answers of the base": _of_arm(lambda entry: entry["behavior_accuracy"]["teacher"]),
    "changed-rate of the base": _of_arm(lambda entry: entry["changed_rate"]["teacher"]),
    "drift": _of_arm(lambda entry: entry["drift"]),
    "mean agreement over training": lambda part, arm, base: part["arms"][arm]["agreement"]["by_base"].get(
        base
    ),
    "trained explanations that match the labels (Orig)": _of_arm(
        lambda entry: entry["orig"]["exact_match"]["mean"]
    ),
    "overlap of the parts that behaviour and explanations use": _of_circuits(lambda entry: entry["overlap"]),
    "effect of its parts that behaviour and explanations share": _of_circuits(
        lambda entry: entry["shared_effect"]
    ),
}
