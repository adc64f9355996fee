"""From arms' records to what a run leaves: predictions, controls, results, figures and the page."""

import dataclasses
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from introspection.coupling.alignment import shortfall
from introspection.coupling.askable import NO_SHUFFLED_ARM, arm_criteria, main_arm, run_askable, shuffled_arm
from introspection.coupling.by_shifted import shifted_differences
from introspection.coupling.matrix import coupling_matrix
from introspection.coupling.matrix_results import Matrix
from introspection.coupling.records import WRITE_AGAIN, PredictionRecord, Said, read_records, write_records
from introspection.coupling.references import best_static, reference_entry, with_explanations_of
from introspection.coupling.results import arm_results, control_results, paired_results
from introspection.coupling.run_results import ArmResults, ControlResults, Reference, RunResults
from introspection.coupling.training_log import read_series
from introspection.errors import InputError
from introspection.reports.console import print_results_table, program_table
from introspection.reports.page import write_report
from introspection.reports.run_files import read_results
from introspection.runs.config import ArmConfig
from introspection.runs.setup import Setup
from introspection.runtime.digests import digested_lines
from introspection.runtime.json_files import parsed, read_object
from introspection.runtime.json_values import from_json, to_json
from introspection.runtime.progress import progress_bar
from introspection.runtime.workdir import write_json

VERSIONED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn")


RECORDS = "records.jsonl"
SHOWN = "its prompts show the current answer without the cue, so it is an upper bound and no reference"


@dataclasses.dataclass(frozen=True)
class ArmOutcome:
    """An arm's `arm.json`."""

    fingerprints: Mapping[str, str]  # of its models, by seed
    runtime_s: float
    update_norm: float | None = None  # how far training moved the parameters, mean over seeds


def arm_folder(workdir: Path, arm: str) -> Path:
    return workdir / "arms" / arm


def write_arm(workdir: Path, arm: str, records: Sequence[PredictionRecord], outcome: ArmOutcome) -> None:
    """Stores a finished arm; the records come last, and say that it is complete."""
    folder = arm_folder(workdir, arm)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "arm.json", to_json(outcome))
    write_records(folder / RECORDS, records)


def is_stored(workdir: Path, arm: str, console: Console) -> bool:
    """Whether an arm is finished and its files are as they were written; says so if they are not."""
    folder = arm_folder(workdir, arm)
    if not (folder / RECORDS).exists():
        return False
    try:
        read_records(folder / RECORDS, "the arm is probed again")
        read_outcome(folder, "the arm is probed again")
    except InputError as error:
        console.print(f"{arm}: {error}", highlight=False, soft_wrap=True)
        return False
    return True


def read_outcome(folder: Path, advice: str = WRITE_AGAIN) -> ArmOutcome:
    """What stands beside an arm's records. Raises InputError as `read_records`."""
    path = folder / "arm.json"
    fields = read_object(path, advice)
    return parsed(path, lambda: from_json(ArmOutcome, fields), advice)


def assemble(
    setup: Setup,
    arms: Mapping[str, ArmConfig],
    controls: Mapping[str, Mapping[str, Sequence[Said]]],
    runtime_s: float,
) -> Path:
    """Writes everything of workdir_files.md from the arms' stored records and prints the tables.

    `controls` are explanations by what an arm starts from (of `STARTS`) and by control. Beside them an arm is
    held against the arm with shuffled labels and, where it has them, its foreign explainers; these also stand
    paired, item by item. No verdict rests on an aligned one whose alignment fell short.
    """
    workdir, console = setup.workdir, setup.session.console
    seed, aligned = setup.config.evaluation.seed, setup.models.alignment
    short = aligned and shortfall(aligned)
    found: dict[str, ArmResults] = {}
    scored: dict[str, dict[str, ControlResults]] = {name: {} for name in controls["initial"]}
    fingerprints: dict[str, Any] = dict(setup.models.fingerprints)
    records = {arm: read_records(arm_folder(workdir, arm) / RECORDS) for arm in arms}
    logged = read_series(workdir / "metrics.jsonl", arms, {"agreement", "kept_behavior"})
    with (
        digested_lines(workdir / "controls.jsonl") as write_control,
        progress_bar(console, "intervals", len(arms)) as advance,
    ):
        for index, (name, arm) in enumerate(arms.items()):
            own = records[name]
            outcome = read_outcome(arm_folder(workdir, name))
            fingerprints[name] = outcome.fingerprints
            results = arm_results(
                own,
                logged.get((name, "agreement"), {}),
                outcome.runtime_s,
                np.random.default_rng([seed, index]),
                kept_by_seed=logged.get((name, "kept_behavior"), {}),
            )
            others = reference_arms(name, arms)
            emitters = {
                control: replace_explanations(own, said) for control, said in controls[arm.start].items()
            } | {control: with_explanations_of(own, records[other]) for control, other in others.items()}
            references: dict[str, Reference] = {}
            for control, replaced in emitters.items():
                paired = paired_results(own, replaced, np.random.default_rng([seed, index]))
                levels = control_results(replaced, np.random.default_rng([seed, index]))
                scored.setdefault(control, {})[name] = dataclasses.replace(
                    levels, paired=paired if control in others else None
                )
                apart = results.by_shifted and shifted_differences(
                    own, replaced, np.random.default_rng([seed, index])
                )
                no_verdict = {"aligned": short, "shown": SHOWN}.get(control)
                references[control] = reference_entry(paired, replaced, apart, no_verdict)
                for record in replaced:
                    write_control(json.dumps({"control": control, **record.to_json()}, ensure_ascii=False))
            found[name] = dataclasses.replace(
                results,
                update_norm=outcome.update_norm,
                no_verdict=SHOWN if arm.shown else short if arm.aligned else None,
                references=references,
                best_static=best_static(references),
                askable=arm_criteria(
                    own,
                    references,
                    np.random.default_rng([seed, index]),
                    without_shuffled="not held against an arm with shuffled labels"
                    if shuffled_arm(arms)
                    else NO_SHUFFLED_ARM,
                ),
            )
            advance(1)
    results = RunResults(
        arms=found,
        controls=scored,
        askable=run_askable(main_arm(arms), {name: arm.askable for name, arm in found.items()}),
        tiny=bool(setup.config.tiny),
        fingerprints=fingerprints,
        notes=setup.models.notes,
        similarity=setup.models.similarity(),
        alignment=aligned,
        explained_both=explained_both(arms, records, seed),
        versions={name: version(name) for name in VERSIONED} | {"python": platform.python_version()},
        runtime_s=runtime_s,
    )
    write_records(workdir / "predictions.jsonl", [record for own in records.values() for record in own])
    write_json(workdir / "results.json", to_json(results))
    print_results_table(read_results(workdir / "results.json"), console)
    console.print(program_table(setup.session.programs))
    return write_report(workdir)


def reference_arms(name: str, arms: Mapping[str, ArmConfig]) -> dict[str, str]:
    """The other arms of a run that an arm is held against, by kind: `shuffled`, and foreign explainers."""
    found = {}
    shuffled = shuffled_arm(arms, name)
    if shuffled and not arms[name].shuffle_labels and not arms[name].foreign_to:
        found["shuffled"] = shuffled
    foreign = {other: arm for other, arm in arms.items() if arm.foreign_to == name}
    return found | {"shown" if arm.shown else arm.start: other for other, arm in foreign.items()}


def explained_both(
    arms: Mapping[str, ArmConfig], records: Mapping[str, Sequence[PredictionRecord]], seed: int
) -> dict[str, Matrix]:
    """By arm with an aligned foreign explainer: what each of the two says, against its own behaviour, the
    other's, and that of the model that both began as, on the same items and seeds."""
    found = {}
    for name in arms:
        other = reference_arms(name, arms).get("aligned")
        if other is None:
            continue
        own = records[name]
        by_item = {(record.seed, record.id): record for record in records[other]}
        theirs = [by_item[record.seed, record.id] for record in own]
        found[name] = coupling_matrix(
            {name: [r.explanation for r in own], other: [r.explanation for r in theirs]},
            {
                name: [r.current for r in own],
                other: [r.current for r in theirs],
                "initial": [r.initial for r in own],
            },
            [r.group for r in own],
            np.random.default_rng(seed),
            seeds=[r.seed for r in own],
        )
    return found


def replace_explanations(records: Sequence[PredictionRecord], said: Sequence[Said]) -> list[PredictionRecord]:
    """The records with another emitter's explanations; every seed's items come in the order of `said`."""
    return [record.saying(said[i % len(said)]) for i, record in enumerate(records)]
