"""The tables that a command prints."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.segment import Segments
from rich.table import Table

from introspection.runtime.compiled import ProgramTable

TABLE_WIDTH = 110  # columns that it takes at most, with names that aren't longer than usual
HEADINGS = (
    "Self",
    "Orig",
    "gap",
    "gap minus\nbest static's",
    "drift",
    "current\nshare",
    "agree",
    "not\nvalid",
    "right",
)


def format_matrix(matrix: dict[str, Any]) -> Table:
    """Exact match in percent, emitters down, teachers across."""
    table = Table(
        title=f"Explanations of (down) that match the behaviour of (across), percent of {matrix['n']} items",
        title_justify="left",
    )
    table.add_column("emitter")
    for index in range(1, len(matrix["teachers"]) + 1):
        table.add_column(str(index), justify="right")
    for index, (name, row) in enumerate(zip(matrix["emitters"], matrix["exact_match"], strict=True), start=1):
        table.add_row(f"{index} {name}", *(f"{100 * value:.1f}" for value in row))
    return table


def format_organism_table(table: Mapping[str, Any]) -> Table:
    """The table for a terminal."""
    shown = Table(title=f"The base model ({table['parameters']:,} parameters)", title_justify="left")
    for name in ("by", "", "items", "right without cue", "right with cue", "changed"):
        shown.add_column(name, justify="left" if name in ("by", "") else "right")
    for row in table["rows"]:
        shown.add_row(
            row["kind"],
            row["name"],
            f"{row['n']:,}",
            f"{row['accuracy']:.1%}",
            f"{row['accuracy_with_cue']:.1%}",
            f"{row['changed_rate']:.1%}",
            end_section=row["name"] in ("right", "highest third"),
        )
    return shown


def format_program_table(programs: ProgramTable) -> Table:
    """Which executables this process compiled and how often it called them."""
    table = Table(title="Compiled programs of this process", title_justify="left")
    for name in ("program", "shapes", "calls", "compile seconds"):
        table.add_column(name, justify="left" if name in ("program", "shapes") else "right")
    for name, shapes, calls, seconds in programs.rows():
        table.add_row(name, shapes, str(calls), f"{seconds:.1f}")
    return table


def print_results_table(results: Mapping[str, Any], console: Console) -> None:
    """Prints whether labels teach, and below it the table, whole: a file counts as 80 columns wide."""
    if "askable" in results:
        console.print(results["askable"]["words"], highlight=False, markup=False, soft_wrap=True)
    wide = console.options.update(width=max(console.width, TABLE_WIDTH))
    console.print(Segments(console.render(format_results_table(results), wide)), crop=False)


def format_results_table(results: Mapping[str, Any]) -> Table:
    """Every arm and, indented below it, the controls scored on it; in percent (differences in points)."""
    table = Table(
        title="Do explanations follow the current model (Self) or the labels (Orig)?",
        caption="In percent. [95% interval]; → from the label teacher to current\n"
        "best static (*): the emitter with the highest Orig of those that no training moves\n"
        "in a control's row: the arm's gap minus the control's; no gap is read against 0\n"
        "current share: of the matches where the two disagree\n"
        "agree: trained labels that hold, mean over training; right: decisions without the cue",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("", overflow="fold", min_width=14)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    controls = results.get("controls", {})
    for arm, entry in results.get("arms", {}).items():
        references = entry.get("references", {})
        best = entry.get("best_static")
        static = references.get(best, {})
        _add_row(table, arm, entry, static.get("gap_difference"), f" {entry['n']} items")
        for part in ("shifted", "unshifted"):
            if (entry.get("by_shifted") or {}).get(part):
                _add_row(table, f" {part}", entry["by_shifted"][part], static.get("by_shifted", {}).get(part))
        for control, by_arm in controls.items():
            if "n" in by_arm.get(arm, {}):  # a paired difference has no levels
                mark = "*" if control == best else ""
                difference = references.get(control, {}).get("gap_difference")
                _add_row(table, f" {control}{mark}", by_arm[arm], difference)
        table.add_section()
    return table


def _add_row(
    table: Table,
    name: str,
    entry: Mapping[str, Any],
    difference: Mapping[str, Any] | None = None,
    second_line: str = "",
) -> None:
    disagreement = entry.get("disagreement", {})
    table.add_row(
        escape("\n".join(filter(None, (name, second_line)))),
        _percent(entry["self"]["exact_match"]["mean"]),
        _percent(entry["orig"]["exact_match"]["mean"]),
        _points(entry["gap"]["exact_match"]),
        "–" if difference is None else _points(difference),
        _percent(entry.get("drift")),
        _percent(disagreement.get("current_share")),
        _percent(entry.get("agreement", {}).get("mean")),
        _percent(entry["invalid_rate"]),
        "\n→ ".join(_percent(entry["behavior_accuracy"][model]) for model in ("teacher", "current"))
        if "behavior_accuracy" in entry
        else "–",
    )


def _percent(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{100 * value:{sign}.1f}"


def _points(value: Mapping[str, Any]) -> str:
    return _percent(value["mean"], "+") + _interval(value["ci95"])


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f" [{','.join(_percent(end, '+') for end in ends)}]"
