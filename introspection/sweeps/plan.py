"""What a sweep would run: its points with their configs and workdirs, and the plan that the workdir keeps."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from introspection.errors import InputError
from introspection.organism.organism import is_organism
from introspection.runs.config import RunConfig, read_config
from introspection.runs.run import is_finished
from introspection.runtime.files import read_whole
from introspection.runtime.json_files import parsed, read_json
from introspection.runtime.workdir import LOCK, write_whole
from introspection.sweeps.grid import Point, point_config

PLAN = "sweep.json"
ANOTHER = "give another --workdir"
BAD_POINTS_NAMED = 5  # in an error's line; the others are counted


@dataclasses.dataclass(frozen=True)
class PlannedPoint:
    """A point with its whole config and its own workdir."""

    index: int
    name: str
    overrides: dict[str, Any]
    config: RunConfig
    folder: Path

    @property
    def state(self) -> str:
        if is_finished(self.folder, self.config.chosen_arms):
            return "finished"
        return "started" if (self.folder / "config.json").exists() else "new"


def checked_plan(
    config: ConfigDict,
    points: Sequence[Point],
    workdir: Path,
    index: int | None,
    check: Callable[[RunConfig, Path], Any],
) -> tuple[PlannedPoint, ...]:
    """The plan, once it is this workdir's and every point passes `check`.

    Raises:
      InputError: `index` is none of the plan, the workdir is another sweep's, or points can't be used; these
        are listed in one line.
    """
    if index is not None and not 0 <= index < len(points):
        raise InputError(f"--index is {index}; the sweep has points 0 to {len(points) - 1}")
    check_plan(workdir, points)

    def check_one(point: PlannedPoint) -> None:
        # With an index, other points' workdirs are other processes', and may be half made. No name has a dot
        # in front, so such a folder is never there.
        is_ours = index in (None, point.index)
        check(point.config, point.folder if is_ours else point.folder.with_name(f".{point.name}"))

    return plan_points(config, points, workdir, check_one)


def plan_points(
    config: ConfigDict,
    points: Sequence[Point],
    workdir: Path,
    check: Callable[[PlannedPoint], None] = lambda point: None,
) -> tuple[PlannedPoint, ...]:
    """Every point with its config and folder. Raises InputError that lists all that can't be used."""
    planned, problems = [], []
    for point in points:
        try:
            changed = read_config(point_config(config, point))
            folder = workdir / "points" / point.name
            planned.append(PlannedPoint(point.index, point.name, point.overrides, changed, folder))
            check(planned[-1])
        except InputError as error:
            problems.append(f"point {point.name}: {error}")
    if problems:
        named = "; ".join(problems[:BAD_POINTS_NAMED])
        more = len(problems) - BAD_POINTS_NAMED
        raise InputError(
            f"{len(problems)} of {len(points)} points can't be used: {named}"
            + (f"; and {more} more" if more > 0 else "")
        )
    return tuple(planned)


def check_plan(workdir: Path, points: Sequence[Point]) -> None:
    """Writes nothing. Points may be added at the end of a plan, nothing else.

    Raises:
      InputError: the workdir belongs to another sweep (the first differing point is named), or holds other
        files.
    """
    path, here = workdir / PLAN, plan_json(points)
    if not path.exists():
        # Of a process that starts at the same moment there may be an unfinished plan.
        if workdir.exists() and (
            not workdir.is_dir()
            or any(not found.name.startswith((PLAN, LOCK)) for found in workdir.iterdir())
        ):
            raise InputError(f"{workdir} is no empty folder and has no {PLAN}: give another --workdir")
        return
    stored = read_json(path, ANOTHER)
    there = parsed(path, lambda: [_known(point["name"], point["overrides"]) for point in stored], ANOTHER)
    for index, known in enumerate(there):
        now = here[index] if index < len(here) else None
        if now is None or known != _known(now["name"], now["overrides"]):
            new = f"{_shown(now)} here" if now else "missing here"
            raise InputError(
                f"{workdir} belongs to another sweep: point {index} is {_shown(known)} there and {new}; give"
                " another --workdir or the same sweep (points may be added at its end)"
            )


def _known(name: Any, overrides: Any) -> dict[str, Any]:
    if not isinstance(name, str) or not isinstance(overrides, dict):
        raise ValueError("a point is not a name and overrides")
    return {"name": name, "overrides": overrides}


def _shown(point: Mapping[str, Any]) -> str:
    fields = " ".join(f"{field}={json.dumps(value)}" for field, value in point["overrides"].items())
    return f"{point['name']} ({fields})"


def plan_json(points: Sequence[Point]) -> list[dict[str, Any]]:
    """The plan as it stands in its file."""
    return json.loads(json.dumps([dataclasses.asdict(point) for point in points], default=repr))


def write_plan(workdir: Path, points: Sequence[Point]) -> None:
    """Writes the plan whole or not at all; several processes may do so at once."""
    path, text = workdir / PLAN, json.dumps(plan_json(points), indent=1, allow_nan=False) + "\n"
    if path.exists() and read_whole(path) == text.encode():
        return
    workdir.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)


def base_name(config: Mapping[str, Any]) -> str:
    """Which base model the explanations of a run's `config.json` are trained on, in a word or two."""
    if config.get("base"):
        return str(config["base"])
    initial = str(config.get("initial"))
    return f"seed {config['pretrain']['seed']}" if is_organism(initial) else initial
