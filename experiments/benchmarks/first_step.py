"""Seconds from the command to the first training step, with compiled programs cached by an earlier run.

The command is `experiments.run --config=configs/smollm2.py:tiny`, one step per call, in its own process,
which ends after its first training step. It runs once, and then timed. A run must read the model's behaviour
before it can label anything, and once more before its first step: that grows with the number of items, so it
is reported separately (`probing`). A second run on the same model and items (after an interruption, or with
another rate) finds its behaviour in the cache; it is timed too (`again`).
"""

import dataclasses
import functools
import importlib
import json
import os
import pkgutil
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from experiments.benchmarks.peer_process import ROOT
from experiments.benchmarks.timing import Measure, spread
from introspection.errors import RunError
from introspection.runs.setup import BEHAVIORS
from introspection.runtime.config import cache_dir

TARGET = 15.0  # seconds
BEGUN = "INTROSPECTION_BENCH_BEGUN"
# Functions that a run calls, by module and name, and their phases; everything else is "else".
PHASES = {
    "introspection.runs.run.check_run": "task",
    "introspection.probes.context.within_context": "task",
    "introspection.runs.models.stored_models": "model",
    "introspection.checkpoints.names.model_fingerprint": "model",
    "introspection.runs.setup.probe_all": "probing",
    "introspection.runs.setup.held_hidden": "probing",
    "introspection.runs.measure.live_measures": "probing",
    "introspection.runs.setup.leave_shared": "storing",
    "introspection.checkpoints.store.CheckpointStore.save": "storing",
}


@dataclasses.dataclass(frozen=True)
class Size:
    config: str = "configs/smollm2.py:tiny"
    overrides: tuple[str, ...] = ("train.steps_per_call=1", "train.log_steps=1")
    runs: int = 3  # of each kind, alternating, after an untimed one that compiles


TINY = Size("configs/quickstart.py:tiny", runs=1)


def run(size: Size | None = None) -> list[Measure]:
    """The total time, the same without probing, and that of a start with cached behaviour.

    Raises:
      RunError: the command fails; the message has its output.
    """
    size = size or Size()
    starts, again = [], []
    with tempfile.TemporaryDirectory() as cache:
        (Path(cache) / "models").symlink_to((cache_dir() / "models").absolute())
        start(size, cache)
        for _ in range(size.runs):
            shutil.rmtree(Path(cache) / "runs" / BEHAVIORS)
            starts.append(start(size, cache))
            again.append(sum(start(size, cache).values()))
    phases = {name: statistics.median(one[name] for one in starts) for name in starts[0]}
    whole = [sum(one.values()) for one in starts]
    own = [sum(one.values()) - one["probing"] for one in starts]
    extra = {
        "config": size.config,
        **{f"{name}_ms": round(1e3 * seconds, 1) for name, seconds in phases.items()},
        **spread("without_probing", own),
        **spread("all", whole),
        **spread("again", again),
    }
    measured = {
        "first_step": (whole, "s from command to the end of the first step"),
        "first_step.without_probing": (own, "s from command to the end of the first step, probing left out"),
        "first_step.again": (again, "s from command to the end of the first step, behaviour kept"),
    }
    return [
        Measure(
            name=name,
            value=round(statistics.median(seconds), 2),
            unit=unit,
            reference=TARGET,
            ratio=statistics.median(seconds) / TARGET,
            extra={"ratio_is": "of the target", "target": f"<= {TARGET:g} s", **extra},
        )
        for name, (seconds, unit) in measured.items()
    ]


def start(size: Size, cache: str) -> dict[str, float]:
    """Seconds of each phase of one start, in a workdir that is deleted; data and behaviour are in `cache`."""
    runs = Path(cache) / "runs"
    runs.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=runs) as workdir:
        overrides = [f"--config.{override}" for override in (*size.overrides, f"cache_dir={cache}")]
        command = [sys.executable, "-m", __name__, f"--config={size.config}", f"--workdir={workdir}"]
        begun = time.clock_gettime(time.CLOCK_MONOTONIC)
        done = subprocess.run(
            [*command, *overrides],
            env=os.environ | {"PYTHONPATH": str(ROOT), BEGUN: repr(begun)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise RunError(f"the run failed: {done.stderr[-1000:]}")
    return json.loads(lines[-1])


class Phases:
    """Time by phase of this process; a phase excludes the phases inside it."""

    def __init__(self, begun: float, first: str):
        self._last, self._open = begun, [first]
        self.seconds: dict[str, float] = defaultdict(float)

    def go_on(self, name: str | None = None) -> None:
        """Adds the time until now to the innermost phase, which is `name` from here on."""
        now = time.clock_gettime(time.CLOCK_MONOTONIC)
        self.seconds[self._open[-1]] += now - self._last
        self._last, self._open[-1] = now, name or self._open[-1]

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            self.go_on()
            self._open.append(name)
            try:
                return function(*arguments, **options)
            finally:
                self.go_on()
                self._open.pop()

        return call


def run_to_first_step(begun: float) -> None:
    """Runs the command in this process until its first training step is done; prints the phases."""
    phases = Phases(begun, "imports")
    phases.seconds |= dict.fromkeys(("else", *PHASES.values()), 0.0)
    importlib.import_module("introspection.runs.run")  # all that the command imports
    from introspection.runtime.compiled import Program

    phases.go_on("else")
    call = Program.__call__

    def first_step(program: Program, *arguments: Any) -> Any:
        # An organism is trained by the same program, before any probing.
        if program.name != "train_steps" or not phases.seconds["probing"]:
            return call(program, *arguments)
        phases.timed("first_step", lambda: jax.block_until_ready(call(program, *arguments)))()
        print(json.dumps(phases.seconds), flush=True)
        os._exit(0)

    Program.__call__ = first_step  # pyright: ignore[reportAttributeAccessIssue]
    for path, name in PHASES.items():
        owner, attribute = path.rsplit(".", 1)
        owner = pkgutil.resolve_name(owner)
        setattr(owner, attribute, phases.timed(name, getattr(owner, attribute)))
    runpy.run_module("experiments.run", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    run_to_first_step(float(os.environ[BEGUN]))
