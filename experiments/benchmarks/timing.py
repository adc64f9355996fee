"""Alternating timing of several ways to do the same, and the memory of compiled programs."""

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
    """Seconds of one call, over all runs, and page faults: a program whose temporary buffers are mapped again
    at every call pays for each of their pages."""

    median: float
    smallest: float
    largest: float
    page_faults: float  # median

    def divided(self, count: int) -> "Timing":
        """The timing of one of `count` equal parts of a call."""
        return Timing(*(value / count for value in dataclasses.astuple(self)))

    def numbers(self, name: str) -> dict[str, float]:
        return {
            f"{name}_page_faults": round(self.page_faults, 1),
            f"{name}_ms": round(self.median * 1e3, 4),
            f"{name}_ms_min": round(self.smallest * 1e3, 4),
            f"{name}_ms_max": round(self.largest * 1e3, 4),
        }


@dataclasses.dataclass(frozen=True)
class Measure:
    """One line of the result: `value` against `reference`, in `unit`; targets are for `ratio`."""

    name: str
    value: float
    unit: str
    reference: float
    ratio: float
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def line(self) -> dict[str, Any]:
        own = {"name": self.name, "value": self.value, "unit": self.unit, "reference": self.reference}
        return {**own, "ratio": round(self.ratio, 4), **self.extra}


def alternate(ways: Mapping[str, Callable[[], Any]], runs: int, calls: int = 1) -> dict[str, Timing]:
    """Times each way `runs` times, A B C A B C …, so that other load on the machine affects all alike.

    Every way is first called twice, which compiles it; a run is `calls` calls, and waits for all results.
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
    """The median and extremes of some runs, in ms, under keys that start with `name`."""
    return {
        f"{name}_ms": round(statistics.median(seconds) * 1e3, 1),
        f"{name}_ms_min": round(min(seconds) * 1e3, 1),
        f"{name}_ms_max": round(max(seconds) * 1e3, 1),
    }


def carried(program: Callable[..., tuple[Any, Any]], state: Any, *arguments: Any) -> Callable[[], Any]:
    """Repeated calls of `program(state, *arguments) -> (state, result)` that carry the state, as in training.

    The program may donate its first argument: it starts with a copy of `state`.
    """
    held = jax.tree.map(lambda leaf: jax.numpy.array(leaf, copy=True), state)

    def call() -> Any:
        nonlocal held
        held, result = program(held, *arguments)
        return held, result

    return call


def temporary_bytes(jitted: Callable[..., Any], *arguments: Any) -> int:
    """Bytes that the compiled program allocates besides its arguments and results."""
    return jitted.lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def machine() -> dict[str, str]:
    """The machine and its load."""
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
    """The value of the first `name: value` line of a file; "" if there is none."""
    lines = Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")
