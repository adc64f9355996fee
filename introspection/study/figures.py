"""A study's figures: a forest for each claim, the gap on agreement with the fitted knee, the gap on Orig."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from introspection.coupling.estimates import Estimate
from introspection.reports.figure_style import (
    BAND,
    INK,
    MUTED,
    NEUTRAL,
    ORIG_COLOR,
    RULE,
    SELF_COLOR,
    arm_styles,
    draw_interval,
    legend_below,
    new_figure,
    printable,
    styled,
    wrapped,
)
from introspection.reports.figures import follows_color
from introspection.reports.numbers import estimate
from introspection.reports.table import with_interval
from introspection.study.knee import LINE, STICK, KneeFit, curves

Entry = Mapping[str, Any]
ROW_INCHES = 0.33
MARKERS = "osD^vP*X<>hp"
BESIDE = ("reference", "arm")  # rows on grey
PAPERS_KNEE = (0.6, 0.7)  # below about this agreement the paper sees no coupling


@dataclasses.dataclass(frozen=True)
class ForestRow:
    label: str
    value: Estimate
    kind: str  # "pooled", "base", "reference" or "arm"


def claim_figure(claim: Entry) -> Figure:
    """The scatter of a knee or a slope, else the forest."""
    if claim["estimand"] == "slope":
        return slope_figure(claim)
    return knee_figure(claim) if claim["points"] else forest_figure(claim)


def forest_rows(claim: Entry) -> list[ForestRow]:
    """What the claim rests on: pooled and in each base; then against its other references, and the arms
    beside it, pooled."""
    rows = [ForestRow(f"all bases, against {claim['reference']}", estimate(claim), "pooled")]
    rows += [ForestRow(base, estimate(value), "base") for base, value in claim["by_base"].items()]
    rows += [
        ForestRow(f"against {name}", estimate(entry), "reference")
        for name, entry in claim["references"].items()
        if name != claim["reference"] and entry["used"]
    ]
    rows += [
        ForestRow(f"{entry['arm']}, against {entry['reference']}", estimate(entry), "arm")
        for entry in claim["shown"]
        if entry["mean"] is not None
    ]
    return rows


@styled
def forest_figure(claim: Entry) -> Figure:
    """The rows of a forest, from the top; those beside the claim on grey."""
    rows = forest_rows(claim)
    labels = [wrapped(row.label, 30, lines=2) for row in rows]
    places, y = [], 0.0
    for previous, row, label in zip([None, *rows], rows, labels, strict=False):
        if row.kind in BESIDE and previous is not None and previous.kind != row.kind:
            y += 0.6
        places.append(y)
        y += 1 + 0.55 * label.count("\n")
    figure = new_figure(1.15 + ROW_INCHES * y)
    axes = figure.add_subplot()
    axes.axvline(0, color=INK, linewidth=1.0, zorder=1)
    ends = [0.0]
    for row, place in zip(rows, places, strict=True):
        value, strong = row.value, row.kind == "pooled"
        if row.kind in BESIDE:
            axes.axhspan(place - 0.5, place + 0.5, color=BAND, linewidth=0, zorder=0)
        if value.mean is not None:
            color = MUTED if row.kind == "base" else follows_color(value)
            draw_interval(axes, value, place, color, linewidth=2.8 if strong else 1.4)
            axes.plot(
                100 * value.mean, place, "D" if strong else "o", color=color, markersize=8 if strong else 5
            )
            ends += [100 * end for end in (value.mean, value.low, value.high) if end is not None]
        axes.text(
            1.015,
            place,
            with_interval(value),
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=9.5 if strong else 8.5,
            color=INK if strong else MUTED,
        )
    axes.set_ylim(places[-1] + 0.7, -0.7)
    axes.set_yticks(places, labels, linespacing=1.05)
    for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_color(INK if row.kind != "base" else MUTED)
        tick.set_fontweight("bold" if row.kind == "pooled" else "normal")
    margin = 0.06 * max(max(ends) - min(ends), 4)
    axes.set_xlim(min(ends) - margin, max(ends) + margin)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(wrapped(f"points: {claim['estimated']}; on grey: beside it", 90))
    axes.set_title(wrapped(f"{claim['name']}: {claim['verdict']}", 70))
    return figure  # fmt: skip


@styled
def knee_figure(claim: Entry, reference: str = "best static") -> Figure:
    """Gap minus reference's on mean agreement: one colour per arm (or what a point is `shown` as), one point
    per base, hinge and line."""
    points, fit = claim["points"], KneeFit(**claim["fit"])
    figure = new_figure(4.6)
    axes = figure.add_subplot()
    axes.axhline(0, color=RULE, linewidth=1.0, zorder=1)
    points = [{**point, "arm": point.get("shown", point["arm"])} for point in points]
    arms = list(dict.fromkeys(point["arm"] for point in points))
    styles, handles = arm_styles(arms), []
    for index, arm in enumerate(arms):
        own = [point for point in points if point["arm"] == arm]
        look = {"color": styles[arm]["color"], "marker": MARKERS[index % len(MARKERS)], "linestyle": ""}
        axes.plot([100 * p["agreement"] for p in own], [100 * p["gap"] for p in own], markersize=5, **look)
        handles.append(Line2D([], [], label=printable(arm), **look))
    drawn = curves(fit, [point["agreement"] for point in points])
    if LINE in drawn:
        axes.plot(*(100 * drawn[LINE]), color=MUTED, linestyle=(0, (4, 3)))
        handles.append(Line2D([], [], color=MUTED, linestyle=(0, (4, 3)), label="straight line"))
    if STICK in drawn:
        color = SELF_COLOR if fit.identified else MUTED
        axes.plot(*(100 * drawn[STICK]), color=color, linewidth=2)
        label = "broken stick" + ("" if fit.identified else ", not identified")
        handles.append(Line2D([], [], color=color, linewidth=2, label=label))
    paper = {"facecolor": "none", "edgecolor": RULE, "hatch": "///", "linewidth": 0}
    axes.axvspan(*(100 * end for end in PAPERS_KNEE), zorder=0.5, **paper)
    handles.append(Patch(label="the paper's knee", **paper))
    if fit.knot_ci95 is not None:
        axes.axvspan(*(100 * end for end in fit.knot_ci95), color=BAND, zorder=0)
        axes.axvline(100 * fit.knot, color=ORIG_COLOR, linewidth=1, linestyle=(0, (2, 2)))
    axes.set_xlabel("mean agreement of trained labels over training (%); grey: 95% interval of the knee")
    axes.set_ylabel(f"gap minus {reference}'s (points)")
    axes.set_title(wrapped(f"{claim['name']}: {claim['verdict']}", 70))
    legend_below(figure, handles)
    return figure


@styled
def slope_figure(claim: Entry) -> Figure:
    """Left: gap minus the reference's on Orig: one colour per condition, one point per base, one fitted line
    per base. Right: live Self minus live Orig on live Orig over training, one line per condition."""
    points, lines = claim["points"], claim["lines"]
    figure = new_figure(4.6)
    left, right = figure.subplots(1, 2)
    conditions = list(dict.fromkeys([*(point["condition"] for point in points), *lines]))
    styles = arm_styles(conditions)
    marker_of = {name: MARKERS[index % len(MARKERS)] for index, name in enumerate(conditions)}
    values = [(p, p["minus"].get(claim["reference"] or p["static"])) for p in points]
    known = [(point, value) for point, value in values if value is not None]
    for base in dict.fromkeys(point["base"] for point, _ in known):
        own = [(100 * point["orig"], 100 * value) for point, value in known if point["base"] == base]
        x, y = map(np.array, zip(*own, strict=True))
        if len(x) > 2 and np.ptp(x) > 0:
            ends = np.array([x.min(), x.max()])
            left.plot(ends, np.polyval(np.polyfit(x, y, 1), ends), color=NEUTRAL, linewidth=0.8, zorder=1)
    for name in conditions:
        look = {"color": styles[name]["color"], "marker": marker_of[name], "markersize": 5}
        own = [(100 * point["orig"], 100 * value) for point, value in known if point["condition"] == name]
        if own:
            left.plot(*zip(*own, strict=True), linestyle="", **look)
        if steps := lines.get(name):
            x, y = ([100 * step[field] for step in steps] for field in ("orig", "gap"))
            right.plot(x, y, linewidth=1.2, **look)
    for axes in (left, right):
        axes.axhline(0, color=RULE, linewidth=1.0, zorder=0)
    left.set_xlabel("Orig (%)")
    left.set_ylabel(f"gap minus {claim['reference'] or 'best static'}'s (points)")
    right.set_xlabel("live Orig on validation items (%)")
    right.set_ylabel("live gap, no reference (points)")
    left.set_title(wrapped(f"{claim['name']}: {claim['verdict']}", 40))
    right.set_title("over training")
    handles = [
        Line2D(
            [], [], label=printable(name), color=styles[name]["color"], marker=marker_of[name], linestyle=""
        )
        for name in conditions
    ]
    legend_below(figure, handles)
    return figure
