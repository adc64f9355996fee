"""The tables that a command prints."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.segment import Segments

from introspection.reports.numbers import estimate, percent
from introspection.reports.table import Row, Table, with_interval
from introspection.runtime.compiled import ProgramTable

TABLE_WIDTH = 110  # columns that it takes at most, with names that aren't longer than usual


def matrix_table(matrix: Mapping[str, Any]) -> Table:
    """Exact match in percent, emitters down, teachers across by their numbers."""
    rows = tuple(
        (f"{index} {emitter}", *map(percent, row))
        for index, (emitter, row) in enumerate(zip(matrix["emitters"], matrix["exact_match"], strict=True), 1)
    )
    title = f"Explanations of (down) that match the behaviour of (across), percent of {matrix['n']} items"
    return Table(title, ("emitter", *(str(1 + index) for index in range(len(matrix["teachers"])))), rows)


def program_table(programs: ProgramTable) -> Table:
    """Which executables this process compiled and how often it called them."""
    rows = tuple(
        (program, shapes, str(calls), f"{seconds:.1f}") for program, shapes, calls, seconds in programs.rows()
    )
    columns = ("program", "shapes", "calls", "compile seconds")
    return Table("Compiled programs of this process", columns, rows, text_columns=2)


def print_results_table(results: Mapping[str, Any], console: Console) -> None:
    """Prints whether labels teach, and below it the table, whole: a file counts as 80 columns wide."""
    if "askable" in results:
        console.print(results["askable"]["words"], highlight=False, markup=False, soft_wrap=True)
    wide = console.options.update(width=max(console.width, TABLE_WIDTH))
    shown = results_table(results).terminal(compact=True)
    console.print(Segments(console.render(shown, wide)), crop=False)


def results_table(results: Mapping[str, Any]) -> Table:
    """Every arm and, indented below it, the controls scored on it; in percent (differences in points)."""
    rows: list[Row] = []
    controls = results.get("controls", {})
    for arm, entry in results.get("arms", {}).items():
        references = entry.get("references", {})
        best = entry.get("best_static")
        static = references.get(best, {})
        cells = _cells(f"{arm}\n {entry['n']} items", entry, static.get("gap_difference"))
        rows.append(Row(cells, starts=True))
        for part in ("shifted", "unshifted"):
            if found := (entry.get("by_shifted") or {}).get(part):
                rows.append(Row(_cells(f" {part}", found, static.get("by_shifted", {}).get(part))))
        for control, by_arm in controls.items():
            if "n" in by_arm.get(arm, {}):  # a paired difference has no levels
                mark = "*" if control == best else ""
                difference = references.get(control, {}).get("gap_difference")
                rows.append(Row(_cells(f" {control}{mark}", by_arm[arm], difference)))
    return Table(
        "Do explanations follow the current model (Self) or the labels (Orig)?",
        (
            "", "Self", "Orig", "gap", "gap minus\nbest static's", "drift", "current\nshare", "agree",
            "not\nvalid", "right",
        ),
        tuple(rows),
        "In percent. [95% interval]; → from the label teacher to current\n"
        "best static (*): the emitter with the highest Orig of those that no training moves\n"
        "in a control's row: the arm's gap minus the control's; no gap is read against 0\n"
        "current share: of the matches where the two disagree\n"
        "agree: trained labels that hold, mean over training; right: decisions without the cue",
    )  # fmt: skip


def _cells(name: str, entry: Mapping[str, Any], difference: Mapping[str, Any] | None) -> tuple[str, ...]:
    disagreement, right = entry.get("disagreement", {}), entry.get("behavior_accuracy", {})
    return (
        name,
        percent(entry["self"]["exact_match"]["mean"]),
        percent(entry["orig"]["exact_match"]["mean"]),
        with_interval(estimate(entry["gap"]["exact_match"])),
        with_interval(estimate(difference)),
        percent(entry.get("drift")),
        percent(disagreement.get("current_share")),
        percent(entry.get("agreement", {}).get("mean")),
        percent(entry["invalid_rate"]),
        "\n→ ".join(percent(right.get(model)) for model in ("teacher", "current"))
        if right
        else percent(None),
    )
