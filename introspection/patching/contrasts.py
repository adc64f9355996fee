"""The items on which a model is patched: where the cue changes what it does."""

from collections.abc import Mapping
from typing import NamedTuple

from introspection.errors import InputError
from introspection.models.model import Model
from introspection.probes.context import token_counter
from introspection.probes.contrasts import Contrast, behavior_contrast, explanation_contrast
from introspection.tasks.facts.language import WorldLanguage
from introspection.tasks.items import NONE, Decisions, Item
from introspection.tasks.subsets import evenly
from introspection.tasks.task import Task


class Contrasts(NamedTuple):
    """Both contrasts of the same items."""

    items: list[Item]
    behavior: list[Contrast]
    explanation: list[Contrast]

    def of(self, places) -> "Contrasts":
        """Those of some items, by place."""
        return Contrasts(*([them[i] for i in places] for them in self))


def item_contrasts(
    name: str,
    task: Task,
    decided: Mapping[str, Decisions],
    model: Model,
    language: WorldLanguage | None,
    most: int,
) -> Contrasts:
    """Evenly spaced test items, at most `most` (0: all), where the cue changes a model's decision.

    Raises:
      InputError: there are none, or none whose prompts can be contrasted.
    """
    limit, needed = model.config.context_length, token_counter(task, model.tokenizer)
    changed = [
        item
        for item in task.splits["test"]
        if item.id in decided
        and NONE not in decided[item.id]
        and decided[item.id].with_cue != decided[item.id].without_cue
        and needed(item) <= limit
    ]
    if not changed:
        raise InputError(
            f"{name}: the cue changes its decision on none of {len(decided)} test items, so there is nothing "
            "to patch; choose cues that sway it (experiments.probe --scan-cues)"
        )
    items, behaviors, explanations, reason = [], [], [], None
    for item in evenly(changed, most):
        try:
            own = decided[item.id]
            behavior = behavior_contrast(item, own, model.tokenizer, language)
            explanation = explanation_contrast(item, own, model.tokenizer, task.grammar, language)
        except InputError as error:
            reason = error
            continue
        items.append(item)
        behaviors.append(behavior)
        explanations.append(explanation)
    if not items:
        raise InputError(f"{name}: no item can be patched: {reason}")
    return Contrasts(items, behaviors, explanations)
