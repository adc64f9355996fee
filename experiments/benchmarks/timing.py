"""Two or more ways of doing the same, timed in alternation, and the memory of a compiled program."""

import dataclasses
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one call, over all runs, and the pages that the process touched first in it.

    A program whose temporary buffers are mapped anew at every call pays for each of their pages.
    """

    median: float
    smallest: float
    largest: float
    page_faults: float  # median

    def divided(self, count: int) -> "Timing":
        """The same of one of `count` equal parts of a call."""
        return Timing(*(value / count for value in dataclasses.astuple(self)))

    def numbers(self, name: str) -> dict[str, float]:
        """All numbers under keys that begin with `name`."""
        return {
            f"{name}_page_faults": round(self.page_faults, 1),
            f"{name}_ms": round(self.median * 1e3, 4),
            f"{name}_ms_min": round(self.smallest * 1e3, 4),
            f"{name}_ms_max": round(self.largest * 1e3, 4),
        }


@dataclasses.dataclass(frozen=True)
class Measure:
    """One line of the result: `value` against `reference`, in `unit`; `ratio` is what a target is set for."""

    name: str
    value: float
    unit: str
    reference: float
    ratio: float
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def line(self) -> dict[str, Any]:
        """The JSON object of this measure."""
        own = {"name": self.name, "value": self.value, "unit": self.unit, "reference": self.reference}
        return {**own, "ratio": round(self.ratio, 4), **self.extra}


def alternate(ways: Mapping[str, Callable[[], Any]], runs: int, calls: int = 1) -> dict[str, Timing]:
    """Times each way `runs` times, A B C A B C …, so that what else the machine does hits all alike.

    Every way is called twice before, which compiles it; a run is `calls` calls, and waits for all results.
    """
    for way in ways.values():
        jax.block_until_ready(way())
        jax.block_until_ready(way())
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    faults: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            start = time.perf_counter()
            for _ in range(calls):
                result = way()
            jax.block_until_ready(result)
            seconds[name].append((time.perf_counter() - start) / calls)
            faults[name].append((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / calls)
    return {
        name: Timing(statistics.median(s), min(s), max(s), float(statistics.median(faults[name])))
        for name, s in seconds.items()
    }


def spread(name: str, seconds: Sequence[float]) -> dict[str, float]:
    """The median of some runs and their extremes, in ms, under keys that begin with `name`."""
    return {
        f"{name}_ms": round(statistics.median(seconds) * 1e3, 1),
        f"{name}_ms_min": round(min(seconds) * 1e3, 1),
        f"{name}_ms_max": round(max(seconds) * 1e3, 1),
    }


def carried(program: Callable[..., tuple[Any, Any]], state: Any, *arguments: Any) -> Callable[[], Any]:
    """Calls of `program(state, *arguments) -> (state, result)` that hand the state on, as training does.

    The program may donate its first argument: it gets a copy of `state` to begin with.
    """
    held = jax.tree.map(lambda leaf: jax.numpy.array(leaf, copy=True), state)

    def call() -> Any:
        nonlocal held
        held, result = program(held, *arguments)
        return held, result

    return call


def temporary_bytes(jitted: Callable[..., Any], *arguments: Any) -> int:
    """What the compiled program allocates besides its arguments and results."""
    return jitted.lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def machine() -> dict[str, str]:
    """What the numbers were measured on, and how busy it was."""
    return {
        "CPU": _first_field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "devices": ", ".join(sorted({device.device_kind for device in jax.devices()})),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": _first_field("/proc/meminfo", "MemTotal") or "unknown",
        "load average": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "Python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
    }


def _first_field(path: str, name: str) -> str:
    """The value of the first `name: value` line of a file; "" where there is none."""
    lines = Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")
