"""Test and retest: whether a model decides the same where a question is only worded otherwise.

Items ask the same question where they share a group, a right answer and their options. Paraphrases are those
of one cue kind and cued answer that differ in wording.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from introspection.coupling.option_order import order_of, shown_options
from introspection.coupling.repeated import agreement
from introspection.tasks.items import NONE, Decisions, Item


def retest_paraphrases(
    items: Sequence[Item], decided: Sequence[Decisions], rng: np.random.Generator
) -> dict[str, dict[str, Any] | None]:
    """`agreement` of decisions between wordings: without the cue, with it, and of whether they differ.

    None where no question is asked in two wordings.
    """
    without_cue: dict[Hashable, dict[Hashable, tuple[Item, Decisions]]] = {}
    with_cue: dict[Hashable, dict[Hashable, tuple[Item, Decisions]]] = {}
    for item, decisions in zip(items, decided, strict=True):
        # In another order of its options a question is no paraphrase (`option_order` compares those).
        options = tuple(sorted(shown_options(item).items()))
        question = (item.group, item.gold, options, order_of(item))
        without_cue.setdefault(question, {})[item.prompt_without_cue] = item, decisions
        cued = with_cue.setdefault((question, item.cue_kind, item.cued), {})
        cued.setdefault((item.prompt_with_cue, item.prompt_without_cue), (item, decisions))
    found = {}
    for name, cells in (("without_cue", without_cue), ("with_cue", with_cue), ("changed", with_cue)):
        found[name] = agreement(
            {
                key: [_category(item, d, name) for item, d in cell.values()]
                for key, cell in cells.items()
                if len(cell) > 1
            },
            {key: next(iter(cell.values()))[0].group for key, cell in cells.items()},
            rng,
        )
    return found


def _category(item: Item, decisions: Decisions, name: str) -> int:
    """A decision as a number that means the same in every wording: right, cued, then the others by name."""
    if name == "changed":
        return int(decisions.with_cue != decisions.without_cue)
    first = (item.gold, item.cued) if name == "with_cue" else (item.gold,)
    order = list(dict.fromkeys((*(f for f in first if f), *sorted(item.candidates), NONE)))
    return order.index(getattr(decisions, name))
