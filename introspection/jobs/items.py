"""The items of a config, and those of them that a model can read.

Prompts longer than a model's context are skipped, counted and reported.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console

from introspection.errors import InputError
from introspection.jobs.settings import cache_dir, plain, settings
from introspection.probes.explanation import explanation_prompt
from introspection.tasks import hint_mmlu
from introspection.tasks.facts_dataset import load_facts
from introspection.tasks.invented_world import (
    INVENTED_WORLD,
    ClosedWorldConfig,
    closed_world_facts,
    closed_world_task,
    entity_splits,
)
from introspection.tasks.items import NONE, Explanation, Item
from introspection.tasks.language import WorldLanguage
from introspection.tasks.mixture import NAME as MIXTURE
from introspection.tasks.mixture import MixtureConfig, build_mixture, part_sections
from introspection.tasks.questions import Question, draw_questions
from introspection.tasks.registry import TASKS
from introspection.tasks.second_world import SECOND_WORLD
from introspection.tasks.task import Task
from introspection.tasks.world_facts import (
    WORLD_FACTS,
    WorldFactsConfig,
    facts_of_relations,
    split_facts,
    world_facts_task,
)
from introspection.tasks.world_task import WorldTaskConfig
from introspection.text.tokenizer import ChatTokenizer

LANGUAGES: dict[str, WorldLanguage] = {
    language.name: language for language in (INVENTED_WORLD, SECOND_WORLD, WORLD_FACTS)
}


def task_language(config: Mapping[str, Any]) -> WorldLanguage:
    """What the world of a config's `task` section says. Raises InputError if the task is of no world."""
    return LANGUAGES[world_section(config)["name"]]


def world_section(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `task` section of the world that an organism learns: the task's own, or that of a mixture's part.

    Raises:
      InputError: there is no such task, it is of no world, or it is a mixture with two.
    """
    section = config["task"]
    check_name(section["name"])
    parts = [section] if section["name"] != MIXTURE else part_sections(plain(section)).values()
    worlds = [part for part in parts if part["name"] in LANGUAGES]
    if not worlds:
        raise InputError(
            f"config.task.name is {section['name']!r}, which no organism learns ({', '.join(LANGUAGES)}): "
            "name a model in config.initial"
        )
    if len(worlds) > 1:
        raise InputError("config.task.parts has two worlds of facts; an organism learns one")
    return worlds[0]


def check_name(name: str) -> None:
    """Raises InputError if there is no such task."""
    names = (*LANGUAGES, *TASKS, MIXTURE)
    if name not in names:
        raise InputError(f"config.task.name is {name!r}; choose from {', '.join(names)}")


def section_settings(section: Mapping[str, Any]) -> Any:
    """The fields of a `task` section as the dataclass of its task, with the defaults of those that it lacks.

    Raises:
      InputError: an unknown task or field, or a number that no task can have.
    """
    name = section["name"]
    check_name(name)
    if name in TASKS:
        kind = TASKS[name].config
    elif name == MIXTURE:
        kind, section = MixtureConfig, plain(section)
    else:
        kind = WorldFactsConfig if LANGUAGES[name] is WORLD_FACTS else ClosedWorldConfig
    fields = {field: value for field, value in section.items() if field != "name"}
    # Fields of several values are tuples here, lists in JSON.
    fields |= {field: tuple(value) for field, value in fields.items() if isinstance(value, list)}
    if isinstance(fields.get("seed"), int) and fields["seed"] < 0:
        raise InputError(f"config.task.seed is {fields['seed']}; it must be at least 0")
    return settings(kind, fields)


def task_settings(config: Mapping[str, Any]) -> WorldTaskConfig:
    """The fields of a world's `task` section.

    Raises:
      InputError: an unknown task or field, or a number that no task can have.
    """
    chosen = section_settings(world_section(config))
    smallest = {"facts": 0, "candidates": 2, "held_out_entities": 0, "test_repeats": 0}
    for field in dataclasses.fields(chosen):
        value, least = getattr(chosen, field.name), smallest.get(field.name, 1)
        if field.name != "seed" and isinstance(value, int) and value < least:
            raise InputError(f"config.task.{field.name} is {value}; it must be at least {least}")
    return chosen


def default_section(name: str) -> dict[str, Any]:
    """The whole `task` section of a task, as a config file has it. Raises InputError for an unknown one."""
    section = {"name": name, **dataclasses.asdict(section_settings({"name": name}))}
    return {field: list(value) if isinstance(value, tuple) else value for field, value in section.items()}


def load_task(config: Mapping[str, Any]) -> tuple[Task, list[Question]]:
    """The task of a config's `task` section, and the questions that it was drawn from, if it is of a world.

    Raises:
      InputError: an unknown task or field, or sizes that the data do not have.
    """
    section, data = config["task"], cache_dir(config) / "datasets"
    check_name(section["name"])
    if section["name"] in TASKS:
        return TASKS[section["name"]].build(section_settings(section), data), []
    if section["name"] == MIXTURE:
        return _load_mixture(config)
    language, chosen = task_language(config), task_settings(config)
    if isinstance(chosen, ClosedWorldConfig):
        facts = closed_world_facts(chosen, language)
        questions = draw_questions(facts, 0, chosen.candidates, chosen.seed)
        return closed_world_task(chosen, questions, language), questions
    facts = facts_of_relations(load_facts(data), chosen.relations)
    questions = draw_questions(facts, chosen.facts, chosen.candidates, chosen.seed)
    return world_facts_task(chosen, questions), questions


def world_splits(config: Mapping[str, Any], questions: Sequence[Question]) -> dict[str, list[int]]:
    """Which of a world's questions each split asks, as indices.

    Raises:
      InputError: as `task_settings`, or sizes that the data do not have.
    """
    chosen = task_settings(config)
    if isinstance(chosen, ClosedWorldConfig):
        return entity_splits(chosen, questions)
    return split_facts(chosen, questions)


def _load_mixture(config: Mapping[str, Any]) -> tuple[Task, list[Question]]:
    questions: list[Question] = []

    def load(section: Mapping[str, Any]) -> Task:
        task, asked = load_task({**config, "task": section})
        questions.extend(asked)
        return task

    return build_mixture(section_settings(config["task"]), load), questions


def check_letters_scored(task: Task, tokenizer: ChatTokenizer, readout: str) -> None:
    """Raises InputError if MMLU's letters are to be scored and one is several tokens of the tokenizer."""
    if task.name == hint_mmlu.NAME and readout == "score":
        hint_mmlu.check_letters(tokenizer.encode_reply)


def longest_explanation(items: Sequence[Item], task: Task, tokenizer: ChatTokenizer) -> int:
    """Tokens of the longest explanation that can be right of any of the items, its end included."""
    choices = {choice for item in items for choice in task.grammar.all_explanations(item.candidates)}
    choices.add(Explanation(True, NONE))
    return max(len(tokenizer.encode_reply(task.grammar.render(choice))) for choice in choices)


def needed_tokens(item: Item, task: Task, tokenizer: ChatTokenizer, reply_tokens: int = 0) -> int:
    """Tokens of the longest thing that is asked about an item and of the reply to it.

    An explanation is as long as the longest that can be right, behaviour as the longest candidate; or, where
    it is generated, as long as `reply_tokens` allows.
    """

    def longest(texts: Iterable[str]) -> int:
        return max(len(tokenizer.encode_reply(text)) for text in texts)

    explanations = map(task.grammar.render, task.grammar.all_explanations(item.candidates))
    explained = len(explanation_prompt(tokenizer, item, task.grammar)) + longest(explanations)
    prompts = [len(tokenizer.encode_prompt(p)) for p in (item.prompt_with_cue, item.prompt_without_cue)]
    return max(explained, max(prompts) + (reply_tokens or longest(item.candidates)))


def within_context(
    task: Task,
    tokenizer: ChatTokenizer,
    limit: int,
    skipped_share: float,
    console: Console,
    reply_tokens: int = 0,
) -> Task:
    """The task without the items that need more than a model's context of `limit` tokens.

    Raises:
      InputError: more than `skipped_share` of a split would be skipped.
    """
    kept = {}
    for split, items in task.splits.items():
        kept[split] = tuple(
            item for item in items if needed_tokens(item, task, tokenizer, reply_tokens) <= limit
        )
        skipped = len(items) - len(kept[split])
        replying = f" with a generated reply of {reply_tokens}" if reply_tokens else ""
        if skipped > skipped_share * len(items):
            raise InputError(
                f"{skipped} of {len(items)} {split} items are longer than the model's context of {limit} "
                f"tokens{replying}, more than may be skipped ({skipped_share:.0%}; in a run's config, "
                "evaluation.skipped_share): shorten them, or take a model with a longer context"
            )
        if skipped:
            console.print(
                f"warning: skipped {skipped} of {len(items)} {split} items, longer than {limit} tokens"
            )
    return dataclasses.replace(task, splits=kept)
