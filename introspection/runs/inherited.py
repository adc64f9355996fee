"""Config sections that `compare` and `probe` inherit from their models' runs."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from introspection.checkpoints.names import StoredModel
from introspection.errors import InputError
from introspection.probes.behavior import BehaviorConfig, Readout
from introspection.runs.config import EvaluationConfig
from introspection.runtime.config import plain, settings
from introspection.runtime.json_files import read_object
from introspection.runtime.workdir import differing_fields
from introspection.tasks.registry import default_section
from introspection.weights.pretrained import PretrainedModel

# Defaults if no model comes from a run:
DEFAULT_TASK = "world_facts"  # true facts, in words that external models know
EXPLANATION_TOKENS = 8  # maximum length of a decoded explanation
REPLY_TOKENS = 24  # maximum length of a generated reply

# Sections that are completed and checked here; a task checks its own.
READ = {"behavior": BehaviorConfig, "evaluation": EvaluationConfig}


def shared_section(stored: Sequence[StoredModel | PretrainedModel], name: str) -> dict[str, Any] | None:
    """The config section `name` of the models' runs; None if no run has it.

    Raises:
      InputError: two runs differ in it; names the fields.
    """
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for workdir, section in run_sections(stored, name):
        found.setdefault(json.dumps(section, sort_keys=True), (workdir, section))
    if len(found) > 1:
        (first, here), (second, there) = list(found.values())[:2]
        what = "asked different items" if name == "task" else "read behaviour differently"
        flag = f"--task={here['name']}" if name == "task" else f"--readout={here['readout']}"
        differing = "; ".join(differing_fields(there, here, f"config.{name}"))
        raise InputError(
            f"{first} and {second} {what}, so they can't be compared as they are: say which you mean, such "
            f"as {flag}; {differing}"
        )
    return next(iter(found.values()))[1] if found else None


def run_sections(
    stored: Sequence[StoredModel | PretrainedModel], name: str
) -> list[tuple[Path, dict[str, Any]]]:
    """The workdirs of the models' runs that have the section, each with it.

    Raises:
      InputError: a workdir's config can't be read.
    """
    sections = []
    for workdir in dict.fromkeys(one.workdir for one in stored if isinstance(one, StoredModel)):
        path = workdir / "config.json"
        if not path.is_file():
            continue
        section = read_object(path).get(name)
        if not isinstance(section, dict | None):
            raise InputError(f"{path}: {name} is {section!r:.60}, not an object; the workdir is damaged")
        if section is not None:
            sections.append((workdir, _complete(path, name, section)))
    return sections


def _complete(path: Path, name: str, section: dict[str, Any]) -> dict[str, Any]:
    """A stored section, with defaults for fields that it lacks. Raises InputError if it can't be used."""
    damaged = "the workdir is damaged"
    if name not in READ:
        if not isinstance(section.get("name"), str):
            raise InputError(f"{path}: {name}.name is {section.get('name')!r:.60}, not a name; {damaged}")
        return section
    fields = {field.name for field in dataclasses.fields(READ[name])}
    known = {field: value for field, value in section.items() if field in fields}
    try:
        return section | plain(settings(READ[name], known, name))
    except InputError as error:
        raise InputError(f"{path}: {error}; {damaged}") from error


def task_section(stored: Sequence[StoredModel | PretrainedModel], task_name: str) -> dict[str, Any]:
    """The `task` section that the models' runs share; with a `task_name`, that of the runs with this task, or
    its defaults where these differ; without a run, the defaults of `task_name` or `DEFAULT_TASK`.

    Raises:
      InputError: the runs differ and no task is named, or none of them has the task that is.
    """
    sections = [section for _, section in run_sections(stored, "task")]
    if not task_name:
        return shared_section(stored, "task") or default_section(DEFAULT_TASK)
    own = [section for section in sections if section["name"] == task_name]
    if sections and not own:
        names = " and ".join(dict.fromkeys(section["name"] for section in sections))
        raise InputError(f"--task={task_name}: these models were trained on {names}; leave --task out")
    return own[0] if own and all(section == own[0] for section in own) else default_section(task_name)


def readout_section(
    stored: Sequence[StoredModel | PretrainedModel], chosen: str, reply_tokens: int = 0
) -> dict[str, Any]:
    """The `behavior` section of the models' runs or, if no run has one, a default that fits the models.

    If a readout is `chosen`, or a number of `reply_tokens`, it replaces theirs.

    Raises:
      InputError: the runs differ, and none is chosen.
    """
    elsewhere = all(isinstance(one, PretrainedModel) for one in stored)
    usual = {"readout": "generate" if elsewhere else "score", "reply_tokens": REPLY_TOKENS}
    try:
        section = shared_section(stored, "behavior") or usual
    except InputError:
        if not chosen:
            raise
        section = usual
    section = section | ({"readout": Readout(chosen).kind} if chosen else {})
    return section | ({"reply_tokens": reply_tokens} if reply_tokens else {})


def explanation_room(stored: Sequence[StoredModel | PretrainedModel]) -> int:
    """The maximum of the runs' `explanation_tokens`, to be used for all models."""
    sections = [section for _, section in run_sections(stored, "evaluation")]
    return max([section["explanation_tokens"] for section in sections], default=EXPLANATION_TOKENS)


def run_section(model: StoredModel | PretrainedModel | None) -> Mapping[str, Any]:
    """The `task` section of a model's run; {} for an external model. Raises InputError as `run_sections`."""
    sections = run_sections([] if model is None else [model], "task")
    return sections[0][1] if sections else {}
