"""The forest figure of a sweep: every point's gap with its interval, arm by arm."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from introspection.reports.figure_style import (
    INK,
    MUTED,
    draw_interval,
    new_figure,
    styled,
    wrapped,
)
from introspection.reports.measures import Estimate, points

MOST_ROWS = 300  # of one figure, which would be too tall to draw; the table has all
LABEL_WIDTH = 30  # characters of a point's name in one line
LINE_INCHES = 0.23


@styled
def forest_figure(gaps: Sequence[tuple[str, str, Estimate]]) -> Figure:
    """Self minus Orig of `(point, arm, gap)`, the points of an arm together, against a line at 0."""
    shown = gaps[:MOST_ROWS]
    ends = [0.0]
    ticks: list[tuple[float, str, bool]] = []  # where, label, whether it is an arm's
    y = 0.0
    rows: list[tuple[float, Estimate]] = []
    for arm in dict.fromkeys(arm for _, arm, _ in shown):
        for label, gap in [(arm, None), *((point, gap) for point, of, gap in shown if of == arm)]:
            lines = wrapped(label, LABEL_WIDTH)
            height = 0.35 + lines.count("\n") + 0.9
            ticks.append((y + height / 2, lines, gap is None))
            if gap is not None:
                rows.append((y + height / 2, gap))
            y += height
        y += 0.5
    figure = new_figure(1.1 + LINE_INCHES * y)
    axes = figure.add_subplot()
    axes.axvline(0, color=INK, linewidth=1.0, zorder=1)
    for row, gap in rows:
        said = points(gap.mean)
        if gap.mean is not None:
            draw_interval(axes, gap, row, INK, linewidth=2.0)
            axes.plot(100 * gap.mean, row, "o", markersize=6, color=INK)
            ends += [100 * end for end in (gap.mean, gap.low, gap.high) if end is not None]
            said += f"  [{points(gap.low)}, {points(gap.high)}]" if gap.has_interval else ""
        axes.text(
            1.015, row, said, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5, color=INK
        )
    axes.set_ylim(y, 0)
    axes.set_yticks([at for at, _, _ in ticks], [label for _, label, _ in ticks], linespacing=1.05)
    for tick, (_, _, is_arm) in zip(axes.get_yticklabels(), ticks, strict=True):
        tick.set_color(INK if is_arm else MUTED)
        tick.set_fontweight("bold" if is_arm else "normal")
        tick.set_fontsize(10 if is_arm else 8.5)
    axes.spines["left"].set_visible(False)
    margin = 0.06 * max(max(ends) - min(ends), 4)
    axes.set_xlim(min(ends) - margin, max(ends) + margin)
    axes.grid(axis="x")
    more = f"; the first {len(shown)} of {len(gaps)} rows" if len(shown) < len(gaps) else ""
    axes.set_xlabel(f"gap: Self minus Orig (points){more}")
    return figure
