"""Agreement of judges on the same texts: Cohen's kappa with an interval over groups."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from introspection.coupling.statistics import hierarchical_bootstrap


class Agreement(NamedTuple):
    """How far two judges put the same texts into the same classes."""

    first: str
    second: str
    n: int
    share: float  # of texts that both put into one class
    kappa: float  # NaN where both put all texts into one and the same class: there is no chance to beat
    interval: tuple[float, float]  # of kappa, 95% over groups; NaN where it can't be told


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """(observed - expected agreement) / (1 - expected), chance being the judges' own rates (Cohen, 1960).

    NaN where both judges put everything into one and the same class.

    Raises:
      ValueError: there is nothing to compare.
    """
    if len(first) == 0:
        raise ValueError("kappa needs at least one text")
    return float(_kappas(_joint_counts(first, second).sum(axis=0)[None])[0, 0])


def agreement(
    first: str,
    second: str,
    verdicts: Mapping[str, Sequence[str]],
    groups: Sequence[str],
    rng: np.random.Generator,
    resamples: int = 2_000,
) -> Agreement:
    """The agreement of two of the judges whose `verdicts` are given by name."""
    one, other = verdicts[first], verdicts[second]
    counts = _joint_counts(one, other)
    low, high = hierarchical_bootstrap(counts, np.asarray(groups), _kappas, rng, resamples=resamples)[:, 0]
    same = [a == b for a, b in zip(one, other, strict=True)]
    return Agreement(
        first, second, len(one), float(np.mean(same)), cohen_kappa(one, other), (float(low), float(high))
    )


def pairwise_agreement(
    verdicts: Mapping[str, Sequence[str]], groups: Sequence[str], rng: np.random.Generator
) -> list[Agreement]:
    """Every two judges' agreement on the same texts; `groups` are those of the texts."""
    return [agreement(a, b, verdicts, groups, rng) for a, b in itertools.combinations(verdicts, 2)]


def _joint_counts(first: Sequence[str], second: Sequence[str]) -> Float[np.ndarray, "texts cells"]:
    """One row a text with a 1 in the cell of its two classes."""
    classes, index = np.unique(np.array([*first, *second], dtype=str), return_inverse=True)
    rows, columns = index[: len(first)], index[len(first) :]
    counts = np.zeros((len(first), len(classes) ** 2))
    counts[np.arange(len(first)), rows * len(classes) + columns] = 1
    return counts


def _kappas(sums: Shaped[np.ndarray, "resamples cells"]) -> Float[np.ndarray, "resamples 1"]:
    size = round(np.sqrt(sums.shape[1]))
    table = sums.reshape(-1, size, size)
    total = table.sum(axis=(1, 2))
    observed = np.trace(table, axis1=1, axis2=2) / total
    expected = (table.sum(axis=1) * table.sum(axis=2)).sum(axis=1) / total**2
    # 1 where both judges know the same class alone; elsewhere at most 1 - 1 / total.
    certain = expected > 1 - 1 / total**2
    return np.where(certain, np.nan, (observed - expected) / np.where(certain, 1, 1 - expected))[:, None]
