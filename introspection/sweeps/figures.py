"""A sweep's further figures: what one factor does, and all arms' gaps against agreement."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from introspection.coupling.run_results import ArmResults
from introspection.reports.figure_style import (
    BAND,
    INK,
    ORIG_COLOR,
    RULE,
    SELF_COLOR,
    arm_styles,
    legend_below,
    new_figure,
    printable,
    styled,
)
from introspection.study.figures import MARKERS
from introspection.study.knee import fit_knee
from introspection.sweeps.arms import SweepArm
from introspection.sweeps.table import SweepPoint

FACTORS = {
    "kl_weight": "λ, the weight of the KL term",
    "learning_rate": "peak learning rate",
    "label_noise": "share of labels that noise replaces",
    "foreign_labels": "α, the share of facts with another base's labels",
}
FEWEST_LEVELS = 3  # of a factor that is drawn
PAPERS_DRIFT = (0.1, 0.5)  # the band of drift that the paper's authors have named


@dataclasses.dataclass(frozen=True)
class FactorLevel:
    """An arm that differs from the main one in a factor alone, at one point."""

    part: str
    factor: str
    value: float
    base: str
    arm: ArmResults


def factor_levels(sweep_points: Sequence[SweepPoint]) -> dict[str, list[FactorLevel]]:
    """By factor with at least `FEWEST_LEVELS` values, its levels in the part that has the most of them."""
    found: dict[str, list[FactorLevel]] = {}
    for factor in FACTORS:
        by_part: dict[str, list[FactorLevel]] = {}
        for point in sweep_points:
            by_part.setdefault(point.part, []).extend(_levels(point, factor))
        levels = max(by_part.values(), key=lambda own: len({level.value for level in own}), default=[])
        if len({level.value for level in levels}) >= FEWEST_LEVELS:
            found[factor] = sorted(levels, key=lambda level: level.value)
    return found


def _levels(point: SweepPoint, factor: str) -> list[FactorLevel]:
    """Of one point, whose first arm is the main one; none where the point has a single value."""
    main = point.arm_fields.get(point.arms[0].name, {}) if point.arms else {}
    found = [
        FactorLevel(point.part, factor, float(fields[factor]), point.base, arm)
        for arm in point.arms
        if (fields := point.arm_fields.get(arm.name, {})).keys() == main.keys()
        and factor in fields
        and all(value == main[name] for name, value in fields.items() if name != factor)
    ]
    return found if len({level.value for level in found}) > 1 else []


@styled
def factor_figure(factor: str, levels: Sequence[FactorLevel]) -> Figure:
    """Left: Self and Orig by the factor's value; right: drift, with the band that the authors have named.

    A dot is a base, a line the mean over bases; values stand at equal distances.
    """
    figure = new_figure(3.6)
    left, right = figure.subplots(1, 2)
    values = sorted({level.value for level in levels})
    drawn: list[tuple[Any, str, list[tuple[int, float]]]] = []
    for axes, label, color in (
        (left, "Self", SELF_COLOR),
        (left, "Orig", ORIG_COLOR),
        (right, "drift", INK),
    ):
        known = [
            (values.index(level.value), 100 * share)
            for level in levels
            if (share := _share(label, level.arm)) is not None
        ]
        drawn.append((axes, color, known))
        axes.plot(*zip(*known, strict=True), "o", color=color, markersize=4, alpha=0.5) if known else None
        places = sorted({place for place, _ in known})
        means = [float(np.mean([share for place, share in known if place == one])) for one in places]
        axes.plot(places, means, color=color, linewidth=1.6)
    right.axhspan(*(100 * end for end in PAPERS_DRIFT), color=BAND, zorder=0)
    for axes, title in ((left, "Explanations that match (%)"), (right, "Items whose E(.) drifted (%)")):
        axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
        axes.set_xlabel(FACTORS[factor])
        axes.set_title(title)
        axes.set_ylim(0, 1.06 * axes.get_ylim()[1])
        axes.grid(axis="y")
    handles = [
        Line2D([], [], color=SELF_COLOR, label="Self"),
        Line2D([], [], color=ORIG_COLOR, label="Orig"),
        Line2D([], [], color=INK, label="drift"),
        Patch(color=BAND, label="10 to 50% drift, the paper's authors' band"),
    ]
    legend_below(figure, handles)
    return figure


def _share(label: str, arm: ArmResults) -> float | None:
    return {"Self": arm.self.exact_match.mean, "Orig": arm.orig.exact_match.mean, "drift": arm.drift}[label]


def factor_numbers(levels: Sequence[FactorLevel]) -> list[dict[str, Any]]:
    """What `factor_figure` shows."""
    return [
        {
            "part": level.part,
            "base": level.base,
            "arm": level.arm.name,
            level.factor: level.value,
            **{label.lower(): _share(label, level.arm) for label in ("Self", "Orig", "drift")},
        }
        for level in levels
    ]


def knee_points(arms: Sequence[SweepArm], reference: str) -> list[dict[str, Any]]:
    """One point per arm and base: the mean agreement with the trained labels over training, and the gap minus
    that of the reference ("static" is each arm's best static emitter). Arms that lack either are left out.

    Reference emitters (shuffled labels, foreign explainers) are no arms of their own here.
    """
    found = []
    for arm in arms:
        gap = getattr(arm, f"gap_minus_{reference}")
        if not arm.is_reference and arm.agreement_mean is not None and gap is not None:
            found.append(
                {
                    "arm": f"{arm.part}: {arm.arm}",
                    "shown": arm.sweep,
                    "part": arm.part,
                    "base": arm.base,
                    "agreement": arm.agreement_mean,
                    "moved": arm.update_norm,
                    "gap": gap,
                    "reference": arm.best_static if reference == "static" else reference,
                }
            )
    return found


@styled
def distance_figure(points: Sequence[Mapping[str, Any]]) -> Figure:
    """Gap minus best static's on how far the parameters moved: one colour per part, one point per arm and
    base."""
    figure = new_figure(4.2)
    axes = figure.add_subplot()
    axes.axhline(0, color=RULE, linewidth=1.0, zorder=1)
    parts = list(dict.fromkeys(point["part"] for point in points))
    styles, handles = arm_styles(parts), []
    for index, part in enumerate(parts):
        own = [(point["moved"], 100 * point["gap"]) for point in points if point["part"] == part]
        look = {"color": styles[part]["color"], "marker": MARKERS[index % len(MARKERS)], "linestyle": ""}
        axes.plot(*zip(*own, strict=True), markersize=5, **look)
        handles.append(Line2D([], [], label=printable(part), **look))
    axes.set_xscale("log")
    axes.set_xlabel("distance moved: Euclidean norm of the change of all parameters (log scale)")
    axes.set_ylabel("gap minus best static's (points)")
    legend_below(figure, handles)
    return figure


def knee_of(points: Sequence[Mapping[str, Any]], seed: int = 0) -> dict[str, Any]:
    """The points with the knee fitted to them, as `study.figures.knee_figure` draws them: no claim, as
    arms and sweeps were not chosen before."""
    agreement, gap, base, arm = ([p[name] for p in points] for name in ("agreement", "gap", "base", "arm"))
    fit = fit_knee(agreement, gap, base, arm, np.random.default_rng(seed))
    verdict = "identified" if fit.identified else f"not identified ({fit.reason})"
    arms = len({point["arm"] for point in points})
    return {
        "name": printable(f"{arms} arms, {fit.bases} bases"),
        "verdict": verdict,
        "points": points,
        "fit": dataclasses.asdict(fit),
    }
