"""One table in a page, in Markdown and in a terminal: whatever its cells say stays what they say."""

import io
import re

import pytest
from pages import Elements
from report_workdir import HOSTILE
from rich.console import Console

from introspection.coupling.estimates import Estimate
from introspection.reports.table import Cell, Row, Table, estimate_cell


def table(name: str = "kl", **changed) -> Table:
    fields = {
        "title": name,
        "columns": (name, Cell("Gap", kind="self"), "Seeds"),
        "rows": (
            Row(
                (Cell(name, link="a?b&c"), estimate_cell(Estimate(0.021, (-0.003, 0.044))), "0 1"),
                "arm",
                True,
            ),
            Row((name, Cell("−2.0", kind="coupled", order=-0.02), "0"), "control"),
            Row((name,), "heading", starts=True),
        ),
        "note": name,
        "last_text_columns": 1,
    }
    return Table(**fields | changed)


def printed(shown: Table) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(shown)
    return console.file.getvalue()


def test_markdown_shows_names_as_they_are():
    assert table("a|<b>\\&\n").markdown().splitlines() == [
        "**a\\|&lt;b>\\\\&amp;**",
        "",
        "| a\\|&lt;b>\\\\&amp; | Gap | Seeds |",
        "| --- | --: | --- |",
        "| a\\|&lt;b>\\\\&amp; | +2.1 [−0.3, +4.4] | 0 1 |",
        "| a\\|&lt;b>\\\\&amp; | −2.0 | 0 |",
        "| **a\\|&lt;b>\\\\&amp; ** |  |  |",
        "",
        "a\\|&lt;b>\\\\&amp;",
    ]


def test_html_isolates_names_and_escapes_them():
    page = table(HOSTILE).html()
    elements = Elements(page)
    assert {tag for tag, _ in elements.found}.isdisjoint({"script", "img", "style"})
    # The title, to be seen and to be heard, and the note; a head, two rows and a heading are isolated, too.
    shown = HOSTILE.replace("\x00", "\ufffd")
    assert elements.all("div")[0]["aria-label"] == shown
    assert "".join(elements.text).count(shown) == 6
    assert len(re.findall(r"<bdi>&lt;/script&gt;", page)) == 4
    assert "a_<wbr>b/<wbr>c" in table("a_b/c").html()


def test_html_has_kinds_groups_and_what_the_script_sorts_by():
    page = table().html(titled=False)
    assert "<h3>" not in page
    assert page.count("<tbody>") == 2  # the heading starts a group
    assert '<th scope="rowgroup" colspan="3"><bdi>kl</bdi></th>' in page
    assert '<a href="a?b&amp;c"><bdi>kl</bdi></a>' in page
    assert '<th scope="col" class="number self"><bdi>Gap</bdi></th>' in page
    assert '<td class="number"><bdi>+2.1</bdi> <span class="interval">[−0.3, +4.4]</span></td>' in page
    assert '<td class="number coupled"><bdi>−2.0</bdi> <span class="interval"></span></td>' in page
    assert "<td><bdi>0 1</bdi></td>" in page
    assert "data-" not in page
    sortable = table(keys=("arm", "gap", "seeds")).html()
    assert re.findall(r'data-key="(\w+)"', sortable) == ["arm", "gap", "seeds"]
    assert re.findall(r'data-order="(.+?)"', sortable) == ["0.021", "-0.02"]


def test_a_table_without_heads_has_none():
    assert "<thead>" not in Table("T", ("", ""), (("a", "b"),)).html()


def test_the_terminal_shows_names_as_they_are():
    rows = [
        [cell.strip() for cell in line.strip("│┃").split("│")] for line in printed(table("[b]k")).split("\n")
    ]
    assert ["[b]k", "+2.1 [−0.3, +4.4]", "0 1"] in rows
    assert printed(table("[b]k")).count("[b]k") == 6
    assert printed(table()).count("├") == 1


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 columns, but a row"):
        Table("T", ("a", "b"), (("a",),)).html()
