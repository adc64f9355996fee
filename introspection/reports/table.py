"""One table of a report, rendered to Markdown and HTML."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from introspection.reports.findings import interval
from introspection.reports.numbers import DASH, Estimate, percent, points
from introspection.reports.tables import name, scrolling, text

Entry = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells are plain text; the first `text_columns` are words, the others numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str
    text_columns: int = 1

    def markdown(self) -> str:
        """The title, the table and its note."""
        rule = ["---" if i < self.text_columns else "--:" for i in range(len(self.columns))]
        lines = [_markdown_row(row) for row in (self.columns, rule, *self.rows)]
        return "\n".join([f"**{_markdown_text(self.title)}**", "", *lines, "", _markdown_text(self.note), ""])

    def html(self) -> str:
        number = [' class="number"' if i >= self.text_columns else "" for i in range(len(self.columns))]
        head = "".join(
            f'<th scope="col"{kind}>{text(c)}</th>' for c, kind in zip(self.columns, number, strict=True)
        )
        rows = "".join(
            f'<tr><th scope="row">{name(first)}</th>'
            + "".join(f"<td{kind}>{name(c)}</td>" for c, kind in zip(rest, number[1:], strict=True))
            + "</tr>"
            for first, *rest in self.rows
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        return f"<h3>{text(self.title)}</h3>{scrolling(table, self.title)}<p>{text(self.note)}</p>"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_markdown_text(cell) for cell in cells) + " |"


def _markdown_text(cell: str) -> str:
    return " ".join(cell.replace("|", "\\|").split())


def with_interval(value: Estimate, form: str = "points") -> str:
    """`+2.1 [−0.3, +4.4]`."""
    mean = points(value.mean) if form == "points" else percent(value.mean)
    return f"{mean} {interval(value, form)}".strip()


def probability(value: float | None) -> str:
    return DASH if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
