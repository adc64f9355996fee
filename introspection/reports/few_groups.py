"""Gaps that rest on too few groups for an interval: they are shown as that, with the number.

A gap is what the items add on which the two behaviours differ. With fewer than `FEWEST_GROUPS` groups of such
items, resampling them says little, and nothing where all add the same: 0.0 [0.0, 0.0] only looks certain. The
files keep the intervals as they were computed.
"""

import dataclasses
from collections.abc import Iterable
from typing import TypeVar

from introspection.coupling.run_results import (
    FEWEST_GROUPS,
    ArmResults,
    ControlResults,
    Estimate,
    Part,
    Reference,
    Scores,
    ShiftedParts,
)

FEW_NOTE = f"too few (n): behaviours differ on n groups of items, fewer than {FEWEST_GROUPS}: no interval"
Parted = TypeVar("Parted", bound=Part)


def with_few_groups(arm: ArmResults) -> ArmResults:
    """The arm as it is shown: gaps that rest on too few groups have their number in place of an interval."""
    few = arm.disagreement.few
    shifted = arm.by_shifted
    arm = _part(arm)
    return dataclasses.replace(
        arm,
        by_shifted=shifted and _halves(shifted),
        references={name: _reference(one, few) for name, one in arm.references.items()},
        controls=tuple(control_with_few(one, few) for one in arm.controls),
    )


def control_with_few(control: ControlResults, few: int | None) -> ControlResults:
    """A control as it is shown, whose arm differs from its label teacher on `few` groups if these are few."""
    return dataclasses.replace(control, gap=_scores(control.gap, few))


def few_note(arms: Iterable[ArmResults]) -> str:
    """What a table's note adds where some gap rests on too few groups."""
    return FEW_NOTE if any(arm.disagreement.few is not None for arm in arms) else ""


def _part(part: Parted) -> Parted:
    return dataclasses.replace(part, gap=_scores(part.gap, part.disagreement.few))


def _halves(parts: ShiftedParts) -> ShiftedParts:
    halves = {half: getattr(parts, half) for half in ("shifted", "unshifted")}
    return dataclasses.replace(parts, **{half: part and _part(part) for half, part in halves.items()})


def _reference(reference: Reference, few: int | None) -> Reference:
    return dataclasses.replace(reference, gap_difference=_estimate(reference.gap_difference, few))


def _scores(scores: Scores, few: int | None) -> Scores:
    names = [field.name for field in dataclasses.fields(Scores)]
    return Scores(**{name: _estimate(getattr(scores, name), few) for name in names})


def _estimate(value: Estimate, few: int | None) -> Estimate:
    return value if few is None else Estimate(value.mean, few=few)
