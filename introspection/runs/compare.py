"""Comparing stored and external models: behaviour, explanations, and the emitter × teacher matrix."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from introspection.checkpoints.names import (
    StoredModel,
    check_addressed,
    check_loadable,
    context_length,
    find_models,
    load_model,
    model_fingerprint,
    model_path,
    print_notes,
    tokenizer_of,
)
from introspection.coupling.matrix import coupling_matrix
from introspection.errors import InputError
from introspection.models.model import Model
from introspection.probes.behavior import BehaviorConfig, Readout, load_readout, read_behavior
from introspection.probes.context import (
    check_candidates,
    longest_explanation,
    within_context,
)
from introspection.probes.explanation import decode_explanations
from introspection.reports.console import matrix_table, program_table, say, say_thoughts
from introspection.reports.matrix_findings import matrix_cautions
from introspection.reports.page import write_report
from introspection.runs.inherited import explanation_room, readout_section, run_sections, task_section
from introspection.runs.models import say_cut
from introspection.runs.overrides import assigned_chat, assigned_section, load_fitting
from introspection.runtime.config import cache_dir, settings
from introspection.runtime.json_values import to_json
from introspection.runtime.mesh import data_mesh, idle_devices
from introspection.runtime.progress import progress_bar
from introspection.runtime.session import Session
from introspection.runtime.workdir import check_workdir, claim_workdir, write_json, write_whole
from introspection.tasks.items import Decisions, Explanation, Item
from introspection.tasks.subsets import evenly
from introspection.tasks.task import Task, print_task_notes
from introspection.text.tokenizer import ChatTokenizer, same_reading
from introspection.weights.pretrained import PretrainedModel

SKIPPED_SHARE = 0.01  # maximum share of items left out for exceeding a model's context


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


@dataclasses.dataclass(frozen=True)
class Compared:
    """One model's results, in the order of the items."""

    fingerprint: str
    decisions: list[Decisions]
    said: list[tuple[str, Explanation]]  # the text of an explanation, and the explanation
    cut: str  # a warning if many replies have no end


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
    evenly((), limit)  # checks the limit before anything is loaded
    chat = assigned_chat(request.chat)
    stored = [found for name in request.models for found in find_models(model_path(name, cache), chat)]
    check_addressed(stored, chat, "--chat")
    for one in stored:
        check_loadable(one)  # all of them before the first is probed
    print_notes(stored, console)
    own = task_section(stored, request.task)
    reading = readout_section(stored, request.readout, request.reply_tokens)
    asked, theirs = assigned_section(own, request.data, request.fields), run_sections(stored, "task")
    section, task = load_fitting(asked, request.fields, cache, [one for _, one in theirs])
    print_task_notes(task, console)
    config = {
        "compare": list(request.models),
        "task": section,
        "template_version": task.template_version,  # includes the content of a user's file
        "behavior": reading,
        "chat": dataclasses.asdict(chat),
        "limit": limit,
    }
    check_workdir(workdir, config)
    if any(one != section for _, one in theirs):
        console.print(
            "warning: these are not the items that the models' runs held out: the models may have been "
            "trained on some of them"
        )
    task = dataclasses.replace(task, splits={"test": task.splits["test"]})
    if (workdir / "matrix.json").exists():
        console.print(f"{workdir} is finished; delete the folder to run again")
        report = workdir / "report.html"
        return report if report.exists() else write_report(workdir)  # if interrupted between the two
    session, shown = Session(data_mesh(request.devices), console=console), shown_names(stored)
    if idle := idle_devices(session.mesh, "--devices"):
        say(console, idle)
    results: dict[str, Compared] = {}
    with jax.set_mesh(session.mesh):
        for one, name in zip(stored, shown, strict=True):
            task = readable_items(one, name, task, reading, console)
        items = evenly(task.splits["test"], limit)
        tokens = explanation_room(stored)
        way = load_readout(settings(BehaviorConfig, reading), task, session)
        tokenizers: dict[str, ChatTokenizer] = {}
        thoughts = {name: tokenizer_of(one).thought for one, name in zip(stored, shown, strict=True)}
        notes = say_thoughts(console, thoughts, way.kind, way.tokens)
        for one, name in zip(stored, shown, strict=True):  # one model in memory at a time
            if name in results:
                continue  # named twice
            with progress_bar(console, f"loading {name}", 1):
                model = load_model(one, session.mesh)
            fingerprint = model_fingerprint(model)
            same = [
                other
                for other, result in results.items()
                if result.fingerprint == fingerprint and same_reading(tokenizers[other], model.tokenizer)
            ]
            if same:
                console.print(
                    f"{name} is the same model as {same[0]}: shown once", highlight=False, soft_wrap=True
                )
                continue
            tokenizers[name] = model.tokenizer
            results[name] = probe_model(name, model, fingerprint, items, task, way, tokens, session)
    matrix = coupling_matrix(
        {name: [explanation for _, explanation in result.said] for name, result in results.items()},
        {name: result.decisions for name, result in results.items()},
        [item.group for item in items],
        np.random.default_rng(0),
    )
    fingerprints = {name: result.fingerprint for name, result in results.items()}
    cut = tuple(result.cut for result in results.values() if result.cut)
    matrix = dataclasses.replace(matrix, fingerprints=fingerprints, notes=notes + cut)
    claim_workdir(workdir, config)
    write_items(workdir / "compared.jsonl", items, results)
    write_json(workdir / "matrix.json", to_json(matrix))
    console.print(matrix_table(matrix))
    for caution in matrix_cautions(matrix):
        say(console, f"caution: {caution}")
    console.print(program_table(session.programs))
    return write_report(workdir)


def shown_names(stored: Sequence[StoredModel | PretrainedModel]) -> list[str]:
    """Each model's name, with the full path of its workdir where the folder's name is ambiguous."""
    models = {(one.name, one.workdir if isinstance(one, StoredModel) else None) for one in stored}
    count = Counter(name for name, _ in models)
    return [
        str(one.workdir.parent / one.name)
        if isinstance(one, StoredModel) and count[one.name] > 1
        else one.name
        for one in stored
    ]


def readable_items(
    one: StoredModel | PretrainedModel,
    name: str,
    task: Task,
    reading: Mapping[str, Any],
    console: Console,
) -> Task:
    """The task without the items that exceed a model's context; `reading` is a `behavior` section.

    Raises:
      InputError: the tokenizer can't encode a candidate, or too many items are too long; names the model.
    """
    reply = reading["reply_tokens"] if reading["readout"] == "generate" else 0
    try:
        tokenizer = tokenizer_of(one)
        check_candidates(tokenizer, task.splits["test"])
        if reading["readout"] != "generate":
            task.check_scored(tokenizer.encode_reply)
        task = within_context(task, tokenizer, context_length(one), SKIPPED_SHARE, console, reply)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return task


def probe_model(
    name: str,
    model: Model,
    fingerprint: str,
    items: Sequence[Item],
    task: Task,
    readout: Readout,
    explanation_tokens: int,
    session: Session,
) -> Compared:
    """One model's decisions and explanations, allowing as many tokens as the longest right explanation."""
    tokens = max(longest_explanation(items, task, model.tokenizer), explanation_tokens)
    with progress_bar(session.console, f"probing {name}", 3 * len(items)) as advance:
        behaviors, decided = read_behavior(model, items, readout, session, advance)
        said = decode_explanations(model, items, task.grammar, tokens, session, advance)
    return Compared(fingerprint, decided, said, say_cut(session.console, name, model, behaviors, readout))


def write_items(path: Path, items: Sequence[Item], results: dict[str, Compared]) -> None:
    """One line per model and item: enough to recompute the matrix."""
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
    write_whole(path, text)
