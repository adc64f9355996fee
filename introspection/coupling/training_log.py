"""What a run logged while its arms trained, as a study needs it: agreement, kept behaviour, live measures."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from introspection.coupling.results import agreement_levels
from introspection.errors import InputError

LIVE = ("live_self", "live_orig", "live_drift")
KEYS = ("agreement", "kept_behavior", *LIVE)

Levels = Mapping[str, float | None]  # start, end, min and mean over training


@dataclasses.dataclass(frozen=True)
class LivePoint:
    """Live measures on validation items at one step, means over seeds (shares)."""

    step: int
    own: float
    orig: float
    drift: float | None


@dataclasses.dataclass(frozen=True)
class TrainingLog:
    """One arm of one base, means over its seeds at the steps that all of them logged.

    `agreement` is that of trained labels, noise and all; `kept_behavior` that of clean ones, all None in runs
    before there were both.
    """

    agreement: Levels
    kept_behavior: Levels
    live: tuple[LivePoint, ...] = ()


def read_training_logs(path: Path, arms: Sequence[str]) -> dict[str, TrainingLog]:
    """Every arm's log, from one pass over `metrics.jsonl`; without the file nothing is known.

    Of a step that was logged twice (before and after a resume) the last line counts. An unfinished last line
    is one being written.

    Raises:
        InputError: a line is not JSON, or lacks its seed or step.
    """
    series: dict[tuple[str, str], dict[int, dict[int, float]]] = {}
    if path.exists():
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    _read_event(json.loads(line), series)
                except (ValueError, TypeError, KeyError, AttributeError) as error:
                    if not line.endswith("\n"):
                        break
                    raise InputError(f"{path}, line {number}: not a metrics event ({error!r})") from error
    return {arm: _log({key: series.get((arm, key), {}) for key in KEYS}) for arm in arms}


def _read_event(event: dict, series: dict[tuple[str, str], dict[int, dict[int, float]]]) -> None:
    arm = event.get("arm")
    for key in KEYS:
        if arm is None or event.get(key) is None:
            continue
        seed, step, value = int(event["seed"]), int(event["step"]), float(event[key])
        if math.isfinite(value):
            series.setdefault((arm, key), {}).setdefault(seed, {})[step] = value


def _log(by_key: Mapping[str, Mapping[int, Mapping[int, float]]]) -> TrainingLog:
    levels = [
        agreement_levels({seed: sorted(values.items()) for seed, values in by_key[key].items()})
        for key in ("agreement", "kept_behavior")
    ]
    own, orig, drift = (_mean_by_step(by_key[key]) for key in LIVE)
    live = tuple(
        LivePoint(step, own[step], orig[step], drift.get(step)) for step in sorted(own) if step in orig
    )
    return TrainingLog(*levels, live)


def _mean_by_step(by_seed: Mapping[int, Mapping[int, float]]) -> dict[int, float]:
    steps = set.intersection(*map(set, by_seed.values())) if by_seed else set()
    return {step: float(np.mean([values[step] for values in by_seed.values()])) for step in steps}
