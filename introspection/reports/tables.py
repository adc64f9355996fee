"""The page's tables, as HTML text. Whatever comes from a run passes through `name` or `text`."""

import html
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from introspection.reports.findings import gap_verdict, interval
from introspection.reports.numbers import DASH, Arm, Control, Estimate, Matrix, count, number, percent, points
from introspection.reports.run_files import named_values

Row = tuple[str, Callable[[Arm], str]]


def text(value: Any) -> str:
    """Escaped for HTML, also inside a quoted attribute. NUL, which HTML can't hold, is shown as such."""
    return html.escape(str(value).replace("\0", "\N{REPLACEMENT CHARACTER}"), quote=True)


def name(value: Any) -> str:
    """A name that a run gave: it can't reorder what stands around it (right-to-left marks), and a line may
    break within it where an identifier's words end."""
    breakable = re.sub(r"(?<=\w[_/=@-])(?=\w)", "\0", str(value).replace("\0", "\N{REPLACEMENT CHARACTER}"))
    return "<bdi>" + "<wbr>".join(map(text, breakable.split("\0"))) + "</bdi>"


def scrolling(table: str, label: str) -> str:
    """A table that scrolls by itself in a narrow window; it takes the focus, so also by the keyboard."""
    return f'<div class="scroll" role="region" aria-label="{text(label)}" tabindex="0">{table}</div>'


def levels_table(arms: Sequence[Arm]) -> str:
    """The main table: each arm and, under it, its controls; levels beside differences.

    A raw gap has no colour, since nothing is judged by its side of 0; the difference from a control's has.
    Initial has a column only where it differs from Orig.
    """
    with_references = any(arm.references for arm in arms)
    with_paired = any(control.paired_self.mean is not None for arm in arms for control in arm.controls)
    with_initial = any(
        arm.initial_scores.exact_match.mean not in (None, arm.orig_scores.exact_match.mean) for arm in arms
    )
    extra = ["Arm’s gap minus control’s"] * with_references
    extra += ["Self minus control, paired"] * with_paired + ["Initial"] * with_initial
    head = (
        '<thead><tr><th scope="col">Arm / control</th>'
        + "".join(
            f'<th scope="colgroup" colspan="2"{kind}>{heading}</th>'
            for heading, kind in (
                ("Self %", ' class="self"'),
                ("Orig %", ' class="orig"'),
                ("Gap, points", ""),
                *((heading, "") for heading in extra),
            )
        )
        + f"{_heads(('Invalid %', 'n', 'Seeds'), text_columns=0)}</tr></thead>"
    )
    bodies = []
    for arm in arms:
        differences = {one.name: one.gap_difference for one in arm.references}
        rows = [
            _levels_row(
                entry,
                differences.get(entry.name, Estimate()) if with_references else None,
                with_paired,
                with_initial,
            )
            for entry in (arm, *arm.controls)
        ]
        bodies.append(f"<tbody>{''.join(rows)}</tbody>")
    return scrolling(f'<table class="levels">{head}{"".join(bodies)}</table>', "Arms and controls")


def _levels_row(
    entry: Arm | Control, difference: Estimate | None, with_paired: bool, with_initial: bool
) -> str:
    is_arm = isinstance(entry, Arm)
    cells = [
        _estimate_cells(entry.self_scores.exact_match),
        _estimate_cells(entry.orig_scores.exact_match),
        _estimate_cells(entry.gap.exact_match, "points"),
    ]
    if difference is not None:
        side = "" if is_arm else gap_verdict(difference)
        cells.append(_estimate_cells(difference, "points", side, blank=is_arm))
    if with_paired:
        cells.append(_estimate_cells(Estimate() if is_arm else entry.paired_self, "points", blank=is_arm))
    if with_initial:
        value = entry.initial_scores.exact_match if is_arm else Estimate()
        cells.append(_estimate_cells(value, blank=not is_arm))
    return (
        f'<tr class="{"arm" if is_arm else "control"}"><th scope="row">{name(entry.name)}</th>'
        f'{"".join(cells)}<td class="number">{percent(entry.invalid_rate)}</td>'
        f'<td class="number">{count(entry.n)}</td><td class="number">{len(entry.seeds) or DASH}</td></tr>'
    )


def _estimate_cells(value: Estimate, form: str = "percent", kind: str = "", *, blank: bool = False) -> str:
    """A mean and its interval in two cells, so that both align down the column."""
    if blank:  # doesn't apply, rather than missing
        return '<td class="number mean"></td><td class="interval"></td>'
    mean = points(value.mean) if form == "points" else percent(value.mean)
    classes = " ".join(filter(None, ("number", "mean", kind)))
    return f'<td class="{classes}">{mean}</td><td class="interval">{interval(value, form)}</td>'


def details_table(arms: Sequence[Arm]) -> str:
    """What lies behind the gaps, an arm a column: the other scores, the disagreement set, the behaviour."""
    sections: list[tuple[str, list[Row]]] = [
        (
            "Other scores, %",
            [
                *_score_rows("Has-Changed macro F1", "has_changed_f1"),
                *_score_rows("Content match", "content_match"),
                *_score_rows("“Changed” by itself", "changed_accuracy"),
            ],
        ),
        (
            "Disagreement set",
            [
                ("Items", lambda arm: count(arm.disagreement.n)),
                ("Self %", lambda arm: percent(arm.disagreement.self_share)),
                ("Orig %", lambda arm: percent(arm.disagreement.orig_share)),
                ("Current share %", lambda arm: _with_interval(arm.disagreement.current_share)),
                ("Sign-flip test, p", _sign_flip),
            ],
        ),
        (
            "Behaviour, %",
            [
                ("Drift", lambda arm: percent(arm.drift)),
                ("Drift of explained facts, at the end", lambda arm: percent(arm.drift_explained)),
                ("Agreement (trained labels), mean", lambda arm: percent(arm.agreement.get("mean"))),
                ("Agreement, start → end (lowest)", lambda arm: _course(arm.agreement)),
                ("Kept behaviour (clean labels), mean", lambda arm: percent(arm.kept_behavior.get("mean"))),
                ("Kept behaviour, start → end (lowest)", lambda arm: _course(arm.kept_behavior)),
                _pair_row("Decisions that the cue changes", "changed_rate"),
                _pair_row("Right without the cue", "behavior_accuracy"),
                *(
                    [_pair_row("Right with the cue", "behavior_accuracy_with_cue")]
                    if any(arm.behavior_accuracy_with_cue for arm in arms)
                    else []
                ),
                _pair_row("None of the candidates", "none_rate"),
            ],
        ),
        (
            "Run",
            [
                ("Invalid explanations, %", lambda arm: percent(arm.invalid_rate)),
                ("Items × seeds", lambda arm: count(arm.n)),
                ("Seeds", lambda arm: text(", ".join(map(str, arm.seeds)) or DASH)),
                ("Runtime", lambda arm: _duration(arm.runtime_s)),
            ],
        ),
    ]
    head = "".join(f'<th scope="col" class="number">{name(arm.name)}</th>' for arm in arms)
    bodies = []
    for heading, rows in sections:
        lines = []
        for label, write in rows:
            values = [write(arm) for arm in arms]
            cells = "".join(f'<td class="number">{value}</td>' for value in values)
            lines.append(f'<tr><th scope="row">{label}</th>{cells}</tr>')
        title = f'<tr class="heading"><th scope="rowgroup" colspan="{len(arms) + 1}">{heading}</th></tr>'
        bodies.append(f"<tbody>{title}{''.join(lines)}</tbody>")
    table = f'<table class="details"><thead><tr><td></td>{head}</tr></thead>{"".join(bodies)}</table>'
    return scrolling(table, "What lies behind the gaps")


def _score_rows(label: str, field: str) -> list[Row]:
    def levels(arm: Arm) -> str:
        own, orig = getattr(arm.self_scores, field), getattr(arm.orig_scores, field)
        return f"{percent(own.mean)} / {percent(orig.mean)}"

    return [
        (f"{label}, Self / Orig", levels),
        (f"{label}, gap in points", lambda arm: _with_interval(getattr(arm.gap, field), "points")),
    ]


def _pair_row(label: str, field: str) -> Row:
    def pair(arm: Arm) -> str:
        return " → ".join(percent(getattr(arm, field).get(who)) for who in ("teacher", "current"))

    return f"{label}, teacher → current", pair


def _course(levels: Mapping[str, float | None]) -> str:
    start, end, lowest = (percent(levels.get(when)) for when in ("start", "end", "min"))
    return f"{start} → {end} ({lowest})"


def _sign_flip(arm: Arm) -> str:
    found = arm.disagreement
    return (
        text(found.sign_flip_note) or DASH if found.sign_flip_p is None else _probability(found.sign_flip_p)
    )


def slices_table(arms: Sequence[Arm], field: str, heading: str) -> str:
    """Self, Orig and gap on parts of the items (`by_cue_kind`, `by_drift`, `by_shifted`), each with its n."""
    columns = (heading, "n", "Self %", "Orig %", "Gap, points", "Cue changes, teacher %", "current %")
    bodies = []
    for arm in arms:
        lines = []
        for part in getattr(arm, field):
            gap = part.gap
            if gap.mean is None and None not in (part.self_match.mean, part.orig_match.mean):
                gap = Estimate(part.self_match.mean - part.orig_match.mean)
            values = (
                count(part.n),
                _with_interval(part.self_match),
                _with_interval(part.orig_match),
                _with_interval(gap, "points"),
                percent(part.changed_rate.get("teacher")),
                percent(part.changed_rate.get("current")),
            )
            cells = "".join(f'<td class="number">{value}</td>' for value in values)
            lines.append(f'<tr><th scope="row">{name(part.name)}</th>{cells}</tr>')
        title = (
            f'<tr class="heading"><th scope="rowgroup" colspan="{len(columns)}">{name(arm.name)}</th></tr>'
        )
        bodies.append(f"<tbody>{title}{''.join(lines)}</tbody>" if lines else "")
    head = _heads(columns, text_columns=1)
    return scrolling(f"<table><thead><tr>{head}</tr></thead>{''.join(bodies)}</table>", heading)


def matrix_table(matrix: Matrix) -> str:
    head = "".join(f'<th scope="col" class="number">{name(teacher)}</th>' for teacher in matrix.teachers)
    rows = []
    for row, emitter in enumerate(matrix.emitters):
        cells = "".join(
            f'<td class="number{" own" if matrix.is_own(row, column) else ""}">{_with_interval(cell)}</td>'
            for column, cell in enumerate(matrix.cells[row])
        )
        rows.append(f'<tr><th scope="row">{name(emitter)}</th>{cells}</tr>')
    table = (
        f'<table class="matrix"><thead><tr><th scope="col">Emitter ↓ &nbsp; Teacher →</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    return scrolling(table, "Emitters against teachers, exact match in per cent")


def organism_table(organism: Mapping[str, Any]) -> str:
    """What the base model itself does, by how often it saw a fact and by who said it."""
    lines = organism.get("rows") or ()
    columns = [
        (label, field, write)
        for label, field, write in (
            ("n", "n", count),
            ("Accuracy %", "accuracy", percent),
            ("with the cue %", "accuracy_with_cue", percent),
            ("Cue changes %", "changed_rate", percent),
            ("None %", "none_rate", percent),
        )
        if field in ("n", "accuracy", "changed_rate") or any(field in row for row in lines)
    ]
    rows = [
        f'<tr><th scope="row">{name(row.get("name", DASH))}</th><td>{name(row.get("kind", DASH))}</td>'
        + "".join(f'<td class="number">{write(number(row.get(field)))}</td>' for _, field, write in columns)
        + "</tr>"
        for row in lines
    ]
    head = _heads(("Part", "By", *(label for label, _, _ in columns)), text_columns=2)
    return scrolling(
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>", "The base model"
    )


def names_table(values: Mapping[str, Any], label: str) -> str:
    """Fingerprints or versions: a name and a value a line."""
    rows = "".join(
        f'<tr><th scope="row">{name(key)}</th><td><code>{name(_plain(value))}</code></td></tr>'
        for key, value in named_values(values)
    )
    return scrolling(f"<table><tbody>{rows}</tbody></table>", label)


def config_block(config: Mapping[str, Any]) -> str:
    return f"<pre>{text(json.dumps(config, indent=2, ensure_ascii=False))}</pre>"


def _heads(columns: Sequence[str], *, text_columns: int) -> str:
    """Column heads: the first ones over text, the others over numbers, aligned like them."""
    return "".join(
        f'<th scope="col"{"" if index < text_columns else " class=number"}>{column}</th>'
        for index, column in enumerate(columns)
    )


def bullet_list(sentences: Iterable[str], kind: str) -> str:
    items = "".join(f"<li>{text(sentence)}</li>" for sentence in sentences)
    return f'<ul class="{kind}">{items}</ul>' if items else ""


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _with_interval(value: Estimate, form: str = "percent") -> str:
    mean = points(value.mean) if form == "points" else percent(value.mean)
    return f'{mean} <span class="interval">{interval(value, form)}</span>' if value.has_interval else mean


def _probability(value: float | None) -> str:
    if value is None:
        return DASH
    return "&lt; 0.001" if value < 0.001 else f"{value:.3f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return DASH
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    )
