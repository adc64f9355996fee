"""Measures of ranks under weights: each resample gives every item a weight, in place of copies of it."""

import numpy as np
from jaxtyping import Bool, Float, Shaped

from introspection.coupling.metrics import divide

# A variance below this share of the squared total is 0 but for rounding.
ROUNDING = 1e-12


def weighted_auroc(
    scores: Float[np.ndarray, " items"],
    positive: Bool[np.ndarray, " items"],
    strata: Shaped[np.ndarray, " items"],
    weights: Float[np.ndarray, "resamples items"],
) -> Float[np.ndarray, " resamples"]:
    """The share of (positive, negative) pairs of one stratum in which the positive has the higher score.

    A tie counts as half. With one stratum and whole weights this is the area under the ROC curve, the
    Mann-Whitney U statistic over the number of pairs, of a sample that holds each item as often as its weight
    says (Hanley and McNeil, 1982). NaN where no stratum has both.
    """
    right, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        rows = rows[np.argsort(scores[rows], kind="stable")]
        is_positive, of_rows = positive[rows], weights[:, rows]
        negatives = _cumulative(of_rows * ~is_positive)
        below_and_half = _middle(scores[rows], negatives)[:, is_positive]
        right += np.einsum("ri,ri->r", of_rows[:, is_positive], below_and_half)
        pairs += of_rows[:, is_positive].sum(1) * negatives[:, -1]
    return divide(right, pairs)


def weighted_rank_correlation(
    first: Float[np.ndarray, " items"],
    second: Float[np.ndarray, " items"],
    weights: Float[np.ndarray, "resamples items"],
) -> Float[np.ndarray, " resamples"]:
    """Spearman's correlation, equal values sharing their mean rank, of a sample that holds each item as often
    as its weight says; NaN where one of the two does not vary."""
    total = weights.sum(1, keepdims=True)
    ranks = [_ranks(values, weights) for values in (first, second)]
    a, b = (rank - divide(np.sum(weights * rank, axis=1, keepdims=True), total) for rank in ranks)
    covariance, *variances = (
        np.einsum("ri,ri,ri->r", weights, x, y) / total[:, 0] ** 3 for x, y in ((a, b), (a, a), (b, b))
    )
    product = np.prod([np.where(v > ROUNDING, v, 0.0) for v in variances], axis=0)
    return divide(covariance, np.sqrt(product))


def _ranks(
    values: Float[np.ndarray, " items"], weights: Float[np.ndarray, "resamples items"]
) -> Float[np.ndarray, "resamples items"]:
    """Mean ranks but for a constant, in the order of the items."""
    order = np.argsort(values, kind="stable")
    ranks = np.empty_like(weights)
    ranks[:, order] = _middle(values[order], _cumulative(weights[:, order]))
    return ranks


def _cumulative(weights: Float[np.ndarray, "resamples items"]) -> Float[np.ndarray, "resamples items+1"]:
    """The weight before each item, and the total."""
    cumulative = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=cumulative[:, 1:])
    return cumulative


def _middle(
    ascending: Float[np.ndarray, " items"], cumulative: Float[np.ndarray, "resamples items+1"]
) -> Float[np.ndarray, "resamples items"]:
    """The weight of what lies below each item, and half of what is equal to it."""
    below, through = (np.searchsorted(ascending, ascending, side) for side in ("left", "right"))
    return (cumulative[:, below] + cumulative[:, through]) / 2
