"""A study's figures: a forest for each claim, and the gap on agreement with the fitted knee."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from introspection.coupling.knee import KneeFit
from introspection.reports.figure_style import (
    BAND,
    INK,
    MUTED,
    ORIG_COLOR,
    RULE,
    SELF_COLOR,
    arm_styles,
    draw_interval,
    new_figure,
    printable,
    styled,
    wrapped,
)
from introspection.reports.figures import follows_color
from introspection.reports.measures import Estimate, estimate
from introspection.reports.study_tables import with_interval

Entry = Mapping[str, Any]
ROW_INCHES = 0.33
MARKERS = "osD^vP*X<>hp"


@dataclasses.dataclass(frozen=True)
class _ForestRow:
    label: str
    value: Estimate
    kind: str  # "pooled", "base" or "arm"


def claim_figure(claim: Entry) -> Figure:
    """The knee's scatter where a knee was fitted, else the forest."""
    return knee_figure(claim) if claim["points"] else forest_figure(claim)


@styled
def forest_figure(claim: Entry) -> Figure:
    """What the claim rests on: pooled and in each base, and below it the arms beside it, pooled."""
    rows = [_ForestRow("all bases", estimate(claim), "pooled")]
    rows += [_ForestRow(base, estimate(value), "base") for base, value in claim["by_base"].items()]
    rows += [
        _ForestRow(entry["label"], estimate(entry), "arm")
        for entry in claim["shown"]
        if entry["mean"] is not None
    ]
    labels = [wrapped(row.label, 30, lines=2) for row in rows]
    places, y = [], 0.0
    for previous, row, label in zip([None, *rows], rows, labels, strict=False):
        if row.kind == "arm" and previous is not None and previous.kind != "arm":
            y += 0.6
        places.append(y)
        y += 1 + 0.55 * label.count("\n")
    figure = new_figure(1.15 + ROW_INCHES * y)
    axes = figure.add_subplot()
    axes.axvline(0, color=INK, linewidth=1.0, zorder=1)
    ends = [0.0]
    for row, place in zip(rows, places, strict=True):
        value, strong = row.value, row.kind == "pooled"
        if row.kind == "arm":
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
    axes.set_xlabel(wrapped(f"points: {claim['estimated']}; on grey: arms beside it", 90))
    axes.set_title(wrapped(f"{claim['name']}: {claim['verdict']}", 70))
    return figure  # fmt: skip


@styled
def knee_figure(claim: Entry) -> Figure:
    """Gap on agreement at the end: colour and marker an arm, a point a base, the hinge and the line."""
    points, fit = claim["points"], KneeFit(**claim["fit"])
    figure = new_figure(4.6)
    axes = figure.add_subplot()
    axes.axhline(0, color=RULE, linewidth=1.0, zorder=1)
    arms = list(dict.fromkeys(point["arm"] for point in points))
    styles, handles = arm_styles(arms), []
    for index, arm in enumerate(arms):
        own = [point for point in points if point["arm"] == arm]
        look = {"color": styles[arm]["color"], "marker": MARKERS[index % len(MARKERS)], "linestyle": ""}
        axes.plot([100 * p["agreement"] for p in own], [100 * p["gap"] for p in own], markersize=5, **look)
        handles.append(Line2D([], [], label=printable(arm), **look))
    ends = np.array([min(p["agreement"] for p in points), max(p["agreement"] for p in points)])
    if fit.line is not None:
        intercept, slope = fit.line
        axes.plot(100 * ends, 100 * (intercept + slope * ends), color=MUTED, linestyle=(0, (4, 3)))
        handles.append(Line2D([], [], color=MUTED, linestyle=(0, (4, 3)), label="straight line"))
    if fit.knot is not None and fit.slope_change is not None:
        corners = np.array([ends[0], fit.knot, ends[1]])
        color = SELF_COLOR if fit.identified else MUTED
        axes.plot(100 * corners, 100 * fit.at(corners), color=color, linewidth=2)
        label = "broken stick" + ("" if fit.identified else ", not identified")
        handles.append(Line2D([], [], color=color, linewidth=2, label=label))
    if fit.knot_ci95 is not None:
        axes.axvspan(*(100 * end for end in fit.knot_ci95), color=BAND, zorder=0)
        axes.axvline(100 * fit.knot, color=ORIG_COLOR, linewidth=1, linestyle=(0, (2, 2)))
    axes.set_xlabel("agreement at the end (%); band: 95% interval of the knee")
    axes.set_ylabel("gap (points)")
    axes.set_title(wrapped(f"{claim['name']}: {claim['verdict']}", 70))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure
