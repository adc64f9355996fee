"""Soft faithfulness as people see it: the measures of every arm and control, and the reliability figure."""

import dataclasses
from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from introspection.coupling.estimates import Estimate
from introspection.coupling.run_results import ArmResults, ControlResults, SoftEstimate
from introspection.coupling.soft import BINS, MEASURES
from introspection.reports.figure_numbers import Numbers
from introspection.reports.figure_style import (
    MUTED,
    NEUTRAL,
    ORIG_COLOR,
    SELF_COLOR,
    grid_shape,
    new_figure,
    percent_axis,
    styled,
    wrapped,
)
from introspection.reports.table import Cell, Row, Table, estimate_cell

WORDS = {  # of `MEASURES`, in their order
    "logprob": "Log-probability of the faithful explanation, nats",
    "calibration_error": f"Expected calibration error, {BINS} bins",
    "changed_auroc": "AUROC of “changed” within cue kinds",
    "effect_correlation": "Rank correlation of stated and actual effect",
    "phi_cct": "Phi-CCT",
    "simulatability_gain": "Normalised simulatability gain",
}
COLUMNS = (Cell("Self", kind="self"), Cell("Orig", kind="orig"), "Self minus Orig")


def soft_table(arms: Sequence[ArmResults]) -> Table:
    """Every measure of every arm."""
    rows: list[Row] = []
    for arm in arms:
        rows.append(Row((arm.name,), "heading", starts=True))
        rows += [Row((WORDS[name], *_cells(arm, name, arm))) for name in MEASURES]
    return Table("Soft faithfulness", ("Measure", *COLUMNS), tuple(rows), kind="details")


def soft_measure_tables(arms: Sequence[ArmResults]) -> list[Table]:
    """A table for each measure, with each arm's controls below it."""
    return [
        Table(
            WORDS[name],
            ("Arm / control", *COLUMNS),
            tuple(
                Row(
                    (entry.name, *_cells(entry, name, arm)),
                    "arm" if entry is arm else "control",
                    entry is arm,
                )
                for arm in arms
                for entry in (arm, *arm.controls)
                if entry.soft is not None
            ),
            kind="levels",
        )
        for name in MEASURES
    ]


def _cells(entry: ArmResults | ControlResults, measure: str, arm: ArmResults) -> Iterator[str | Cell]:
    """Self, Orig and their difference, or why there is none; a reason for all three is given once."""
    assert entry.soft is not None
    values: dict[str, SoftEstimate] = {
        score: getattr(getattr(entry.soft, score), measure) for score in ("self", "orig", "gap")
    }
    notes = [value.note for value in values.values()]
    if notes[0] and len(set(notes)) == 1:
        yield from (Cell(notes[0], kind="note"), "", "")
        return
    for score, value in values.items():
        few = arm.disagreement.few if score == "gap" else None
        shown = Estimate(value.mean, value.ci95 if few is None else None, few)
        form = "signed" if score == "gap" else "decimal"
        yield Cell(value.note, kind="note") if value.note else estimate_cell(shown, form)


def soft_arms(arms: Sequence[ArmResults]) -> list[ArmResults]:
    """Those whose results hold soft faithfulness, as older ones don't."""
    return [arm for arm in arms if arm.soft is not None]


def reliability_arms(arms: Sequence[ArmResults]) -> list[ArmResults]:
    """Those whose explanations have probabilities."""
    return [arm for arm in arms if arm.soft is not None and arm.soft.reliability]


@styled
def reliability_figure(arms: Sequence[ArmResults]) -> Figure:
    """A panel an arm: of the explanations with about some probability, the share that is right."""
    rows, columns = grid_shape(len(arms), 4)
    figure = new_figure(0.7 + 2.1 * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, arm in zip(panels, arms, strict=False):
        assert arm.soft is not None
        bins = arm.soft.reliability
        most = max(one.n for one in bins)
        axes.plot([0, 100], [0, 100], color=NEUTRAL, linewidth=1.0, zorder=1)
        for score, color in (("orig", ORIG_COLOR), ("self", SELF_COLOR)):
            places = [100 * one.confidence for one in bins]
            shares = [100 * getattr(one, score) for one in bins]
            axes.plot(places, shares, color=color, linewidth=1.4)
            axes.scatter(places, shares, [8 + 60 * one.n / most for one in bins], color=color, zorder=3)
        percent_axis(axes, "")
        axes.set_ylim(-3, 103)
        axes.set_yticks(range(0, 101, 20))
        axes.set_title(wrapped(arm.name, 24, lines=2))
    for axes in panels[len(arms) :]:
        axes.set_visible(False)
    figure.supxlabel("probability of the likeliest explanation (%)", fontsize=9.5, color=MUTED)
    figure.supylabel("share that is right (%)", fontsize=9.5, color=MUTED)
    handles = [
        Line2D([], [], marker="o", color=color, label=label)
        for color, label in ((SELF_COLOR, "Self: the current model"), (ORIG_COLOR, "Orig: the labels"))
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2)
    return figure


def reliability_numbers(arms: Sequence[ArmResults]) -> Numbers:
    """The bins of arms and controls."""
    return [
        {"arm": arm.name, "control": "" if entry is arm else entry.name, **dataclasses.asdict(one)}
        for arm in arms
        for entry in (arm, *arm.controls)
        if entry.soft is not None
        for one in entry.soft.reliability
    ]
