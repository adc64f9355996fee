"""Flags of the form FIELD=VALUE: fields of a task's section (`--set`), and chat options (`--chat`)."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from introspection.errors import InputError
from introspection.runtime.config import comma_values, literal
from introspection.tasks.mixture import NAME as MIXTURE
from introspection.tasks.registry import default_section, load_task, section_settings
from introspection.tasks.splits import TooFewError
from introspection.tasks.task import SPLITS, Task
from introspection.text.chat_template import ChatOptions

SMALL = {
    "validation": 0.1,
    "test": 0.3,
}  # shares of the questions of a small file; the others are for training


def assigned_section(section: Mapping[str, Any], data: str, assignments: Sequence[str]) -> dict[str, Any]:
    """A `task` section with the user's own data (`--data`, "" for none) and fields (`--set`).

    Raises:
      InputError: the task has no field `data`, a field is unknown, or a value is invalid.
    """
    chosen, name = dict(section), section["name"]
    known = {**({} if name == MIXTURE else default_section(name)), **section}  # a section may lack fields
    if data:
        if "data" not in known:
            raise InputError(f"--data: {name} reads no file; leave --data out")
        chosen["data"] = data
    del known["name"]
    chosen |= dict(field_value(assignment, known) for assignment in assignments)
    section_settings(chosen)
    return chosen


def load_fitting(
    section: Mapping[str, Any], assignments: Sequence[str], cache: Path, own: Sequence[Mapping[str, Any]] = ()
) -> tuple[dict[str, Any], Task]:
    """A section and its task, with smaller splits where the data have fewer questions than it asks for; the
    task's notes say so. Sizes that are assigned stay, and so do sections of a run (`own`).

    Raises:
      InputError: as `load_task`.
    """
    section = dict(section)
    try:
        return section, load_task(section, cache)[0]
    except TooFewError as error:
        assigned = [assignment.partition("=")[0] for assignment in assignments]
        if section in own or any(field.endswith("_items") for field in assigned):
            raise
        few, sizes = error, small_sizes(section, error)
        if not sizes:
            raise
    small = section | sizes
    task, _ = load_task(small, cache)
    drawn = ", ".join(f"{split} {len(items):,}" for split, items in task.splits.items())
    note = (
        f"the data have {few.available:,} questions, fewer than the {sum(few.sizes.values()):,} of the usual "
        f"sizes; used: {drawn} (choose others with --set test_items=N and the like)"
    )
    return small, dataclasses.replace(task, notes=(note, *task.notes))


def small_sizes(section: Mapping[str, Any], error: TooFewError) -> dict[str, int]:
    """Sizes in items that a small file can fill; none if it can't fill three splits, or if the section has no
    sizes (a mixture's parts have their own)."""
    of_split = {split: f"{split}_items" for split in SPLITS}
    if not set(of_split.values()) <= set(section):
        return {}
    items = items_of_question({**section, **dict.fromkeys(of_split.values(), 0)})
    # A task may draw whole questions, or each with each of its cues.
    of_one = max((section[of_split[split]] // size for split, size in error.sizes.items() if size), default=1)
    questions = error.available * of_one // items
    if questions < len(SPLITS):
        return {}
    return {"train_items": 0} | {
        of_split[split]: max(round(share * questions), 1) * items for split, share in SMALL.items()
    }


def items_of_question(section: Mapping[str, Any]) -> int:
    """The number of items per question, in a task whose sizes count items."""
    kinds = len(section.get("cue_kinds", ()))
    drawn = [number or kinds for name, number in section.items() if name.startswith("cues_per_")]
    return getattr(section_settings(section), "variants", drawn[0] if drawn else 1)


def assigned_chat(assignments: Sequence[str]) -> ChatOptions:
    """Chat options of external models (`--chat`), the command's `config.chat`.

    Raises:
      InputError: a field is unknown, or a value is invalid.
    """
    usual = dataclasses.asdict(ChatOptions())
    texts = {field: "" if value is None else value for field, value in usual.items()}
    return ChatOptions(**dict(field_value(assignment, texts, "chat") for assignment in assignments))


def field_value(assignment: str, fields: Mapping[str, Any], flag: str = "set") -> tuple[str, Any]:
    """The field and the value of FIELD=VALUE, converted to the type of the field's value in `fields`.

    Raises:
      InputError: the field is unknown, or the value has another type; names the flag.
    """
    field, equals, said = assignment.partition("=")
    if not equals or field not in fields:
        raise InputError(f"--{flag}={assignment}: give FIELD=VALUE; the fields are {', '.join(fields)}")
    now = fields[field]
    if isinstance(now, str):
        return field, said
    if isinstance(now, list) and not said.lstrip().startswith(("(", "[")):
        return field, list(comma_values(said))
    value = literal(said)
    if isinstance(value, tuple):
        value = list(value)
    fits = type(value) is type(now) or (isinstance(now, float) and type(value) is int)
    if not fits:
        raise InputError(
            f"--{flag}={assignment}: {field} needs a value of type {type(now).__name__}, such as {now!r}"
        )
    kind: Any = type(now)
    return field, kind(value)
