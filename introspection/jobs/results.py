"""From arms' records to what a run leaves: predictions, controls, results, figures and the page."""

import dataclasses
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from introspection.coupling.records import PredictionRecord, read_records, write_records
from introspection.coupling.results import (
    agreement_series,
    arm_results,
    control_results,
    format_results_table,
    paired_results,
)
from introspection.jobs.settings import write_json
from introspection.reports.page import write_report
from introspection.runtime.programs import ProgramTable

if TYPE_CHECKING:
    from introspection.jobs.arms import ArmConfig
    from introspection.jobs.setup import Setup

VERSIONED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn")


def arm_folder(workdir: Path, arm: str) -> Path:
    return workdir / "arms" / arm


def write_arm(
    workdir: Path,
    arm: str,
    records: Sequence[PredictionRecord],
    fingerprints: dict[str, str],
    runtime_s: float,
) -> None:
    """Stores a finished arm; the records come last, and say that it is complete."""
    folder = arm_folder(workdir, arm)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "arm.json", {"fingerprints": fingerprints, "runtime_s": runtime_s})
    write_records(folder / "records.jsonl", records)


def assemble(
    setup: "Setup",
    arms: Mapping[str, "ArmConfig"],
    controls: Mapping[str, Mapping[str, list]],
    runtime_s: float,
) -> Path:
    """Writes everything of design.md §7 from the arms' stored records and prints the tables.

    `controls` are explanations by what an arm starts from ("initial", "foreign") and by control. An arm with
    a foreign explainer has one more, which also stands paired: Self minus foreign, item by item.
    """
    workdir, console = setup.workdir, setup.console
    seed = setup.config.evaluation.seed
    results: dict[str, Any] = {"arms": {}, "controls": {name: {} for name in controls["initial"]}}
    fingerprints: dict[str, Any] = dict(setup.fingerprints)
    records = {arm: read_records(arm_folder(workdir, arm) / "records.jsonl") for arm in arms}
    foreign = {arm.foreign_to: name for name, arm in arms.items() if arm.foreign_to}
    with (workdir / "controls.jsonl").open("w", encoding="utf-8") as control_lines:
        for index, (name, arm) in enumerate(arms.items()):
            own = records[name]
            stored = json.loads((arm_folder(workdir, name) / "arm.json").read_text(encoding="utf-8"))
            fingerprints[name] = stored["fingerprints"]
            agreement = agreement_series(workdir / "metrics.jsonl", name)
            results["arms"][name] = arm_results(
                own, agreement, stored["runtime_s"], np.random.default_rng([seed, index])
            )
            emitters = dict(controls["foreign" if arm.foreign_to else "initial"])
            if name in foreign:
                emitters["foreign"] = [(r.explanation_text, r.explanation) for r in records[foreign[name]]]
            for control, said in emitters.items():
                replaced = replace_explanations(own, said)
                entry = control_results(replaced, np.random.default_rng([seed, index]))
                if control == "foreign":
                    entry["paired"] = paired_results(own, replaced, np.random.default_rng([seed, index]))
                results["controls"].setdefault(control, {})[name] = entry
                for record in replaced:
                    line = json.dumps({"control": control, **record.to_json()}, ensure_ascii=False)
                    control_lines.write(line + "\n")
    results |= {
        "tiny": bool(setup.config.tiny),
        "fingerprints": fingerprints,
        "versions": {name: version(name) for name in VERSIONED} | {"python": platform.python_version()},
        "runtime_s": runtime_s,
    }
    write_records(workdir / "predictions.jsonl", [record for own in records.values() for record in own])
    console.print(format_results_table(results))
    console.print(format_program_table(setup.programs))
    write_json(workdir / "results.json", results)
    return write_report(workdir)


def replace_explanations(records: Sequence[PredictionRecord], said: Sequence) -> list[PredictionRecord]:
    """The records with another emitter's explanations; every seed's items come in the order of `said`."""
    return [
        dataclasses.replace(
            record,
            explanation_text=said[i % len(said)][0],
            explanation=said[i % len(said)][1],
        )
        for i, record in enumerate(records)
    ]


def format_program_table(programs: ProgramTable) -> Table:
    """Which executables this process compiled and how often it called them."""
    table = Table(title="Compiled programs of this process", title_justify="left")
    for name in ("program", "shapes", "calls", "compile seconds"):
        table.add_column(name, justify="left" if name in ("program", "shapes") else "right")
    for name, shapes, calls, seconds in programs.rows():
        table.add_row(name, shapes, str(calls), f"{seconds:.1f}")
    return table
