"""The figures of a hygiene report: changed-rates by cue kind, and how close decisions are."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from introspection.coupling.hygiene import POPULATED
from introspection.reports.figure_style import (
    BAND,
    INK,
    MUTED,
    SELF_COLOR,
    draw_interval,
    new_figure,
    percent_axis,
    styled,
    wrapped,
)
from introspection.reports.measures import estimate, percent

MOST_ROWS = 60  # of one figure; the table has all
LABEL_WIDTH = 28  # characters of a row's label in one line
ROW_INCHES = 0.36


@styled
def rates_figure(by_kind: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Each cue kind's changed-rate with its interval, over the band where both classes are populated."""
    shown = list(by_kind.items())[:MOST_ROWS]
    figure = new_figure(1.0 + ROW_INCHES * len(shown))
    axes = figure.add_subplot()
    axes.axvspan(*(100 * end for end in POPULATED), color=BAND, linewidth=0, zorder=0)
    for y, (_, found) in enumerate(shown):
        value = estimate(found["changed_rate"])
        draw_interval(axes, value, float(y), SELF_COLOR, linewidth=2.0)
        axes.plot(100 * value.mean, y, "o", markersize=6, color=SELF_COLOR, clip_on=False)
        said = f"{percent(value.mean)}  n = {found['n']:,}"
        axes.text(1.015, y, said, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5, color=INK)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_yticks(range(len(shown)), [wrapped(kind or "(no kind)", LABEL_WIDTH) for kind, _ in shown])
    percent_axis(axes, "share of items whose decision the cue changes (%), 95% interval")
    return figure


@styled
def margin_figure(margins: Mapping[str, Any]) -> Figure:
    """The share of items below each margin, and the threshold that the report counts with."""
    steps = [float(step) for step in margins["below"]]
    below = [100 * share for share in margins["below"].values()]
    figure = new_figure(2.9)
    axes = figure.add_subplot()
    axes.axvline(margins["threshold"], color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.plot(steps, below, "o-", color=SELF_COLOR, linewidth=2.0, clip_on=False)
    for step, share in zip(steps, below, strict=True):
        axes.annotate(
            f"{share:.1f}", (step, share), (0, 7), textcoords="offset points", ha="center", fontsize=8.5
        )
    axes.set_xscale("log")
    axes.set_xticks(steps, [f"{step:g}" for step in steps])
    axes.minorticks_off()
    axes.set_ylim(0, max(10.0, 1.2 * max(below)))
    axes.set_xlabel("margin between the first answer and the second (nats)")
    axes.set_ylabel("items below (%)")
    axes.grid(axis="y")
    return figure
