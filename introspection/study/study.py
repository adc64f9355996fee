"""A study over several bases, from its points' workdirs: tables, claims, figures and a page."""

import re
from collections.abc import Callable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from rich.console import Console

from introspection.coupling.askable import shuffled_arm
from introspection.coupling.records import PredictionRecord, read_records
from introspection.coupling.training_log import TrainingLog, read_training_logs
from introspection.errors import InputError
from introspection.reports.figure_style import render_figure, save_figure
from introspection.runs.assemble import arm_folder
from introspection.runs.config import read_config
from introspection.runs.run import FINISHED, is_finished
from introspection.runtime.json_files import parsed, read_object
from introspection.runtime.progress import progress_bar
from introspection.runtime.workdir import write_json, write_whole
from introspection.study.circuits import study_circuits
from introspection.study.claims import evaluate_claims
from introspection.study.counts import (
    ArmCounts,
    control_counts,
    count_records,
    emitter_counts,
    explanations_of,
)
from introspection.study.figure_numbers import claim_numbers
from introspection.study.figures import claim_figure
from introspection.study.page import study_markdown, study_page
from introspection.study.parts import ALIGNED, FOREIGN, SHOWN, SHUFFLED, StudyPart, is_static, part_results
from introspection.study.predictors import base_predictors
from introspection.study.verdicts import CLAIMS
from introspection.tasks.items import Explanation


def write_study(
    workdir: Path, points: Sequence[tuple[str, Path]], console: Console, *, seed: int = 0
) -> Path:
    """Writes `study.json`, `study.md`, `study.html` and `figures/` from the finished points.

    Everything is computed and drawn before any of these is written; only circuits and control counts are
    cached in the points' workdirs first (`study.circuits`, `study.counts`). The order of the points affects
    only the order of parts and arms in tables, and resamples depend only on `seed`.

    Args:
        points: name and workdir of each; those without results.json are listed as unfinished.

    Returns:
        The page's path.

    Raises:
        InputError: no point is finished, a config lacks `part` or `base`, two points have the same arm of a
            base, a foreign explainer's arm is missing, or arms to compare have different items or seeds.
    """
    finished = [(name, folder) for name, folder in points if is_finished(folder)]
    if not finished:
        raise InputError(f"{workdir}: no point has results yet; run the sweep first")
    configs = {name: _read_config(folder) for name, folder in finished}
    by_part: dict[str, list[tuple[str, Path]]] = {}
    for name, folder in finished:
        by_part.setdefault(configs[name]["part"], []).append((name, folder))
    parts, shown = [], {}
    for part_name, members in by_part.items():
        console.print(f"study: part {part_name}, {len(members)} points", highlight=False, markup=False)
        # The first read of a point of the usual size takes half a minute: one line per explanation.
        with progress_bar(console, f"study: reading {part_name}", 2 * len(members)) as advance:
            part = read_part(part_name, members, configs, advance)
        shown[part_name] = part_results(part, seed)
        parts.append((part, shown[part_name]))
        console.print(
            f"study: part {part_name}: {shown[part_name]['askable']['words']}", highlight=False, markup=False
        )
    with progress_bar(console, "study: claims", len(CLAIMS)) as advance:
        claims = evaluate_claims(parts, seed, advance=advance)
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
        (_figure_name(claim), claim, render_figure(claim_figure(claim), claim_numbers(claim)))
        for claim in study["claims"]
        if claim["mean"] is not None or claim["points"]
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
) -> StudyPart:
    """Reads the points of one part; only counts stay in memory.

    A base's records are read one arm at a time; explanations of its arms with shuffled labels and of its
    foreign explainers are kept until all its arms are read. An arm is held against shuffled labels of its own
    recipe where these ran. These arms replace controls of the same names in
    `controls.jsonl`. `advance(1)` is called after a point's training logs and after its controls.

    Raises:
        InputError: as `write_study`.
    """
    folder_of = _places(name, members, configs)
    bases: dict[str, list[str]] = {}
    for base, arm in folder_of:
        bases.setdefault(base, []).append(arm)
    arms: dict[str, dict[str, ArmCounts]] = {arm: {} for _, arm in folder_of}
    references: dict[str, dict[str, dict[str, ArmCounts]]] = {arm: {} for arm in arms}
    training: dict[str, dict[str, TrainingLog]] = {arm: {} for arm in arms}
    for base, own in bases.items():
        explainers = _foreign_explainers(name, base, own, folder_of, configs)
        shuffled_of = _shuffled_arms(base, own, folder_of, configs)
        needed = {arm: {shuffled_of[arm]} if arm in shuffled_of else set() for arm in own}
        for (arm, _), explainer in explainers.items():
            needed[arm].add(explainer)
        emitters = set().union(*needed.values())
        said: dict[str, dict[tuple[int, str], Explanation]] = {}
        # Emitters come before the arms that they are references for, which may be emitters, too.
        for arm in _in_order(f"part {name}: base {base}", needed):
            records = _read_arm(folder_of[base, arm][1], arm)
            arms[arm][base] = count_records(records)
            if arm in shuffled_of:
                counts = emitter_counts(records, said[shuffled_of[arm]], shuffled_of[arm])
                references[arm].setdefault(SHUFFLED, {})[base] = counts
            for kind in (FOREIGN, ALIGNED, SHOWN):
                if other := explainers.get((arm, kind)):
                    references[arm].setdefault(kind, {})[base] = emitter_counts(records, said[other], other)
            if arm in emitters:
                said[arm] = explanations_of(records)
    for point, folder in members:
        base, own = configs[point]["base"], _run_arms(folder)
        for arm, log in read_training_logs(folder / "metrics.jsonl", own).items():
            training[arm][base] = log
        advance(1)
        for control, arm, counts in control_counts(folder):
            if is_static(control) and arm in arms:
                references[arm].setdefault(control, {})[base] = counts
        advance(1)
    return StudyPart(name, arms, references, training)


def _in_order(place: str, needed: Mapping[str, set[str]]) -> list[str]:
    """Arms after those that they are held against. Raises InputError if these go in a circle."""
    try:
        return list(TopologicalSorter(needed).static_order())
    except CycleError as error:
        raise InputError(f"{place}: arms are references of each other: {', '.join(error.args[1])}") from error


def _places(
    name: str, members: Sequence[tuple[str, Path]], configs: Mapping[str, Mapping[str, Any]]
) -> dict[tuple[str, str], tuple[str, Path]]:
    """The point and folder of every base's arms, in the order of the points."""
    found: dict[tuple[str, str], tuple[str, Path]] = {}
    for point, folder in members:
        for arm in _run_arms(folder):
            place = (configs[point]["base"], arm)
            if place in found:
                raise InputError(
                    f"part {name}: points {found[place][0]} and {point} both have arm {arm} of base"
                    f" {place[0]}; leave one of them out"
                )
            found[place] = (point, folder)
    return found


def _shuffled_arms(
    base: str,
    arms: Sequence[str],
    folder_of: Mapping[tuple[str, str], tuple[str, Path]],
    configs: Mapping[str, Mapping[str, Any]],
) -> dict[str, str]:
    """The arm with shuffled labels that each other arm of a base is held against, where there is one."""
    recipes: dict[str, Any] = {}
    for arm in arms:
        try:
            recipes[arm] = read_config(configs[folder_of[base, arm][0]]).arms[arm]
        except (InputError, KeyError):  # of a run before some field: its arm is known by its name
            recipes = {}
            break
    found = {arm: (shuffled_arm(recipes, arm) if recipes else None) or SHUFFLED for arm in arms}

    def is_shuffled(arm: str) -> bool:
        arms = configs[folder_of[base, arm][0]].get("arms") or {}
        return bool((arms.get(arm) or {}).get("shuffle_labels"))

    return {
        arm: shuffled
        for arm, shuffled in found.items()
        if shuffled in arms and arm != shuffled and not is_shuffled(arm)
    }


def _foreign_explainers(
    name: str,
    base: str,
    arms: Sequence[str],
    folder_of: Mapping[tuple[str, str], tuple[str, Path]],
    configs: Mapping[str, Mapping[str, Any]],
) -> dict[tuple[str, str], str]:
    """The foreign explainers of a base, by the arm that they are foreign to and their kind.

    One whose alignment fell short is left out: no verdict rests on it.
    """
    found: dict[tuple[str, str], str] = {}
    for arm in arms:
        point, folder = folder_of[base, arm]
        fields = (configs[point].get("arms") or {}).get(arm, {})
        original, is_aligned = fields.get("foreign_to", ""), bool(fields.get("aligned"))
        kind = SHOWN if fields.get("shown") else ALIGNED if is_aligned else FOREIGN
        if not original or (is_aligned and not _is_aligned(folder)):
            continue
        if original not in arms:
            raise InputError(
                f"point {point}: {arm} is foreign to {original}, but no point has this arm of base {base}"
            )
        if (original, kind) in found:
            raise InputError(f"part {name}: {original} of base {base} has two foreign explainers")
        found[original, kind] = arm
    return found


def _is_aligned(folder: Path) -> bool:
    """Whether the alignment of a finished run reached its agreement."""
    path = folder / FINISHED
    fields = read_object(path)
    return parsed(path, lambda: bool(fields["alignment"]["reached"]))


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    config = read_object(path)
    for field in ("part", "base"):
        if not isinstance(config.get(field), str) or not config[field]:
            raise InputError(f"{path}: set config.{field}; a point of a study names its part and base")
    return config


def _run_arms(folder: Path) -> list[str]:
    """A finished run's arms, in the order of its results."""
    path = folder / FINISHED
    fields = read_object(path)
    return parsed(path, lambda: list(fields["arms"]))


def _read_arm(folder: Path, arm: str) -> list[PredictionRecord]:
    path = arm_folder(folder, arm) / "records.jsonl"
    if not path.exists():
        raise InputError(f"{path} is missing, though {FINISHED} lists arm {arm}; run this point again")
    return read_records(path)


def _figure_name(claim: Mapping[str, Any]) -> str:
    return re.sub(r"[^a-z0-9]+", "_", f"claim {claim['name']} {claim['part']}".lower()).strip("_")
