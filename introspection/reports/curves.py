"""The training curves: what was logged at each step, a thin line a seed and a thick one for their mean."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from introspection.reports.figure_style import (
    BAND,
    INK,
    MUTED,
    ORIG_COLOR,
    SELF_COLOR,
    arm_styles,
    grid_shape,
    lighter,
    new_figure,
    styled,
    wrapped,
)
from introspection.reports.numbers import number

Curve = tuple[list[float], list[float]]  # steps and values

ARM_PANELS = (
    ("explanation_loss", "Explanation loss"),
    ("kl", "KL to the reference"),
    ("agreement", "Agreement, trained labels"),
)
LIVE_KEYS = (("live_self", SELF_COLOR, "live Self"), ("live_orig", ORIG_COLOR, "live Orig"))
# Of a shift: what is drawn of shifted and of unshifted test items, in two panels an arm.
SHIFT_LINES: dict[str, Any] = {"shifted": "solid", "unshifted": "dashed"}
SHIFT_PANELS = (
    (
        "Behaviour",
        (("drift", ORIG_COLOR, "behaves as the label teacher"), ("cued", MUTED, "decides as the cue says")),
    ),
    (
        "Explanations",
        (
            ("self", SELF_COLOR, "right about itself (Self)"),
            ("orig", ORIG_COLOR, "about the label teacher (Orig)"),
        ),
    ),
)
# Where the paper stops seeing coupling is not known more exactly than this (coupling/README.md).
AGREEMENT_BAND = (0.6, 0.7)


def logged_arms(metrics: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> list[str]:
    """The arms to draw: those of the results that logged something, or all that did if none of them is."""
    logged = list(dict.fromkeys(str(event["arm"]) for event in metrics if event.get("arm") is not None))
    return [arm for arm in arms if arm in logged] or logged


def seed_curves(events: Sequence[Mapping[str, Any]], key: str) -> dict[Any, dict[float, float]]:
    """Each seed's values by step, of one arm's events.

    Of a step that was logged twice (before and after a resume) the last line counts.
    """
    curves: dict[Any, dict[float, float]] = {}
    for event in events:
        step, value = number(event.get("step")), number(event.get(key))
        if step is not None and value is not None:
            curves.setdefault(event.get("seed"), {})[step] = value
    return curves


def thinned(curves: Mapping[Any, Mapping[float, float]], max_points: int) -> tuple[list[Curve], Curve]:
    """Seeds' curves and their mean, each of at most `max_points`: means over equal stretches of steps.

    The mean over seeds is drawn only where every seed has a value, so that a seed that stopped early does
    not bend it.
    """
    steps = sorted({step for curve in curves.values() for step in curve})
    if not steps:
        return [], ([], [])
    stretch = (steps[-1] - steps[0]) / max_points if len(steps) > max_points else 0.0

    def place(step: float) -> float:
        if not stretch:
            return step
        index = min(int((step - steps[0]) / stretch), max_points - 1)
        return steps[0] + (index + 0.5) * stretch

    binned = []
    for curve in curves.values():
        gathered: dict[float, list[float]] = {}
        for step in sorted(curve):
            gathered.setdefault(place(step), []).append(curve[step])
        binned.append({step: sum(values) / len(values) for step, values in gathered.items()})
    shared = sorted(set.intersection(*map(set, binned)))
    mean = [sum(curve[step] for curve in binned) / len(binned) for step in shared]
    return [(list(curve), list(curve.values())) for curve in binned], (shared, mean)


def _draw(axes: Axes, curves: Mapping[Any, Mapping[float, float]], max_points: int, **style: Any) -> bool:
    seeds, mean = thinned(curves, max_points)
    thin = {**style, "color": lighter(style["color"], 0.5)}
    for curve in seeds if len(seeds) > 1 else ():
        axes.plot(*curve, linewidth=0.7, zorder=2, **thin)
    # One value is a point, which a line would not show.
    axes.plot(*mean, linewidth=2.0, zorder=3, marker="o" if len(mean[0]) == 1 else None, **style)
    return bool(seeds)


@styled
def training_figure(
    metrics: Sequence[Mapping[str, Any]], arms: Sequence[str], max_points: int = 200
) -> Figure:
    """Loss, KL and agreement, one panel each; below, live Self and Orig, one panel per arm."""
    arms = logged_arms(metrics, arms)
    styles = arm_styles(arms)
    labels = [wrapped(arm, 30, 2) for arm in arms]
    longest = max(len(line) for label in labels for line in label.split("\n"))
    legend_columns = min(len(arms), max(3, 90 // (longest + 6)))
    events: dict[str, list[Mapping[str, Any]]] = {arm: [] for arm in arms}
    for event in metrics:
        if event.get("arm") in events:
            events[event["arm"]].append(event)
    live = [arm for arm in arms if any(seed_curves(events[arm], key) for key, _, _ in LIVE_KEYS)]
    rows, columns = grid_shape(len(live), 3) if live else (0, 1)
    figure = new_figure(
        0.5 + 2.35 + 0.22 * -(-len(arms) // legend_columns) + (0.35 + 1.95 * rows if live else 0)
    )
    parts: Any = (
        figure.subfigures(
            2, 1, height_ratios=(2.6 + 0.22 * -(-len(arms) // legend_columns), 0.35 + 1.95 * rows)
        )
        if live
        else (figure, None)
    )
    upper, lower = parts
    for axes, (key, title) in zip(upper.subplots(1, len(ARM_PANELS)), ARM_PANELS, strict=True):
        drawn = [_draw(axes, seed_curves(events[arm], key), max_points, **styles[arm]) for arm in arms]
        _finish(axes, title, empty=not any(drawn))
        if key == "agreement" and any(drawn):
            axes.set_ylim(0, 1.02)
            axes.axhspan(*AGREEMENT_BAND, color=lighter(ORIG_COLOR, 0.8), linewidth=0, zorder=0)
            axes.text(
                0.02, AGREEMENT_BAND[0] - 0.03, "paper: coupling seen\nonly above", va="top", fontsize=8,
                color=MUTED, transform=axes.get_yaxis_transform(), zorder=4,
                bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1.5},
            )  # fmt: skip
        elif any(drawn):
            axes.set_ylim(bottom=0)
    upper.legend(
        handles=[
            Line2D([], [], linewidth=2, label=label, **styles[arm])
            for arm, label in zip(arms, labels, strict=True)
        ],
        loc="outside upper left",
        ncols=legend_columns,
    )
    if lower is not None:
        _draw_live(lower, events, live, (rows, columns), max_points)
    return figure


def _draw_live(
    figure: Any,
    events: Mapping[str, Sequence[Mapping[str, Any]]],
    arms: Sequence[str],
    shape: tuple[int, int],
    max_points: int,
) -> None:
    panels = figure.subplots(*shape, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, arm in zip(panels, arms, strict=False):
        for key, color, _ in LIVE_KEYS:
            _draw(axes, seed_curves(events[arm], key), max_points, color=color)
        _finish(axes, wrapped(arm, 26, 2), empty=False)
        axes.set_ylim(0, 1.02)
    for axes in panels[len(arms) :]:
        axes.set_visible(False)
    figure.legend(
        handles=[Line2D([], [], linewidth=2, color=color, label=label) for _, color, label in LIVE_KEYS],
        loc="outside upper left",
        ncols=2,
    )


def shifting_arms(metrics: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> list[str]:
    """The arms that logged how a shift moves behaviour and explanations of test items."""
    logged = {event.get("arm") for event in metrics if number(event.get("shifted_drift")) is not None}
    return [arm for arm in logged_arms(metrics, arms) if arm in logged]


@styled
def shift_figure(metrics: Sequence[Mapping[str, Any]], arms: Sequence[str], max_points: int = 200) -> Figure:
    """A row an arm: behaviour against the label teacher's, explanations against that and its own, by step."""
    arms = shifting_arms(metrics, arms)
    figure = new_figure(0.6 + 1.9 * len(arms))
    panels = figure.subplots(len(arms), len(SHIFT_PANELS), sharex=True, sharey=True, squeeze=False)
    for row, arm in zip(panels, arms, strict=True):
        events = [event for event in metrics if event.get("arm") == arm]
        for axes, (title, lines) in zip(row, SHIFT_PANELS, strict=True):
            for key, color, _ in lines:
                for part, dashes in SHIFT_LINES.items():
                    curves = seed_curves(events, f"{part}_{key}")
                    if key == "drift":
                        curves = {
                            seed: {at: 1 - x for at, x in curve.items()} for seed, curve in curves.items()
                        }
                    _draw(axes, curves, max_points, color=color, linestyle=dashes)
            _finish(axes, f"{wrapped(arm, 26, 2)}: {title.lower()}", empty=False)
            axes.set_ylim(0, 1.02)
    colors = {(color, label): None for _, lines in SHIFT_PANELS for _, color, label in lines}
    figure.legend(
        handles=[Line2D([], [], linewidth=2, color=color, label=label) for color, label in colors]
        + [
            Line2D([], [], linewidth=2, color=INK, linestyle=d, label=part) for part, d in SHIFT_LINES.items()
        ],
        loc="outside upper left",
        ncols=3,
    )
    return figure


def _finish(axes: Axes, title: str, *, empty: bool) -> None:
    axes.set_title(title, color=INK)
    axes.set_xlabel("step")
    axes.grid(axis="y")
    axes.locator_params(axis="x", nbins=4)
    if empty:
        axes.set_facecolor(BAND)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(0.5, 0.5, "not recorded", ha="center", va="center", color=MUTED, transform=axes.transAxes)
