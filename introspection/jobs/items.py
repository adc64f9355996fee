"""Items that a model can read: prompts longer than its context are skipped, counted and reported."""

import dataclasses

from rich.console import Console

from introspection.errors import InputError
from introspection.models.model import Model
from introspection.probes.explanation import explanation_prompt
from introspection.tasks.items import Item
from introspection.tasks.task import Task


def needed_tokens(item: Item, task: Task, model: Model) -> int:
    """Tokens of the longest thing that is asked about an item: its explanation prompt and a reply."""
    replies = [
        len(model.tokenizer.encode_reply(task.grammar.render(choice)))
        for choice in task.grammar.all_explanations(item.candidates)
    ]
    return len(explanation_prompt(model.tokenizer, item, task.grammar)) + max(replies)


def within_context(task: Task, model: Model, skipped_share: float, console: Console) -> Task:
    """The task without the items that are longer than the model's context.

    Raises:
      InputError: more than `skipped_share` of a split would be skipped.
    """
    limit, kept = model.config.context_length, {}
    for split, items in task.splits.items():
        kept[split] = tuple(item for item in items if needed_tokens(item, task, model) <= limit)
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
