"""Comparing stored and external models: behaviour, explanations, and the emitter × teacher matrix."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from introspection.checkpoints.names import (
    check_addressed,
    check_loadable,
    meant_steps,
    print_notes,
    tokenizer_of,
)
from introspection.coupling.matrix import Control, coupling_matrix
from introspection.coupling.matrix_results import Matrix
from introspection.errors import InputError
from introspection.models.model import Model
from introspection.probes.behavior import BehaviorConfig, load_readout
from introspection.reports.conclusion import conclusion
from introspection.reports.console import matrix_table, program_table, say, say_thoughts
from introspection.reports.matrix_findings import matrix_cautions
from introspection.reports.page import write_report
from introspection.runs.compare_controls import (
    few_shot_row,
    held_against,
    label_rows,
    labelled_training_items,
    short_of_alignment,
    starts_elsewhere,
)
from introspection.runs.compare_probes import probe_model, probe_rows, readable_items
from introspection.runs.compared_models import (
    COMPUTED,
    Compared,
    Row,
    asked_controls,
    compared_rows,
    run_arms,
    workdirs_of,
)
from introspection.runs.inherited import explanation_room, readout_section, run_sections, task_section
from introspection.runs.overrides import assigned_chat, assigned_section, load_fitting
from introspection.runtime.config import cache_dir, settings
from introspection.runtime.json_values import to_json
from introspection.runtime.mesh import idle_devices
from introspection.runtime.mesh_flag import chosen_mesh
from introspection.runtime.processes import check_shared, first, first_before_others
from introspection.runtime.session import Session
from introspection.runtime.workdir import check_workdir, claim_workdir, with_newer, write_json, write_whole
from introspection.tasks.items import Item
from introspection.tasks.subsets import evenly
from introspection.tasks.task import print_task_notes


@dataclasses.dataclass(frozen=True)
class CompareRequest:
    """The command's arguments."""

    models: tuple[str, ...]
    task: str  # "" is that of the models' runs, or `DEFAULT_TASK`
    data: str = ""  # the user's own raw file or folder; "" is the task's default place
    fields: tuple[str, ...] = ()  # of the task's section, each FIELD=VALUE
    chat: tuple[str, ...] = ()  # chat template options of external models, each FIELD=VALUE
    limit: int = 0  # number of items, evenly spaced; 0 is all
    readout: str = ""  # one of `READOUTS`; "" is that of the models' runs, or generate
    reply_tokens: int = 0  # limit of a generated reply; 0 is that of the models' runs, or the default
    devices: int = 1  # over which batches are split; -1 is all
    controls: tuple[str, ...] = ()  # rows that models are held against: RECIPE or RECIPE=MODEL
    mesh: str = ""  # the flag `--mesh`, in place of `devices`


def compare(request: CompareRequest, workdir: Path, console: Console) -> Path:
    """Probes all named models in one process, and writes the matrix and its page.

    The items are the test items of the models' own runs, or of the task's defaults, with the request's data
    and fields. Models with the same fingerprint and chat format count as one.

    Returns:
      The page's path.

    Raises:
      InputError: a model, data or field does not exist, or the models' runs used different tasks or readouts.
    """
    cache, limit = cache_dir(), request.limit
    check_shared(cache)
    evenly((), limit)  # checks the limit before anything is loaded
    chat, controls = assigned_chat(request.chat), asked_controls(request.controls)
    rows = first(lambda: compared_rows(request.models, controls, cache, chat))
    stored = [one for row in rows for one in row.models]
    check_addressed(stored, chat, "--chat")
    for one in stored:
        check_loadable(one)  # all of them before the first is probed
    print_notes(stored, console)
    own = task_section(stored, request.task)
    reading = readout_section(stored, request.readout, request.reply_tokens)
    asked, theirs = assigned_section(own, request.data, request.fields), run_sections(stored, "task")
    section, task = first_before_others(
        lambda: load_fitting(asked, request.fields, cache, [one for _, one in theirs])
    )
    print_task_notes(task, console)
    config = {
        "compare": list(request.models),
        **({"controls": list(request.controls)} if controls else {}),
        "task": section,
        "template_version": task.template_version,  # of `jsonl`, it includes the file's content
        "behavior": reading,
        "chat": dataclasses.asdict(chat),
        "limit": limit,
        "stored": meant_steps(stored),
    }
    first(lambda: check_workdir(workdir, config, with_newer(config, "stored")))
    if any(one != section for _, one in theirs):
        console.print(
            "warning: these are not the items that the models' runs held out: the models may have been "
            "trained on some of them"
        )
    computed = [recipe for recipe in controls if recipe in COMPUTED]
    training = {one: labelled_training_items(one, task) for one in workdirs_of(rows) if computed}
    task = dataclasses.replace(task, splits={"test": evenly(task.splits["test"], limit)})
    if first((workdir / "matrix.json").exists):
        console.print(f"{workdir} is finished; delete the folder to run again")
        report = workdir / "report.html"
        # If interrupted between the two.
        return first(lambda: report if report.exists() else write_report(workdir))
    session = Session(chosen_mesh(request.mesh, devices=request.devices), console=console)
    if idle := idle_devices(session.mesh, "--devices"):
        say(console, idle)
    with jax.set_mesh(session.mesh):
        task = readable_items(stored, task, reading, console)
        items = task.splits["test"]
        way = load_readout(settings(BehaviorConfig, reading), task, session)
        tokens = explanation_room(stored)
        thoughts = {one.name: tokenizer_of(one).thought for one in stored}
        notes = [*say_thoughts(console, thoughts, way.kind, way.tokens)]

        def probe(name: str, model: Model, fingerprint: str) -> Compared:
            return probe_model(name, model, fingerprint, items, task, way, tokens, session)

        def ask_again(row: Row, model: Model) -> tuple[Row, Compared] | None:
            if row.recipe != "initial" or row.workdir is None or "few_shot" not in controls:
                return None
            try:
                return few_shot_row(row, model, items, training[row.workdir].explained, task, tokens, session)
            except InputError as error:
                notes.append(str(error))
                say(console, notes[-1])
                return None

        compared, shown = probe_rows(rows, probe, ask_again, session)

    def write() -> Path:
        for control, result in label_rows(training, items, task, [*controls]):
            compared[control.name] = result
            shown.append(control)
        return _write(compared, shown, items, notes, workdir, config, session)

    return first(write)


def _write(
    compared: Mapping[str, Compared],
    shown: Sequence[Row],
    items: Sequence[Item],
    notes: Sequence[str],
    workdir: Path,
    config: dict[str, Any],
    session: Session,
) -> Path:
    """The files of a comparison, and what it says; returns the page's path."""
    console = session.console
    notes = [*notes, *filter(None, map(short_of_alignment, shown))]
    notes += [one.cut for one in compared.values() if one.cut]
    matrix = dataclasses.replace(compared_matrix(compared, shown, items), notes=tuple(notes))
    claim_workdir(workdir, config, with_newer(config, "stored"))
    write_items(workdir / "compared.jsonl", items, compared)
    write_json(workdir / "matrix.json", to_json(matrix))
    console.print(matrix_table(matrix))
    for caution in matrix_cautions(matrix):
        say(console, f"caution: {caution}")
    if matrix.conclusion is not None:
        say(console, matrix.conclusion.sentence)
    console.print(program_table(session.programs))
    return write_report(workdir)


def compared_matrix(compared: Mapping[str, Compared], rows: Sequence[Row], items: Sequence[Item]) -> Matrix:
    """The matrix of rows, whose models and computed controls are `compared`, and what one may conclude.

    A control is held against the models that it is the control of (`held_against`).
    """
    models = [row for row in rows if not row.recipe]
    arms = {one: run_arms(one) for one in workdirs_of(models)}
    starts = {
        run: row.name for row in rows if row.recipe == "initial" for run in (row.workdir, *row.same_in) if run
    }
    teachers = {one for row in rows if row.recipe in ("", "initial") for one in row.members}
    matrix = coupling_matrix(
        {name: [explanation for _, explanation in result.said] for name, result in compared.items()},
        {
            name: result.decisions
            for name, result in compared.items()
            if name in teachers and result.decisions
        },
        [item.group for item in items],
        np.random.default_rng(0),
        members={row.name: row.members for row in rows},
        controls={
            row.name: Control(row.recipe, held_against(row, models, arms)) for row in rows if row.recipe
        },
        starts={
            row.name: starts[row.workdir]
            for row in models
            if row.workdir in starts and not starts_elsewhere(row, arms)
        },
    )
    matrix = dataclasses.replace(
        matrix,
        fingerprints={name: one.fingerprint for name, one in compared.items() if one.fingerprint},
        seeds={row.name: row.seeds for row in rows if len(row.seeds) > 1},
    )
    return dataclasses.replace(matrix, conclusion=conclusion(matrix))


def write_items(path: Path, items: Sequence[Item], results: Mapping[str, Compared]) -> None:
    """One line per model and item: enough to recompute the matrix."""
    lines = []
    for name, result in results.items():
        decisions = result.decisions or [None] * len(items)
        for item, decided, (text, explanation) in zip(items, decisions, result.said, strict=True):
            lines.append(
                {
                    "model": name,
                    "id": item.id,
                    "group": item.group,
                    "cue_kind": item.cue_kind,
                    "decisions": decided and decided._asdict(),
                    "explanation": {"text": text, **explanation._asdict()},
                }
            )
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_whole(path, text)
