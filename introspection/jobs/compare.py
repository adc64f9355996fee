"""Comparing stored models: what each does, what each says, and the emitter × teacher matrix."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from introspection.checkpoints.models import (
    TOKENIZER,
    ModelCard,
    StoredModel,
    find_models,
    load_model,
    model_fingerprint,
)
from introspection.coupling.matrix import coupling_matrix
from introspection.errors import InputError
from introspection.jobs.items import default_section, load_task, within_context
from introspection.jobs.results import format_program_table
from introspection.jobs.settings import check_workdir, claim_workdir, write_json
from introspection.models.model import Model
from introspection.probes.behavior import decisions, probe_behavior
from introspection.probes.explanation import decode_explanations
from introspection.reports.page import write_report
from introspection.runtime.mesh import MeshConfig, make_mesh
from introspection.runtime.programs import ProgramTable
from introspection.runtime.progress import progress_bar
from introspection.tasks.items import Decisions, Explanation, Item
from introspection.tasks.task import Task
from introspection.text.tokenizer import load_tokenizer

EXPLANATION_TOKENS = 8  # a decoded explanation has at most so many
SKIPPED_SHARE = 0.01  # of items that may be longer than a model's context


@dataclasses.dataclass(frozen=True)
class Compared:
    """One model's answers to the same items."""

    fingerprint: str
    decisions: list[Decisions]
    said: list[tuple[str, Explanation]]


def compare(names: Sequence[str], task_name: str, workdir: Path, limit: int, console: Console) -> Path:
    """Probes every stored model that the names mean, in one process, and writes the matrix and its page.

    The items are the test items of the models' own runs; models of one fingerprint are one model. `limit`
    takes that many items (0: all), evenly.

    Raises:
      InputError: no such model, or models of runs that asked different tasks.
    """
    stored = [found for name in names for found in find_models(name)]
    section = task_section(stored, task_name)
    config = {"compare": list(names), "task": section, "limit": limit}
    check_workdir(workdir, config)
    task, _ = load_task({"task": section, "cache_dir": ""})
    evenly((), limit)  # a bad limit is refused before anything is loaded
    if (workdir / "matrix.json").exists():
        console.print(f"{workdir} is finished; its matrix stands (delete the folder to run again)")
        report = workdir / "report.html"
        return report if report.exists() else write_report(workdir)  # killed just before
    mesh, programs = make_mesh(MeshConfig()), ProgramTable()
    results: dict[str, Compared] = {}
    with jax.set_mesh(mesh):
        for one in stored:
            limit_tokens = ModelCard.read(one.store).model.context_length
            tokenizer = load_tokenizer(one.workdir / TOKENIZER)
            task = within_context(task, tokenizer, limit_tokens, SKIPPED_SHARE, console)
        items = evenly(task.splits["test"], limit)
        names_by_fingerprint: dict[str, str] = {}
        for one in stored:  # one model in memory at a time
            model = load_model(one, mesh)
            fingerprint = model_fingerprint(model)
            same = names_by_fingerprint.setdefault(fingerprint, one.name)
            if same != one.name:
                console.print(f"{one.name} is the same model as {same}: shown once", highlight=False)
                continue
            results[one.name] = probe_model(
                one.name, model, fingerprint, items, task, programs, mesh, console
            )
    matrix = coupling_matrix(
        {name: [explanation for _, explanation in result.said] for name, result in results.items()},
        {name: result.decisions for name, result in results.items()},
        [item.group for item in items],
        np.random.default_rng(0),
    )
    matrix["fingerprints"] = {name: result.fingerprint for name, result in results.items()}
    claim_workdir(workdir, config)
    write_items(workdir / "compared.jsonl", items, results)
    write_json(workdir / "matrix.json", matrix)
    console.print(format_matrix(matrix))
    console.print(format_program_table(programs))
    return write_report(workdir)


def task_section(stored: Sequence[StoredModel], task_name: str) -> dict[str, Any]:
    """The `task` section of the config that the models' runs share; the task's defaults if none has one."""
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for one in stored:
        path = one.workdir / "config.json"
        section = json.loads(path.read_text(encoding="utf-8")).get("task") if path.is_file() else None
        if section is not None:
            found.setdefault(json.dumps(section, sort_keys=True), (one.workdir, section))
    if len(found) > 1:
        (first, _), (second, _) = list(found.values())[:2]
        raise InputError(f"{first} and {second} asked different items (config.task differs): not comparable")
    section = next(iter(found.values()))[1] if found else default_section(task_name)
    if section["name"] != task_name:
        raise InputError(f"--task={task_name}: these models were trained on {section['name']}")
    return section


def evenly(items: Sequence[Item], limit: int) -> tuple[Item, ...]:
    """At most `limit` items (0: all), taken evenly so that all groups and cue kinds stay in."""
    if limit < 0:
        raise InputError(f"--limit is {limit}; it must be 0 (all items) or more")
    if not limit or limit >= len(items):
        return tuple(items)
    return tuple(items[i] for i in np.linspace(0, len(items) - 1, limit).astype(int))


def probe_model(
    name: str,
    model: Model,
    fingerprint: str,
    items: Sequence[Item],
    task: Task,
    programs: ProgramTable,
    mesh: jax.sharding.Mesh,
    console: Console,
) -> Compared:
    with progress_bar(console, f"probing {name}", 3 * len(items)) as advance:
        decided = decisions(probe_behavior(model, items, programs, mesh, advance), items)
        said = decode_explanations(model, items, task.grammar, EXPLANATION_TOKENS, programs, mesh, advance)
    return Compared(fingerprint, decided, said)


def write_items(path: Path, items: Sequence[Item], results: dict[str, Compared]) -> None:
    """One line a model and item: enough to recompute the matrix."""
    lines = []
    for name, result in results.items():
        for item, decided, (text, explanation) in zip(items, result.decisions, result.said, strict=True):
            lines.append(
                {
                    "model": name,
                    "id": item.id,
                    "group": item.group,
                    "cue_kind": item.cue_kind,
                    "decisions": decided._asdict(),
                    "explanation": {"text": text, **explanation._asdict()},
                }
            )
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")


def format_matrix(matrix: dict[str, Any]) -> Table:
    """Exact match in percent, emitters down, teachers across."""
    table = Table(
        title=f"Explanations of (down) that match the behaviour of (across), percent of {matrix['n']} items",
        title_justify="left",
    )
    table.add_column("emitter")
    for index in range(1, len(matrix["teachers"]) + 1):
        table.add_column(str(index), justify="right")
    for index, (name, row) in enumerate(zip(matrix["emitters"], matrix["exact_match"], strict=True), start=1):
        table.add_row(f"{index} {name}", *(f"{100 * value:.1f}" for value in row))
    return table
