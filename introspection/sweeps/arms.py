"""Arms as figures and accounts over several sweeps see them: rows of `summary.csv`."""

import csv
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from introspection.errors import InputError
from introspection.sweeps.table import SweepPoint, summary_rows

_WORDS = ("sweep", "part", "base", "arm", "best_static")
_YES_OR_NO = {"True": True, "False": False}
_SAME = ("base", "drift", "orig", "gap", "agreement_mean", "update_norm")  # of one arm, run in two sweeps


@dataclasses.dataclass(frozen=True)
class SweepArm:
    """An arm of one base. Fields are columns of `summary.csv`; None is a number that is not known."""

    sweep: str
    part: str
    base: str
    arm: str
    tiny: bool  # no evidence
    is_reference: bool  # its labels are shuffled, or it explains another model
    drift: float | None
    orig: float | None
    gap: float | None
    agreement_mean: float | None
    update_norm: float | None
    best_static: str  # the emitter's name
    static_gap: float | None  # of the untrained model's explanations, or of the best static emitter's
    gap_minus_static: float | None
    gap_minus_shuffled: float | None
    gap_minus_foreign: float | None


def arms_of(sweep_points: Sequence[SweepPoint]) -> list[SweepArm]:
    """The arms of finished points."""
    return [_arm(row) for row in summary_rows(sweep_points)]


def read_arms(path: Path) -> list[SweepArm]:
    """The arms of a sweep whose `summary.csv` was kept or published.

    Raises:
      InputError: the file can't be read, has no rows, lacks a column, or a cell is not what its column holds;
        the message names file, line and column.
    """
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: can't be read as CSV: {error}") from error
    names = [field.name for field in dataclasses.fields(SweepArm)]
    missing = [name for name in names if name not in (rows[0] if rows else ())]
    if missing:
        raise InputError(
            f"{path}: {'no row' if not rows else 'no column ' + ', '.join(missing)}; name a sweep's"
            " summary.csv, or its workdir"
        )
    return [
        _arm({name: _value(row[name], name, f"{path}, line {line}") for name in names})
        for line, row in enumerate(rows, start=2)
    ]


def distinct(arms: Iterable[SweepArm]) -> list[SweepArm]:
    """Without arms that an earlier sweep has, too: one recipe that both ran on one base, digit by digit."""
    first: dict[tuple[Any, ...], str] = {}
    return [
        arm for arm in arms if first.setdefault(tuple(getattr(arm, n) for n in _SAME), arm.sweep) == arm.sweep
    ]


def _arm(row: Mapping[str, Any]) -> SweepArm:
    return SweepArm(**{field.name: row[field.name] for field in dataclasses.fields(SweepArm)})


def _value(cell: str | None, name: str, where: str) -> str | float | bool | None:
    if name in _WORDS:
        return cell or ""
    if name in ("tiny", "is_reference"):
        if cell not in _YES_OR_NO:
            raise InputError(f"{where}: {name} must be True or False, not {cell!r}")
        return _YES_OR_NO[cell]
    try:
        number = float(cell) if cell else None
    except ValueError:
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise InputError(f"{where}: {name} must be a number or empty, not {cell!r}")
    return number
