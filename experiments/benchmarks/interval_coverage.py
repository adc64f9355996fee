"""Whether a study's 95% intervals cover the truth in 95% of studies, and how often they detect an effect.

Studies of the planned size are simulated with a known gap; every interval is `hierarchical_bootstrap`'s, on
(base, seed, group) cells. All studies of a case share their resamples: the studies are the bootstrap's
statistics, which makes this fast. `seed_coverage` covers one base with a few seeds.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import scipy.stats
from jaxtyping import Float

from experiments.benchmarks import seed_coverage
from experiments.benchmarks.seed_coverage import SeedSize, share_measure
from experiments.benchmarks.timing import Measure
from introspection.coupling.statistics import hierarchical_bootstrap

Cells = Float[np.ndarray, "runs bases seeds groups"]


@dataclasses.dataclass(frozen=True)
class Size:
    """A study, the standard deviations of its gap in points, and the simulation's size.

    The groups' deviations and the share of single matches give one base of two seeds the standard error of a
    small trial: 1.0 points (95% intervals over groups of about ±2 points).
    """

    bases: int = 8
    seeds: int = 3
    groups: int = 600  # the same in every base
    items: int = 7  # per group
    between_bases: tuple[float, ...] = (0.0, 2.0, 4.5)  # cases; the trial saw 4.5
    between_seeds: float = 1.5
    between_groups: float = 15.0  # specific to a group in one base
    common_to_bases: float = 10.0  # specific to a group in all bases
    one_match: float = 0.4  # share of items where exactly one of current and teacher is matched
    planted: tuple[float, ...] = (5.0, 2.0)  # points; power is measured for each
    other_bases: tuple[int, ...] = (3, 16)  # other numbers of bases
    # Deviations of groups in one base and in all, for cases where facts differ more than bases.
    strong_facts: tuple[float, float] = (5.0, 17.0)
    runs: int = 1_000  # for each main case's coverage
    other_runs: int = 400  # for other numbers of bases, strong facts, and power
    resamples: int = 4_000
    chunk: int = 125  # runs whose cells are in memory at a time
    seed: int = 0
    one_base: SeedSize = dataclasses.field(default_factory=SeedSize)


TINY = Size(
    bases=4, groups=60, items=4, between_bases=(2.0,), planted=(20.0,), other_bases=(3,), runs=20,
    other_runs=20, resamples=200, chunk=20, one_base=seed_coverage.TINY,
)  # fmt: skip


def run(size: Size | None = None) -> list[Measure]:
    """Coverage of 0 without coupling, then power, for each spread between bases and number of bases; then
    `seed_coverage`."""
    size = size or Size()
    cases = [(n, spread) for n in (size.bases, *size.other_bases) for spread in size.between_bases]
    fewer, (own, common) = dataclasses.replace(size, runs=size.other_runs), size.strong_facts
    strong = dataclasses.replace(fewer, between_groups=own, common_to_bases=common)
    coverage = [coverage_measure(size, size.bases, spread) for spread in size.between_bases]
    coverage += [
        coverage_measure(strong, size.bases, spread, case=f".facts_{common:g}")
        for spread in size.between_bases
    ]
    coverage += [coverage_measure(fewer, n, spread) for n, spread in cases if n != size.bases]
    power = [power_measure(size, n, spread, planted) for n, spread in cases for planted in size.planted]
    return coverage + power + seed_coverage.run(size.one_base)


def coverage_measure(size: Size, bases: int, spread: float, *, case: str = "") -> Measure:
    """How often the study's interval covers 0 if nothing is planted.

    For the study's number of bases, also: groups resampled for each base (`nested`), the same without
    expansion (`plain`), and Student's interval of the bases' means, which treats the groups as given.
    """
    found: dict[str, list[Float[np.ndarray, "2 runs"]]] = {}
    for cells in simulated_chunks(size, bases, spread, 0.0, size.runs):
        found.setdefault("study", []).append(intervals(cells, size, crossed=True))
        if bases == size.bases:
            resampled: list[np.ndarray] = []
            nested = intervals(cells, size, crossed=False, keep=resampled)
            found.setdefault("nested", []).append(nested)
            plain = np.quantile(np.concatenate(resampled), [0.025, 0.975], axis=0)
            found.setdefault("plain", []).append(plain)
            found.setdefault("t_of_bases", []).append(t_intervals(cells, size))
    ends = {name: np.concatenate(chunks, axis=1) for name, chunks in found.items()}
    covered = {name: int(np.sum((low <= 0) & (high >= 0))) for name, (low, high) in ends.items()}
    return share_measure(
        f"coverage.{bases}_bases.spread_{spread:g}{case}",
        covered.pop("study"),
        size.runs,
        "intervals that cover 0",
        reference=0.95,
        ratio_is="covered / nominal",
        target="0.95",
        mean_half_width_points=_half_width(ends.pop("study")),
        **{f"{name}_covered": count / size.runs for name, count in covered.items()},
        **{f"{name}_half_width_points": _half_width(e) for name, e in ends.items()},
    )


def power_measure(size: Size, bases: int, spread: float, planted: float) -> Measure:
    """How often the study's interval is entirely above 0 if a gap is planted."""
    chunks = simulated_chunks(size, bases, spread, planted, size.other_runs)
    ends = np.concatenate([intervals(cells, size, crossed=True) for cells in chunks], axis=1)
    return share_measure(
        f"power.{bases}_bases.spread_{spread:g}.planted_{planted:g}",
        int(np.sum(ends[0] > 0)),
        size.other_runs,
        "intervals wholly above 0",
        reference=0.8,
        ratio_is="power / 0.8",
        target="",
        planted_covered=float(np.mean((ends[0] <= planted / 100) & (ends[1] >= planted / 100))),
        mean_half_width_points=_half_width(ends),
    )


def simulated_chunks(size: Size, bases: int, spread: float, planted: float, runs: int) -> Iterator[Cells]:
    """`simulate`'s cells of `runs` studies, `size.chunk` at a time; each case has its own random numbers."""
    common = round(10 * size.common_to_bases)
    case = [bases, common, round(10 * spread), round(10 * planted)]
    for start in range(0, runs, size.chunk):
        rng = np.random.default_rng([size.seed, *case, start])
        yield simulate(size, bases, spread, planted, min(size.chunk, runs - start), rng)


def simulate(
    size: Size, bases: int, spread: float, planted: float, runs: int, rng: np.random.Generator
) -> Cells:
    """Matches with current minus matches with the teacher, summed over the items of each cell.

    On `size.one_match` of the items exactly one of the two is matched, and the effects (planted, base, seed,
    group in one base, group in all) shift how often it is current. A group's effects take two equal and
    opposite values, so that the sum stays a probability; the others are normal.
    """
    effect = planted + spread * rng.standard_normal((runs, bases, 1, 1))
    effect = effect + size.between_seeds * rng.standard_normal((runs, bases, size.seeds, 1))
    groups = size.between_groups * rng.choice([-1.0, 1.0], (runs, bases, 1, size.groups))
    groups += size.common_to_bases * rng.choice([-1.0, 1.0], (runs, 1, 1, size.groups))
    toward_current = np.clip(0.5 + (effect + groups) / 100 / size.one_match / 2, 0, 1)
    matched_one = rng.binomial(size.items, size.one_match, toward_current.shape)
    return 2.0 * rng.binomial(matched_one, toward_current) - matched_one


def intervals(
    cells: Cells, size: Size, *, crossed: bool, keep: list[np.ndarray] | None = None
) -> Float[np.ndarray, "2 runs"]:
    """`hierarchical_bootstrap`'s interval of every study's gap; appends its resampled gaps to `keep`."""
    bases, seeds, groups = (axis.ravel() for axis in np.indices(cells.shape[1:]))
    items = size.items * len(bases)

    def gap(sums: Float[np.ndarray, "resamples runs"]) -> Float[np.ndarray, "resamples runs"]:
        gaps = sums / items  # every resample has the same number of items
        if keep is not None:
            keep.append(gaps)
        return gaps

    return hierarchical_bootstrap(
        np.ascontiguousarray(cells.reshape(len(cells), -1).T),
        groups,
        gap,
        np.random.default_rng(size.seed),
        seeds=seeds,
        bases=bases,
        crossed_groups=crossed,
        resamples=size.resamples,
    )


def t_intervals(cells: Cells, size: Size) -> Float[np.ndarray, "2 runs"]:
    """Student's interval of the bases' means."""
    by_base = cells.mean((2, 3)) / size.items
    bases = by_base.shape[1]
    half = scipy.stats.t.ppf(0.975, bases - 1) * by_base.std(1, ddof=1) / np.sqrt(bases)
    return by_base.mean(1) + np.stack([-half, half])


def _half_width(ends: Float[np.ndarray, "2 runs"]) -> float:
    return round(float(100 * np.mean(ends[1] - ends[0]) / 2), 2)
