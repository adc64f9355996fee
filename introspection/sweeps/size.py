"""One curve over sizes: gap, Orig and drift of a sweep's arms against the number of a base's parameters.

All points must be of one procedure. Those of the sweep itself may differ in what a size sets and in nothing
else; a point of another sweep, such as a pretrained model's, has its own task and amounts of training, but
the same recipes of arms. A point stands where its base's size puts it, whatever part of it is trained.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from introspection.checkpoints.names import CHECKPOINTS, ModelCard, abstract_variables
from introspection.coupling.estimates import Estimate
from introspection.coupling.metrics import disagrees
from introspection.coupling.records import PredictionRecord, read_records
from introspection.coupling.run_results import ArmResults
from introspection.coupling.scores import estimates
from introspection.errors import InputError
from introspection.models.decoder import count_parameters
from introspection.reports.run_files import MEND, named_values
from introspection.runs.identity import completed
from introspection.runtime.json_files import read_object
from introspection.runtime.json_values import from_json
from introspection.sweeps.table import SweepPoint

CURVE = "size"  # the value of `config.curve`
REFERENCES = ("shuffled", "foreign")  # beside each arm's best static emitter
# What a size sets, what names a point, and what changes how it is computed, not what.
OF_SIZE = (
    *("name", "base", "part", "run_arms", "cache_dir", "model", "architecture", "neighbor"),
    *("pretrain.seed", "pretrain.learning_rate", "mesh", "log", "profile", "report"),
    *("train.head_chunk", "train.keep_checkpoints", "train.remat", "train.stack_seeds", "train.stack_arms"),
)
# What points of all sweeps on one curve have in common.
RECIPE = ("arms", "label_teacher", "kl_reference", "train.balanced", "train.explained_where")


@dataclasses.dataclass(frozen=True)
class SizeLevel:
    """An arm of one base on the curve."""

    sweep: str
    point: str
    base: str
    arm: str
    parameters: int  # of the base
    askable: bool | None  # whether labels taught there; None: not known
    gap: Estimate
    orig: Estimate
    drift: Estimate
    gap_differences: Mapping[str, Estimate]  # gap minus each reference's; "best static" and `REFERENCES`


def size_levels(own: Sequence[SweepPoint], beside: Sequence[SweepPoint]) -> list[SizeLevel]:
    """The arms of the first of `own` at every point, in order of size.

    Raises:
      InputError: as `check_procedure`, or a file of a point can't be read.
    """
    points = [*own, *beside]
    configs = [completed(read_object(point.folder / "config.json", MEND)) for point in points]
    check_procedure(points, configs, len(own))
    arms = [arm.name for arm in own[0].arms]
    found = []
    for point in points:
        card = ModelCard.read(point.folder / CHECKPOINTS / "initial")
        parameters = count_parameters(abstract_variables(card.model))
        shown = {arm.name: arm for arm in point.arms if arm.name in arms}
        drifts = drift_estimates(read_records(point.folder / "predictions.jsonl", MEND))
        found += [
            SizeLevel(
                sweep=point.sweep,
                point=point.name,
                base=point.base,
                arm=name,
                parameters=parameters,
                askable=point.askable.askable,
                gap=arm.gap.exact_match,
                orig=arm.orig.exact_match,
                drift=drifts[name],
                gap_differences=_differences(arm),
            )
            for name, arm in shown.items()
        ]
    return sorted(found, key=lambda level: (level.parameters, level.sweep, arms.index(level.arm)))


def check_procedure(points: Sequence[SweepPoint], configs: Sequence[Mapping[str, Any]], own: int) -> None:
    """Raises InputError if points are of different procedures.

    Args:
      configs: of the points, with all fields.
      own: how many of the points, the first ones, are the sweep's own.
    """
    first = dict(named_values(configs[0]))
    for number, (point, config) in enumerate(zip(points, configs, strict=True)):
        other = dict(named_values(config))
        differing = [
            name
            for name in sorted(first.keys() & other.keys())  # some arms may not have run everywhere
            if first[name] != other[name] and must_agree(name, number < own)
        ]
        if differing:
            field = differing[0]
            raise InputError(
                f"a size curve compares one procedure, but {field} is {first[field]!r} at {points[0].name} "
                f"and {other[field]!r} at {point.name} of {point.sweep}: leave it out of --beside, or "
                "make the points equal in all but size and rates"
            )


def must_agree(field: str, is_own: bool) -> bool:
    """Whether points may not differ in a field."""

    def within(sections: Sequence[str]) -> bool:
        return any(field == name or field.startswith(f"{name}.") for name in sections)

    if field.startswith("arms.") and field.endswith(".learning_rate") and field.count(".") == 2:
        return False
    return not within(OF_SIZE) if is_own else within(RECIPE)


def drift_estimates(records: Sequence[PredictionRecord]) -> dict[str, Estimate]:
    """Every arm's drift with its interval, groups and seeds resampled as for the other measures."""
    by_arm: dict[str, list[PredictionRecord]] = {}
    for record in records:
        by_arm.setdefault(record.arm, []).append(record)

    def share(sums: np.ndarray) -> np.ndarray:
        return sums[:, :1] / sums[:, 1:]

    found = {}
    for name, own in by_arm.items():
        counts = np.array([[disagrees(record), 1.0] for record in own])
        (drift,) = estimates(own, counts, share, np.random.default_rng(0))
        found[name] = from_json(Estimate, drift)
    return found


def _differences(arm: ArmResults) -> dict[str, Estimate]:
    names = {"best static": arm.best_static, **{name: name for name in REFERENCES}}
    return {
        shown: arm.references[name].gap_difference
        for shown, name in names.items()
        if name and name in arm.references and arm.references[name].usable
    }
