"""A table as a value, and how a page, Markdown and a terminal show it."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import rich.table
from markupsafe import Markup
from rich import box
from rich.text import Text

from introspection.coupling.estimates import Estimate
from introspection.reports.findings import FORMS, interval, unmarked
from introspection.reports.html_page import render
from introspection.runtime.terminal import visible

Entry = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Cell:
    """What a cell shows, and how. A cell of text alone may be a `str`."""

    text: str
    interval: str = ""  # shown after the text, paler
    kind: str = ""  # its CSS class
    order: int | float | None = None  # what a page's script sorts it by; None: its text
    link: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.interval}" if self.interval else self.text


Cells = tuple[str | Cell, ...]


@dataclasses.dataclass(frozen=True)
class Row:
    """A row with a kind, its CSS class. A `heading` has one cell, which spans all columns."""

    cells: Cells
    kind: str = ""
    starts: bool = False  # starts a group, set apart from the rows above


@dataclasses.dataclass(frozen=True)
class Table:
    """The first `text_columns` and the last `last_text_columns` hold words; the columns between, numbers."""

    title: str
    columns: Cells
    rows: tuple[Row | Cells, ...]
    note: str = ""
    text_columns: int = 1
    last_text_columns: int = 0
    kind: str = ""  # its CSS class
    keys: tuple[str, ...] = ()  # the columns' names in a page's script

    @property
    def heads(self) -> list[Cell]:
        return _whole(self.columns)

    @property
    def lines(self) -> list[Row]:
        """Every row as a `Row` of `Cell`s.

        Raises:
          ValueError: a row's number of cells differs from the number of columns.
        """
        rows = [row if isinstance(row, Row) else Row(row) for row in self.rows]
        for row in rows:
            if len(row.cells) != (1 if row.kind == "heading" else len(self.columns)):
                raise ValueError(f"{self.title}: {len(self.columns)} columns, but a row of {row.cells}")
        return [dataclasses.replace(row, cells=tuple(_whole(row.cells))) for row in rows]

    @property
    def with_intervals(self) -> set[int]:
        """The columns in which some cell has an interval."""
        return {
            column
            for row in self.lines
            for column, cell in enumerate(row.cells)
            if isinstance(cell, Cell) and cell.interval
        }

    def is_number(self, column: int) -> bool:
        return self.text_columns <= column < len(self.columns) - self.last_text_columns

    def __html__(self) -> Markup:
        return self.html()

    def html(self, titled: bool = True) -> Markup:
        """The table, which scrolls by itself in a narrow window, and its note; its title is there anyhow for
        those who hear the page."""
        return render("reports/table.html", table=self, titled=titled)

    def markdown(self) -> str:
        """The title, the table and its note."""
        rule = ["--:" if self.is_number(column) else "---" for column in range(len(self.columns))]
        rows = [
            [f"**{row.cells[0]}**", *[""] * (len(self.columns) - 1)] if row.kind == "heading" else row.cells
            for row in self.lines
        ]
        lines = [f"| {' | '.join(map(markdown_text, row))} |" for row in (self.columns, rule, *rows)]
        note = [markdown_text(self.note), ""] if self.note else []
        return "\n".join([f"**{markdown_text(self.title)}**", "", *lines, "", *note])

    def terminal(self, compact: bool = False) -> rich.table.Table:
        """The table for a terminal; a compact one has no lines between its columns and breaks no number."""
        look: dict[str, Any] = {"box": box.SIMPLE_HEAD, "padding": 0} if compact else {}
        shown = rich.table.Table(
            title=Text(visible(self.title)),
            caption=Text(visible(self.note)) if self.note else None,
            title_justify="left",
            caption_justify="left",
            **look,
        )
        for column, head in enumerate(self.heads):
            is_number = self.is_number(column)
            shown.add_column(
                Text(visible(str(head))),
                justify="right" if is_number else "left",
                no_wrap=compact and is_number,
                overflow="fold",
            )
        for row in self.lines:
            if row.starts and shown.row_count:
                shown.add_section()
            shown.add_row(*(Text(visible(str(cell))) for cell in row.cells))
        return shown

    __rich__ = terminal


def _whole(cells: Iterable[str | Cell]) -> list[Cell]:
    return [cell if isinstance(cell, Cell) else Cell(cell) for cell in cells]


def markdown_text(value: Any) -> str:
    """One line that Markdown shows as it is, also in a table's cell."""
    shown = " ".join(unmarked(str(value)).split()).replace("&", "&amp;").replace("<", "&lt;")
    return shown.replace("\\", "\\\\").replace("|", "\\|")


def estimate_cell(value: Estimate, form: str = "points", kind: str = "") -> Cell:
    """A number as one of `FORMS` writes it, and its interval; sorted by its mean."""
    return Cell(FORMS[form](value.mean), interval(value, form), kind, value.mean)


def with_interval(value: Estimate, form: str = "points") -> str:
    """`+2.1 [−0.3, +4.4]`."""
    return str(estimate_cell(value, form))
