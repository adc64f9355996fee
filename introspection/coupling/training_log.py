"""Training curves from `metrics.jsonl`: agreement, kept behaviour and live metrics."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np

from introspection.runtime.json_files import json_lines
from introspection.runtime.metrics_writer import metrics_event

LIVE = ("live_self", "live_orig", "live_drift")
KEYS = frozenset({"agreement", "kept_behavior", *LIVE})

Levels = Mapping[str, float | None]  # start, end, min and mean over training
Series = Mapping[int, Mapping[int, float]]  # by seed and step
AgreementSeries = Mapping[int, Mapping[int, float] | Sequence[tuple[int, float]]]  # the same, or as pairs


@dataclasses.dataclass(frozen=True)
class LivePoint:
    """Live metrics on validation items at one step: shares, averaged over seeds."""

    step: int
    own: float
    orig: float
    drift: float | None


@dataclasses.dataclass(frozen=True)
class TrainingLog:
    """One arm of one base, averaged over seeds at the steps that all seeds logged.

    `agreement` is for the trained labels, noise included; `kept_behavior` for the clean ones. The latter is
    all None in older runs, which did not log it.
    """

    agreement: Levels
    kept_behavior: Levels
    live: tuple[LivePoint, ...] = ()


def read_training_logs(path: Path, arms: Sequence[str]) -> dict[str, TrainingLog]:
    """Every arm's log, from one pass over `metrics.jsonl`; empty if the file is missing.

    Raises:
        InputError: as `read_series`.
    """
    series = read_series(path, arms, KEYS) if path.exists() else {}
    return {arm: _log({key: series.get((arm, key), {}) for key in KEYS}) for arm in arms}


def read_series(path: Path, arms: Collection[str], keys: Set[str]) -> dict[tuple[str, str], Series]:
    """The finite values of the given arms and keys in `metrics.jsonl`, by arm and key.

    If a step was logged twice (before and after a resume) the last line counts. An unfinished last line is
    ignored: it is still being written.

    Raises:
        InputError: a line is not JSON, or lacks its seed or step.
    """
    series: dict[tuple[str, str], dict[int, dict[int, float]]] = {}

    def add(fields: dict[str, Any]) -> None:
        if fields.get("arm") not in arms:
            return
        event = metrics_event(fields)
        for key in keys & event.keys():
            of_seed = series.setdefault((event["arm"], key), {}).setdefault(event["seed"], {})
            of_seed[event["step"]] = event[key]

    for _ in json_lines(path, add, may_be_torn=True):
        pass
    return dict(series)


def agreement_levels(series: AgreementSeries) -> dict[str, float | None]:
    """Start, end, minimum and mean over training of the mean over seeds, at the steps that all seeds logged.

    Each logged step counts once, so the mean is a mean over training only if steps are logged evenly.
    """
    means = list(_mean_by_step({seed: dict(points) for seed, points in series.items()}).values())
    if not means:
        return {"start": None, "end": None, "min": None, "mean": None}
    return {"start": means[0], "end": means[-1], "min": min(means), "mean": float(np.mean(means))}


def _log(by_key: Mapping[str, Series]) -> TrainingLog:
    own, orig, drift = (_mean_by_step(by_key[key]) for key in LIVE)
    live = tuple(LivePoint(step, own[step], orig[step], drift.get(step)) for step in own if step in orig)
    levels, kept = agreement_levels(by_key["agreement"]), agreement_levels(by_key["kept_behavior"])
    return TrainingLog(levels, kept, live)


def _mean_by_step(by_seed: Series) -> dict[int, float]:
    """The mean over seeds at the steps that all seeds logged, ascending."""
    steps = sorted(set.intersection(*map(set, by_seed.values()))) if by_seed else []
    return {step: float(np.mean([values[step] for values in by_seed.values()])) for step in steps}
