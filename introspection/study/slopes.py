"""Whether coupling comes with explaining well: the slope of gap minus reference gap on Orig, per base.

A static emitter's gap depends on its level: where behaviour drifts away from the truth, an emitter that
matches the labels more often loses more. So against one fixed emitter there is a slope without any coupling.
Hence the level-matched reference: other emitters' gap at the arm's own Orig, interpolated between the two
emitters around it, which is the gap of a random mixture of the two. The lowest emitter says nothing valid:
its Orig and gap are 0.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy  # loads scipy.stats, which takes a second, at its first use
from jaxtyping import Float, Shaped

from introspection.coupling.metrics import divide
from introspection.coupling.references import LEVEL_TOLERANCE
from introspection.study.counts import exact_columns
from introspection.study.parts import ALIGNED, FOREIGN, PartResults, StudyPart, used_references

MATCHED = "level-matched"
FEWEST_CONDITIONS = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Condition:
    """One arm of one part: one point per base."""

    name: str
    arm: str
    part: StudyPart
    results: PartResults


@dataclasses.dataclass(frozen=True, eq=False)
class _Place:
    """One condition in one base: sums of `EXACT` columns by group, for its explainer and its references."""

    condition: str
    base: str
    static: str | None  # the best static emitter
    emitters: tuple[str, ...]  # "" is the condition's own explainer
    groups: Shaped[np.ndarray, " groups"]
    sums: Float[np.ndarray, "groups emitters 3"]

    def minus(
        self, weights: Float[np.ndarray, "resamples groups"]
    ) -> tuple[Float[np.ndarray, " resamples"], dict[str, Float[np.ndarray, " resamples"]]]:
        """Orig, and the gap minus each reference's ("": the raw gap), with weighted groups."""
        items, own, orig = np.moveaxis(np.tensordot(weights, self.sums, 1), -1, 0)
        orig, gap = divide(orig, items), divide(own - orig, items)
        found = {"": gap[:, 0]}
        found |= {name: gap[:, 0] - gap[:, e] for e, name in enumerate(self.emitters) if name}
        # Foreign explainers learned these labels too, so they can't stand for an emitter without coupling.
        still = [e for e, name in enumerate(self.emitters) if name not in ("", FOREIGN, ALIGNED)]
        if still:
            found[MATCHED] = gap[:, 0] - _matched(orig[:, 0], orig[:, still], gap[:, still])
        return orig[:, 0], found


def _matched(
    orig: Float[np.ndarray, " resamples"],
    levels: Float[np.ndarray, "resamples still"],
    gaps: Float[np.ndarray, "resamples still"],
) -> Float[np.ndarray, " resamples"]:
    """The gap at level `orig`, interpolated between emitters; NaN if no emitter's level is as high."""
    silent = np.zeros((len(orig), 1))
    levels, gaps = np.concatenate([silent, levels], axis=1), np.concatenate([silent, gaps], axis=1)
    order = np.argsort(levels, axis=1, kind="stable")
    levels, gaps = np.take_along_axis(levels, order, 1), np.take_along_axis(gaps, order, 1)
    above = np.clip((levels < orig[:, None]).sum(1), 1, levels.shape[1] - 1)
    rows = np.arange(len(orig))
    low, high = levels[rows, above - 1], levels[rows, above]
    way = np.clip(np.nan_to_num(divide(orig - low, high - low)), 0, 1)
    matched = gaps[rows, above - 1] + way * (gaps[rows, above] - gaps[rows, above - 1])
    return np.where(orig > levels[:, -1] + LEVEL_TOLERANCE, np.nan, matched)


def _places(conditions: Sequence[Condition]) -> list[_Place]:
    places = []
    for condition in conditions:
        arm, part, results = condition.arm, condition.part, condition.results
        references = part.references.get(arm, {})
        used = used_references(results["controls"], [arm])
        for base in sorted(part.arms[arm]):
            names = [name for name in used if base in references[name]]
            counts = [part.arms[arm][base], *(references[name][base] for name in names)]
            groups, index = np.unique(counts[0].groups, return_inverse=True)
            sums = np.zeros((len(groups), len(counts), 3))
            np.add.at(sums, index, np.stack([exact_columns(c) for c in counts], axis=1))
            static = results["arms"][arm]["best_static"]
            places.append(_Place(condition.name, base, static, ("", *names), groups, sums))
    return places


def slope_points(conditions: Sequence[Condition]) -> list[dict[str, Any]]:
    """One point per condition and base, as exact-match shares.

    `orig`, the raw `gap`, and `minus`: by reference, the gap minus the reference's. References include the
    level-matched one if some emitter's level is as high. `static` is the arm's best static emitter.
    """
    points = []
    for place in _places(conditions):
        orig, minus = place.minus(np.ones((1, len(place.groups))))
        found = {name: float(values[0]) for name, values in minus.items() if not np.isnan(values[0])}
        point = {"condition": place.condition, "base": place.base, "static": place.static}
        points.append({**point, "orig": float(orig[0]), "gap": found.pop(""), "minus": found})
    return points


def orig_slopes(
    conditions: Sequence[Condition], rng: np.random.Generator, resamples: int = 400
) -> dict[str, dict[str, Any]]:
    """For each reference that all points share, the mean over bases of the least-squares slope on Orig.

    The slope is in points of gap per point of Orig; a base needs three conditions that differ in Orig. The
    interval is Student's over the bases' slopes, plus the variance of the mean over resampled groups: all
    bases answer the same facts, so these facts shift all slopes together, which their spread does not show.
    """
    places = _places(conditions)
    names = sorted({group for place in places for group in place.groups.tolist()})
    weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples).astype(float)
    weights = np.concatenate([np.ones((1, len(names))), weights])  # the first row is the observed data
    by_base: dict[str, list[tuple[np.ndarray, dict[str, np.ndarray]]]] = {}
    for place in places:
        levels = place.minus(weights[:, np.searchsorted(names, place.groups)])
        by_base.setdefault(place.base, []).append(levels)
    seen = [
        {name for name, values in minus.items() if name and not np.isnan(values[0])}
        for levels in by_base.values()
        for _, minus in levels
    ]
    found = {}
    for name in sorted(set.intersection(*seen)) if seen else []:
        slopes = {}
        for base, levels in sorted(by_base.items()):
            x = np.stack([orig for orig, _ in levels])
            y = np.stack([minus[name] for _, minus in levels])
            if len(levels) >= FEWEST_CONDITIONS and np.ptp(x[:, 0]) > 0:
                slopes[base] = _slopes(x, y)
        if slopes:
            found[name] = {
                **_mean_and_interval(np.stack(list(slopes.values()))),
                "bases": list(slopes),
                "by_base": {base: {"mean": float(s[0]), "ci95": None} for base, s in slopes.items()},
            }
    return found


def _slopes(
    x: Float[np.ndarray, "conditions resamples"], y: Float[np.ndarray, "conditions resamples"]
) -> Float[np.ndarray, " resamples"]:
    """Least-squares slope in each resample; a condition that is undefined there is left out."""
    weights = (~np.isnan(y)).astype(float)
    y = np.nan_to_num(y)
    n = weights.sum(0)
    dx = x - divide((weights * x).sum(0), n)
    return divide((weights * dx * y).sum(0), (weights * dx**2).sum(0))


def _mean_and_interval(slopes: Float[np.ndarray, "bases resamples"]) -> dict[str, Any]:
    """The observed mean (first column) and its 95% interval, None with fewer than two bases."""
    n, mean = len(slopes), float(slopes[:, 0].mean())
    if n < 2:
        return {"mean": mean, "ci95": None}
    of_groups = np.nanvar(slopes[:, 1:].mean(0))
    error = np.sqrt(np.var(slopes[:, 0], ddof=1) / n + of_groups)
    half = float(scipy.stats.t.ppf(0.975, n - 1) * error)
    return {"mean": mean, "ci95": [mean - half, mean + half]}


def live_lines(conditions: Sequence[Condition]) -> dict[str, list[dict[str, Any]]]:
    """By condition, mean live Orig and live gap on validation items, at evaluation steps that all bases
    logged. No reference is subtracted: none is scored during training."""
    lines = {}
    for condition in conditions:
        by_base = [
            {point.step: point for point in log.live}
            for log in condition.part.training.get(condition.arm, {}).values()
            if log.live
        ]
        steps = sorted(set.intersection(*map(set, by_base))) if by_base else []
        if steps:
            lines[condition.name] = [
                {
                    "step": step,
                    "orig": float(np.mean([points[step].orig for points in by_base])),
                    "gap": float(np.mean([points[step].own - points[step].orig for points in by_base])),
                }
                for step in steps
            ]
    return lines
