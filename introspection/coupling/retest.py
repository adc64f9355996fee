"""Test and retest: whether a model decides the same where a question is only worded or ordered otherwise.

Items are the same question where they share a group and their set of candidates. Paraphrases are those of
one cue kind and cued answer that differ in wording. Orders are items whose ids differ in their ending alone,
`/order0`, `/order1`, …: the same question with its options shown in other orders (the first may lack the
ending). Their candidates are aligned: a rank is the same option in every order.
"""

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from introspection.coupling.hygiene import estimates
from introspection.coupling.metrics import divide
from introspection.probes.behavior import Behavior
from introspection.tasks.items import NONE, Decisions, Item

ORDER = re.compile(r"/order(\d+)$")


def base_and_order(item: Item) -> tuple[str, int]:
    """The item's id without the ending that names an order of its options, and that order's number."""
    found = ORDER.search(item.id)
    return (item.id[: found.start()], int(found[1])) if found else (item.id, 0)


def retest_paraphrases(
    items: Sequence[Item], decided: Sequence[Decisions], rng: np.random.Generator
) -> dict[str, dict[str, Any] | None]:
    """`agreement` of decisions between wordings: without the cue, with it, and of whether they differ.

    None where no question is asked in two wordings.
    """
    without_cue: dict[Hashable, dict[Hashable, tuple[Item, Decisions]]] = {}
    with_cue: dict[Hashable, dict[Hashable, tuple[Item, Decisions]]] = {}
    for item, decisions in zip(items, decided, strict=True):
        question = (item.group, item.gold, frozenset(item.candidates), base_and_order(item)[1])
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


def agreement(
    categories: Mapping[Hashable, Sequence[int]], groups: Mapping[Hashable, str], rng: np.random.Generator
) -> dict[str, Any] | None:
    """How often two decisions on one question are equal, over all pairs of each question's decisions.

    `kappa` is (equal - chance) / (1 - chance), where chance is that of two decisions drawn from all of them
    (Scott's pi, 1955): the two sides of a pair are interchangeable, so they share one distribution. None
    where no question has two decisions.
    """
    repeated = {key: list(values) for key, values in categories.items() if len(values) > 1}
    if not repeated:
        return None
    width = 1 + max(max(values) for values in repeated.values())
    counts = []
    for values in repeated.values():
        count = np.bincount(values, minlength=width)
        pairs, equal = len(values) * (len(values) - 1) / 2, (count * (count - 1)).sum() / 2
        counts.append([pairs, equal, *(count * (len(values) - 1) / 2)])  # each decision is in so many pairs

    def statistic(sums: Float[np.ndarray, "resamples statistics"]) -> Float[np.ndarray, "resamples 2"]:
        equal = divide(sums[:, 1], sums[:, 0])
        chance = (divide(sums[:, 2:], sums[:, :1]) ** 2).sum(axis=1)
        return np.column_stack([equal, divide(equal - chance, 1 - chance)])

    names = [groups[key] for key in repeated]
    equal, kappa = estimates(np.array(counts, float), names, statistic, rng)
    return {
        "pairs": int(sum(row[0] for row in counts)),
        "questions": len(counts),
        "equal": equal,
        "kappa": kappa,
    }


def has_orders(items: Sequence[Item]) -> bool:
    """Whether any question is asked with its options in several orders."""
    return len({base_and_order(item)[0] for item in items}) < len(items)


def retest_orders(
    items: Sequence[Item], decided: Sequence[Decisions], rng: np.random.Generator
) -> dict[str, dict[str, Any] | None]:
    """`agreement` of decisions, as options and not as letters, between orders of the options."""
    cells: dict[str, list[tuple[Item, Decisions]]] = {}
    for item, decisions in zip(items, decided, strict=True):
        cells.setdefault(base_and_order(item)[0], []).append((item, decisions))
    groups = {base: cell[0][0].group for base, cell in cells.items()}

    def ranks(name: str) -> dict[str, list[int]]:
        return {
            base: [(*i.candidates, NONE).index(getattr(d, name)) for i, d in c] for base, c in cells.items()
        }

    changed = {base: [int(d.explanation.changed) for _, d in cell] for base, cell in cells.items()}
    return {
        **{name: agreement(ranks(name), groups, rng) for name in ("without_cue", "with_cue")},
        "changed": agreement(changed, groups, rng),
    }


def average_orders(items: Sequence[Item], behaviors: Sequence[Behavior]) -> tuple[list[Item], list[Behavior]]:
    """One item and behaviour for each question that is asked in several orders: its lowest order, with the
    mean of the orders' probabilities, option by option.

    So a preference for a letter or a place, which the orders spread over the options, takes no side (the
    average over permutations of Zheng et al., 2024, "Large Language Models Are Not Robust Multiple Choice
    Selectors"). An item in one order stays as it is.

    Raises:
      ValueError: two orders of a question have different numbers of candidates.
    """
    cells: dict[str, list[tuple[int, Item, Behavior]]] = {}
    for item, behavior in zip(items, behaviors, strict=True):
        base, order = base_and_order(item)
        cells.setdefault(base, []).append((order, item, behavior))
    averaged = []
    for base, cell in cells.items():
        if len({len(item.candidates) for _, item, _ in cell}) > 1:
            raise ValueError(f"{base}: its orders have different numbers of candidates")
        sides = (np.stack(side) for side in zip(*(behavior for _, _, behavior in cell), strict=True))
        averaged.append((min(cell, key=lambda one: one[0])[1], Behavior(*map(_log_mean, sides))))
    return [item for item, _ in averaged], [behavior for _, behavior in averaged]


def _log_mean(logprobs: Float[np.ndarray, "orders answers"]) -> Float[np.ndarray, " answers"]:
    return np.logaddexp.reduce(logprobs.astype(np.float64), axis=0) - np.log(len(logprobs))
