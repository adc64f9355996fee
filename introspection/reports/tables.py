"""The tables of a run: its arms beside their controls, what lies behind them, the matrix, the base model."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from introspection.coupling.estimates import Estimate, too_few
from introspection.coupling.matrix_results import RECIPES, Matrix
from introspection.coupling.run_results import ArmResults, Course, Levels, Part, Rates
from introspection.reports.few_groups import gap_notes
from introspection.reports.findings import gap_verdict
from introspection.reports.numbers import DASH, count, number, percent, probability
from introspection.reports.run_files import named_values
from introspection.reports.table import Cell, Row, Table, estimate_cell

Line = tuple[str, Callable[[ArmResults], str | Cell]]


def levels_table(arms: Sequence[ArmResults]) -> Table:
    """The main table: each arm and, under it, its controls; levels beside differences.

    A raw gap has no colour, since nothing is judged by its side of 0; the difference from a control's has.
    Initial has a column only where it differs from Orig.
    """
    with_references = any(arm.references for arm in arms)
    with_paired = any(control.paired_self.mean is not None for arm in arms for control in arm.controls)
    with_initial = any(arm.initial.exact_match.mean not in (None, arm.orig.exact_match.mean) for arm in arms)
    columns: list[str | Cell] = ["Arm / control", Cell("Self %", kind="self"), Cell("Orig %", kind="orig")]
    columns.append("Gap, points")
    columns += ["Arm’s gap minus control’s"] * with_references
    columns += ["Self minus control, paired"] * with_paired + ["Initial"] * with_initial
    rows = []
    for arm in arms:
        for entry in (arm, *arm.controls):
            # A cell is empty where a number doesn't apply, and has a dash where it is missing.
            if isinstance(entry, ArmResults):
                difference, paired = "", ""
                initial = estimate_cell(arm.initial.exact_match, "percent")
            else:
                reference = arm.references.get(entry.name)
                minus = Estimate() if reference is None else reference.gap_difference
                difference, paired = (
                    estimate_cell(minus, kind=gap_verdict(minus)),
                    estimate_cell(entry.paired_self),
                )
                initial = ""
            cells = (
                entry.name,
                estimate_cell(entry.self.exact_match, "percent"),
                estimate_cell(entry.orig.exact_match, "percent"),
                estimate_cell(entry.gap.exact_match),
                *[difference] * with_references,
                *[paired] * with_paired,
                *[initial] * with_initial,
                percent(entry.invalid_rate),
                count(entry.n),
                str(len(entry.seeds) or DASH),
            )
            rows.append(Row(cells, "arm" if entry is arm else "control", starts=entry is arm))
    columns += ["Invalid %", "n", "Seeds"]
    return Table("Arms and controls", tuple(columns), tuple(rows), gap_notes(arms), kind="levels")


def details_table(arms: Sequence[ArmResults]) -> Table:
    """What lies behind the gaps, one column per arm: other scores, the disagreement set, behaviour."""
    with_cue = any(arm.behavior_accuracy_with_cue != Rates() for arm in arms)
    groups: dict[str, list[Line]] = {
        "Other scores, %": [
            *_score_lines("Has-Changed macro F1", "has_changed_f1"),
            *_score_lines("Content match", "content_match"),
            *_score_lines("“Changed” by itself", "changed_accuracy"),
        ],
        "Disagreement set": [
            ("Items", lambda arm: count(arm.disagreement.n)),
            ("Self %", lambda arm: percent(arm.disagreement.self)),
            ("Orig %", lambda arm: percent(arm.disagreement.orig)),
            ("Current share %", lambda arm: estimate_cell(arm.disagreement.share, "percent")),
            ("Sign-flip test, p", _sign_flip),
        ],
        "Behaviour, %": [
            ("Drift", lambda arm: percent(arm.drift)),
            ("Drift of explained facts, at the end", lambda arm: percent(arm.drift_explained)),
            ("Agreement (trained labels), mean", lambda arm: percent(arm.agreement.mean)),
            ("Agreement, start → end (lowest)", lambda arm: _course(arm.agreement)),
            ("Kept behaviour (clean labels), mean", lambda arm: percent(arm.kept_behavior.mean)),
            ("Kept behaviour, start → end (lowest)", lambda arm: _course(arm.kept_behavior)),
            _pair_line("Decisions that the cue changes", "changed_rate"),
            _pair_line("Right without the cue", "behavior_accuracy"),
            *[_pair_line("Right with the cue", "behavior_accuracy_with_cue")] * with_cue,
            _pair_line("None of the candidates", "none_rate"),
        ],
        "Run": [
            ("Invalid explanations, %", lambda arm: percent(arm.invalid_rate)),
            ("Items × seeds", lambda arm: count(arm.n)),
            ("Seeds", lambda arm: ", ".join(map(str, arm.seeds)) or DASH),
            ("Runtime", lambda arm: _duration(arm.runtime_s)),
        ],
    }
    rows: list[Row] = []
    for heading, lines in groups.items():
        rows.append(Row((heading,), "heading", starts=True))
        rows += [Row((label, *(write(arm) for arm in arms))) for label, write in lines]
    return Table("What lies behind", ("", *(arm.name for arm in arms)), tuple(rows), kind="details")


def _score_lines(label: str, field: str) -> list[Line]:
    def levels(arm: ArmResults) -> str:
        own, orig = getattr(arm.self, field), getattr(arm.orig, field)
        return f"{percent(own.mean)} / {percent(orig.mean)}"

    return [
        (f"{label}, Self / Orig", levels),
        (f"{label}, gap in points", lambda arm: estimate_cell(getattr(arm.gap, field))),
    ]


def _pair_line(label: str, field: str) -> Line:
    def pair(arm: ArmResults) -> str:
        return " → ".join(percent(getattr(getattr(arm, field), who)) for who in ("teacher", "current"))

    return f"{label}, teacher → current", pair


def _course(course: Course) -> str:
    return f"{percent(course.start)} → {percent(course.end)} ({percent(course.min)})"


def _sign_flip(arm: ArmResults) -> str:
    found = arm.disagreement
    return found.sign_flip_note or DASH if found.sign_flip_p is None else probability(found.sign_flip_p)


def slices_table(arms: Sequence[ArmResults], field: str, heading: str, title: str) -> Table:
    """Self, Orig and gap on parts of the items (`by_cue_kind`, `by_drift`, `by_shifted`), each with its n."""
    columns = (heading, "n", "Self %", "Orig %", "Gap, points", "Cue changes, teacher %", "current %")
    rows: list[Row] = []
    for arm in arms:
        parts = _parts(arm, field)
        rows += [Row((arm.name,), "heading", starts=True)] * bool(parts)
        rows += [Row((name, count(part.n), *_slice_cells(part))) for name, part in parts.items()]
    return Table(title, columns, tuple(rows))


def _parts(arm: ArmResults, field: str) -> Mapping[str, Levels | Part]:
    if field != "by_shifted":
        return getattr(arm, field)
    halves = {half: getattr(arm.by_shifted, half, None) for half in ("shifted", "unshifted")}
    return {half: part for half, part in halves.items() if part is not None}


def _slice_cells(part: Levels | Part) -> list[str | Cell]:
    if isinstance(part, Part):
        own, orig, gap = part.self.exact_match, part.orig.exact_match, part.gap.exact_match
    else:
        own, orig, gap = Estimate(part.self), Estimate(part.orig), part.gap_estimate
    changed: Rates = getattr(part, "changed_rate", Rates())  # not known by drift
    levels = [estimate_cell(own, "percent"), estimate_cell(orig, "percent"), estimate_cell(gap)]
    return [*levels, percent(changed.teacher), percent(changed.current)]


def matrix_table(matrix: Matrix) -> Table:
    rows = tuple(
        (
            f"{emitter} ({matrix.controls[emitter]})" if emitter in matrix.controls else emitter,
            *(
                estimate_cell(cell, "percent", "own" if matrix.is_own(row, column) else "")
                for column, cell in enumerate(matrix.cells[row])
            ),
            *[percent(rate) for rate in matrix.invalid_rate[row : row + 1]],
            *[percent(matrix.none_rate_of(emitter))] * bool(matrix.none_rate),
        )
        for row, emitter in enumerate(matrix.emitters)
    )
    rates = ["Invalid %"] * bool(matrix.invalid_rate) + ["None %"] * bool(matrix.none_rate)
    columns = ("Emitter ↓ \N{NO-BREAK SPACE} Teacher →", *matrix.teachers, *rates)
    return Table("Emitters against teachers, exact match in per cent", columns, rows, kind="matrix")


def leads_table(matrix: Matrix) -> Table:
    """How far each model's cell lies above the others of its row and of its column."""
    few = too_few(matrix.groups)
    rows = tuple(
        (
            lead.model,
            estimate_cell(lead.row.resting_on(few)),
            probability(lead.row_p),
            estimate_cell(lead.column.resting_on(few)),
            probability(lead.column_p),
        )
        for lead in matrix.leads
    )
    columns = ("Model", "Lead over its row, points", "p", "Lead over its column, points", "p")
    note = (
        "A model’s lead over its row is also high if its behaviour is easy to explain, over its column if"
        " it explains all models well; the mean over the models is free of both."
    )
    return Table("Leads of the diagonal", columns, rows, note)


def excess_table(matrix: Matrix) -> Table:
    """The models' gap to the model before training minus each control's."""
    rows = tuple(
        (one.control, RECIPES[one.control], estimate_cell(value, kind=gap_verdict(value)))
        for one in matrix.excess
        for value in [matrix.shown_excess(one)]
    )
    columns = ("Control", "Explains by", "Models’ gap minus its gap, points")
    return Table("The gap to the model before training, minus controls’", columns, rows, text_columns=2)


def pairs_table(matrix: Matrix) -> Table:
    """Whom each emitter matches where two teachers differ."""
    rows: list[Row] = []
    for pair in matrix.pairs:
        items = f"{count(pair.n)} items in {count(pair.groups)} groups"
        rows.append(Row((f"{pair.first} against {pair.second}: {items}",), "heading", starts=True))
        for one in pair.matches:
            difference = estimate_cell(one.difference.resting_on(pair.few))
            rows.append(Row((one.emitter, percent(one.first), percent(one.second), difference)))
    columns = ("Emitter", "Matches the first %", "the second %", "First minus second, points")
    note = (
        "The number of items is the mean over seeds; the groups are those of any seed."
        if matrix.seeds
        else ""
    )
    return Table("Where two models differ", columns, tuple(rows), note)


def organism_table(organism: Mapping[str, Any]) -> Table:
    """What the base model itself does, by how often it saw a fact and by who said it."""
    lines = organism.get("rows") or ()
    columns = [
        (label, field, write)
        for label, field, write in (
            ("n", "n", count),
            ("Right %", "accuracy", percent),
            ("With cue %", "accuracy_with_cue", percent),
            ("Cue changes %", "changed_rate", percent),
            ("None %", "none_rate", percent),
        )
        if field in ("n", "accuracy", "changed_rate") or any(field in row for row in lines)
    ]
    rows: list[Row] = []
    for row in lines:
        values = (write(number(row.get(field))) for _, field, write in columns)
        cells = (str(row.get("name", DASH)), str(row.get("kind", DASH)), *values)
        rows.append(Row(cells, starts=not rows or rows[-1].cells[1] != cells[1]))
    heads = ("Part", "By", *(label for label, _, _ in columns))
    size = number(organism.get("parameters"))
    title = "The base model" + ("" if size is None else f" ({count(size)} parameters)")
    return Table(title, heads, tuple(rows), text_columns=2)


def names_table(values: Mapping[str, Any], title: str) -> Table:
    """Fingerprints or versions: a name and a value a line."""
    rows = tuple((key, Cell(_plain(value), kind="code")) for key, value in named_values(values))
    return Table(title, ("", ""), rows, text_columns=2)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return DASH
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    )
