"""Intervals over several bases: bases are resampled, then each one's seeds, and one set of groups for all.

All bases answer the same facts, hence one draw of groups (`hierarchical_bootstrap`, `crossed_groups`); of one
base its seeds and groups are resampled. Everything returned is strict JSON: undefined values are None.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from introspection.coupling.seed_intervals import Statistic
from introspection.coupling.statistics import as_estimates, hierarchical_bootstrap, sign_flip_test
from introspection.study.counts import ByBase


@dataclasses.dataclass(frozen=True)
class Resamples:
    """How many: of several bases together, and of each by itself; None is what `hierarchical_bootstrap`
    takes, 0 gives no interval."""

    pooled: int | None = None
    one_base: int | None = None


USUAL = Resamples()


def estimates(
    by_base: ByBase,
    counts: Float[np.ndarray, "cells statistics"],
    statistic: Statistic,
    rng: np.random.Generator,
    resamples: Resamples = USUAL,
) -> list[dict[str, Any]]:
    """Each output's `mean` and `ci95`.

    Args:
        by_base: whose cells the counts are of.
        counts: of the bases in alphabetical order, one after the other.
        statistic: from summed counts (one row a resample) to outputs.
        rng: for the resamples.
    """
    bases = sorted(by_base)
    means = statistic(counts.sum(0, keepdims=True))[0]
    drawn = resamples.pooled if len(bases) > 1 else resamples.one_base
    if drawn == 0:
        return as_estimates(means, np.full((2, len(means)), np.nan))
    interval = hierarchical_bootstrap(
        counts,
        np.concatenate([by_base[base].groups for base in bases]),
        statistic,
        rng,
        seeds=np.concatenate([by_base[base].seeds for base in bases]),
        bases=np.repeat(np.arange(len(bases)), [len(by_base[base].seeds) for base in bases]),
        crossed_groups=True,
        resamples=drawn,
    )
    return as_estimates(means, interval)


def over_bases(values: Sequence[float | None], rng: np.random.Generator) -> dict[str, Any]:
    """How one value a base spreads: how many are above 0, their standard deviation, the sign-flip p-value."""
    known = np.array([value for value in values if value is not None], dtype=float)
    return {
        "n": len(known),
        "above_0": int(np.sum(known > 0)),
        "standard_deviation": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "sign_flip_p": sign_flip_test(known, rng) if len(known) > 1 else None,
    }
