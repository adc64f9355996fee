"""Compiled plans, one a line of JSON as `--out` leaves them, as a Markdown table."""

from pathlib import Path
from typing import Any

from introspection.runtime.json_files import json_lines

COLUMNS = (
    *("Program", "Slice", "Mesh", "Tokens", "Rows", "GiB a chip", "Fits", "Operations", "Useful"),
    *("Received, GB a chip", "Least s", "Bound by", "MFU", "Compile s"),
)


def markdown_table(path: Path) -> str:
    """The newest plan of every program, slice, mesh and length, in order of their first ones.

    Least seconds and MFU are estimates (`program_plan.Estimate`). Raises InputError if the file is none.
    """
    newest: dict[tuple, list[str]] = {}
    for key, row in json_lines(path, _keyed_row, "give a file that --out has written"):
        newest[key] = row
    rows = [COLUMNS, ["---"] * len(COLUMNS), *newest.values()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _keyed_row(one: dict[str, Any]) -> tuple[tuple, list[str]]:
    """What a plan is of, and its row."""
    return (one["config"], one["program"], one["topology"], one["tokens"], *one["mesh"].values()), _row(one)


def _row(one: dict[str, Any]) -> list[str]:
    name = one["config"].removeprefix("hint_mmlu-")
    mesh = ", ".join(f"{axis} {size}" for axis, size in one["mesh"].items() if size > 1)
    seeds = f"{one['runs']} × " if one["runs"] > 1 else ""
    together = {"loop": " in turn", "vectorize": " at once"}[one["stack_seeds"]] if seeds else ""
    fits = "yes" if one["fits"] else f"no; {what_fits(one['most_rows'], one.get('most_tokens'))} would"
    row = [f"{name}, {one['program']}", one["topology"], mesh, f"{one['tokens']:,}"]
    row += [f"{seeds}{one['rows']}{together}", f"{one['device_bytes'] / 2**30:.1f}", fits]
    row += [f"{one['flops']:.2g}", f"{one['model_flops'] / one['flops']:.0%}"]
    if one["estimate"] is None:
        return [*row, "", "", "", "", f"{one['compile_seconds']:.0f}"]
    sent = sum(kind["bytes"] for kind in one["collectives"].values())
    estimate = one["estimate"]
    row += [f"{sent / 1e9:.0f}", f"{estimate['seconds']:.2g}", estimate["bound_by"], f"{estimate['mfu']:.0%}"]
    return [*row, f"{one['compile_seconds']:.0f}"]


def what_fits(rows: int | None, tokens: int | None) -> str:
    """Of a program that does not fit: so many rows as long, or as many of so many tokens."""
    found = ([f"{rows} rows"] if rows else []) + ([f"rows of {tokens:,} tokens"] if tokens else [])
    return f"about {' or '.join(found)}" if found else "no row"
