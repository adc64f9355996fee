"""Training metrics: `metrics.jsonl`, TensorBoard events beside it, and trackers if there are any."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from tensorboardX import SummaryWriter

from introspection.runtime.trackers import Trackers
from introspection.runtime.workdir import write_whole


class MetricsWriter:
    """Appends one JSON object per line: `{"arm", "seed", "step", <metric>: value, ...}`."""

    def __init__(self, workdir: Path, trackers: Trackers | None = None):
        self._trackers = trackers
        self._path = workdir / "metrics.jsonl"
        self._events = workdir / "tensorboard"
        self._writers: dict[tuple[str, int], SummaryWriter] = {}
        self._lines = None

    def keep(self, wanted: Callable[[dict], bool]) -> None:
        """Drops lines that a resumed run will rewrite, and a last line that was cut short."""
        if not self._path.exists():
            return
        kept = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                if wanted(json.loads(line)):
                    kept.append(line)
            except json.JSONDecodeError:
                continue
        write_whole(self._path, "".join(f"{line}\n" for line in kept))

    def write(self, arm: str, seed: int, step: int, metrics: dict[str, float]) -> None:
        if self._lines is None:
            self._lines = self._path.open("a", encoding="utf-8")
        self._lines.write(json.dumps({"arm": arm, "seed": seed, "step": step, **metrics}) + "\n")
        if (arm, seed) not in self._writers:
            folder = self._events / f"{arm}-seed{seed}"
            self._writers[arm, seed] = SummaryWriter(str(folder), purge_step=step)
        for name, value in metrics.items():
            self._writers[arm, seed].add_scalar(name, value, step)
        if self._trackers is not None:
            self._trackers.write(seed, step, metrics)

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
