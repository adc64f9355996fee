"""The models that a config names: loading them, and checking them against the task and each other."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from introspection.checkpoints.fingerprint import fingerprint_json
from introspection.checkpoints.names import (
    check_addressed,
    find_common,
    find_models,
    keeps_bfloat16,
    load_found,
    model_path,
    print_notes,
)
from introspection.coupling.labels import METADATA
from introspection.errors import InputError
from introspection.models.model import Model, in_float32, merge_adapters
from introspection.organism.organism import MODEL_FIELDS, is_organism, tokenizer_for
from introspection.probes.behavior import Readout
from introspection.probes.context import longest_explanation, within_context
from introspection.probes.decoding import end_tokens
from introspection.probes.readouts import cut_advice
from introspection.probes.replies import cut_share
from introspection.reports.console import say
from introspection.reports.findings import Cautions
from introspection.reports.numbers import percent
from introspection.runs.config import RunConfig
from introspection.runtime.json_files import read_object, read_whole
from introspection.runtime.places import local_path
from introspection.runtime.processes import first
from introspection.runtime.progress import progress_bar
from introspection.runtime.session import Session
from introspection.tasks.facts.questions import Question
from introspection.tasks.items import Decisions
from introspection.tasks.mixture import Mixture, check_apart
from introspection.tasks.task import Task
from introspection.text.tokenizer import ChatTokenizer, chat_format
from introspection.training.batches import OTHER_TEXT

STARTED_FROM = ("initial", "foreign")  # fields of models that training starts from
PUBLISHED = "published:"  # config.label_teacher: whoever made the decisions that the task's data bring


def say_cut(console: Console, name: str, model: Model, behaviors: Sequence[Any], readout: Readout) -> str:
    """A warning, which it says, if many of a model's generated replies have no end; else ""."""
    share = 0.0 if readout.scored else cut_share(behaviors, end_tokens(model.tokenizer))
    if share <= Cautions().cut_rate:
        return ""
    warning = f"{name}: {percent(share)}% of replies {cut_advice(readout.tokens)}"
    say(console, f"warning: {warning}")
    return warning


def stored_models(config: RunConfig, session: Session) -> dict[str, Model]:
    """Loads the models that a config names by path or checkpoint, by config field.

    Adapters of a model that training starts from are merged into it.

    Raises:
      InputError: a name means no model or several, a model can't be read, `config.chat` is given but no
        model is external, or `config.lora.base_dtype` would round `config.initial`.
    """
    stored, found, chat = {}, [], config.chat
    keep_bfloat16 = config.lora.base_dtype == "bfloat16"
    if keep_bfloat16:
        first(lambda: check_kept(config.initial, session.cache))
    for field in (*MODEL_FIELDS, "foreign"):
        others = {"initial": (), "foreign": ("none", "neighbor")}.get(field, ("initial",))
        name = getattr(config, field)
        if field == "label_teacher" and name.startswith(PUBLISHED):
            continue
        if name not in others and (field == "foreign" or not is_organism(name)):
            try:
                meant = find_common(name, session.cache, chat)
                found += meant
                with progress_bar(session.console, f"loading {name}", 1):
                    model = load_found(name, meant, session.mesh, keep_bfloat16)
                    model = model if keep_bfloat16 else in_float32(model)
            except InputError as error:
                raise InputError(f"config.{field}: {error}") from error
            stored[field] = merge_adapters(model) if field in STARTED_FROM else model
    check_addressed(found, chat, "config.chat")
    print_notes(found, session.console)
    return stored


def check_kept(initial: str, cache: Path) -> None:
    """Raises InputError if the matrices of `config.initial` can't stay bfloat16, as they are stored."""
    if is_organism(initial) or not all(map(keeps_bfloat16, find_models(model_path(initial, cache)))):
        raise InputError(
            f"config.lora.base_dtype is bfloat16, but the matrices of config.initial ({initial}) are not "
            "all stored so, and rounding would change it; give float32"
        )


def readable_task(
    config: RunConfig,
    task: Task,
    questions: Sequence[Question],
    stored: Mapping[str, Model],
    organism_fields: Sequence[str],
    readout: Readout,
    console: Console,
) -> Task:
    """The task without the items that exceed some model's context, counted in that model's tokens.

    Raises:
      InputError: as `check_vocabularies`, `check_apart`, `Task.check_scored` and `within_context`; or a
        right explanation can be longer than `evaluation.explanation_tokens`.
    """
    readers = {name: (model.tokenizer, model.config.context_length) for name, model in stored.items()}
    organisms = [*organism_fields, *(["foreign"] if config.foreign == "neighbor" else [])]
    if organisms:
        tokenizer = tokenizer_for(config.organism, task, questions)
        readers |= dict.fromkeys(organisms, (tokenizer, config.model.context_length))
    check_vocabularies({name: tokenizer for name, (tokenizer, _) in readers.items()})
    # All models but the label teacher share one vocabulary.
    shared = readers["initial"][0]
    limit = min(length for name, (_, length) in readers.items() if name != "label_teacher")
    passes = [(shared, limit)]
    if "label_teacher" in readers and readers["label_teacher"][0] is not shared:
        passes.append(readers["label_teacher"])
    reply_tokens = 0 if readout.scored else readout.tokens
    if isinstance(task, Mixture):
        check_apart(task)
    for tokenizer, limit in passes:
        if readout.scored:
            task.check_scored(tokenizer.encode_reply)
        task = within_context(task, tokenizer, limit, config.evaluation.skipped_share, console, reply_tokens)
    given = config.evaluation.explanation_tokens
    longest = longest_explanation([*task.splits["validation"], *task.splits["test"]], task, shared)
    if longest > given:
        raise InputError(
            f"config.evaluation.explanation_tokens is {given}, but the longest explanation that can be right "
            f"has {longest} tokens: it would be truncated and counted as invalid; give at least {longest}"
        )
    return task


def published_decisions(config: RunConfig, task: Task) -> dict[str, Decisions]:
    """The decisions of a published label teacher, by item id.

    Raises:
      InputError: the teacher has no name, or the task's data bring no decisions.
    """
    if not config.label_teacher.removeprefix(PUBLISHED).strip():
        raise InputError(
            f"config.label_teacher is {config.label_teacher!r}; name the teacher, as published:Qwen3-8B"
        )
    if task.published is None:
        raise InputError(
            f"config.label_teacher is {config.label_teacher!r}, but the data of {task.name} bring no model's "
            "decisions (those of hint_mmlu may); name a model"
        )
    return dict(task.published())


def check_vocabularies(tokenizers: Mapping[str, ChatTokenizer]) -> None:
    """Raises InputError if a model's vocabulary or chat format differs from that of `config.initial`.

    The label teacher's may: its behaviour is read with its own tokens, and its labels are text.
    """
    initial = tokenizers["initial"]
    for name, tokenizer in tokenizers.items():
        if name == "label_teacher" or tokenizer is initial:
            continue
        if tokenizer.tokenizer.to_str() != initial.tokenizer.to_str():
            raise InputError(
                f"config.{name} and config.initial have different vocabularies; name a model with the same "
                "tokenizer (only config.label_teacher may have another)"
            )
        one, other = chat_format(tokenizer), chat_format(initial)
        differing = [part for part in one if one[part] != other.get(part)]
        if differing:
            raise InputError(
                f"config.{name} and config.initial have different chat formats ({', '.join(differing)}), so "
                "they would read different prompts; set config.chat.template to give both the same"
            )


def check_reference(config: RunConfig, initial: Model, reference: Model) -> None:
    """Raises InputError if an arm needs a KL over the vocabulary and the heads differ in size."""
    here, there = initial.config.vocab_size, reference.config.vocab_size
    if here != there and any(arm.kl_support == "vocabulary" for arm in config.chosen_arms.values()):
        raise InputError(
            f"config.kl_reference has {there} rows of embedding and config.initial {here}, so a KL over the "
            "vocabulary is undefined; name another reference or give the arms kl_support='candidates'"
        )


def check_adapters(config: RunConfig, models: Mapping[str, Model]) -> None:
    """Raises InputError if `config.lora` doesn't fit a model that an arm starts from."""
    foreign = any(arm.foreign_to for arm in config.chosen_arms.values())
    for name in ("initial", "foreign") if foreign else ("initial",):
        try:
            dataclasses.replace(models[name].config, lora=config.lora.lora)
        except InputError as error:
            raise InputError(f"config.{name}: {error}") from error


def data_digests(config: RunConfig, task: Task) -> dict[str, str]:
    """16 hex digits of what is read from data, by the config's field: a file may change under one name."""
    found = {"task": fingerprint_json(dict(task.splits))}
    if config.train.text and any(arm.kl_prompts == OTHER_TEXT for arm in config.chosen_arms.values()):
        text = read_whole(local_path("config.train.text", config.train.text))
        found["train.text"] = hashlib.sha256(text).hexdigest()[:16]
    return found


def check_same_inputs(workdir: Path, fingerprints: Mapping[str, str], data: Mapping[str, str]) -> None:
    """Raises InputError if the workdir was begun with other models or data under the config's names.

    Args:
      data: `data_digests` of the run.
    """
    path = workdir / "labels" / "clean" / METADATA
    if not path.is_file():
        return
    metadata = read_object(path)
    begun, begun_data = metadata.get("models", {}), metadata.get("data", {})
    for name, one in (("models", begun), ("data", begun_data)):
        if not isinstance(one, dict):
            raise InputError(f"{path}: {name} is {one!r:.60}, not an object; give another --workdir")
    for field, digest in data.items():
        if begun_data.get(field, digest) != digest:
            raise InputError(
                f"{workdir} was begun with other data: those of config.{field} have changed since; give "
                "another --workdir, or the data that it was begun with"
            )
    for field, fingerprint in fingerprints.items():
        if begun.get(field, fingerprint) != fingerprint:
            raise InputError(
                f"{workdir} was begun with another model as config.{field} ({begun[field]}; now "
                f"{fingerprint}); give another --workdir, or the model that it was begun with"
            )
