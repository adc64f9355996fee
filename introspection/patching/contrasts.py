"""The items on which a model is patched: where the cue changes what it does."""

from collections.abc import Mapping
from typing import NamedTuple

from introspection.errors import InputError
from introspection.models.model import Model
from introspection.probes.context import token_counter
from introspection.probes.contrasts import Contrast, behavior_contrast, explanation_contrast
from introspection.probes.patching import PatchingConfig
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
    settings: PatchingConfig,
) -> Contrasts:
    """Evenly spaced test items, at most `settings.test_items` (0: all), whose cue changes a model's decision.

    Raises:
      InputError: there are none, or none whose prompts can be contrasted.
    """
    limit, count = model.config.context_length, token_counter(task, model.tokenizer)
    known = [item for item in task.splits["test"] if NONE not in decided.get(item.id, (NONE, NONE))]
    changed = [item for item in known if decided[item.id].explanation.changed]
    changed = [item for item, needed in zip(changed, count(changed), strict=True) if needed <= limit]
    if not changed:
        raise InputError(
            f"{name}: the cue changes its decision on none of {len(decided)} test items, so there is nothing "
            "to patch; choose cues that sway it (experiments.probe --scan-cues)"
        )
    weaker: dict[str, Item] = {}
    if settings.against == "weaker_cue":
        # Where a question's items have different candidates, their decisions without the cue may differ.
        asked = {i.id: (i.prompt_without_cue, decided[i.id].without_cue) for i in known}
        kept = {asked[i.id]: i for i in known if not decided[i.id].explanation.changed}
        weaker = {i.id: kept[asked[i.id]] for i in changed if asked[i.id] in kept}
        changed = [item for item in changed if item.id in weaker]
        if not changed:
            raise InputError(
                f"{name}: no question has both a cue that changes its decision and one that does not; set "
                "config.patching.against to no_cue"
            )
    items, behaviors, explanations, reason = [], [], [], None
    for item in evenly(changed, settings.test_items):
        own, other = decided[item.id], weaker.get(item.id)
        try:
            behavior = behavior_contrast(item, own, model.tokenizer, language, other)
            explanation = explanation_contrast(item, own, model.tokenizer, task.grammar, language, other)
        except InputError as error:
            reason = error
            continue
        items.append(item)
        behaviors.append(behavior)
        explanations.append(explanation)
    if not items:
        raise InputError(f"{name}: no item can be patched: {reason}")
    return Contrasts(items, behaviors, explanations)
