"""Probes a task on a model: `hygiene.json`, its page, and every item's behaviour."""

import dataclasses
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from introspection.checkpoints.names import (
    StoredModel,
    context_length,
    load_model,
    meant_steps,
    model_fingerprint,
    notes_of,
    tokenizer_of,
)
from introspection.errors import InputError
from introspection.hygiene.findings import hygiene_cautions
from introspection.hygiene.judge_agreement import judge_report
from introspection.hygiene.page import HYGIENE, write_hygiene_page
from introspection.hygiene.report import hygiene_report
from introspection.hygiene.request import ProbeRequest, find_model, probed_task
from introspection.hygiene.survey import evenly_by_question, survey, token_lengths
from introspection.models.model import Model
from introspection.probes.behavior import (
    BehaviorConfig,
    Probe,
    Readout,
    load_readout,
    read_behavior,
    request_count,
)
from introspection.probes.context import check_candidates, token_counter
from introspection.probes.decoding import end_tokens
from introspection.probes.judges import PhraseJudge
from introspection.probes.scored import Behavior, probe_behavior
from introspection.reports.console import program_table, say, say_thoughts
from introspection.runs.assemble import VERSIONED
from introspection.runs.inherited import readout_section
from introspection.runs.overrides import assigned_chat
from introspection.runtime.config import settings
from introspection.runtime.mesh import idle_devices
from introspection.runtime.mesh_flag import chosen_mesh
from introspection.runtime.processes import first
from introspection.runtime.progress import progress_bar
from introspection.runtime.session import Session
from introspection.runtime.workdir import check_workdir, claim_workdir, with_newer, write_json, write_whole
from introspection.tasks.items import Item
from introspection.tasks.registry import TASKS, section_settings
from introspection.tasks.task import Task, print_task_notes
from introspection.weights.pretrained import PretrainedModel

COUNTED = 256  # items whose tokens are counted at once
SPLIT = "test"


def probe(request: ProbeRequest, workdir: Path, console: Console) -> Path:
    """Asks a model about a task's test items and writes the hygiene report; returns its page's path.

    Raises:
      InputError: the task, the model or the workdir is unusable; then nothing is written.
    """
    found = find_model(request)
    section, task = probed_task(request, found)
    print_task_notes(task, console)
    reading = probed_readout(request, found, task.splits[SPLIT])
    config = {
        "probe": request.model,
        "task": section,
        "template_version": task.template_version,  # of `jsonl`, it includes the file's content
        "behavior": reading,
        "chat": dataclasses.asdict(assigned_chat(request.chat)),
        "limit": request.limit,
        "margin": request.margin,
        "stored": meant_steps([found]),
        "self_knowledge": request.self_knowledge,
    }
    first(lambda: check_workdir(workdir, config, with_newer(config, "stored", "self_knowledge")))
    if first((workdir / HYGIENE).exists):
        console.print(f"{workdir} is finished; delete the folder to probe again")
        return first(lambda: write_hygiene_page(workdir))
    chosen = evenly_by_question(task.splits[SPLIT], request.limit)
    items, too_long = readable(chosen, found, task, reading, console)
    session = asking_session(request, console)
    rng, judges = np.random.default_rng(0), None
    with jax.set_mesh(session.mesh):
        with progress_bar(console, f"loading {request.model}", 1):
            model = load_model(found, session.mesh)
        readout = load_readout(settings(BehaviorConfig, reading), task, session)
        thoughts = {request.model: model.tokenizer.thought}
        notes = say_thoughts(console, thoughts, readout.kind, readout.tokens)
        answers, known = ask(model, items, readout, session), None
        if request.self_knowledge and not readout.scored:
            console.print(
                "scoring the candidates, for what the model knows of its decisions", highlight=False
            )
            with progress_bar(console, "scoring", request_count(items, Readout("score"))) as advance:
                known = probe_behavior(model, items, session, advance)
        if readout.judge is not None:
            console.print("asking all judges about the same replies", highlight=False)
            kind, labelled = TASKS.get(request.task), []
            if kind and kind.labelled_replies:
                labelled = kind.labelled_replies(section_settings(section), session.cache / "datasets")
            replies: Any = answers.behaviors  # judges read only replies
            judges = judge_report(items, replies, labelled, model, reading, session, rng)
    with progress_bar(console, "measuring", len(items)) as advance:
        asked = survey(items, token_lengths(task, model.tokenizer, reply_tokens(reading)), advance)
    report = {
        "task": task.name,
        "template_version": task.template_version,
        "model": {
            "name": request.model,
            "fingerprint": model_fingerprint(model),
            "context_length": context_length(found),
            "note": "; ".join(notes),
        },
        "readout": reading,
        "placebos": sorted(task.placebos),
        "splits": {split: len(of) for split, of in task.splits.items()},
        "asked": {
            **asked,
            "split": SPLIT,
            "too_long": too_long,
            **{name: with_decisions(asked[name], items, answers) for name in ("examples", "odd")},
        },
        **hygiene_report(items, answers, end_tokens(model.tokenizer), request.margin, rng, readout, known),
        "judges": judges,
        "versions": {name: version(name) for name in VERSIONED} | {"python": platform.python_version()},
    }
    report["cautions"] = [*notes_of(found), *hygiene_cautions(report)]
    for caution in report["cautions"]:
        console.print(f"caution: {caution}", highlight=False, markup=False)
    console.print(program_table(session.programs))

    def write() -> Path:
        claim_workdir(workdir, config, with_newer(config, "stored", "self_knowledge"))
        write_behaviors(workdir / "behaviors.jsonl", items, answers)
        write_json(workdir / HYGIENE, report)
        return write_hygiene_page(workdir)

    return first(write)


def asking_session(request: ProbeRequest, console: Console) -> Session:
    """A session on the requested devices; says if others are idle. Raises InputError if there are too few."""
    session = Session(chosen_mesh(request.mesh, devices=request.devices), console=console)
    if idle := idle_devices(session.mesh, "--devices"):
        say(console, idle)
    return session


def probed_readout(
    request: ProbeRequest, found: StoredModel | PretrainedModel, items: Sequence[Item]
) -> dict[str, Any]:
    """The readout: as requested, or as in the model's run. For external models, letters are scored (a letter
    is the whole answer) and everything else is generated.

    Raises:
      InputError: candidates that are a judge's classes would be scored.
    """
    letters = bool(items) and all(len(candidate) == 1 for item in items for candidate in item.candidates)
    classes = PhraseJudge.classes if any(item.candidates == PhraseJudge.classes for item in items) else ()
    chosen = "score" if letters and isinstance(found, PretrainedModel) else ""
    reading = readout_section([found], request.readout or chosen, request.reply_tokens)
    reading |= {"judge_model": request.judge_model} if request.judge_model else {}
    if classes and reading["readout"] != "generate":
        raise InputError(
            f"{request.task}: {' and '.join(classes)} are classes for a judge of replies, not texts to "
            "score: give --readout=generate"
        )
    if classes and request.self_knowledge:
        raise InputError(
            f"--self-knowledge scores candidates, but {request.task}'s {' and '.join(classes)} are a judge's "
            "classes: leave it out"
        )
    return reading


def reply_tokens(reading: Mapping[str, Any]) -> int:
    """The limit of a generated reply; 0 if candidates are scored."""
    return reading["reply_tokens"] if reading["readout"] == "generate" else 0


def readable(
    items: Sequence[Item],
    found: StoredModel | PretrainedModel,
    task: Task,
    reading: Mapping[str, Any],
    console: Console,
) -> tuple[tuple[Item, ...], int]:
    """The items that fit a model's context, and the number of others; `reading` is the readout.

    Raises:
      InputError: there are no items, none fits, or the model's tokens can't write an item or a candidate.
    """
    tokenizer, context = tokenizer_of(found), context_length(found)
    if not items:
        raise InputError(f"{task.name}: no items to ask about in this split; raise its size with --set")
    fitting, needed = [], token_counter(task, tokenizer, reply_tokens(reading))
    with progress_bar(console, "counting tokens", len(items)) as advance:
        for start in range(0, len(items), COUNTED):
            some = items[start : start + COUNTED]
            fitting += [item for item, tokens in zip(some, needed(some), strict=True) if tokens <= context]
            advance(len(some))
    if not fitting:
        raise InputError(
            f"all {len(items)} items exceed the model's context of {context} tokens: shorten them, or choose "
            "a model with a longer context"
        )
    check_candidates(tokenizer, fitting)
    if reading["readout"] != "generate":
        task.check_scored(tokenizer.encode_reply)
    return tuple(fitting), len(items) - len(fitting)


def ask(
    model: Model,
    items: Sequence[Item],
    readout: Readout,
    session: Session,
) -> Probe:
    """The model's behaviour on all items, with a progress bar."""
    with progress_bar(session.console, "asking", request_count(items, readout)) as advance:
        return read_behavior(model, items, readout, session, advance)


def with_decisions(
    examples: Sequence[Mapping[str, Any]], items: Sequence[Item], answers: Probe
) -> list[dict[str, Any]]:
    """Adds the model's decisions to examples of items."""
    by_id = dict(zip((item.id for item in items), answers.decisions, strict=True))
    return [{**example, "decisions": by_id[example["id"]]._asdict()} for example in examples]


def write_behaviors(path: Path, items: Sequence[Item], answers: Probe) -> None:
    """One line per item: enough to compute everything again."""
    lines = []
    for item, behavior, decided in zip(items, answers.behaviors, answers.decisions, strict=True):
        line = {
            "id": item.id,
            "group": item.group,
            "cue_kind": item.cue_kind,
            "subset": item.subset,
            "prompt_with_cue": str(item.prompt_with_cue),
            "prompt_without_cue": str(item.prompt_without_cue),
            "candidates": item.candidates,
            "gold": item.gold,
            "cued": item.cued,
            "decisions": decided._asdict(),
        }
        if isinstance(behavior, Behavior):
            line["logprobs"] = {side: values.tolist() for side, values in behavior._asdict().items()}
        else:
            line["replies"] = {side: reply.text for side, reply in behavior._asdict().items()}
            if any(reply.thought for reply in behavior):
                line["thoughts"] = {side: reply.thought for side, reply in behavior._asdict().items()}
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_whole(path, "".join(lines))
