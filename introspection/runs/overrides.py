"""Flags of the form FIELD=VALUE: fields of a task's section (`--set`), and chat options (`--chat`)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from introspection.errors import InputError
from introspection.runtime.config import comma_values, literal
from introspection.tasks.mixture import NAME as MIXTURE
from introspection.tasks.registry import default_section, section_settings
from introspection.text.chat_template import ChatOptions

SAMPLE = "sample"  # the `--data` that means a task's hand-written questions
SAMPLED = (2, 6)  # how many of these are validation and test questions; the others are for training


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


def with_sample_sizes(section: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """The section with sizes that a task's few hand-written questions can fill; unchanged if the task sizes
    no split by items or a size is assigned."""
    assigned = [assignment.partition("=")[0] for assignment in assignments]
    if not section.get("test_items") or any(field.endswith("_items") for field in assigned):
        return dict(section)
    items = items_of_question(section)
    sizes = {"train_items": 0, "validation_items": SAMPLED[0] * items, "test_items": SAMPLED[1] * items}
    return {**section, **sizes}


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
