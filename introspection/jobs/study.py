"""A study over several bases from the workdirs of its points: tables, claims, figures and a page."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from introspection.coupling.arm_counts import ArmCounts, count_records, foreign_counts
from introspection.coupling.claims import evaluate_claims
from introspection.coupling.pooling import StudyPart, paired_contrast, part_results
from introspection.coupling.predictors import base_predictors
from introspection.coupling.records import PredictionRecord, read_records
from introspection.coupling.results import agreement_levels, agreement_series
from introspection.errors import InputError
from introspection.jobs.circuits import study_circuits
from introspection.jobs.control_counts import control_counts
from introspection.jobs.results import arm_folder
from introspection.jobs.run import FINISHED, is_finished
from introspection.jobs.settings import write_json
from introspection.reports.figure_style import render_figure, save_figure
from introspection.reports.page import write_whole
from introspection.reports.study_figures import claim_figure
from introspection.reports.study_page import study_markdown, study_page
from introspection.runtime.progress import progress_bar

FOREIGN = "foreign"  # this control comes from the foreign explainer's own records


def write_study(
    workdir: Path, points: Sequence[tuple[str, Path]], console: Console, *, seed: int = 0
) -> Path:
    """Writes `study.json`, `study.md`, `study.html` and `figures/` of the finished points.

    Everything is computed and drawn before the first of them is written; which parts a base uses and what a
    point's controls count to are kept in its workdir (`jobs.circuits`, `jobs.control_counts`). The order of
    the points decides only the order of parts and arms in the tables, and resamples come from `seed` alone.

    Args:
        points: each one's name and the workdir of its run; those without results.json are listed as left out.

    Returns:
        The page's path.

    Raises:
        InputError: no point is finished, a config lacks `part` or `base`, an arm of a base stands in two
            points, a foreign explainer's arm is missing, or arms to compare hold other items or seeds.
    """
    finished = [(name, folder) for name, folder in points if is_finished(folder)]
    if not finished:
        raise InputError(f"no point of {workdir} has results yet: run the sweep first")
    configs = {name: _read_config(folder) for name, folder in finished}
    by_part: dict[str, list[tuple[str, Path]]] = {}
    for name, folder in finished:
        by_part.setdefault(configs[name]["part"], []).append((name, folder))
    parts, shown = [], {}
    for part_name, members in by_part.items():
        console.print(f"study: part {part_name}, {len(members)} points", highlight=False, markup=False)
        # A point of the study's size takes half a minute to read at first: every explanation and control
        # is a line.
        with progress_bar(console, f"study: reading {part_name}", 2 * len(members)) as advance:
            part, controls = read_part(part_name, members, configs, advance)
        results = part_results(part, seed)
        parts.append((part, results))
        bases = sorted({base for by_base in part.arms.values() for base in by_base})
        shown[part_name] = {
            "bases": bases,
            "arms": results,
            "controls": {
                control: {
                    arm: paired_contrast(part.arms[arm], by_base, np.random.default_rng(seed))
                    for arm, by_base in by_arm.items()
                }
                for control, by_arm in controls.items()
            },
        }
    claims = evaluate_claims(parts, seed)
    for part_name, circuits in study_circuits(finished, configs, console).items():
        shown[part_name]["circuits"] = circuits
    study = {
        "points": [
            {"name": name, "part": configs[name]["part"], "base": configs[name]["base"]}
            for name, _ in finished
        ],
        "unfinished": [name for name, folder in points if not is_finished(folder)],
        "tiny": any(bool(config.get("tiny")) for config in configs.values()),
        "seed": seed,
        "parts": shown,
        "claims": claims,
        "predictors": {name: base_predictors(part) for name, part in shown.items()},
    }
    drawn = [
        (_figure_name(claim), claim, render_figure(claim_figure(claim)))
        for claim in study["claims"]
        if claim["mean"] is not None
    ]
    page, markdown = study_page(study, drawn), study_markdown(study)
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "study.json", study)
    for file_name, _, files in drawn:
        save_figure(files, workdir / "figures", file_name)
    write_whole(workdir / "study.md", markdown)
    return write_whole(workdir / "study.html", page)


def read_part(
    name: str,
    members: Sequence[tuple[str, Path]],
    configs: Mapping[str, Mapping[str, Any]],
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[StudyPart, dict[str, dict[str, dict[str, ArmCounts]]]]:
    """Reads the points of one part, keeping counts alone; with them each control's, by control, arm, base.

    `advance` is called with 1 when a point's arms are read, and again when its controls are.

    Raises:
        InputError: as `write_study`.
    """
    arms: dict[str, dict[str, ArmCounts]] = {}
    foreign: dict[str, dict[str, ArmCounts]] = {}
    agreement: dict[str, dict[str, float]] = {}
    controls: dict[str, dict[str, dict[str, ArmCounts]]] = {}
    folder_of: dict[tuple[str, str], tuple[str, Path]] = {}
    for point, folder in members:
        for arm in _run_arms(folder):
            place = (configs[point]["base"], arm)
            if place in folder_of:
                other = folder_of[place][0]
                raise InputError(
                    f"part {name}: points {other} and {point} both hold {arm} of base {place[0]}"
                )
            folder_of[place] = (point, folder)
    originals = {
        (base, arm): (base, original)
        for (base, arm), (point, _) in folder_of.items()
        if (original := (configs[point].get("arms") or {}).get(arm, {}).get("foreign_to", ""))
    }
    held: dict[tuple[str, str], list[PredictionRecord]] = {}  # that a foreign explainer or they wait for

    def records_of(place: tuple[str, str]) -> list[PredictionRecord]:
        if place in held:
            return held.pop(place)
        records = _read_arm(folder_of[place][1], place[1])
        if place in originals.values():
            held[place] = records
        return records

    # Arms in the order of the points; records are read once, counted and let go.
    last_arm = {point: place for place, (point, _) in folder_of.items()}
    for (base, arm), (point, folder) in folder_of.items():
        original = originals.get((base, arm))
        if original is not None and original not in folder_of:
            raise InputError(f"point {point}: {arm} is foreign to {original[1]}, which base {base} lacks")
        if original is not None and base in foreign.get(original[1], {}):
            raise InputError(f"part {name}: {original[1]} of base {base} has two foreign explainers")
        records = records_of((base, arm))
        arms.setdefault(arm, {})[base] = count_records(records)
        end = _agreement_at_end(folder / "metrics.jsonl", arm)
        if end is not None:
            agreement.setdefault(arm, {})[base] = end
        if original is not None:
            foreign.setdefault(original[1], {})[base] = foreign_counts(records_of(original), records)
        if last_arm[point] == (base, arm):
            advance(1)
    for point, folder in members:
        for control, arm, counts in control_counts(folder):
            if control != FOREIGN and arm in arms:
                controls.setdefault(control, {}).setdefault(arm, {})[configs[point]["base"]] = counts
        advance(1)
    return StudyPart(name, arms, foreign, agreement), controls


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error})") from error
    for field in ("part", "base"):
        if not isinstance(config.get(field), str) or not config[field]:
            raise InputError(f"{path} has no field {field!r}: a study's points name their part and base")
    return config


def _run_arms(folder: Path) -> list[str]:
    """The arms that a finished run holds, in the order of its results."""
    return list(json.loads((folder / FINISHED).read_text(encoding="utf-8"))["arms"])


def _read_arm(folder: Path, arm: str) -> list[PredictionRecord]:
    path = arm_folder(folder, arm) / "records.jsonl"
    if not path.exists():
        raise InputError(f"{path} is missing, though results.json names the arm")
    return read_records(path)


def _agreement_at_end(metrics_path: Path, arm: str) -> float | None:
    """Agreement at the last step that every seed logged, the mean over seeds."""
    return agreement_levels(agreement_series(metrics_path, arm) if metrics_path.exists() else {})["end"]


def _figure_name(claim: Mapping[str, Any]) -> str:
    return re.sub(r"[^a-z0-9]+", "_", f"claim {claim['name']} {claim['part']}".lower()).strip("_")
