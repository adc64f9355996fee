"""A sweep's table, one row per point and arm: for people, sortable in the page, and as numbers."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from introspection.coupling.estimates import Estimate
from introspection.coupling.run_results import ArmResults, Askable, ControlResults, Levels
from introspection.reports.findings import gap_verdict, isolated
from introspection.reports.numbers import DASH, count, number, percent, points
from introspection.reports.table import Cell, Table, estimate_cell

Value = str | int | float | None
UNTRAINED = "initial"  # the control
REFERENCES = ("static", "shuffled", "foreign")  # static: an arm's best static emitter


@dataclasses.dataclass(frozen=True)
class SweepPoint:
    """A finished point of a sweep."""

    name: str
    base: str
    fields: Mapping[str, Any]  # what any point of the sweep overrides, as this one has it
    tiny: bool  # no evidence
    arms: tuple[ArmResults, ...]
    askable: Askable  # whether its labels teach
    report: str  # its page's address from the sweep's; empty if it has none
    label: str  # how it is shown: its name, and what varies
    sweep: str = ""  # the config's name
    part: str = ""  # arms of one part are compared
    arm_fields: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)  # by arm
    explained_where: tuple[str, ...] = ()  # conditions on the items that are explained; () is all
    folder: Path = Path()  # its workdir


@dataclasses.dataclass(frozen=True)
class Column:
    """What is known of an arm at a point."""

    key: str  # in summary.csv and in the page's address
    heading: str
    read: Callable[[SweepPoint, ArmResults], Any]  # a `Value` or an `Estimate`
    show: Callable[[Any], Cell]


def sweep_table(sweep_points: Sequence[SweepPoint]) -> Table:
    """The table for people; sorted by numbers with all their digits."""
    columns = _columns(sweep_points)
    rows = tuple(
        (
            Cell(point.label, link=point.report),
            *(column.show(column.read(point, arm)) for column in columns[1:]),
        )
        for point in sweep_points
        for arm in point.arms
    )
    words = [column.show is _words for column in columns]
    return Table(
        "Points and arms",
        tuple(column.heading for column in columns),
        rows,
        "Shares in percent, differences in points; intervals are 95%.",
        text_columns=words.index(False),
        last_text_columns=words[::-1].index(False),
        kind="sortable",
        keys=tuple(column.key for column in columns),
    )


def held_out_table(sweep_points: Sequence[SweepPoint]) -> Table | None:
    """Held out by trained: Orig and gap on every kind of test items, by what explanation training saw.

    Means over bases, with the least and greatest gap. None where training saw all kinds at all points.
    """
    if not any(point.explained_where for point in sweep_points):
        return None
    cells: dict[tuple[str, str], dict[str, list[Levels]]] = {}
    for point in sweep_points:
        for arm in point.arms:
            own = cells.setdefault((point.part, arm.name), {})
            for kind, levels in {**(arm.by_subset or {}), **arm.by_cue_kind}.items():
                own.setdefault(kind, []).append(levels)
    kinds = list(dict.fromkeys(kind for own in cells.values() for kind in own))
    return Table(
        "Held out by trained",
        ("Trained", "Arm", *kinds),
        tuple((*names, *(_held_out(own.get(kind, ())) for kind in kinds)) for names, own in cells.items()),
        "Orig in percent / gap in points, means over bases, with the least and greatest gap of a base.",
        text_columns=2,
    )


def _held_out(levels: Sequence[Levels]) -> Cell:
    orig = [one.orig for one in levels if one.orig is not None]
    gaps = [gap for one in levels if (gap := one.gap_estimate.mean) is not None]
    if not orig or not gaps:
        return Cell(DASH)
    spread = f"[{points(min(gaps))}, {points(max(gaps))}]" if len(gaps) > 1 else ""
    return Cell(f"{percent(sum(orig) / len(orig))} / {points(sum(gaps) / len(gaps))}", spread)


def summary_rows(sweep_points: Sequence[SweepPoint]) -> list[dict[str, Value]]:
    """The same rows as numbers; all have the same columns, and None where there is no number."""
    columns = _columns(sweep_points)
    return [
        {
            "sweep": point.sweep,
            "part": point.part,
            "tiny": point.tiny,
            "is_reference": _is_reference(point.arm_fields.get(arm.name, {})),
            **{
                key: value
                for column in columns
                for key, value in _numbers(column.key, column.read(point, arm)).items()
            },
            "static_gap": _static_gap(arm),
        }
        for point in sweep_points
        for arm in point.arms
    ]


def _is_reference(recipe: Mapping[str, Any]) -> bool:
    """Whether an arm is there for others to be held against: its labels describe no model, or not its own."""
    return bool(recipe.get("shuffle_labels") or recipe.get("foreign_to"))


def _static_gap(arm: ArmResults) -> float | None:
    """The gap of the untrained model's explanations; of the best static emitter's if too few are valid."""
    untrained, best = arm.references.get(UNTRAINED), arm.references.get(arm.best_static or "")
    held = untrained if untrained is not None and untrained.usable else best
    return None if held is None else held.gap


def _numbers(key: str, value: Value | Estimate) -> dict[str, Value]:
    if isinstance(value, Estimate):
        return {key: value.mean, f"{key}_lo": value.low, f"{key}_hi": value.high}
    return {key: value}


def _columns(sweep_points: Sequence[SweepPoint]) -> list[Column]:
    fields = dict.fromkeys(field for point in sweep_points for field in point.fields)
    controls = dict.fromkeys(c.name for point in sweep_points for arm in point.arms for c in arm.controls)
    return [
        Column("point", "Point", lambda point, arm: point.name, _words),
        Column("base", "Base", lambda point, arm: point.base, _words),
        Column("arm", "Arm", lambda point, arm: arm.name, _words),
        Column("seeds", "Seeds", lambda point, arm: " ".join(map(str, arm.seeds)), _words),
        Column("n", "n", lambda point, arm: arm.n, lambda n: Cell(count(n), order=n)),
        _share("self", "Self %", lambda arm: arm.self.exact_match.mean),
        _share("orig", "Orig %", lambda arm: arm.orig.exact_match.mean),
        # In no colour: a gap by itself is not judged against 0.
        Column("gap", "Gap, points", lambda point, arm: arm.gap.exact_match, estimate_cell),
        Column("best_static", "Best static", lambda point, arm: arm.best_static or "", _words),
        *(_reference_column(name) for name in REFERENCES),
        _share("drift", "Drift %", lambda arm: arm.drift),
        _share("current_share", "Current share %", lambda arm: arm.disagreement.current_share),
        _share("agreement_end", "Agreement at the end %", lambda arm: arm.agreement.end),
        Column(
            "update_norm",
            "Distance moved",
            lambda point, arm: arm.update_norm,
            lambda norm: Cell(DASH if norm is None else f"{norm:.2f}", order=norm),
        ),
        _share("agreement_mean", "Agreement, mean %", lambda arm: arm.agreement.mean),
        _share("invalid_rate", "Invalid %", lambda arm: arm.invalid_rate),
        _share("accuracy_teacher", "Right, teacher %", lambda arm: arm.behavior_accuracy.teacher),
        _share("accuracy_current", "Right, current %", lambda arm: arm.behavior_accuracy.current),
        *(column for control in controls for column in _control_columns(control, sweep_points)),
        *(_field_column(field) for field in fields),
    ]


def _share(key: str, heading: str, read: Callable[[ArmResults], float | None]) -> Column:
    return Column(key, heading, lambda point, arm: read(arm), lambda share: Cell(percent(share), order=share))


def _words(value: Value) -> Cell:
    order = None if isinstance(value, str) else number(value)
    return Cell("" if value is None else str(value), order=order)


def _reference_column(name: str) -> Column:
    """The gap minus a reference emitter's, where that says enough that is valid."""

    def read(point: SweepPoint, arm: ArmResults) -> Estimate:
        held = arm.references.get(arm.best_static or "" if name == "static" else name)
        return held.gap_difference if held is not None and held.usable else Estimate()

    heading = f"Gap minus {'best static' if name == 'static' else name}'s"
    return Column(f"gap_minus_{name}", heading, read, estimate_cell)


def _control_columns(control: str, sweep_points: Sequence[SweepPoint]) -> list[Column]:
    """A control's levels and, where some arm is paired with it, the arm's Self minus the control's."""

    def found(arm: ArmResults) -> ControlResults | None:
        return next((known for known in arm.controls if known.name == control), None)

    def share(arm: ArmResults, scores: str) -> float | None:
        known = found(arm)
        return None if known is None else getattr(known, scores).exact_match.mean

    def paired(point: SweepPoint, arm: ArmResults) -> Estimate:
        known = found(arm)
        return Estimate() if known is None else known.paired_self

    shown = isolated(control)
    columns = [
        _share(f"control.{control}.self", f"{shown}: Self %", lambda arm: share(arm, "self")),
        _share(f"control.{control}.orig", f"{shown}: Orig %", lambda arm: share(arm, "orig")),
    ]
    if any(paired(point, arm).mean is not None for point in sweep_points for arm in point.arms):
        key, heading = f"control.{control}.paired_self", f"Self minus {shown}, paired"
        columns.append(
            Column(key, heading, paired, lambda value: estimate_cell(value, kind=gap_verdict(value)))
        )
    return columns


def _field_column(field: str) -> Column:
    def read(point: SweepPoint, arm: ArmResults) -> Value:
        value = point.fields.get(field)
        as_it_is = value is None or (isinstance(value, str | int | float) and not isinstance(value, bool))
        return value if as_it_is else json.dumps(value, ensure_ascii=False)

    return Column(f"config.{field}", field, read, _words)
