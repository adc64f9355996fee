"""Items and behaviours that the tests of hygiene are built from."""

import numpy as np

from introspection.probes.scored import Behavior
from introspection.tasks.items import Item

OPTIONS = {"red": 0.5, "green": 0.2, "blue": 0.2, "grey": 0.1}  # what a model thinks of them; red is right
LETTERS = {"A": 0.7, "B": 0.1, "C": 0.1, "D": 0.1}  # and of letters


def item(name="q0/hint/0", group="q0", kind="hint", gold="A", cued="B", candidates="ABCD", **fields):
    defaults = dict(
        id=name,
        group=group,
        stratum="s",
        cue_kind=kind,
        prompt_with_cue=f"What is {name}? It is {cued}.",
        prompt_without_cue=f"What is {name}?",
        candidates=tuple(candidates),
        gold=gold,
        cued=cued,
    )
    return Item(**(defaults | fields))


def rng():
    return np.random.default_rng(0)


def behavior(with_cue, without_cue):
    return Behavior(*(np.log(np.array(side, float)) for side in (with_cue, without_cue)))


def ordered(orders=4, name="q/hint/{}"):
    """One question in cyclic orders of its options, and a model that likes the letter A as well."""
    items, behaviors = [], []
    for order in range(orders):
        shown = [*list(OPTIONS)[order:], *list(OPTIONS)[:order]]
        letter_of = dict(zip(shown, LETTERS, strict=True))
        gold, cued = letter_of["red"], letter_of["green"]
        asked = "\n".join(["Which one?", *(f"{letter}. {option}" for option, letter in letter_of.items())])
        items.append(
            item(
                name.format(order),
                "q",
                prompt_without_cue=asked,
                prompt_with_cue=f"{asked}\n\nIt is {cued}.",
                candidates=tuple(LETTERS),
                gold=gold,
                cued=cued,
            )
        )
        option_of = {letter: option for option, letter in letter_of.items()}
        scores = np.array([OPTIONS[option_of[one]] * LETTERS[one] for one in items[-1].candidates])
        side = np.append(scores / scores.sum() * 0.9, 0.1)
        behaviors.append(behavior(side, side))
    return items, behaviors
