"""What a sweep's finished points show, side by side: summary.csv, summary.md and summary.html.

Every number is one of a point's results.json; none is computed again.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ml_collections import ConfigDict
from rich.console import Console

from introspection.errors import InputError
from introspection.reports.console import say
from introspection.reports.few_groups import with_few_groups
from introspection.reports.figure_numbers import csv_text
from introspection.reports.run_files import MEND, read_object, read_results
from introspection.reports.table import markdown_text
from introspection.runs.run import FINISHED, is_finished
from introspection.runtime.config import plain
from introspection.runtime.json_files import parsed
from introspection.runtime.workdir import write_whole
from introspection.sweeps.account import (
    HeldOutSweep,
    account_arms,
    account_numbers,
    account_sentence,
    account_table,
    held_out_sweeps,
)
from introspection.sweeps.arms import arms_of, distinct, read_arms
from introspection.sweeps.grid import Point, labels, varying_fields
from introspection.sweeps.page import write_sweep_page
from introspection.sweeps.plan import PlannedPoint, base_name, check_plan, plan_points
from introspection.sweeps.size import CURVE, SizeLevel, size_levels
from introspection.sweeps.size_figure import size_table
from introspection.sweeps.table import SweepPoint, held_out_table, summary_rows, sweep_table


def summarize(
    config: ConfigDict,
    points: Sequence[Point],
    workdir: Path,
    console: Console,
    beside: Sequence[Path] = (),
) -> None:
    """Writes the summary of the points that are finished and names those that are not.

    Args:
      beside: workdirs of other sweeps, or their `summary.csv`. Their arms stand in the figures of gaps
        against agreement (a workdir's on the size curve, too), and from them a simple account of the gap
        predicts this sweep's.

    Raises:
      InputError: the workdir is another sweep's, no point is finished, a point's results are damaged, or
        points of a size curve are of different procedures.
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
    shown = labels(points)
    read = [read_point(point, fields, workdir, shown[point.name]) for point in finished]
    varies = varying_fields([point.overrides for point in points])
    others = {other: read_beside(other) for other in beside if not other.is_file()}
    on_curve = [point for points in others.values() for point in points]
    sizes = size_levels(read, on_curve) if config.curve == CURVE else []
    further = [arms_of(others[other]) if other in others else read_arms(other) for other in beside]
    arms = distinct(arm for sweep_arms in (arms_of(read), *further) for arm in sweep_arms)
    spoken_of = account_arms(arms)
    account = held_out_sweeps(spoken_of)
    page = write_sweep_page(workdir, f"{config.name}: sweep", read, unfinished, varies, arms, account, sizes)
    write_whole(workdir / "summary.csv", csv_text(summary_rows(read)))
    markdown = markdown_page(f"{config.name}: sweep", read, unfinished, account, sizes)
    write_whole(workdir / "summary.md", markdown)
    say(console, f"summary: {page} (and summary.csv, summary.md)")
    if account:
        write_whole(workdir / "account.csv", csv_text(account_numbers(spoken_of, account)))
        say(console, account_sentence(account))
    if config.part:
        from introspection.study.study import write_study

        write_study(workdir, [(point.name, point.folder) for point in planned], console)


def read_point(point: PlannedPoint, fields: Sequence[str], workdir: Path, label: str) -> SweepPoint:
    """A finished point's results, with the config that it ran with. Raises InputError if they are damaged."""
    config_path, report = point.folder / "config.json", point.folder / "report.html"
    config = read_object(config_path) or plain(point.config)
    results = read_results(point.folder / FINISHED)
    return SweepPoint(
        name=point.name,
        fields={field: _field(config, field) for field in fields},
        tiny=results.tiny,
        arms=tuple(map(with_few_groups, results.arms.values())),
        askable=results.askable,
        report=quote(report.relative_to(workdir).as_posix()) if report.exists() else "",
        label=label,
        folder=point.folder,
        **_of_config(config_path, config),
    )


def _of_config(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `SweepPoint` that are a config's. Raises InputError if it is damaged."""

    def fields() -> dict[str, Any]:
        train, arms = config.get("train") or {}, config.get("arms") or {}
        if not all(isinstance(section, Mapping) for section in (train, arms, *dict(arms).values())):
            raise ValueError("train, arms or an arm is not an object")
        return {
            "base": base_name(config),
            "sweep": str(config.get("name", "")),
            "part": str(config.get("part") or config.get("name", "")),
            "arm_fields": arms,
            "explained_where": tuple(train.get("explained_where", ())),
        }

    return parsed(path, fields, MEND)


def read_beside(workdir: Path) -> list[SweepPoint]:
    """The finished points of another sweep's workdir.

    Raises InputError if it has none, or if they are damaged.
    """
    folders = sorted(path.parent for path in (workdir / "points").glob(f"*/{FINISHED}"))
    if not folders:
        raise InputError(
            f"--beside: {workdir} has no finished point of a sweep; name a sweep's workdir or its summary.csv"
        )
    found = []
    for folder in folders:
        config_path = folder / "config.json"
        config, results = read_object(config_path) or {}, read_results(folder / FINISHED)
        found.append(
            SweepPoint(
                name=folder.name,
                fields={},
                tiny=results.tiny,
                arms=tuple(map(with_few_groups, results.arms.values())),
                askable=results.askable,
                report="",
                label=folder.name,
                folder=folder,
                **_of_config(config_path, config),
            )
        )
    return found


def _field(config: Any, field: str) -> Any:
    for name in field.split("."):
        config = config.get(name) if isinstance(config, Mapping) else None
    return config


def markdown_page(
    title: str,
    sweep_points: Sequence[SweepPoint],
    unfinished: Sequence[str],
    account: Sequence[HeldOutSweep] = (),
    sizes: Sequence[SizeLevel] = (),
) -> str:
    """The same rows for people."""
    missing = [f"Not finished: {markdown_text(', '.join(unfinished))}.", ""] if unfinished else []
    found = (
        size_table(sizes) if sizes else None,
        account_table(account) if account else None,
        held_out_table(sweep_points),
        sweep_table(sweep_points),
    )
    tables = [table for table in found if table]
    return "\n".join([f"# {markdown_text(title)}", "", *missing, *(table.markdown() for table in tables)])
