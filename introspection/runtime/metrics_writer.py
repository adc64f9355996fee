"""Training metrics: `metrics.jsonl`, TensorBoard events beside it, and trackers if there are any."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from introspection.runtime.json_files import json_lines
from introspection.runtime.json_values import LARGEST
from introspection.runtime.processes import is_first
from introspection.runtime.trackers import Trackers
from introspection.runtime.workdir import write_whole

SPEED = "speed.jsonl"
_KINDS = {"arm": str, "seed": int, "step": int}


def metrics_event(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A line of `metrics.jsonl`; of its values those that are numbers one can draw.

    Raises:
      ValueError, KeyError: it lacks its arm, seed or step, or one of these is of another type.
    """
    event = {name: fields[name] for name in _KINDS}
    for name, kind in _KINDS.items():
        if type(event[name]) is not kind or (kind is int and abs(event[name]) > LARGEST):
            raise ValueError(f"{name} is {event[name]!r:.60}; it must be of type {kind.__name__}")
    for name, value in fields.items():
        if type(value) in (int, float) and -LARGEST <= value <= LARGEST:  # NaN is not
            event[name] = value
    return event


class MetricsWriter:
    """Appends one JSON object per line: `{"arm", "seed", "step", <metric>: value, ...}`.

    Of several processes, which all have the same metrics, the first writes them.
    """

    def __init__(self, workdir: Path, trackers: Trackers | None = None):
        self._trackers = trackers
        self._silent = not is_first()
        self._workdir, self._path = workdir, workdir / "metrics.jsonl"
        self._events = workdir / "tensorboard"
        self._writers: dict[str, SummaryWriter] = {}  # by folder
        self._lines = None

    def keep(self, wanted: Callable[[dict], bool]) -> None:
        """Drops lines that a resumed run will rewrite, and a last line that was cut short."""
        if self._silent:
            return
        if (speed := self._workdir / SPEED).exists():
            whole = json_lines(speed, lambda fields: fields, may_be_torn=True)
            write_whole(speed, "".join(f"{json.dumps(fields)}\n" for fields in whole))
        if not self._path.exists():
            return
        if self._lines is not None:  # else what is written next would go to the file that is replaced here
            self.flush()
            self._lines.close()
            self._lines = None
        lines = json_lines(self._path, lambda fields: metrics_event(fields) and fields, may_be_torn=True)
        write_whole(self._path, "".join(f"{json.dumps(fields)}\n" for fields in lines if wanted(fields)))

    def write(self, arm: str, seed: int, step: int, metrics: dict[str, float]) -> None:
        if self._silent:
            return
        if self._lines is None:
            self._lines = self._path.open("a", buffering=1, encoding="utf-8")  # a line is seen at once
        self._lines.write(json.dumps({"arm": arm, "seed": seed, "step": step, **metrics}) + "\n")
        self._draw(f"{arm}-seed{seed}", step, metrics)
        if self._trackers is not None:
            self._trackers.write(seed, step, metrics)

    def write_speed(self, arm: str, step: int, fields: Mapping[str, Any], drawn: Mapping[str, float]) -> None:
        """Appends a line to `speed.jsonl`, which no later number depends on; `drawn` to TensorBoard."""
        if self._silent:
            return
        with (self._workdir / SPEED).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(fields) + "\n")
        self._draw(f"{arm}-speed", step, drawn)

    def _draw(self, folder: str, step: int, values: Mapping[str, float]) -> None:
        if folder not in self._writers:
            self._writers[folder] = SummaryWriter(str(self._events / folder), purge_step=step)
        for name, value in values.items():
            self._writers[folder].add_scalar(name, value, step)

    def flush(self) -> None:
        """Returns when all lines are on disk: a checkpoint must never be ahead of its metrics."""
        if self._lines is not None:
            self._lines.flush()
            os.fsync(self._lines.fileno())
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        self.flush()
        if self._lines is not None:
            self._lines.close()
        for writer in self._writers.values():
            writer.close()
        if self._trackers is not None:
            self._trackers.close()
