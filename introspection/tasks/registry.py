"""Tasks by name, and how a config loads one."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from introspection.errors import InputError
from introspection.runtime.config import check_choice, settings
from introspection.tasks.aita import task as aita
from introspection.tasks.aita.items import AitaConfig
from introspection.tasks.facts.invented_world import (
    INVENTED_WORLD,
    ClosedWorldConfig,
    closed_world_facts,
    entity_splits,
)
from introspection.tasks.facts.language import WorldLanguage
from introspection.tasks.facts.questions import Question, draw_questions
from introspection.tasks.facts.register import REGISTER
from introspection.tasks.facts.second_world import SECOND_WORLD
from introspection.tasks.facts.table import read_facts_table
from introspection.tasks.facts.task import build_world_task
from introspection.tasks.facts.world_facts import (
    WORLD_FACTS,
    WorldFactsConfig,
    facts_of_relations,
    split_facts,
    world_facts_task,
)
from introspection.tasks.hint_mmlu import task as hint_mmlu
from introspection.tasks.jabberwocky import task as jabberwocky
from introspection.tasks.jsonl import task as jsonl
from introspection.tasks.mixture import NAME as MIXTURE
from introspection.tasks.mixture import MixtureConfig, build_mixture, part_sections
from introspection.tasks.refusal import task as refusal
from introspection.tasks.refusal.items import RefusalConfig
from introspection.tasks.task import LabelledReply, Task

LANGUAGES: dict[str, WorldLanguage] = {
    language.name: language for language in (INVENTED_WORLD, SECOND_WORLD, REGISTER, WORLD_FACTS)
}


class TaskKind(NamedTuple):
    """How a `task` section becomes items."""

    config: type  # a frozen dataclass: the section's fields
    build: Callable[[Any, Path], Task]  # from the fields and the folder of data sets
    # Likewise: a user's own file, and one line for each problem in its rows.
    problems: Callable[[Any, Path], tuple[Path, list[str]]] | None = None
    # Likewise: replies whose class the data give.
    labelled_replies: Callable[[Any, Path], list[LabelledReply]] | None = None


TASKS: dict[str, TaskKind] = {
    hint_mmlu.NAME: TaskKind(hint_mmlu.HintMmluConfig, hint_mmlu.build_hint_mmlu),
    aita.NAME: TaskKind(AitaConfig, aita.build_aita),
    refusal.NAME: TaskKind(RefusalConfig, refusal.build_refusal, labelled_replies=refusal.labelled_replies),
    jabberwocky.NAME: TaskKind(jabberwocky.JabberwockyConfig, jabberwocky.build_jabberwocky),
    jsonl.NAME: TaskKind(jsonl.JsonlConfig, jsonl.build_jsonl, problems=jsonl.problems),
}


def task_language(section: Mapping[str, Any]) -> WorldLanguage:
    """The wording of a `task` section's world. Raises InputError if the task has no world."""
    return LANGUAGES[world_section(section)["name"]]


def world_section(section: Mapping[str, Any]) -> Mapping[str, Any]:
    """The section of the world that an organism learns: the task's own, or that of a mixture's part.

    Raises:
      InputError: the task is unknown, has no world, or is a mixture with two.
    """
    check_name(section["name"])
    parts = [section] if section["name"] != MIXTURE else part_sections(section).values()
    worlds = [part for part in parts if part["name"] in LANGUAGES]
    if not worlds:
        raise InputError(
            f"config.task.name is {section['name']!r}, but organisms learn only {', '.join(LANGUAGES)}: name "
            "a model in config.initial"
        )
    if len(worlds) > 1:
        raise InputError(
            "config.task.parts has two worlds of facts; an organism learns one: remove the other"
        )
    return worlds[0]


def check_name(name: str) -> None:
    """Raises InputError if there is no such task."""
    check_choice("config.task.name", name, (*LANGUAGES, *TASKS, MIXTURE))


def section_settings(section: Mapping[str, Any]) -> Any:
    """The fields of a `task` section as its task's dataclass, with defaults for missing ones.

    Raises:
      InputError: an unknown task or field, or an invalid value.
    """
    name = section["name"]
    check_name(name)
    if name in TASKS:
        kind = TASKS[name].config
    elif name == MIXTURE:
        kind = MixtureConfig
    else:
        kind = WorldFactsConfig if LANGUAGES[name] is WORLD_FACTS else ClosedWorldConfig
    fields = {field: value for field, value in section.items() if field != "name"}
    # JSON has lists where configs have tuples.
    fields |= {field: tuple(value) for field, value in fields.items() if isinstance(value, list)}
    if isinstance(fields.get("seed"), int) and fields["seed"] < 0:
        raise InputError(f"config.task.seed is {fields['seed']}; it must be at least 0")
    return settings(kind, fields, "config.task")


def task_settings(section: Mapping[str, Any]) -> ClosedWorldConfig | WorldFactsConfig:
    """The fields of a world's `task` section.

    Raises:
      InputError: an unknown task or field, or an invalid value.
    """
    chosen = section_settings(world_section(section))
    smallest = {"facts": 0, "candidates": 2, "held_out_entities": 0, "test_repeats": 0}
    for field in dataclasses.fields(chosen):
        value, least = getattr(chosen, field.name), smallest.get(field.name, 1)
        if field.name != "seed" and type(value) is int and value < least:
            raise InputError(f"config.task.{field.name} is {value}; it must be at least {least}")
    return chosen


def default_section(name: str) -> dict[str, Any]:
    """The complete `task` section of a task with its defaults. Raises InputError if it is unknown."""
    section = {"name": name, **dataclasses.asdict(section_settings({"name": name}))}
    return {field: list(value) if isinstance(value, tuple) else value for field, value in section.items()}


def load_task(section: Mapping[str, Any], cache: Path) -> tuple[Task, list[Question]]:
    """The task of a `task` section, and the questions that it was drawn from, if it has a world.

    Raises:
      InputError: an unknown task or field, or sizes that exceed the data.
    """
    check_name(section["name"])
    if section["name"] in TASKS:
        return TASKS[section["name"]].build(section_settings(section), cache / "datasets"), []
    if section["name"] == MIXTURE:
        return _load_mixture(section, cache)
    language, chosen = task_language(section), task_settings(section)
    if isinstance(chosen, ClosedWorldConfig):
        facts = closed_world_facts(chosen, language)
        questions = draw_questions(facts, 0, chosen.candidates, chosen.seed)
        return build_world_task(chosen, questions, entity_splits(chosen, questions), language), questions
    facts = facts_of_relations(read_facts_table(), chosen.relations)
    questions = draw_questions(facts, chosen.facts, chosen.candidates, chosen.seed)
    return world_facts_task(chosen, questions), questions


def world_splits(section: Mapping[str, Any], questions: Sequence[Question]) -> dict[str, list[int]]:
    """Which of a world's questions each split asks, as indices.

    Raises:
      InputError: as `task_settings`, or sizes that exceed the data.
    """
    chosen = task_settings(section)
    if isinstance(chosen, ClosedWorldConfig):
        return entity_splits(chosen, questions)
    return split_facts(chosen, questions)


def _load_mixture(section: Mapping[str, Any], cache: Path) -> tuple[Task, list[Question]]:
    questions: list[Question] = []

    def load(part: Mapping[str, Any]) -> Task:
        task, asked = load_task(part, cache)
        questions.extend(asked)
        return task

    return build_mixture(section_settings(section), load), questions
