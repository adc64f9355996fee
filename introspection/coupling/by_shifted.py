"""An arm's results apart for the groups whose behaviour its shift trains, and for the others."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from introspection.coupling.estimates import Estimate
from introspection.coupling.records import PredictionRecord
from introspection.coupling.run_results import ShiftedDifferences
from introspection.coupling.scores import OUTPUTS, estimates, item_counts, measures, score_outputs, scores_of
from introspection.runtime.json_values import from_json

PARTS = ("shifted", "unshifted")
GAP = OUTPUTS.index(("gap", "exact_match"))


def shifted_results(
    records: Sequence[PredictionRecord], rng: np.random.Generator
) -> dict[str, dict[str, Any] | None]:
    """Every measure of `shifted` and `unshifted` items, and the difference of their gaps.

    Both parts come from one bootstrap, in which groups are drawn whether shifted or not; so
    `shifted_minus_unshifted` is an interval of the difference, not of two separate ones. It is no verdict by
    itself: a shift makes behaviour drift, and where it drifts a static emitter's gap changes too; see
    `shifted_differences`.

    Args:
        records: one arm's, of all seeds, some of them shifted. A part without an item is null.
        rng: for intervals and tests.
    """
    is_shifted = np.array([r.shifted for r in records])
    counts = item_counts(records)
    side_by_side = np.concatenate([counts * part[:, None] for part in (is_shifted, ~is_shifted)], axis=1)

    def statistic(sums: Float[np.ndarray, "resamples statistics"]) -> Float[np.ndarray, "resamples outputs"]:
        shifted, unshifted = (score_outputs(half) for half in np.split(sums, 2, axis=1))
        return np.concatenate([shifted, unshifted, (shifted - unshifted)[:, [GAP]]], axis=1)

    *values, difference = estimates(records, side_by_side, statistic, rng)
    halves = (values[: len(OUTPUTS)], values[len(OUTPUTS) :])
    found: dict[str, dict[str, Any] | None] = {}
    for name, here, half in zip(PARTS, (True, False), halves, strict=True):
        part = [r for r in records if r.shifted == here]
        found[name] = measures(part, scores_of(half), rng) if part else None
    return {**found, "shifted_minus_unshifted": {"gap": {"exact_match": difference}}}


def shifted_differences(
    records: Sequence[PredictionRecord], replaced: Sequence[PredictionRecord], rng: np.random.Generator
) -> ShiftedDifferences:
    """An arm's gap minus a reference's: of shifted groups, of the others, and the first minus the second.

    Args:
        records: the arm's, some of them shifted.
        replaced: the same in the same order, with the reference's explanations.
    """
    is_shifted = np.array([r.shifted for r in records])[:, None]
    both = [item_counts(side) for side in (records, replaced)]
    side_by_side = np.concatenate([counts * part for part in (is_shifted, ~is_shifted) for counts in both], 1)

    def statistic(sums: Float[np.ndarray, "resamples statistics"]) -> Float[np.ndarray, "resamples 3"]:
        gaps = [score_outputs(quarter)[:, GAP] for quarter in np.split(sums, 4, axis=1)]
        shifted, unshifted = gaps[0] - gaps[1], gaps[2] - gaps[3]
        return np.column_stack([shifted, unshifted, shifted - unshifted])

    found = estimates(records, side_by_side, statistic, rng)
    return ShiftedDifferences(*(from_json(Estimate, one) for one in found))
