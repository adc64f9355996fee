"""Gaps that rest on nothing, or on too few groups for an interval, and how they are shown.

A gap is what the items add on which the two behaviours differ. With fewer than `FEWEST_GROUPS` groups of such
items, resampling them says little, and nothing where all add the same: 0.0 [0.0, 0.0] only looks certain.
They are shown with the number of groups. An emitter of which no explanation is valid matches nobody, so its
gap is 0 whatever happened: it is shown as missing. The files keep all numbers as they were computed.
"""

import dataclasses
from collections.abc import Iterable
from typing import TypeVar

from introspection.coupling.estimates import FEWEST_GROUPS, Estimate, is_silent
from introspection.coupling.run_results import (
    ArmResults,
    ControlResults,
    Part,
    Reference,
    Scores,
    ShiftedDifferences,
    ShiftedParts,
)

FEW_NOTE = f"too few (n): behaviours differ on n groups of items, fewer than {FEWEST_GROUPS}: no interval"
SILENT_NOTE = "where no explanation is valid, there is no gap (–)"
Parted = TypeVar("Parted", bound=Part)


def with_few_groups(arm: ArmResults) -> ArmResults:
    """The arm as it is shown: gaps that rest on too few groups have their number in place of an interval, and
    those that rest on no valid explanation are missing."""
    few = arm.disagreement.few
    shifted = arm.by_shifted
    arm = _part(arm)
    return dataclasses.replace(
        arm,
        by_shifted=shifted and _halves(shifted),
        references={name: _reference(one, few, shifted) for name, one in arm.references.items()},
        controls=tuple(control_with_few(one, few) for one in arm.controls),
    )


def control_with_few(control: ControlResults, few: int | None) -> ControlResults:
    """A control as it is shown, whose arm differs from its label teacher on `few` groups if these are few."""
    return dataclasses.replace(control, gap=_scores(control.gap, few, is_silent(control.invalid_rate)))


def gap_notes(arms: Iterable[ArmResults]) -> str:
    """What a table's note adds where some gap rests on too few groups, or on nothing; a line each."""
    arms = list(arms)
    rates = [rate for arm in arms for rate in (arm.invalid_rate, *(one.invalid_rate for one in _others(arm)))]
    notes = {
        FEW_NOTE: any(arm.disagreement.few is not None for arm in arms),
        SILENT_NOTE: any(map(is_silent, rates)),
    }
    return "\n".join(note for note, applies in notes.items() if applies)


def _others(arm: ArmResults) -> list[ControlResults | Reference]:
    return [*arm.controls, *arm.references.values()]


def _part(part: Parted) -> Parted:
    gap = _scores(part.gap, part.disagreement.few, is_silent(part.invalid_rate))
    return dataclasses.replace(part, gap=gap)


def _halves(parts: ShiftedParts) -> ShiftedParts:
    halves = {half: getattr(parts, half) for half in ("shifted", "unshifted")}
    return dataclasses.replace(parts, **{half: part and _part(part) for half, part in halves.items()})


def _reference(reference: Reference, few: int | None, parts: ShiftedParts | None) -> Reference:
    silent, apart = is_silent(reference.invalid_rate), reference.by_shifted
    return dataclasses.replace(
        reference,
        gap_difference=_estimate(reference.gap_difference, few, silent),
        by_shifted=apart and parts and _difference_halves(apart, parts, silent),
    )


def _difference_halves(apart: ShiftedDifferences, parts: ShiftedParts, silent: bool) -> ShiftedDifferences:
    halves = {}
    for half in ("shifted", "unshifted"):
        part = getattr(parts, half)
        halves[half] = _estimate(getattr(apart, half), part and part.disagreement.few, silent)
    return dataclasses.replace(apart, **halves)


def _scores(scores: Scores, few: int | None, silent: bool) -> Scores:
    names = [field.name for field in dataclasses.fields(Scores)]
    return Scores(**{name: _estimate(getattr(scores, name), few, silent) for name in names})


def _estimate(value: Estimate, few: int | None, silent: bool) -> Estimate:
    return Estimate() if silent else value.resting_on(few)
