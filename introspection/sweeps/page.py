"""The page that shows a sweep's points beside one another: one HTML file that needs nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure

from introspection.coupling.estimates import Estimate
from introspection.reports.figure_numbers import estimate_columns
from introspection.reports.figure_style import (
    INK,
    MUTED,
    FigureFiles,
    draw_interval,
    new_figure,
    render_figure,
    save_figure,
    styled,
    wrapped,
)
from introspection.reports.findings import arm_finding, interval, isolated, summary
from introspection.reports.html_page import ROOMS, Section, figure_card, html_page, macros
from introspection.reports.numbers import count, points
from introspection.reports.page import QUESTION
from introspection.runtime.workdir import write_whole
from introspection.study.figures import knee_figure
from introspection.sweeps.account import HeldOutSweep, account_table
from introspection.sweeps.arms import SweepArm, arms_of
from introspection.sweeps.figures import (
    distance_figure,
    factor_figure,
    factor_levels,
    factor_numbers,
    knee_of,
    knee_points,
)
from introspection.sweeps.size import SizeLevel
from introspection.sweeps.size_figure import size_figure, size_numbers, size_table
from introspection.sweeps.table import REFERENCES, SweepPoint, held_out_table, sweep_table

FIGURE = "sweep_gap"  # its files' name
FEWEST_ARMS = 4  # of a figure of gaps against agreement
MOST_ROWS = 300  # of one figure, which would be too tall to draw; the table has all
LABEL_WIDTH = 30  # characters of a point's name in one line
TITLE_WIDTH = 80  # and of what stands above the axis
LINE_INCHES = 0.23


def write_sweep_page(
    workdir: Path,
    title: str,
    sweep_points: Sequence[SweepPoint],
    unfinished: Sequence[str],
    varies: Sequence[str] = (),
    arms: Sequence[SweepArm] = (),
    account: Sequence[HeldOutSweep] = (),
    sizes: Sequence[SizeLevel] = (),
) -> Path:
    """Writes `summary.html` and its figures' files into a sweep's workdir; returns the page's path.

    `varies` are the fields in which points differ; `arms` are those of this and other sweeps, for the gaps
    against agreement; `account` is how well a simple account predicts each sweep from the others; `sizes` are
    the points of a size curve.
    """
    gaps = [(p.label, arm.name, arm.gap.exact_match) for p in sweep_points for arm in p.arms]
    numbers = [
        {"point": p.name, "arm": arm.name, **estimate_columns("gap", arm.gap.exact_match)}
        for p in sweep_points
        for arm in p.arms
    ]
    figure = render_figure(forest_figure(gaps, varies), numbers)
    more = more_figures(sweep_points, arms, sizes)
    cards = [drawn.card for drawn in more.values()]
    page = build_sweep_page(title, sweep_points, unfinished, figure, cards, account, sizes)
    save_figure(figure, workdir / "figures", FIGURE)
    for name, drawn in more.items():
        save_figure(drawn.files, workdir / "figures", name)
    return write_whole(workdir / "summary.html", page)


class Drawn(NamedTuple):
    files: FigureFiles
    card: Markup


def more_figures(
    sweep_points: Sequence[SweepPoint], arms: Sequence[SweepArm], sizes: Sequence[SizeLevel] = ()
) -> dict[str, Drawn]:
    """The size curve, what each factor does and, against each kind of reference, gaps on agreement; by the
    files' name."""
    found = {}
    if sizes:
        name, title = "size_curve", "Gap, Orig and drift by size"
        files = render_figure(size_figure(sizes), size_numbers(sizes))
        caption = (
            "A point is a base with its 95% interval, a line the mean over bases. Where a point is hollow,"
            " labels did not teach, or it is not known whether they did, and its gap says nothing. Sweeps"
            " differ in task and amount of training."
        )
        found[name] = Drawn(files, figure_card(files, name, title, caption, title))
    for factor, levels in factor_levels(sweep_points).items():
        name = f"factor_{factor}"
        files = render_figure(factor_figure(factor, levels), factor_numbers(levels))
        title = f"Self, Orig and drift by {factor}"
        caption = (
            f"Part {levels[0].part}: arms that differ from {sweep_points[0].arms[0].name} in this alone."
        )
        found[name] = Drawn(files, figure_card(files, name, title, caption, title))
    moved = [point for point in knee_points(arms_of(sweep_points), "static") if point["moved"]]
    if len({point["part"] for point in moved}) > 1:
        name, title = "gap_on_distance", "Gap minus best static's against the distance moved"
        files = render_figure(distance_figure(moved), moved)
        caption = "One point per arm and base, by part of the sweep: what moves a model, or only how far?"
        found[name] = Drawn(files, figure_card(files, name, title, caption, title))
    for reference in REFERENCES:
        found_points = knee_points(arms, reference)
        if len({point["arm"] for point in found_points}) < FEWEST_ARMS:
            continue
        shown = "best static" if reference == "static" else reference
        name = f"gap_on_agreement_{reference}"
        files = render_figure(knee_figure(knee_of(found_points), shown), found_points)
        title = f"Gap minus {shown}'s against agreement, all arms"
        caption = (
            "One point per arm and base. The knee is fitted and tested as in a study (broken stick against a"
            " line, over bases and arms); arms were not chosen for it before, so this is exploratory."
        )
        found[name] = Drawn(files, figure_card(files, name, title, caption, title))
    return found


def build_sweep_page(
    title: str,
    sweep_points: Sequence[SweepPoint],
    unfinished: Sequence[str],
    figure: FigureFiles,
    more: Sequence[Markup] = (),
    account: Sequence[HeldOutSweep] = (),
    sizes: Sequence[SizeLevel] = (),
) -> str:
    """The whole page as text."""
    held_out = held_out_table(sweep_points)
    own, html = ROOMS / "sweeps", macros("sweeps/sections.html")
    card = figure_card(
        figure,
        FIGURE,
        "The gap: Self minus Orig",
        "An arm's points stand together, with 95% intervals. No gap is judged against 0: an emitter that"
        " stays put has one, too, where behaviour drifts. Each point's page says what its gaps are held"
        " against.",
        "Self minus Orig with 95% intervals, by arm and point; the table below has the numbers.",
    )
    return html_page(
        title=f"{title}: do explanations follow behaviour?",
        heading=title,
        question=QUESTION,
        facts={
            "points": len(sweep_points),
            "not finished": len(unfinished),
            "bases": len({point.base for point in sweep_points}),
            "arms": len({arm.name for point in sweep_points for arm in point.arms}),
            "explanations": count(sum(arm.n or 0 for point in sweep_points for arm in point.arms)),
        },
        sections=[
            Section("findings", "What this sweep shows", [_findings(sweep_points, unfinished, html)]),
            Section("figure", "Gaps", [card]),
            *([Section("more", "Factors and agreement", list(more))] if more else []),
            *([Section("sizes", "By size", [size_table(sizes).html(titled=False)])] if sizes else []),
            *([Section("account", "A simple account", [account_table(account).html()])] if account else []),
            *([Section("held_out", held_out.title, [held_out.html(titled=False)])] if held_out else []),
            Section("table", "Numbers", [html.numbers(sweep_table(sweep_points))]),
        ],
        made_from="sweep",
        own=own,
        script=(own / "page.js").read_text(encoding="utf-8"),
    )


def _findings(sweep_points: Sequence[SweepPoint], unfinished: Sequence[str], html: Any) -> Markup:
    found = [
        (point, arm_finding(arm, point.arms, askable=point.askable))
        for point in sweep_points
        for arm in point.arms
    ]
    cautions = [
        f"{isolated(point.label)}, {isolated(finding.name)}: {caution}"
        for point, finding in found
        for caution in finding.cautions
    ]
    return html.findings(
        sweep_points, unfinished, summary([finding for _, finding in found]), len(found), cautions
    )


@styled
def forest_figure(gaps: Sequence[tuple[str, str, Estimate]], varies: Sequence[str] = ()) -> Figure:
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
            said = f"{said}  {interval(gap, 'points')}".rstrip()
        axes.text(
            1.015, row, said, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5, color=INK
        )
    axes.set_ylim(y, 0)
    if varies:
        said = wrapped(f"points differ in {', '.join(varies)}", TITLE_WIDTH, lines=3)
        axes.set_title(said, loc="left", fontsize=8.5, color=MUTED, fontweight="normal")
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
