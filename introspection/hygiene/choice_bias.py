"""Whether a model prefers answers by their name or position, whatever the question."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from introspection.coupling.metrics import divide
from introspection.coupling.statistics import null
from introspection.hygiene.rates import estimates
from introspection.probes.scored import Behavior
from introspection.tasks.items import NONE, Decisions, Item
from introspection.tasks.matching import mentions

MOST_ANSWERS = 12  # that count as shared by all items: letters, verdicts, classes


def shared_answers(items: Sequence[Item]) -> tuple[str, ...]:
    """The answers that all items choose among, sorted; () if there are too many to count as shared."""
    answers = sorted({candidate for item in items for candidate in item.candidates})
    return tuple(answers) if len(answers) <= MOST_ANSWERS and len(items) > len(answers) else ()


def shown_places(item: Item) -> tuple[int, ...] | None:
    """The position, from 0, at which the prompt without the cue lists each candidate; None if it lists none.

    Words of a candidate may also occur elsewhere: the list is the shortest stretch that names all candidates,
    the last of equally short ones. Single characters label options, so they also give None.
    """
    if all(len(candidate) == 1 for candidate in item.candidates):
        return None
    starts: dict[str, int] = {}
    shortest: tuple[int, dict[str, int]] | None = None
    for candidate, start, end in mentions(str(item.prompt_without_cue), item.candidates, item.case_counts):
        starts[candidate] = start  # its latest mention so far
        if len(starts) == len(item.candidates):
            span = end - min(starts.values())
            if shortest is None or span <= shortest[0]:
                shortest = span, dict(starts)
    if shortest is None:
        return None
    order = sorted(shortest[1], key=shortest[1].__getitem__)
    return tuple(order.index(candidate) for candidate in item.candidates)


def answer_bias(
    items: Sequence[Item],
    decided: Sequence[Decisions],
    behaviors: Sequence[Behavior] | None,
    rng: np.random.Generator,
) -> dict[str, dict[str, Any]] | None:
    """Shares of decisions by answer (letter, verdict); None if items do not share their answers."""
    answers = shared_answers(items)
    if not answers:
        return None
    return choice_shares(items, decided, behaviors, lambda item: item.candidates, answers, rng)


def place_bias(
    items: Sequence[Item],
    decided: Sequence[Decisions],
    behaviors: Sequence[Behavior] | None,
    rng: np.random.Generator,
) -> dict[str, dict[str, Any]] | None:
    """Shares of decisions by the option's position in the prompt, from 1.

    None if no options are shown, or if each is always in the same position: then see `answer_bias`.
    """
    places = [own for item in items if (own := shown_places(item)) is not None]
    if len(places) < len(items):
        return None
    placed = {
        pair
        for item, own in zip(items, places, strict=True)
        for pair in zip(item.candidates, own, strict=True)
    }
    answers = shared_answers(items)
    if answers and len(placed) == len(answers):
        return None
    by_id = {item.id: own for item, own in zip(items, places, strict=True)}
    names = tuple(str(1 + place) for place in range(max(len(item.candidates) for item in items)))
    return choice_shares(
        items, decided, behaviors, lambda item: [str(1 + place) for place in by_id[item.id]], names, rng
    )


def choice_shares(
    items: Sequence[Item],
    decided: Sequence[Decisions],
    behaviors: Sequence[Behavior] | None,
    labels: Callable[[Item], Sequence[str]],
    names: Sequence[str],
    rng: np.random.Generator,
) -> dict[str, dict[str, Any]]:
    """For each label of candidates, and for `none`: how often it is decided for, and how often it should be.

    Args:
        behaviors: of scored candidates, for mean probabilities; None for generated replies.
        labels: of an item's candidates, in order.
        names: all labels, in the order of the result.

    Returns:
        By label: `uniform`, its share of decisions at random; `right`, its share of correct answers, where
        these are known; `cued`, how often the cue names it; `without_cue` and `with_cue`, its shares of
        decisions with intervals; `excess`, `without_cue` minus `right` (minus `uniform` if no correct answer
        is known), with an interval; and `probability`, its mean probability without the cue.
    """
    column = {name: place for place, name in enumerate((*names, NONE))}
    wide = len(column)
    fields = ("uniform", "right", "cued", "without_cue", "with_cue", "probability")
    counts = np.zeros((len(items), len(fields), wide))
    known = np.array([bool(item.gold) for item in items])
    for row, (item, decisions) in enumerate(zip(items, decided, strict=True)):
        own = [column[label] for label in labels(item)]
        place = {**dict(zip(item.candidates, own, strict=True)), NONE: column[NONE]}
        counts[row, 0, own] = 1 / len(own)
        if item.gold:
            counts[row, 1, place[item.gold]] = 1
        if item.cued:
            counts[row, 2, place[item.cued]] = 1
        counts[row, 3, place[decisions.without_cue]] = 1
        counts[row, 4, place[decisions.with_cue]] = 1
        if behaviors is not None:
            counts[row, 5, [*own, column[NONE]]] = np.exp(behaviors[row].without_cue)
    n, cued = len(items), sum(bool(item.cued) for item in items)
    sums = counts.sum(axis=0)
    # If no correct answer is known, all answers are equally likely to be correct.
    expected = counts[:, 1] if known.any() else counts[:, 0]
    judged = known if known.any() else np.ones(n, bool)
    columns = np.column_stack(
        [counts[:, 3], counts[:, 4], (counts[:, 3] - expected) * judged[:, None], np.ones(n), judged]
    )

    def statistic(totals: np.ndarray) -> np.ndarray:
        decisions, excess = totals[:, : 2 * wide], totals[:, 2 * wide : 3 * wide]
        return np.column_stack([divide(decisions, totals[:, -2:-1]), divide(excess, totals[:, -1:])])

    found = estimates(columns, [item.group for item in items], statistic, rng)
    return {
        name: {
            "uniform": float(sums[0, at] / n),
            "right": null(divide(sums[1, at], known.sum())),
            "cued": null(divide(sums[2, at], cued)),
            "without_cue": found[at],
            "with_cue": found[wide + at],
            "excess": found[2 * wide + at],
            "probability": None if behaviors is None else float(sums[5, at] / n),
        }
        for name, at in column.items()
    }
