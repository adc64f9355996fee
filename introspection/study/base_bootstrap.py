"""Intervals over several bases, by `hierarchical_bootstrap` with `crossed_groups`.

All bases answer the same facts, so one draw of groups serves all bases. Everything returned is strict JSON:
undefined values are None.
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
    """Numbers of resamples; None is `hierarchical_bootstrap`'s default, 0 skips the interval."""

    pooled: int | None = None  # of several bases together
    one_base: int | None = None  # of each base by itself


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
        by_base: gives the seed and group of every cell.
        counts: cells of all bases, concatenated in alphabetical order of bases.
        statistic: maps summed counts (one row per resample) to outputs.
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
    """How many bases' values are above 0, their standard deviation, and their sign-flip p-value."""
    known = np.array([value for value in values if value is not None], dtype=float)
    return {
        "n": len(known),
        "above_0": int(np.sum(known > 0)),
        "standard_deviation": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "sign_flip_p": sign_flip_test(known, rng) if len(known) > 1 else None,
    }
