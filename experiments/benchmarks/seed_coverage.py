"""Whether 95% intervals of one base with a few seeds cover the truth, and how often its test rejects it.

Runs of one base are simulated with several items per group, effects of groups (the same in all seeds), of
seeds, and of a group in one seed. Intervals are `hierarchical_bootstrap`'s of a difference (the gap), of a
ratio (the current share) and of a macro F1 of summed counts. All runs of a case are the statistics of one
call, which makes this fast.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.stats
from jaxtyping import Float

from experiments.benchmarks.timing import Measure
from introspection.coupling.seed_intervals import Statistic, two_way_variances
from introspection.coupling.statistics import (
    hierarchical_bootstrap,
    seeds_sign_flip_test,
    sign_flip_test,
    wilson_interval,
)

Cells = Float[np.ndarray, "runs seeds groups counts"]

# For F1: how often items have changed, and how often the explanation says so for those and for the others.
CHANGED, SAID_IF_CHANGED, SAID_IF_UNCHANGED = 0.3, 0.6, 0.25


@dataclasses.dataclass(frozen=True)
class SeedSize:
    """The simulation of one base. Deviations are standard deviations in points of the gap."""

    seeds: tuple[int, ...] = (2, 3)
    groups: tuple[int, ...] = (60, 200, 750)
    items: int = 5  # per group
    between_seeds: tuple[float, ...] = (0.0, 2.0, 5.0, 10.0)
    between_groups: float = 15.0  # the same in all seeds
    in_one_seed: float = 5.0  # specific to a group in one seed
    strong_groups: float = 19.0  # for the cases without effects of a group in one seed
    one_match: float = 0.4  # share of items where exactly one of current and teacher is matched
    test_seeds: tuple[int, ...] = (3, 6, 8, 12)  # of the sign-flip test
    test_groups: int = 200
    flips: int = 400
    runs: int = 600
    test_runs: int = 400
    seed: int = 0


TINY = SeedSize(seeds=(3,), groups=(60,), between_seeds=(5.0,), test_seeds=(3, 6), test_groups=60, flips=100,
                runs=60, test_runs=30)  # fmt: skip


def run(size: SeedSize | None = None) -> list[Measure]:
    """Coverage of the gap, the current share and F1, then how often the sign-flip test rejects."""
    size = size or SeedSize()
    middle = size.groups[len(size.groups) // 2]
    strong = dataclasses.replace(size, between_groups=size.strong_groups, in_one_seed=0.0)
    measures = []
    for seeds in size.seeds:
        for spread in size.between_seeds:
            measures += [coverage_measure(size, "gap", seeds, groups, spread) for groups in size.groups]
            measures.append(coverage_measure(strong, "gap", seeds, middle, spread, case=".strong_groups"))
            measures += [
                coverage_measure(size, name, seeds, groups, spread)
                for name in ("current_share", "f1")
                for groups in sorted({size.groups[0], middle})
            ]
    return measures + [
        rejection_measure(size, seeds, spread) for seeds in size.test_seeds for spread in size.between_seeds
    ]


def coverage_measure(
    size: SeedSize, name: str, seeds: int, groups: int, spread: float, *, case: str = ""
) -> Measure:
    """How often the interval of `name` ("gap", "current_share" or "f1") covers the truth.

    Also two intervals that treat the other level as given: Student's over the seeds, and over groups.
    """
    rng = np.random.default_rng([size.seed, seeds, groups, round(10 * spread)])
    if name == "f1":
        cells, output, truth = simulate_f1(size, seeds, groups, spread, rng), macro_f1, true_f1()
    else:
        cells = simulate_matches(size, size.runs, seeds, groups, spread, rng)
        output, truth = (gap, 0.0) if name == "gap" else (current_share, 0.5)
    table, statistic = _as_one_call(cells, output, size.items * seeds * groups)
    seed_of, group_of = (axis.ravel() for axis in np.indices((seeds, groups)))
    ends = hierarchical_bootstrap(table.reshape(len(seed_of), -1), group_of, statistic, rng, seeds=seed_of)
    estimate, *parts = two_way_variances(table, statistic)
    alone = {
        level: scipy.stats.t.ppf(0.975, units - 1) * np.sqrt(variance)
        for level, units, variance in zip(("seeds", "groups"), (seeds, groups), parts, strict=True)
    }
    return share_measure(
        f"{name}.{seeds}_seeds.{groups}_groups.seeds_spread_{spread:g}{case}",
        int(np.sum((ends[0] <= truth) & (ends[1] >= truth))),
        size.runs,
        "intervals that cover the truth",
        reference=0.95,
        ratio_is="covered / nominal",
        target="at least 0.93",
        undefined=float(np.mean(np.isnan(ends[0]))),
        mean_half_width_points=round(float(50 * np.nanmean(ends[1] - ends[0])), 2),
        **{
            f"{level}_alone_covered": float(np.mean(abs(estimate - truth) <= h)) for level, h in alone.items()
        },
        **{f"{level}_alone_half_width_points": round(100 * float(h.mean()), 2) for level, h in alone.items()},
    )


def rejection_measure(size: SeedSize, seeds: int, spread: float) -> Measure:
    """How often `seeds_sign_flip_test`, and the test over groups, reject at 5% if nothing is planted."""
    rng = np.random.default_rng([size.seed, seeds, size.test_groups, round(10 * spread)])
    cells = simulate_matches(size, size.test_runs, seeds, size.test_groups, spread, rng)
    rejected = over_groups = without = 0
    for sums in cells[..., 0] - cells[..., 1]:
        p, _ = seeds_sign_flip_test(sums, rng, resamples=size.flips)
        without += p is None
        rejected += p is not None and p <= 0.05
        over_groups += sign_flip_test(sums.sum(0), rng, resamples=size.flips) <= 0.05
    return share_measure(
        f"sign_flip.{seeds}_seeds.{size.test_groups}_groups.seeds_spread_{spread:g}",
        rejected,
        size.test_runs,
        "tests that reject at 5% what is true",
        reference=0.05,
        ratio_is="rejected / nominal",
        target="at most 0.07",
        no_p=without / size.test_runs,
        groups_alone_rejected=over_groups / size.test_runs,
    )


def share_measure(
    name: str, count: int, runs: int, what: str, *, reference: float, ratio_is: str, target: str, **extra: Any
) -> Measure:
    """The share `count` of `runs` simulated studies with its 95% interval, against its nominal value."""
    share = count / runs
    interval = [round(end, 4) for end in wilson_interval(count, runs)]
    return Measure(
        f"interval_coverage.{name}",
        share,
        f"share of {runs} {what}",
        reference,
        share / reference,
        {"ratio_is": ratio_is, "target": target, "wilson95": interval, **extra},
    )


def simulate_matches(
    size: SeedSize, runs: int, seeds: int, groups: int, spread: float, rng: np.random.Generator
) -> Cells:
    """Matches with current and with the teacher (two counts), over items that match exactly one of them.

    Effects of seeds are normal; those of groups take two equal and opposite values, so that the sum nearly
    always stays a probability.
    """
    effect = spread * rng.standard_normal((runs, seeds, 1))
    effect = effect + size.between_groups * rng.choice([-1.0, 1.0], (runs, 1, groups))
    effect = effect + size.in_one_seed * rng.choice([-1.0, 1.0], (runs, seeds, groups))
    matched_one = rng.binomial(size.items, size.one_match, effect.shape)
    current = rng.binomial(matched_one, np.clip(0.5 + effect / 100 / size.one_match / 2, 0, 1))
    return np.stack([current, matched_one - current], axis=-1).astype(float)


def simulate_f1(size: SeedSize, seeds: int, groups: int, spread: float, rng: np.random.Generator) -> Cells:
    """Counts of items that have changed, that are said to have changed, and of both.

    Whether items have changed varies by group and is the same in all seeds. How often it is said varies by
    group, half as much as the gap, and by seed; where it is said more correctly, it is said less wrongly.
    """
    shape = (size.runs, seeds, groups)
    changed = rng.beta(4 * CHANGED, 4 * (1 - CHANGED), (size.runs, 1, groups))
    changed = np.broadcast_to(rng.binomial(size.items, changed), shape)
    effect = spread * rng.standard_normal((size.runs, seeds, 1))
    effect = (effect + size.between_groups / 2 * rng.choice([-1.0, 1.0], (size.runs, 1, groups))) / 100
    both = rng.binomial(changed, np.clip(SAID_IF_CHANGED + effect, 0, 1))
    said_wrongly = rng.binomial(size.items - changed, np.clip(SAID_IF_UNCHANGED - effect / 2, 0, 1))
    return np.stack([changed, both + said_wrongly, both], axis=-1).astype(float)


def gap(sums: Float[np.ndarray, "*batch 2"], items: int) -> Float[np.ndarray, "*batch"]:
    """Self minus Orig of summed `simulate_matches`."""
    return (sums[..., 0] - sums[..., 1]) / items


def current_share(sums: Float[np.ndarray, "*batch 2"], items: int) -> Float[np.ndarray, "*batch"]:
    """The share of matches that are with current."""
    return sums[..., 0] / sums.sum(-1)


def macro_f1(sums: Float[np.ndarray, "*batch 3"], items: int) -> Float[np.ndarray, "*batch"]:
    """Mean F1 of the classes changed and unchanged, of summed `simulate_f1`."""
    changed, said, both = np.moveaxis(sums, -1, 0)
    neither = items - changed - said + both
    return both / (changed + said) + neither / (2 * items - changed - said)


def true_f1() -> float:
    """`macro_f1` of infinitely many seeds and groups."""
    both = CHANGED * SAID_IF_CHANGED
    said = both + (1 - CHANGED) * SAID_IF_UNCHANGED
    return float(macro_f1(np.array([[CHANGED, said, both]]), 1)[0])


def _as_one_call(
    cells: Cells, output: Callable[[np.ndarray, int], np.ndarray], items: int
) -> tuple[Float[np.ndarray, "seeds groups runs_and_counts"], Statistic]:
    """All runs' counts in one table, and the statistic of each run."""
    runs, seeds, groups, counts = cells.shape
    table = cells.transpose(1, 2, 0, 3).reshape(seeds, groups, runs * counts)

    def statistic(
        sums: Float[np.ndarray, "resamples runs_and_counts"],
    ) -> Float[np.ndarray, "resamples runs"]:
        return output(sums.reshape(len(sums), runs, counts), items)

    return table, statistic
