"""Which figures a page shows, and how each one is to be read."""

import dataclasses
from collections.abc import Callable

from matplotlib.figure import Figure

from introspection.coupling.soft import BINS
from introspection.reports import curves, figures
from introspection.reports.figure_numbers import (
    Numbers,
    cue_kind_numbers,
    disagreement_numbers,
    gap_numbers,
    level_numbers,
    matrix_numbers,
    shift_numbers,
    training_numbers,
)
from introspection.reports.run_files import RunFiles
from introspection.reports.soft import reliability_arms, reliability_figure, reliability_numbers


@dataclasses.dataclass(frozen=True)
class PageFigure:
    """A figure with what the page says about it."""

    file_name: str
    title: str
    caption: str
    alternative: str  # for a reader who can't see it
    draw: Callable[[], Figure]
    numbers: Numbers  # what is drawn, as rows


def page_figures(run: RunFiles) -> list[PageFigure]:
    """The figures that this run has data for, in the order of the page."""
    arms, matrix = run.arms, run.matrix
    found = []
    if arms:
        found += [
            PageFigure(
                "gap",
                "The gap: Self minus Orig",
                "Left: the raw gaps, hollow dots on grey being controls. They are not read against 0: an"
                " explainer that stays put has a gap too, below 0 where behaviour drifts away from what it"
                " says. Right: an arm's gap minus that of each reference, on the same items; a whisker (95%"
                " interval) wholly to the right of 0 is a gap above that reference's. A verdict needs all of"
                " them on one side, and references on both sides of the arm's Orig.",
                f"Self minus Orig of {len(arms)} arms, and its difference from references’, with intervals.",
                lambda: figures.gap_figure(arms),
                gap_numbers(arms),
            ),
            PageFigure(
                "levels",
                "Levels: how often explanations are right",
                "Blue: right about the model as it is now (Self). Vermilion: right about the model that"
                " gave the labels (Orig). Pale bars on grey are the controls, scored against the same"
                " two. Look at levels before differences: gaps at unequal levels are not comparable.",
                f"Self and Orig with 95% intervals for {len(arms)} arms and their controls.",
                lambda: figures.levels_figure(arms),
                level_numbers(arms),
            ),
            PageFigure(
                "disagreement",
                "Where the two models differ",
                "Only items where the current model and the label teacher differ, so that an explanation"
                " can't match both. Left: whom it matches. Right: the current model's share of the"
                " matches, with a 95% interval; where behaviour drifted away from what an explainer says, it"
                " is below 50 without any coupling. It shows the effect's size and is no evidence beside the"
                " gap: gap = drift × (Self − Orig here).",
                f"Whom explanations match on the disagreement set, for {len(arms)} arms.",
                lambda: figures.disagreement_figure(arms),
                disagreement_numbers(arms),
            ),
        ]
    if any(arm.by_cue_kind for arm in arms):
        found.append(
            PageFigure(
                "cue_kinds",
                "By kind of cue",
                "Each line joins Orig to Self for one kind of cue. A gap that only one kind carries, or that"
                " placebo cues carry too, is not what the total suggests.",
                "Self and Orig for each kind of cue, a panel for each arm.",
                lambda: figures.cue_kind_figure(arms),
                cue_kind_numbers(arms),
            )
        )
    names = [arm.name for arm in arms]
    if curves.logged_arms(run.metrics, names):
        found.append(
            PageFigure(
                "training",
                "During training",
                "Thin lines are seeds, thick lines their mean. Agreement is the share of training items"
                " whose trained label holds for the current model; the paper sees coupling only while it"
                " stays above the band. Below: Self and Orig on a fixed validation slice, scored while"
                f" training. Each line has at most {run.settings.max_curve_points} points, each a mean"
                " over nearby steps.",
                "Training curves of explanation loss, KL, agreement and live Self and Orig by step.",
                lambda: curves.training_figure(run.metrics, names, run.settings.max_curve_points),
                training_numbers(run.metrics, names),
            )
        )
    if curves.shifting_arms(run.metrics, names):
        found.append(
            PageFigure(
                "shift",
                "Beside a shift, step by step",
                "A row an arm, on a sample of test items whose groups the shift trains (solid) or leaves"
                " alone (dashed); thin lines are seeds. Left: how often the model still behaves as the label"
                " teacher (as itself it does by definition), and how often it decides as the cue says."
                " Right: how often its explanations, scored while training, are"
                " right about itself and about the label teacher. Explanations that follow keep the blue line"
                " up where the left panel's behaviour moves away.",
                "Behaviour and explanations by step, of shifted and of unshifted items, a row for each arm.",
                lambda: curves.shift_figure(run.metrics, names, run.settings.max_curve_points),
                shift_numbers(run.metrics, names),
            )
        )
    if scored := reliability_arms(arms):
        found.append(
            PageFigure(
                "reliability",
                "Are explanations as often right as they are probable?",
                "An item's likeliest explanation has a probability, of those of its finite set. Items with a"
                f" similar one form a bin, of {BINS} of equal width: across, the bin's mean probability; up,"
                " the share that is right about the current model (Self) and about the label teacher (Orig)."
                " On the grey line both are equal. A dot's area grows with the bin's number of items.",
                f"Reliability of the likeliest explanation of {len(scored)} arms, against both models.",
                lambda: reliability_figure(scored),
                reliability_numbers(scored),
            )
        )
    if matrix is not None:
        found.append(
            PageFigure(
                "matrix",
                "Who explains whom",
                "Rows explain, columns are who they are scored against; 95% intervals below the numbers."
                " The outlined cells score a model against itself. Coupling is a diagonal that stands out"
                " in its row and in its column.",
                f"Exact match of {len(matrix.emitters)} emitters against {len(matrix.teachers)} teachers.",
                lambda: figures.matrix_figure(matrix),
                matrix_numbers(matrix),
            )
        )
    return found
