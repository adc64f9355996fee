"""The items of a config, and those of them that a model can read.

Prompts longer than a model's context are skipped, counted and reported.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from introspection.errors import InputError
from introspection.jobs.settings import cache_dir, settings
from introspection.probes.explanation import explanation_prompt
from introspection.tasks.facts_dataset import load_facts
from introspection.tasks.items import Item
from introspection.tasks.task import Task
from introspection.tasks.world_facts import (
    Question,
    WorldFactsConfig,
    build_world_facts,
    draw_questions,
)
from introspection.text.tokenizer import ChatTokenizer


def load_task(config: Mapping[str, Any]) -> tuple[Task, list[Question]]:
    """The task of a config's `task` section, and the questions that it was drawn from.

    Raises:
      InputError: an unknown task or field, or sizes that the data do not have.
    """
    section = dict(config["task"])
    name = section.pop("name")
    if name != "world_facts":
        raise InputError(f"config.task.name is {name!r}; there is world_facts")
    chosen = settings(WorldFactsConfig, section | {"cue_kinds": tuple(section["cue_kinds"])})
    smallest = {"facts": 0, "candidates": 2}
    for field in ("facts", "train_facts", "validation_facts", "test_facts", "candidates", "repeats"):
        value, least = getattr(chosen, field), smallest.get(field, 1)
        if value < least:
            raise InputError(f"config.task.{field} is {value}; it must be at least {least}")
    facts = load_facts(cache_dir(config) / "datasets")
    questions = draw_questions(facts, chosen.facts, chosen.candidates, chosen.seed)
    return build_world_facts(chosen, questions), questions


def needed_tokens(item: Item, task: Task, tokenizer: ChatTokenizer) -> int:
    """Tokens of the longest thing that is asked about an item: its explanation prompt and a reply."""
    replies = [
        len(tokenizer.encode_reply(task.grammar.render(choice)))
        for choice in task.grammar.all_explanations(item.candidates)
    ]
    return len(explanation_prompt(tokenizer, item, task.grammar)) + max(replies)


def within_context(
    task: Task, tokenizer: ChatTokenizer, limit: int, skipped_share: float, console: Console
) -> Task:
    """The task without the items that are longer than a model's context of `limit` tokens.

    Raises:
      InputError: more than `skipped_share` of a split would be skipped.
    """
    kept = {}
    for split, items in task.splits.items():
        kept[split] = tuple(item for item in items if needed_tokens(item, task, tokenizer) <= limit)
        skipped = len(items) - len(kept[split])
        if skipped > skipped_share * len(items):
            raise InputError(
                f"{skipped} of {len(items)} {split} items are longer than the model's context of {limit} "
                f"tokens, more than config.evaluation.skipped_share ({skipped_share:.0%}): shorten them, "
                "take a model with a longer context, or raise the share"
            )
        if skipped:
            console.print(
                f"warning: skipped {skipped} of {len(items)} {split} items, longer than {limit} tokens"
            )
    return dataclasses.replace(task, splits=kept)
