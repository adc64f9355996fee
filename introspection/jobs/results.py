"""From arms' records to what a run leaves: predictions, controls, results, figures and the page."""

import dataclasses
import json
import platform
from collections.abc import Sequence
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
)
from introspection.jobs.settings import write_json
from introspection.reports.page import write_report
from introspection.runtime.programs import ProgramTable

if TYPE_CHECKING:
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


def assemble(setup: "Setup", arms: Sequence[str], controls: dict[str, list], runtime_s: float) -> Path:
    """Writes everything of design.md §7 from the arms' stored records and prints the tables."""
    workdir, console = setup.workdir, setup.console
    seed = setup.config.evaluation.seed
    results: dict[str, Any] = {"arms": {}, "controls": {name: {} for name in controls}}
    fingerprints = {name: probed.fingerprint for name, probed in setup.probed.items()}
    all_records, control_lines = [], []
    for index, arm in enumerate(arms):
        folder = arm_folder(workdir, arm)
        records = read_records(folder / "records.jsonl")
        stored = json.loads((folder / "arm.json").read_text(encoding="utf-8"))
        fingerprints[arm] = stored["fingerprints"]
        results["arms"][arm] = arm_results(
            records,
            agreement_series(workdir / "metrics.jsonl", arm),
            stored["runtime_s"],
            np.random.default_rng([seed, index]),
        )
        all_records += records
        for name, said in controls.items():
            replaced = replace_explanations(records, said)
            results["controls"][name][arm] = control_results(replaced, np.random.default_rng([seed, index]))
            control_lines += [{"control": name, **record.to_json()} for record in replaced]
    results |= {
        "tiny": bool(setup.config.tiny),
        "fingerprints": fingerprints,
        "versions": {name: version(name) for name in VERSIONED} | {"python": platform.python_version()},
        "runtime_s": runtime_s,
    }
    write_records(workdir / "predictions.jsonl", all_records)
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in control_lines)
    (workdir / "controls.jsonl").write_text(lines, encoding="utf-8")
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
