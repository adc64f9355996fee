"""What a sweep's finished points show, side by side: summary.csv, summary.md and summary.html.

Every number is one of a point's results.json; none is computed again.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ml_collections import ConfigDict
from rich.console import Console

from introspection.errors import InputError
from introspection.reports.numbers import (
    Arm,
    Control,
    Estimate,
    percent,
    points,
    read_arm,
    read_askable,
    read_controls,
)
from introspection.runs.run import FINISHED, is_finished
from introspection.runtime.config import plain
from introspection.runtime.workdir import write_whole
from introspection.sweeps.grid import Point
from introspection.sweeps.page import write_sweep_page
from introspection.sweeps.plan import PlannedPoint, base_name, check_plan, plan_points
from introspection.sweeps.sweep import say
from introspection.sweeps.table import SweepPoint

Value = str | int | float | None

SHARES: dict[str, Callable[[Arm], float | None]] = {
    "drift": lambda arm: arm.drift,
    "current_share": lambda arm: arm.disagreement.current_share.mean,
    "agreement_end": lambda arm: arm.agreement.get("end"),
    "invalid_rate": lambda arm: arm.invalid_rate,
    "accuracy_teacher": lambda arm: arm.behavior_accuracy.get("teacher"),
    "accuracy_current": lambda arm: arm.behavior_accuracy.get("current"),
}


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
    rows = summary_rows(read)
    page = write_sweep_page(workdir, f"{config.name}: sweep", read, unfinished)
    write_whole(workdir / "summary.csv", csv_text(rows))
    write_whole(workdir / "summary.md", markdown_text(rows, f"{config.name}: sweep", unfinished))
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


def summary_rows(read: Sequence[SweepPoint]) -> list[dict[str, Value]]:
    """A row a point and arm; all rows have the same columns, and None where there is no number."""
    rows = [
        {
            "point": point.name,
            "base": point.base,
            "arm": arm.name,
            "seeds": " ".join(map(str, arm.seeds)),
            "n": arm.n,
            "self": arm.self_scores.exact_match.mean,
            "orig": arm.orig_scores.exact_match.mean,
            **_difference("gap", arm.gap.exact_match),
            **{name: share(arm) for name, share in SHARES.items()},
            **{name: value for control in arm.controls for name, value in _control(control).items()},
            **{f"config.{field}": _text(value) for field, value in point.fields.items()},
        }
        for point in read
        for arm in point.arms
    ]
    columns = dict.fromkeys(column for row in rows for column in row)
    last = [column for column in columns if column.startswith("config.")]
    return [
        {column: row.get(column) for column in [*(c for c in columns if c not in last), *last]}
        for row in rows
    ]


def _difference(name: str, value: Estimate) -> dict[str, Value]:
    return {name: value.mean, f"{name}_lo": value.low, f"{name}_hi": value.high}


def _control(control: Control) -> dict[str, Value]:
    """Both levels and, where the control is paired with the arm, the arm's Self minus the control's."""
    levels = {"self": control.self_scores.exact_match.mean, "orig": control.orig_scores.exact_match.mean}
    paired = _difference("paired_self", control.paired_self) if control.paired_self.mean is not None else {}
    return {f"control.{control.name}.{name}": value for name, value in (levels | paired).items()}


def _text(value: Any) -> Value:
    if value is None or (isinstance(value, str | int | float) and not isinstance(value, bool)):
        return value
    return json.dumps(value, ensure_ascii=False)


def csv_text(rows: Sequence[Mapping[str, Value]]) -> str:
    """Numbers with all their digits; an empty cell is a null."""
    written = io.StringIO()
    writer = csv.DictWriter(written, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue()


def markdown_text(rows: Sequence[Mapping[str, Value]], title: str, unfinished: Sequence[str]) -> str:
    """The same rows for people: shares in percent, differences in points."""
    lines = [f"# {_cell(title)}", "", "Shares in percent, differences in points; intervals are 95%.", ""]
    if unfinished:
        lines += [f"Not finished: {', '.join(unfinished)}.", ""]
    columns = list(rows[0])
    lines.append(_line(columns))
    lines.append(_line(["---" if _is_label(column) else "---:" for column in columns]))
    lines += [_line([_shown(column, row[column]) for column in columns]) for row in rows]
    return "\n".join(lines) + "\n"


def _is_label(column: str) -> bool:
    return column in ("point", "base", "arm", "seeds") or column.startswith("config.")


def _shown(column: str, value: Value) -> str:
    if value is None:
        return ""
    if _is_label(column) or column == "n" or isinstance(value, str):
        return str(value)
    last = column.rsplit(".", 1)[-1]
    return points(value) if last.startswith(("gap", "paired")) else percent(value)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    escaped = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return escaped.replace("\\", "\\\\").replace("|", "\\|")
