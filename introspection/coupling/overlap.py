"""How far two things that a model does use the same parts, from what taking out each part costs either."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy  # loads scipy.stats, which takes a second, at its first use
from jaxtyping import Float

SPLITS = 200  # random halves of the items


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Two effects over the same parts, and what their correlation is to be read against.

    All are rank correlations but `shared_effect`; each is None where it is not defined.
    """

    overlap: float | None  # of the two mean effects
    blocks_alone: float | None  # its expectation if the parts of each block changed places at random
    shared_effect: float | None  # the share of both effects' sums that lies on the same parts, 0 to 1
    # Means over random halves of the items, so that neither side has an item of the other:
    across_halves: float | None  # behaviour in one half with explanations in the other
    behavior_reliability: float | None  # behaviour in one half with behaviour in the other
    explanation_reliability: float | None

    @property
    def ceiling(self) -> float | None:
        """About what `across_halves` would be of two uses of the very same parts, given their noise."""
        if self.behavior_reliability is None or self.explanation_reliability is None:
            return None
        # A reliability is below 0 by chance alone.
        return float(np.sqrt(max(self.behavior_reliability, 0) * max(self.explanation_reliability, 0)))


def effect_overlap(
    behavior: Float[np.ndarray, "parts items"],
    explanation: Float[np.ndarray, "parts items"],
    blocks: Sequence[str],
    groups: Sequence[str],
    rng: np.random.Generator,
) -> Overlap:
    """The overlap of two effects, each the cost of every part on every item.

    Args:
        blocks: of each part; what parts share by their kind and depth alone is what their blocks share.
        groups: of each item; a half of the items is a half of the groups.
    """
    first, second = behavior.mean(axis=1), explanation.mean(axis=1)
    halves = random_halves(groups, rng)
    swapped = [half[::-1] for half in halves]
    return Overlap(
        overlap=spearman(first, second),
        blocks_alone=exchanged_spearman(first, second, blocks),
        shared_effect=shared_effect(first, second),
        across_halves=spearman_between(behavior, explanation, [*halves, *swapped]),
        behavior_reliability=spearman_between(behavior, behavior, halves),
        explanation_reliability=spearman_between(explanation, explanation, halves),
    )


def spearman(first: Float[np.ndarray, " parts"], second: Float[np.ndarray, " parts"]) -> float | None:
    """Spearman's rank correlation, ties at their mean rank; None where one is constant."""
    ranks, others = _standard_ranks(first), _standard_ranks(second)
    return None if ranks is None or others is None else float(np.mean(ranks * others))


def exchanged_spearman(
    first: Float[np.ndarray, " parts"], second: Float[np.ndarray, " parts"], blocks: Sequence[str]
) -> float | None:
    """Spearman's correlation, averaged over all ways to exchange parts within their blocks.

    Exchanged at random, every part of a block has the block's mean rank in expectation.
    """
    ranks, others = _standard_ranks(first), _standard_ranks(second)
    if ranks is None or others is None:
        return None
    names = np.asarray(blocks)
    for block in np.unique(names):
        others[names == block] = others[names == block].mean()
    return float(np.mean(ranks * others))


def shared_effect(first: Float[np.ndarray, " parts"], second: Float[np.ndarray, " parts"]) -> float | None:
    """What two distributions of costs over parts have in common: the sum of the smaller shares.

    A part whose absence helps has no share. None where no part costs anything.
    """
    costs = [np.maximum(values, 0) for values in (first, second)]
    if not all(cost.sum() > 0 for cost in costs):
        return None
    return float(np.minimum(*(cost / cost.sum() for cost in costs)).sum())


def random_halves(groups: Sequence[str], rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """The items of a random half of the groups and of the others, `SPLITS` times; none with one group."""
    numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
    count = int(numbers.max()) + 1
    if count < 2:
        return []
    orders = [rng.permutation(count) for _ in range(SPLITS)]
    return [
        (np.flatnonzero(order[numbers] < count // 2), np.flatnonzero(order[numbers] >= count // 2))
        for order in orders
    ]


def spearman_between(
    first: Float[np.ndarray, "parts items"],
    second: Float[np.ndarray, "parts items"],
    halves: Sequence[tuple[np.ndarray, np.ndarray]],
) -> float | None:
    """Mean correlation of one's mean effects in a half with the other's in the other half.

    None without halves, or where all parts are equal in one.
    """
    found = [spearman(first[:, one].mean(axis=1), second[:, other].mean(axis=1)) for one, other in halves]
    return None if not found or None in found else float(np.mean(found))


def _standard_ranks(values: Float[np.ndarray, " parts"]) -> Float[np.ndarray, " parts"] | None:
    """Ranks of mean 0 and standard deviation 1; None where they are all the same."""
    ranks = scipy.stats.rankdata(values)
    deviation = ranks.std()
    return None if deviation == 0 else (ranks - ranks.mean()) / deviation
