"""Running a sweep: a dry run, and point after point in one process."""

import dataclasses
import functools
import statistics
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict
from rich.console import Console

from introspection.errors import RunError
from introspection.reports.console import say
from introspection.runs.config import RunConfig
from introspection.runs.run import check_run, run
from introspection.runtime import processes
from introspection.runtime.command import FULL_DISK
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.config import plain
from introspection.runtime.lock import HeldError, check_inside
from introspection.runtime.mesh_flag import chosen_mesh
from introspection.runtime.progress import clock
from introspection.runtime.storage import own_folder
from introspection.runtime.terminal import one_line
from introspection.runtime.workdir import write_whole
from introspection.sweeps.grid import Point, labels
from introspection.sweeps.plan import PlannedPoint, base_name, checked_plan, write_plan


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a point that was run ended."""

    name: str
    seconds: float
    traceback: Path | None = None  # where it is kept; None where the point is finished


def dry_run(
    config: ConfigDict, points: Sequence[Point], workdir: Path, index: int | None, console: Console
) -> None:
    """Prints the plan, one line a point (of `index` alone if it is given); writes nothing.

    Raises:
      InputError: as `run_sweep` does; but whether the devices are there is left to the machine that runs.
    """
    planned = checked_plan(config, points, workdir, index, check_run)
    lines = [describe(point) for point in planned]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines if index is None else [lines[index]]:
        say(console, "  ".join(map(str.ljust, line, widths)).rstrip())


def describe(point: PlannedPoint) -> tuple[str, ...]:
    """Index, name, state, base, arms, seeds and overridden fields."""
    return (
        str(point.index),
        point.name,
        point.state,
        base_name(plain(point.config)),
        f"arms {','.join(point.config.chosen_arms)}",
        f"seeds {','.join(map(str, point.config.seeds))}",
        " ".join(f"{field}={value!r}" for field, value in point.overrides.items()),
    )


def run_sweep(
    config: ConfigDict,
    points: Sequence[Point],
    workdir: Path,
    index: int | None,
    console: Console,
    mesh: str = "",
) -> None:
    """Runs every point that is not finished (or `index` alone) in one process with shared programs.

    Other commands may run other points in the same workdir at the same time, each with its `index`. Where one
    command is several processes, these run every point together, and a point that fails ends it: a failure
    of one process alone would leave the others waiting in that point.

    Args:
      mesh: the flag `--mesh`; "" is that of each point's config.

    Raises:
      InputError: a point can't be used, or the workdir is another sweep's; nothing is written.
      HeldError: another process runs a point; those before it have run.
      RunError: points failed; the others have run.
      OSError, RunError: the disk is full; later points have not run.
    """
    check = functools.partial(check_point, mesh=mesh)
    planned = processes.first_before_others(lambda: checked_plan(config, points, workdir, index, check))

    def begin() -> list[int]:
        check_inside(workdir, depth=2)  # below that are the points' own, each of which a run looks through
        write_plan(workdir, points)
        return [point.index for point in planned if point.state != "finished"]

    unfinished = processes.first(begin)
    chosen = planned if index is None else planned[index : index + 1]
    waiting = [point for point in chosen if point.index in unfinished]
    programs, outcomes, shown = ProgramTable(), [], labels(points)
    for point in chosen:
        title = f"point {point.index + 1} of {len(planned)}: {shown[point.name]}"
        if point not in waiting:
            say(console, f"{title}: finished before, skipped")
            continue
        say(console, title + time_left(outcomes, len(waiting)))
        outcomes.append(run_point(point, workdir, programs, console, mesh))
    for outcome in outcomes:
        failure = f", failed: see {outcome.traceback}" if outcome.traceback else ""
        say(console, f"{outcome.name}: {clock(outcome.seconds)}{failure}")
    failed = [outcome for outcome in outcomes if outcome.traceback]
    if failed:
        raise RunError(
            f"{len(failed)} of {len(chosen)} points failed: {', '.join(outcome.name for outcome in failed)};"
            " the same command tries them again"
        )


def check_point(config: RunConfig, folder: Path, mesh: str = "") -> None:
    """Raises InputError if a point can't be run here, as far as can be told before it is."""
    chosen_mesh(mesh, config.mesh)
    check_run(config, folder)


def run_point(
    point: PlannedPoint, workdir: Path, programs: ProgramTable, console: Console, mesh: str = ""
) -> Outcome:
    """Runs a point; what it raises is reported and kept as a file, except a full disk, which stops all."""
    started = time.perf_counter()
    try:
        with own_folder(point.folder) as folder:
            run(point.config, folder, console, programs, mesh)
    except HeldError:
        raise
    except Exception as error:
        if disk_is_full(error) or processes.count() > 1:
            raise
        path = keep_traceback(point, workdir)
        failure = one_line(f"{type(error).__name__}: {error}")
        say(console, f"{point.name} failed: {failure}; its traceback is in {path}")
        return Outcome(point.name, time.perf_counter() - started, path)
    if processes.is_first():
        for path in traceback_paths(point, workdir):  # of an earlier try
            path.unlink(missing_ok=True)
    return Outcome(point.name, time.perf_counter() - started)


def keep_traceback(point: PlannedPoint, workdir: Path) -> Path:
    """Writes the traceback of the exception at hand into the point's workdir, if it has become one."""
    inside, beside = traceback_paths(point, workdir)
    # A folder with an error alone would be refused as a workdir when the point is tried again.
    path = inside if (point.folder / "config.json").exists() else beside
    path.parent.mkdir(exist_ok=True)
    return write_whole(path, traceback.format_exc())


def traceback_paths(point: PlannedPoint, workdir: Path) -> tuple[Path, Path]:
    return point.folder / "error.txt", workdir / "errors" / f"{point.name}.txt"


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that nothing more can be written."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            return True
        if "No space left on device" in str(error):  # TensorStore's own errors
            return True
        error = error.__cause__ or error.__context__
    return False


def time_left(outcomes: Sequence[Outcome], total: int) -> str:
    """An estimate from the points that finished in this process; nothing before there is one."""
    finished = [outcome.seconds for outcome in outcomes if not outcome.traceback]
    if not finished:
        return ""
    return f" (about {clock(statistics.mean(finished) * (total - len(outcomes)))} left)"
