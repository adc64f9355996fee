"""How fast a run's arms trained and where their time went, for a terminal and a page."""

from collections.abc import Sequence
from pathlib import Path

from introspection.reports.numbers import DASH, count, percent
from introspection.reports.table import Table
from introspection.runtime.json_files import json_lines
from introspection.runtime.json_values import from_json
from introspection.runtime.metrics_writer import SPEED
from introspection.training.speed import CAUSES, Speed, joined

GIB = 2**30


def read_speeds(workdir: Path) -> tuple[Speed, ...]:
    """What a run measured of its training, one entry for all arms that trained together; none of a run by an
    older version.

    Raises:
      InputError: `speed.jsonl` can't be read.
    """
    path = workdir / SPEED
    found: dict[tuple[str, ...], list[Speed]] = {}
    if path.exists():
        for one in json_lines(path, lambda fields: from_json(Speed, fields), may_be_torn=True):
            found.setdefault(one.arms, []).append(one)
    return tuple(joined(stretches) for stretches in found.values())


def speed_line(speed: Speed) -> str:
    """One line for a terminal."""
    mfu = f", MFU {percent(speed.mfu)}%" if speed.mfu is not None else ""
    memory = f", {speed.peak_bytes / GIB:.1f} GiB a device" if speed.peak_bytes is not None else ""
    arms, padding = ", ".join(speed.arms), percent(speed.padding)
    parts = ", ".join(f"{cause} {speed.seconds[cause]:.1f}" for cause in CAUSES)
    return (
        f"{arms}: {speed.steps_per_second:.2f} steps/s, {speed.tokens_per_second:,.0f} tokens/s without "
        f"padding ({padding}% is padding){mfu}{memory}; goodput {percent(speed.goodput)}%; seconds: {parts}"
    )


def speed_table(speeds: Sequence[Speed]) -> Table:
    """The same of all arms."""
    columns = (
        *("Arms", "Steps", "Steps/s", "Tokens/s", "Padding %", "MFU %", "Goodput %"),
        *(f"{cause.capitalize()}, s" for cause in CAUSES),
        *("Compiled", "Memory, GiB"),
    )
    rows = tuple(
        (
            ", ".join(one.arms),
            count(one.steps),
            f"{one.steps_per_second:.2f}",
            count(round(one.tokens_per_second)),
            percent(one.padding),
            percent(one.mfu),
            percent(one.goodput),
            *(f"{one.seconds[cause]:.1f}" for cause in CAUSES),
            str(one.compilations),
            DASH if one.peak_bytes is None else f"{one.peak_bytes / GIB:.1f}",
        )
        for one in speeds
    )
    return Table("Speed of training", columns, rows)
