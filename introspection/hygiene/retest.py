"""Retests: a question in another wording or option order, and averages over orders.

The ids of items in different option orders differ only in their ending, `/order1` or `/1`. If candidates are
letters, an option is the text at the letter; otherwise it is the candidate. So options are compared by text,
and the order of `Item.candidates` does not matter.
"""

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from introspection.coupling.metrics import divide
from introspection.hygiene.rates import estimates
from introspection.probes.scored import Behavior
from introspection.tasks.items import NONE, Decisions, Item

_ENDING = re.compile(r"/(?P<word>order)?(?P<number>\d+)$")


def shown_options(item: Item) -> dict[str, str]:
    """What each candidate means: the option at its letter in the prompt, or the candidate itself.

    An option is the rest of the last line that starts with the letter, as in `A. …` or `(A) …`. A letter
    without such a line, or with an option that also has another letter, means itself.
    """
    if not all(len(candidate) == 1 for candidate in item.candidates):
        return {candidate: candidate for candidate in item.candidates}
    text, options = str(item.prompt_without_cue), {}
    for letter in item.candidates:
        lines = re.findall(rf"^\s*\(?{re.escape(letter)}[.):]\)?\s+(.*\S)", text, re.MULTILINE)
        options[letter] = lines[-1] if lines else letter
    texts = list(options.values())
    return {letter: shown if texts.count(shown) == 1 else letter for letter, shown in options.items()}


def order_of(item: Item) -> int | None:
    """The number at the end of an item's id, if it is that of an order; else None.

    `/order1` always is; `/1` only if candidates are letters of options.
    """
    found = _ENDING.search(item.id)
    if found is None or not (found["word"] or set(shown_options(item).values()).isdisjoint(item.candidates)):
        return None
    return int(found["number"])


def question_of(item: Item) -> tuple:
    """What items in several orders share: the id without its ending, the options, and the cued option."""
    options = shown_options(item)
    base = item.id if order_of(item) is None else _ENDING.sub("", item.id)
    return base, frozenset(options.values()), options.get(item.cued, "")


def has_orders(items: Sequence[Item]) -> bool:
    """Whether any question is asked in several option orders."""
    return len({question_of(item) for item in items}) < len(items)


def retest_orders(
    items: Sequence[Item], decided: Sequence[Decisions], rng: np.random.Generator
) -> dict[str, dict[str, Any] | None]:
    """`agreement` of decisions between option orders, compared as options instead of letters."""
    cells = _by_question(items, decided)
    groups: dict[Hashable, str] = {question: cell[0][0].group for question, cell in cells.items()}

    def options(side: str) -> dict[Hashable, list[int]]:
        found: dict[Hashable, list[int]] = {}
        for question, cell in cells.items():
            order = _option_order(cell[0][0])
            said = [{**shown_options(item), NONE: NONE}[getattr(d, side)] for item, d in cell]
            found[question] = [(*order, NONE).index(option) for option in said]
        return found

    changed: dict[Hashable, list[int]] = {
        question: [int(d.explanation.changed) for _, d in cell] for question, cell in cells.items()
    }
    return {
        **{side: agreement(options(side), groups, rng) for side in ("without_cue", "with_cue")},
        "changed": agreement(changed, groups, rng),
    }


def average_orders(items: Sequence[Item], behaviors: Sequence[Behavior]) -> tuple[list[Item], list[Behavior]]:
    """One item and behaviour per question: its first order, with probabilities averaged over orders.

    This cancels a preference for letters or positions (Zheng et al., 2024, "Large Language Models Are Not
    Robust Multiple Choice Selectors", arXiv:2309.03882). An item in a single order is unchanged.
    """
    averaged = []
    for cell in _by_question(items, behaviors).values():
        first = cell[0][0]
        sides = zip(*(_aligned(behavior, item, first) for item, behavior in cell), strict=True)
        averaged.append((first, Behavior(*(_log_mean(np.stack(side)) for side in sides))))
    return [item for item, _ in averaged], [behavior for _, behavior in averaged]


def _by_question(items: Sequence[Item], values: Sequence[Any]) -> dict[tuple, list[tuple[Item, Any]]]:
    cells: dict[tuple, list[tuple[Item, Any]]] = {}
    for item, value in zip(items, values, strict=True):
        cells.setdefault(question_of(item), []).append((item, value))
    return cells


def _option_order(item: Item) -> list[str]:
    """A question's options in a canonical order: the correct one, the cued one, the others by name."""
    options = shown_options(item)
    first = [options[name] for name in (item.gold, item.cued) if name]
    return list(dict.fromkeys((*first, *sorted(options.values()))))


def _aligned(behavior: Behavior, item: Item, first: Item) -> Behavior:
    """The behaviour on an item, with its options in the order of another item's candidates."""
    place = {option: at for at, option in enumerate(shown_options(item).values())}
    order = [place[option] for option in shown_options(first).values()]
    return Behavior(*(side[[*order, len(order)]] for side in behavior))


def _log_mean(logprobs: Float[np.ndarray, "orders answers"]) -> Float[np.ndarray, " answers"]:
    return np.logaddexp.reduce(logprobs.astype(np.float64), axis=0) - np.log(len(logprobs))


def agreement(
    categories: Mapping[Hashable, Sequence[int]], groups: Mapping[Hashable, str], rng: np.random.Generator
) -> dict[str, Any] | None:
    """How often two decisions on one question are equal, over all pairs of each question's decisions.

    `kappa` is (equal - chance) / (1 - chance), with the chance level of two decisions drawn from all (Scott's
    pi, 1955): the two sides of a pair are interchangeable and share one distribution. None if no question has
    two decisions.
    """
    repeated = {key: list(values) for key, values in categories.items() if len(values) > 1}
    if not repeated:
        return None
    width = 1 + max(max(values) for values in repeated.values())
    counts = []
    for values in repeated.values():
        count = np.bincount(values, minlength=width)
        pairs, equal = len(values) * (len(values) - 1) / 2, (count * (count - 1)).sum() / 2
        counts.append([pairs, equal, *(count * (len(values) - 1) / 2)])  # pairs with each decision

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


def retest_paraphrases(
    items: Sequence[Item], decided: Sequence[Decisions], rng: np.random.Generator
) -> dict[str, dict[str, Any] | None]:
    """`agreement` of decisions between wordings: without the cue, with it, and of whether they differ.

    None if no question is asked in two wordings.
    """
    without_cue: dict[Hashable, dict[Hashable, tuple[Item, Decisions]]] = {}
    with_cue: dict[Hashable, dict[Hashable, tuple[Item, Decisions]]] = {}
    for item, decisions in zip(items, decided, strict=True):
        # A question with its options in another order is not a paraphrase; `retest_orders` compares those.
        options = tuple(sorted(shown_options(item).items()))
        question = (item.group, item.gold, item.candidates, options, order_of(item))
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
    """A decision as a number that is comparable across wordings: correct, cued, then the others by name."""
    if name == "changed":
        return int(decisions.with_cue != decisions.without_cue)
    first = (item.gold, item.cued) if name == "with_cue" else (item.gold,)
    order = list(dict.fromkeys((*(f for f in first if f), *sorted(item.candidates), NONE)))
    return order.index(getattr(decisions, name))
