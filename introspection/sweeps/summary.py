"""What a sweep's finished points show, side by side: summary.csv, summary.md and summary.html.

Every number is one of a point's results.json; none is computed again.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ml_collections import ConfigDict
from rich.console import Console

from introspection.errors import InputError
from introspection.reports.numbers import read_arm, read_askable, read_controls
from introspection.reports.table import markdown_text
from introspection.runs.run import FINISHED, is_finished
from introspection.runtime.config import plain
from introspection.runtime.workdir import write_whole
from introspection.sweeps.grid import Point
from introspection.sweeps.page import write_sweep_page
from introspection.sweeps.plan import PlannedPoint, base_name, check_plan, plan_points
from introspection.sweeps.sweep import say
from introspection.sweeps.table import SweepPoint, Value, summary_rows, sweep_table


def summarize(config: ConfigDict, points: Sequence[Point], workdir: Path, console: Console) -> None:
    """Writes the summary of the points that are finished and names those that are not.

    Raises:
      InputError: the workdir is another sweep's, no point is finished, or a point's results are damaged.
    """
    check_plan(workdir, points)
    planned = plan_points(config, points, workdir)
    finished = [point for point in planned if is_finished(point.folder)]
    if not finished:
        raise InputError(f"{workdir}: none of the sweep's {len(planned)} points is finished; run it first")
    unfinished = [f"{point.name} ({point.state})" for point in planned if point not in finished]
    if unfinished:
        say(console, f"not finished, so not in the summary: {', '.join(unfinished)}")
    fields = list(dict.fromkeys(field for point in planned for field in point.overrides))
    read = [read_point(point, fields, workdir) for point in finished]
    page = write_sweep_page(workdir, f"{config.name}: sweep", read, unfinished)
    write_whole(workdir / "summary.csv", csv_text(summary_rows(read)))
    write_whole(workdir / "summary.md", markdown_page(f"{config.name}: sweep", read, unfinished))
    say(console, f"summary: {page} (and summary.csv, summary.md)")
    if config.part:
        from introspection.study.study import write_study

        write_study(workdir, [(point.name, point.folder) for point in planned], console)


def read_point(point: PlannedPoint, fields: Sequence[str], workdir: Path) -> SweepPoint:
    """A finished point's results, with the config that it ran with. Raises InputError if they are damaged."""
    config_path, path = point.folder / "config.json", point.folder / FINISHED
    config = _read(config_path) if config_path.exists() else plain(point.config)
    results, report = _read(path), point.folder / "report.html"
    try:
        controls, paired = results.get("controls") or {}, results.get("paired")
        arms = tuple(
            read_arm(name, arm, read_controls(name, controls, paired))
            for name, arm in results["arms"].items()
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} can't be read ({error!r}): delete {point.folder} and run it again"
        ) from error
    return SweepPoint(
        name=point.name,
        base=base_name(config),
        fields={field: _field(config, field) for field in fields},
        tiny=bool(results.get("tiny")),
        arms=arms,
        askable=read_askable(results.get("askable")),
        report=quote(report.relative_to(workdir).as_posix()) if report.exists() else "",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} can't be read ({error}): delete {path.parent} and run it again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object: delete {path.parent} and run it again")
    return value


def _field(config: Any, field: str) -> Any:
    for name in field.split("."):
        config = config.get(name) if isinstance(config, Mapping) else None
    return config


def csv_text(rows: Sequence[Mapping[str, Value]]) -> str:
    """Numbers with all their digits; an empty cell is a null."""
    written = io.StringIO()
    writer = csv.DictWriter(written, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue()


def markdown_page(title: str, sweep_points: Sequence[SweepPoint], unfinished: Sequence[str]) -> str:
    """The same rows for people."""
    missing = [f"Not finished: {markdown_text(', '.join(unfinished))}.", ""] if unfinished else []
    return "\n".join([f"# {markdown_text(title)}", "", *missing, sweep_table(sweep_points).markdown()])
