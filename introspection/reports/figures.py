"""The figures of a run's results: levels, gaps, the disagreement set, cue kinds and the matrix."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from introspection.coupling.estimates import Estimate
from introspection.coupling.matrix_results import Matrix
from introspection.coupling.run_results import ArmResults, ControlResults
from introspection.reports.figure_style import (
    BAND,
    INK,
    MUTED,
    NEUTRAL,
    ORIG_COLOR,
    SELF_COLOR,
    draw_interval,
    grid_shape,
    lighter,
    new_figure,
    percent_axis,
    styled,
    wrapped,
)
from introspection.reports.findings import interval
from introspection.reports.numbers import percent, points

LABEL_WIDTH = 22  # characters of a row's label in one line
ROW_INCHES = 0.40  # an arm's row
HEAT = LinearSegmentedColormap.from_list("match", ["#f4f7fa", "#b9d6e8", "#5b9fc7", "#1f6a9c", "#0a3a5c"])


@dataclasses.dataclass(frozen=True)
class Row:
    """Where an arm or one of its controls stands in a chart; `y` grows downwards, in rows of an arm."""

    y: float
    height: float
    label: str
    entry: ArmResults | ControlResults

    @property
    def is_control(self) -> bool:
        return isinstance(self.entry, ControlResults)


def _chart_rows(arms: Sequence[ArmResults]) -> list[Row]:
    """Each arm, then its controls in lower rows; a space before the next arm."""
    rows, y = [], 0.0
    for arm in arms:
        for entry in (arm, *arm.controls):
            label = wrapped(entry.name, LABEL_WIDTH)
            base = 1.0 if isinstance(entry, ArmResults) else 0.62
            height = max(base, 0.12 + 0.34 * (label.count("\n") + 1))
            rows.append(Row(y + height / 2, height, label, entry))
            y += height
        y += 0.45
    return rows


def _rows_height(rows: Sequence[Row]) -> float:
    return rows[-1].y + rows[-1].height / 2


def _label_rows(axes: Axes, rows: Sequence[Row]) -> None:
    """Names the rows, and lays a band behind each arm's controls so that they stand apart."""
    axes.set_ylim(_rows_height(rows) + 0.15, -0.15)
    axes.set_yticks([row.y for row in rows], [row.label for row in rows], linespacing=1.05)
    for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_color(MUTED if row.is_control else INK)
        tick.set_fontsize(8.5 if row.is_control else 10)
        tick.set_fontweight("normal" if row.is_control else "bold")
    _band_controls(axes, rows)


def _band_controls(axes: Axes, rows: Sequence[Row]) -> None:
    for row in rows:
        if row.is_control:
            axes.axhspan(row.y - row.height / 2, row.y + row.height / 2, color=BAND, linewidth=0, zorder=0)
    axes.spines["left"].set_visible(False)


@styled
def levels_figure(arms: Sequence[ArmResults]) -> Figure:
    """Self and Orig with their intervals: the arms in full colours, each one's controls pale and below it."""
    rows = _chart_rows(arms)
    figure = new_figure(0.95 + ROW_INCHES * _rows_height(rows))
    axes = figure.add_subplot()
    for row in rows:
        thickness = 0.38 * min(row.height, 1.0)
        for scores, color, side in (
            (row.entry.self, SELF_COLOR, -1),
            (row.entry.orig, ORIG_COLOR, 1),
        ):
            value, y = scores.exact_match, row.y + side * thickness / 2
            if value.mean is None:
                axes.text(1, y, "–", va="center", fontsize=8, color=MUTED)
                continue
            face = lighter(color, 0.55) if row.is_control else color
            axes.barh(y, 100 * value.mean, thickness * 0.92, color=face, linewidth=0)
            draw_interval(axes, value, y, INK, linewidth=0.9 if row.is_control else 1.3)
            end = max(value.mean, value.high or 0)
            size = 7 if row.is_control else 8.5
            axes.text(100 * end + 1, y, percent(value.mean), va="center", fontsize=size, color=MUTED)
    _label_rows(axes, rows)
    percent_axis(axes, "share of test items where the explanation is exactly right (%)", high=108)
    handles = [
        Patch(color=SELF_COLOR, label="Self: the current model"),
        Patch(color=ORIG_COLOR, label="Orig: the labels"),
    ]
    if any(row.is_control for row in rows):
        handles.append(Patch(facecolor=lighter(MUTED, 0.6), label="pale: controls of the arm above"))
    figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return figure


def follows_color(difference: Estimate) -> str:
    """The colour of a difference between an arm and a reference: Self's above 0, Orig's below, else grey."""
    low, high = difference.ci95 or (0.0, 0.0)
    if low > 0:
        return SELF_COLOR
    if high < 0:
        return ORIG_COLOR
    return MUTED


@styled
def gap_figure(arms: Sequence[ArmResults]) -> Figure:
    """Left: Self minus Orig, arms filled and controls hollow. Right: each arm's gap minus a reference's.

    Raw gaps have no colour: nothing is judged by their side of 0. Their differences have.
    """
    rows = _chart_rows(arms)
    differences = {
        (arm.name, one.name): one.gap_difference
        for arm in arms
        for one in arm.references.values()
        if one.usable
    }
    figure = new_figure(0.95 + ROW_INCHES * 0.9 * _rows_height(rows))
    panels: Sequence[Axes] = (
        list(figure.subplots(1, 2, sharey=True)) if differences else [figure.add_subplot()]
    )
    ends: tuple[list[float], list[float]] = ([], [])
    arm = ""
    for row in rows:
        arm = arm if row.is_control else row.entry.name
        _draw_gap(panels[0], row, row.entry.gap.exact_match, INK, ends[0])
        difference = differences.get((arm, row.entry.name)) if row.is_control else None
        if difference is not None:
            _draw_gap(panels[1], row, difference, follows_color(difference), ends[1])
    _label_rows(panels[0], rows)
    titles = ("gap: Self minus Orig (points)", "arm’s gap minus the reference’s (points)")
    for axes, found, title in zip(panels, ends, titles, strict=False):
        axes.axvline(0, color=NEUTRAL if axes is panels[0] else INK, linewidth=1.0, zorder=1)
        low, high = min([0.0, *found]), max([0.0, *found])
        margin = 0.06 * max(high - low, 4)
        axes.set_xlim(low - margin, high + margin)
        axes.grid(axis="x")
        axes.set_xlabel(title)
    if differences:
        _band_controls(panels[1], rows)
        panels[1].tick_params(labelleft=False)
        legend = [
            Line2D([], [], marker="o", color=color, label=label, linewidth=2)
            for color, label in (
                (SELF_COLOR, "right: above this reference"),
                (MUTED, "not distinguishable"),
                (ORIG_COLOR, "below this reference"),
            )
        ]
        figure.legend(handles=legend, loc="outside upper left", ncols=3)
    return figure


def _draw_gap(axes: Axes, row: Row, value: Estimate, color: str, ends: list[float]) -> None:
    """A dot with its whisker and its number beside the panel; adds where they end, in points, to `ends`."""
    text = points(value.mean)
    if value.mean is not None:
        draw_interval(axes, value, row.y, color, linewidth=1.2 if row.is_control else 2.4)
        axes.plot(
            100 * value.mean, row.y, "o", markersize=5 if row.is_control else 8, color=color,
            markerfacecolor="white" if row.is_control else color,
        )  # fmt: skip
        ends += [100 * end for end in (value.mean, value.low, value.high) if end is not None]
        text = f"{text}  {interval(value, 'points')}".rstrip()
    axes.text(
        1.015, row.y, text, transform=axes.get_yaxis_transform(), va="center",
        fontsize=7.5 if row.is_control else 8.5, color=MUTED if row.is_control else INK,
    )  # fmt: skip


@styled
def disagreement_figure(arms: Sequence[ArmResults]) -> Figure:
    """Whom explanations match where the two models differ, and the current model's share of the matches."""
    rows: Any = _chart_rows([dataclasses.replace(arm, controls=()) for arm in arms])  # arms alone
    figure = new_figure(1.25 + 0.40 * _rows_height(rows))
    shares, share = figure.subplots(1, 2, width_ratios=(1.7, 1), sharey=True)
    for row in rows:
        found = row.entry.disagreement
        if not found.n or found.self is None or found.orig is None:
            axes_text = "no item: the models agree on all" if found.n == 0 else "–"
            shares.text(1, row.y, axes_text, va="center", fontsize=9, color=MUTED)
            continue
        left = 0.0
        neither = max(0.0, 1 - found.self - found.orig)
        for part, color, ink in (
            (found.self, SELF_COLOR, "white"),
            (found.orig, ORIG_COLOR, "white"),
            (neither, NEUTRAL, INK),
        ):
            shares.barh(row.y, 100 * part, 0.62, left=100 * left, color=color, edgecolor="white", linewidth=1)
            if part > 0.06:
                shares.text(
                    100 * (left + part / 2),
                    row.y,
                    percent(part, 0),
                    ha="center",
                    va="center",
                    color=ink,
                    fontsize=9,
                )
            left += part
        current = found.share
        draw_interval(share, current, row.y, INK, linewidth=2.4)
        if current.mean is not None:
            share.plot(100 * current.mean, row.y, "o", markersize=8, color=INK)
    share.axvline(50, color=NEUTRAL, linewidth=1.0, zorder=1)
    for row in rows:
        found = row.entry.disagreement
        share.text(
            1.03,
            row.y,
            f"{percent(found.share.mean)}\nn {found.n:,}",
            transform=share.get_yaxis_transform(),
            va="center",
            fontsize=8.5,
            color=MUTED,
        )
    _label_rows(shares, rows)
    percent_axis(shares, "share of the disagreement set (%)")
    percent_axis(share, "current share (%)")
    share.set_xticks([0, 25, 50, 75, 100])
    share.set_title("current / (current + teacher)", fontsize=9.5, color=MUTED, fontweight="normal")
    share.tick_params(labelleft=False)
    parts = (
        (SELF_COLOR, "matches current only"),
        (ORIG_COLOR, "matches teacher only"),
        (NEUTRAL, "matches neither"),
    )
    figure.legend(
        handles=[Patch(color=color, label=label) for color, label in parts], loc="outside upper left", ncols=3
    )
    return figure


@styled
def cue_kind_figure(arms: Sequence[ArmResults]) -> Figure:
    """Self and Orig by cue kind: one panel per arm, one row per kind."""
    arms = [arm for arm in arms if arm.by_cue_kind]
    kinds = list(dict.fromkeys(kind for arm in arms for kind in arm.by_cue_kind))
    rows, columns = grid_shape(len(arms), 3)
    labels = [wrapped(kind, 18, lines=2) for kind in kinds]
    lines = sum(max(1.0, 0.62 * (label.count("\n") + 1)) for label in labels)
    figure = new_figure(0.6 + rows * (0.75 + 0.34 * lines))
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, arm in zip(panels, arms, strict=False):
        for y, kind in enumerate(kinds):
            part = arm.by_cue_kind.get(kind)
            if part is None or part.self is None or part.orig is None:
                axes.text(2, y, "–", va="center", color=MUTED)
                continue
            known = (100 * part.orig, 100 * part.self)
            axes.plot(known, [y, y], color=NEUTRAL, linewidth=3, zorder=1)
            for place, color in zip(known, (ORIG_COLOR, SELF_COLOR), strict=True):
                axes.plot(place, y, "o", markersize=7.5, color=color, markeredgecolor="white")
        axes.set_title(wrapped(arm.name, 26, lines=2))
        percent_axis(axes, "", high=101)
        axes.set_ylim(len(kinds) - 0.5, -0.5)
        axes.set_yticks(range(len(kinds)), labels)
    for axes in panels[len(arms) :]:
        axes.set_visible(False)
    figure.supxlabel("exact match (%)", fontsize=9.5, color=MUTED)
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=8, color=color, label=label)
        for color, label in ((SELF_COLOR, "Self: the current model"), (ORIG_COLOR, "Orig: the labels"))
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2)
    return figure


@styled
def matrix_figure(matrix: Matrix) -> Figure:
    """Emitters (rows) against teachers (columns) with numbers; a model against itself is outlined."""
    rows, columns = len(matrix.emitters), len(matrix.teachers)
    width = min(8.0, max(5.2, 2.2 + 0.95 * columns))
    figure = new_figure(max(2.9, 1.4 + 0.56 * rows), width)  # room for the label of one row
    axes = figure.add_subplot()
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    number_size = 10.5 if columns <= 7 else 7.5
    for y, row in enumerate(matrix.cells):
        for x, cell in enumerate(row):
            face = BAND if cell.mean is None else HEAT(cell.mean)
            axes.add_patch(Rectangle((x - 0.49, y - 0.49), 0.98, 0.98, facecolor=face, linewidth=0))
            ink = "white" if cell.mean is not None and cell.mean > 0.63 else INK
            with_interval = cell.ci95 is not None and columns <= 7
            axes.text(
                x,
                y - 0.13 * with_interval,
                percent(cell.mean),
                ha="center",
                va="center",
                color=ink,
                fontsize=number_size,
            )
            if with_interval:
                interval = f"{percent(cell.low, 0)}–{percent(cell.high, 0)}"
                axes.text(x, y + 0.24, interval, ha="center", va="center", color=ink, fontsize=7.5)
            if matrix.is_own(y, x):
                outline = Rectangle(
                    (x - 0.47, y - 0.46), 0.94, 0.92, fill=False, edgecolor=INK, linewidth=2.2
                )
                axes.add_patch(outline)
    axes.set_xticks(range(columns), [wrapped(name, 14) for name in matrix.teachers], color=INK)
    axes.set_yticks(range(rows), [wrapped(name, 20) for name in matrix.emitters], color=INK)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("scored against whose behaviour (teacher)", labelpad=8)
    axes.set_ylabel("who explains (emitter)")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure
