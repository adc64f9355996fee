"""What `compare` and `probe` take over from the runs whose models they ask."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from introspection.checkpoints.names import StoredModel
from introspection.errors import InputError
from introspection.probes.behavior import Readout
from introspection.runtime.workdir import differing_fields
from introspection.tasks.registry import default_section
from introspection.weights.pretrained import PretrainedModel

DEFAULT_TASK = "world_facts"  # of models that come from no run: true facts, in words that they know
EXPLANATION_TOKENS = 8  # of a decoded explanation where no model's run says how many
REPLY_TOKENS = 24  # of a generated reply, where no model's run says how many


def shared_section(stored: Sequence[StoredModel | PretrainedModel], name: str) -> dict[str, Any] | None:
    """A section of the config that the models' runs share; None if no run has it.

    Raises:
      InputError: two runs differ in it; the fields are named.
    """
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for workdir, section in run_sections(stored, name):
        found.setdefault(json.dumps(section, sort_keys=True), (workdir, section))
    if len(found) > 1:
        (first, here), (second, there) = list(found.values())[:2]
        what = "asked different items" if name == "task" else "read behaviour differently"
        differing = "; ".join(differing_fields(there, here, f"config.{name}"))
        raise InputError(f"{first} and {second} {what}, so they can't be compared: {differing}")
    return next(iter(found.values()))[1] if found else None


def run_sections(
    stored: Sequence[StoredModel | PretrainedModel], name: str
) -> list[tuple[Path, dict[str, Any]]]:
    """Each workdir's section of that name, where its run has one.

    Raises:
      InputError: a workdir's config can't be read.
    """
    sections = []
    for workdir in dict.fromkeys(one.workdir for one in stored if isinstance(one, StoredModel)):
        path = workdir / "config.json"
        if not path.is_file():
            continue
        try:
            section = json.loads(path.read_text(encoding="utf-8")).get(name)
        except (ValueError, AttributeError) as error:
            raise InputError(f"{path}: not readable ({error}); the run that left it is damaged") from error
        if section is not None:
            sections.append((workdir, section))
    return sections


def task_section(stored: Sequence[StoredModel | PretrainedModel], task_name: str) -> dict[str, Any]:
    """The `task` section that the models' runs share; the task's defaults if none has one.

    Without a `task_name` it is whatever the runs share, or `DEFAULT_TASK`.
    """
    section = shared_section(stored, "task") or default_section(task_name or DEFAULT_TASK)
    if task_name and section["name"] != task_name:
        raise InputError(f"--task={task_name}: these models were trained on {section['name']}")
    return section


def readout_section(stored: Sequence[StoredModel | PretrainedModel], chosen: str) -> dict[str, Any]:
    """How behaviour is read: as the models' runs did, else by what fits the models.

    A readout that is `chosen` takes the place of theirs.

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
    return section | {"readout": Readout(chosen).kind} if chosen else section


def explanation_room(stored: Sequence[StoredModel | PretrainedModel]) -> int:
    """The most tokens that a model's run gave an explanation; all models get as many."""
    sections = [section for _, section in run_sections(stored, "evaluation")]
    return max([section["explanation_tokens"] for section in sections], default=EXPLANATION_TOKENS)


def run_section(model: StoredModel | PretrainedModel | None) -> Mapping[str, Any]:
    """The `task` section of the run that left a model; {} of an external model."""
    path = model.workdir / "config.json" if isinstance(model, StoredModel) else None
    if path is None or not path.is_file():
        return {}
    return json.loads(path.read_text(encoding="utf-8")).get("task") or {}
