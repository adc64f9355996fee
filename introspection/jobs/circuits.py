"""Which parts a study's bases use, for what they do and for what they say of it: once a base, then kept."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from introspection.checkpoints.models import ModelCard, StoredModel, load_model, model_fingerprint
from introspection.coupling.overlap import effect_overlap
from introspection.errors import InputError, RunError
from introspection.jobs.compare import evenly
from introspection.jobs.items import load_task, needed_tokens
from introspection.jobs.settings import write_json
from introspection.models.model import Model
from introspection.probes.ablation import ablation_effects, parts
from introspection.runtime.mesh import MeshConfig, make_mesh
from introspection.runtime.programs import ProgramTable
from introspection.runtime.progress import progress_bar
from introspection.tasks.items import Item
from introspection.tasks.task import Task

CIRCUITS = "circuits.json"  # in a point's workdir
MOST_PARTS = 128  # every part is a probe of all items: more than that is no small question any more
# What the numbers depend on beside the point itself; those kept under other settings are not used.
SETTINGS = {"ablation": "zero", "split": "test", "items": 200, "seed": 0, "version": 1}


def study_circuits(
    points: Sequence[tuple[str, Path]], configs: Mapping[str, Mapping[str, Any]], console: Console
) -> dict[str, dict[str, dict[str, Any] | None]]:
    """Each base's circuits, by part of the study and base; None, said on the console, where they can't be.

    They are those of the model that training starts from, which all points of a base in one part share.
    What is measured is kept in the point's workdir as `circuits.json`.
    """
    folders: dict[str, dict[str, list[Path]]] = {}
    for name, folder in points:
        by_base = folders.setdefault(configs[name]["part"], {})
        by_base.setdefault(configs[name]["base"], []).append(folder)
    mesh, programs = make_mesh(MeshConfig()), ProgramTable()
    with jax.set_mesh(mesh):
        return {
            part: {base: _base_circuits(base, own, programs, mesh, console) for base, own in by_base.items()}
            for part, by_base in folders.items()
        }


def _base_circuits(
    base: str, folders: Sequence[Path], programs: ProgramTable, mesh: jax.sharding.Mesh, console: Console
) -> dict[str, Any] | None:
    """What a point of the base has kept, or else what its first point that can tells."""
    for folder in folders:
        kept = read_circuits(folder)
        if kept is not None:
            return kept
    reasons = []
    for folder in folders:
        try:
            found = measure_circuits(base, folder, programs, mesh, console)
        except (InputError, RunError) as error:
            reasons.append(str(error))
            continue
        write_json(folder / CIRCUITS, found)
        return found
    console.print(f"study: no circuits of {base}: {reasons[0]}", highlight=False, markup=False)
    return None


def read_circuits(folder: Path) -> dict[str, Any] | None:
    """What a point has kept; None if that is nothing, damaged or of other settings."""
    try:
        kept = json.loads((folder / CIRCUITS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) and kept.get("settings") == SETTINGS else None


def measure_circuits(
    base: str, folder: Path, programs: ProgramTable, mesh: jax.sharding.Mesh, console: Console
) -> dict[str, Any]:
    """The effects of all parts (nats, means over items), their overlap and its reliabilities.

    Raises:
        InputError: the workdir lacks its config's task, its tokenizer or its initial model, or that model
            has too many parts.
        RunError: the checkpoint is damaged.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "task" not in config:
        raise InputError(f"{folder / 'config.json'} has no section 'task'")
    model = initial_model(folder, mesh)
    found = parts(model.config)
    if len(found) > MOST_PARTS:
        raise InputError(f"{folder}: its model has {len(found)} parts, more than the {MOST_PARTS} tried")
    task, _ = load_task(config)
    items = chosen_items(task, model)
    with progress_bar(console, f"circuits of {base}", len(found)) as advance:
        effects = ablation_effects(model, items, task.grammar, programs, mesh, advance)
    overlap = effect_overlap(
        effects.behavior,
        effects.explanation,
        [part.block for part in found],
        [item.group for item in items],
        np.random.default_rng(SETTINGS["seed"]),
    )
    means = {name: values.mean(axis=1).tolist() for name, values in effects._asdict().items()}
    return {
        "settings": SETTINGS,
        "fingerprint": model_fingerprint(model),
        "n": len(items),
        **dataclasses.asdict(overlap),
        "ceiling": overlap.ceiling,
        "parts": [part.name for part in found],
        "effects": means,
    }


def initial_model(folder: Path, mesh: jax.sharding.Mesh) -> Model:
    """What a run's arms start from. Raises InputError if its workdir does not hold it."""
    stored = StoredModel(folder, "initial", 0, 0)
    card = ModelCard.read(stored.store)
    return load_model(dataclasses.replace(stored, seed=card.seeds[0]), mesh)


def chosen_items(task: Task, model: Model) -> list[Item]:
    """Test items, taken evenly, but for those that the model can't read. Raises InputError if all are."""
    limit = model.config.context_length
    items = evenly(task.splits["test"], SETTINGS["items"])
    items = [item for item in items if needed_tokens(item, task, model.tokenizer) <= limit]
    if not items:
        raise InputError(f"no test item fits the model's context of {limit} tokens")
    return items
