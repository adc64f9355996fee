"""How the size curve is shown: a table and a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from introspection.coupling.estimates import Estimate
from introspection.reports.figure_numbers import estimate_columns
from introspection.reports.figure_style import INK, arm_styles, legend_below, new_figure, printable, styled
from introspection.reports.numbers import count
from introspection.reports.table import Table, estimate_cell
from introspection.study.figures import MARKERS
from introspection.sweeps.size import REFERENCES, SizeLevel

QUANTITIES = ("gap", "orig", "drift")
TICKS_APART = 1.7  # the least factor between two sizes that have a label


def size_table(levels: Sequence[SizeLevel]) -> Table:
    """Askable first, then every arm's Orig, drift and gap, and the gap minus each reference's."""
    words = {True: "yes", False: "no", None: "not known"}
    references = ("best static", *REFERENCES)
    none = Estimate()
    return Table(
        "By size",
        (
            *("Sweep", "Base", "Arm", "Askable", "Parameters", "Orig %", "Drift %", "Gap"),
            *(f"Gap minus {name}'s" for name in references),
        ),
        tuple(
            (
                printable(level.sweep),
                printable(level.base),
                printable(level.arm),
                words[level.askable],
                count(level.parameters),
                estimate_cell(level.orig, "percent"),
                estimate_cell(level.drift, "percent"),
                estimate_cell(level.gap),
                *(estimate_cell(level.gap_differences.get(name, none)) for name in references),
            )
            for level in levels
        ),
        "Gaps in points; intervals are 95%, over facts and seeds of one base.",
        text_columns=4,
    )


def size_numbers(levels: Sequence[SizeLevel]) -> list[dict[str, Any]]:
    """What `size_figure` shows."""
    return [
        {
            **{name: getattr(level, name) for name in ("sweep", "point", "base", "arm", "parameters")},
            "askable": level.askable,
            **{
                column: value
                for name in QUANTITIES
                for column, value in estimate_columns(name, getattr(level, name)).items()
            },
        }
        for level in levels
    ]


@styled
def size_figure(levels: Sequence[SizeLevel]) -> Figure:
    """Gap, Orig and drift against parameters: a colour an arm, a marker a sweep, a point a base with its 95%
    interval, and lines through the means over bases of a sweep. Hollow: labels did not teach there.

    Args:
      levels: in order of size.
    """
    figure = new_figure(3.8)
    arms = list(dict.fromkeys(level.arm for level in levels))
    sweeps = list(dict.fromkeys(level.sweep for level in levels))
    styles = arm_styles(arms)
    ticks: list[int] = []
    for level in levels:
        if not ticks or level.parameters >= TICKS_APART * ticks[-1]:
            ticks.append(level.parameters)
    titles = ("Gap: Self − Orig (points)", "Orig (%)", "Drift (%)")
    for axes, name, title in zip(figure.subplots(1, 3), QUANTITIES, titles, strict=True):
        for place, arm in enumerate(arms):
            for sweep in sweeps:
                own = [level for level in levels if (level.arm, level.sweep) == (arm, sweep)]
                shift = 1.04 ** (place - (len(arms) - 1) / 2)  # arms of one base stand side by side
                _draw(axes, own, name, styles[arm], MARKERS[sweeps.index(sweep) % len(MARKERS)], shift)
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick / 1e6:{'.2g' if tick < 1e8 else '.0f'}}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlim(ticks[0] / 1.4, 1.4 * levels[-1].parameters)
        axes.set_title(title)
        axes.set_xlabel("parameters of the base (M)")
        axes.grid(axis="y")
    figure.axes[0].axhline(0, color=INK, linewidth=0.8, zorder=1)
    handles = [Line2D([], [], label=printable(arm), **styles[arm]) for arm in arms]
    handles += [
        Line2D([], [], label=printable(sweep), color=INK, linestyle="", marker=MARKERS[i % len(MARKERS)])
        for i, sweep in enumerate(sweeps)
    ]
    legend_below(figure, handles)
    return figure


def _draw(
    axes: Any, levels: Sequence[SizeLevel], name: str, style: Mapping[str, Any], marker: str, shift: float
) -> None:
    by_size: dict[int, list[float]] = {}
    for level in levels:
        value: Estimate = getattr(level, name)
        if value.mean is None:
            continue
        by_size.setdefault(level.parameters, []).append(100 * value.mean)
        x, color = level.parameters * shift, style["color"]
        if value.ci95 is not None:
            axes.plot([x, x], [100 * end for end in value.ci95], color=color, linewidth=1.0, alpha=0.6)
        face = color if level.askable else "white"
        axes.plot(x, 100 * value.mean, marker, color=color, markerfacecolor=face, markersize=4.5)
    if len(by_size) > 1:
        axes.plot(
            [size * shift for size in by_size],
            [np.mean(means) for means in by_size.values()],
            linewidth=1.4,
            **style,
        )
