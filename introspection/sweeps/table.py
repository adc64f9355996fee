"""The table of a sweep's points: a row a point and arm, sortable in the page."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from introspection.reports.findings import gap_verdict, interval
from introspection.reports.numbers import Arm, Askable, Control, Estimate, count, percent, points
from introspection.reports.tables import name, scrolling, text


@dataclasses.dataclass(frozen=True)
class SweepPoint:
    """A finished point of a sweep."""

    name: str
    base: str
    fields: Mapping[str, Any]  # what any point of the sweep overrides, as this one has it
    tiny: bool  # no evidence
    arms: tuple[Arm, ...]
    askable: Askable  # whether its labels teach
    report: str  # its page's address from the sweep's; empty if it has none


@dataclasses.dataclass(frozen=True)
class Cell:
    """What a table's cell shows (HTML) and what it is sorted by: a number, or its text if that is None."""

    html: str
    order: int | float | None = None
    kind: str = ""


@dataclasses.dataclass(frozen=True)
class Column:
    key: str  # in the page's address
    heading: str  # HTML
    cell: Callable[[SweepPoint, Arm], Cell]
    is_number: bool = True


def sweep_table(sweep_points: Sequence[SweepPoint]) -> str:
    """The table as HTML; a cell's `data-order` is its number with all its digits."""
    columns = _columns(sweep_points)
    head = "".join(
        f'<th scope="col" data-key="{text(column.key)}"{" class=number" if column.is_number else ""}>'
        f"{column.heading}</th>"
        for column in columns
    )
    rows = []
    for point in sweep_points:
        for arm in point.arms:
            cells = "".join(_cell(column, column.cell(point, arm)) for column in columns)
            rows.append(f"<tr>{cells}</tr>")
    table = f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return (
        "<p>Exact match in percent, a row a point and arm; intervals are 95%. Choose a column's head to sort"
        " by it; the address bar keeps the order.</p>" + scrolling(table, "Points and arms")
    )


def _cell(column: Column, cell: Cell) -> str:
    order = "" if cell.order is None else f' data-order="{cell.order!r}"'
    classes = " ".join(filter(None, ("number" if column.is_number else "", cell.kind)))
    return f"<td{order}{f' class={chr(34)}{classes}{chr(34)}' if classes else ''}>{cell.html}</td>"


def _columns(sweep_points: Sequence[SweepPoint]) -> list[Column]:
    fields = dict.fromkeys(field for point in sweep_points for field in point.fields)
    controls = dict.fromkeys(c.name for point in sweep_points for arm in point.arms for c in arm.controls)
    return [
        Column("point", "Point", lambda point, arm: Cell(_link(point)), is_number=False),
        Column("base", "Base", lambda point, arm: Cell(name(point.base)), is_number=False),
        Column("arm", "Arm", lambda point, arm: Cell(name(arm.name)), is_number=False),
        _share("self", "Self %", lambda arm: arm.self_scores.exact_match.mean),
        _share("orig", "Orig %", lambda arm: arm.orig_scores.exact_match.mean),
        Column("gap", "Gap, points", lambda point, arm: _raw_gap(arm.gap.exact_match)),
        _share("drift", "Drift %", lambda arm: arm.drift),
        _share("current_share", "Current share %", lambda arm: arm.disagreement.current_share.mean),
        _share("agreement_end", "Agreement at the end %", lambda arm: arm.agreement.get("end")),
        _share("invalid_rate", "Invalid %", lambda arm: arm.invalid_rate),
        _share("accuracy_teacher", "Right, teacher %", lambda arm: arm.behavior_accuracy.get("teacher")),
        _share("accuracy_current", "Right, current %", lambda arm: arm.behavior_accuracy.get("current")),
        *(column for control in controls for column in _control_columns(control, sweep_points)),
        Column("n", "n", lambda point, arm: Cell(count(arm.n), arm.n)),
        Column("seeds", "Seeds", lambda point, arm: Cell(name(" ".join(map(str, arm.seeds)))), False),
        *(_field_column(field) for field in fields),
    ]


def _share(key: str, heading: str, read: Callable[[Arm], float | None]) -> Column:
    return Column(key, heading, lambda point, arm: Cell(percent(read(arm)), read(arm)))


def _raw_gap(value: Estimate) -> Cell:
    """A gap by itself, in no colour: it is not judged against 0."""
    return dataclasses.replace(_difference(value), kind="mean")


def _difference(value: Estimate) -> Cell:
    ends = f' <span class="interval">{interval(value, "points")}</span>' if value.has_interval else ""
    return Cell(points(value.mean) + ends, value.mean, f"mean {gap_verdict(value)}")


def _control_columns(control: str, sweep_points: Sequence[SweepPoint]) -> list[Column]:
    def found(arm: Arm) -> Control | None:
        return next((known for known in arm.controls if known.name == control), None)

    def score(arm: Arm, scores: str) -> float | None:
        known = found(arm)
        return None if known is None else getattr(known, scores).exact_match.mean

    def paired(point: SweepPoint, arm: Arm) -> Cell:
        known = found(arm)
        return _difference(Estimate() if known is None else known.paired_self)

    columns = [
        _share(f"control.{control}.self", f"{name(control)}: Self %", lambda arm: score(arm, "self_scores")),
        _share(f"control.{control}.orig", f"{name(control)}: Orig %", lambda arm: score(arm, "orig_scores")),
    ]
    known = [found(arm) for point in sweep_points for arm in point.arms]
    if any(one is not None and one.paired_self.mean is not None for one in known):
        columns.append(
            Column(f"control.{control}.paired_self", f"Self minus {name(control)}, paired", paired)
        )
    return columns


def _field_column(field: str) -> Column:
    def cell(point: SweepPoint, arm: Arm) -> Cell:
        value = point.fields.get(field)
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        shown = "" if value is None else value if isinstance(value, str) else json.dumps(value)
        return Cell(name(shown), number)

    return Column(f"config.{field}", name(field), cell, is_number=False)


def _link(point: SweepPoint) -> str:
    shown = name(point.name)
    return f'<a href="{text(point.report)}">{shown}</a>' if point.report else shown
