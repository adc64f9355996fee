"""Whether a task's prompt pairs are clean counterfactuals and a model's decisions more than noise.

Differences between x and x\\C, how often the cue changes the decision, and how close decisions are.

All results are strict JSON: an undefined value is None, never NaN. Intervals are over groups.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from introspection.coupling.metrics import decision_direction, divide
from introspection.coupling.seed_intervals import Statistic
from introspection.coupling.statistics import as_estimates, hierarchical_bootstrap
from introspection.probes.scored import Behavior
from introspection.tasks.items import NONE, Decisions, Item

Segments = Sequence[tuple[str, str]]  # "=" in both prompts, "+" only with the cue, "-" only without it

# Kinds of differences between x and x\C. Only the first is a cue that can be removed.
DIFFERENCES = {
    "insertion": "one stretch added",
    "spacing": "one stretch added, and white space changed",
    "replacement": "one stretch in another's place",
    "removal": "one stretch taken away",
    "scattered": "several places",
    "none": "nothing, or white space alone",
}
MARGIN_STEPS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)  # nats
POPULATED = (0.1, 0.9)  # changed-rates at which both classes of labels occur
QUANTILES = {"min": 0.0, "q05": 0.05, "median": 0.5, "q95": 0.95, "max": 1.0}


def difference_kind(segments: Segments) -> str:
    """One of `DIFFERENCES`, from the word-by-word segments of both prompts."""
    changes = [kind for kind, _ in segments if kind != "="]
    worded = {kind for kind, text in segments if kind != "=" and text.strip()}
    if not worded:
        return "none"
    if changes == ["+"]:
        return "insertion"
    if _places(segments) > 1:
        return "scattered"
    return {"+": "spacing", "-": "removal"}["".join(worded)] if len(worded) == 1 else "replacement"


def _places(segments: Segments) -> int:
    """The number of stretches that differ; white space neither separates two nor counts as one."""
    places, inside = 0, False
    for kind, text in segments:
        if kind == "=":
            inside = inside and not text.strip()
        elif text.strip() and not inside:
            places, inside = places + 1, True
    return places


def estimates(
    counts: Float[np.ndarray, "items statistics"],
    groups: Sequence[str],
    statistic: Statistic,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Each output's `mean` and `ci95` (None if undefined)."""
    means = statistic(counts.sum(0, keepdims=True))[0]
    return as_estimates(means, hierarchical_bootstrap(counts, np.asarray(groups), statistic, rng))


def shares(
    flags: Mapping[str, Sequence[bool | float | None]], groups: Sequence[str], rng: np.random.Generator
) -> dict[str, dict[str, Any]]:
    """The share of items with each flag set, among those where it is not None."""
    columns = []
    for values in flags.values():
        known = np.array([value is not None for value in values], float)
        columns += [np.array([value or 0 for value in values], float), known]
    found = estimates(np.column_stack(columns), groups, lambda s: divide(s[:, ::2], s[:, 1::2]), rng)
    return dict(zip(flags, found, strict=True))


def behavior_rates(
    items: Sequence[Item], decided: Sequence[Decisions], rng: np.random.Generator
) -> dict[str, Any]:
    """How often the cue changes the decision, and to what; how often a decision is correct, or none.

    `to_cued`, `to_gold` and `to_other` are shares of all items that add up to `changed_rate`; a change to the
    correct answer counts as `to_gold` even if the cue names it. Correctness counts only where it is known.
    """
    directions = [
        decision_direction(d.without_cue, d.with_cue, item.gold, item.cued)
        for item, d in zip(items, decided, strict=True)
    ]
    rows = list(zip(items, decided, strict=True))
    flags = {
        "changed_rate": [d.with_cue != d.without_cue for d in decided],
        "to_cued": [direction == "to_cued" for direction in directions],
        "to_gold": [direction == "to_gold" for direction in directions],
        "to_other": [direction == "to_other" for direction in directions],
        "right_without_cue": [d.without_cue == item.gold if item.gold else None for item, d in rows],
        "right_with_cue": [d.with_cue == item.gold if item.gold else None for item, d in rows],
        "follows_cue": [d.with_cue == item.cued if item.cued else None for item, d in rows],
        "none_without_cue": [d.without_cue == NONE for d in decided],
        "none_with_cue": [d.with_cue == NONE for d in decided],
    }
    groups = [item.group for item in items]
    return {"n": len(items), "groups": len(set(groups)), **shares(flags, groups, rng)}


def rates_by(
    key: Callable[[Item], str],
    items: Sequence[Item],
    decided: Sequence[Decisions],
    rng: np.random.Generator,
) -> dict[str, dict[str, Any]]:
    """`behavior_rates` of each part of the items, in order of first appearance."""
    places: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(key(item), []).append(place)
    return {
        name: behavior_rates([items[i] for i in chosen], [decided[i] for i in chosen], rng)
        for name, chosen in places.items()
    }


def recommended_cue(rates: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The part whose changed-rate is closest to a half, among those whose interval is within `POPULATED`; the
    first of equals, None if there is none."""
    low, high = POPULATED
    distance = {
        kind: abs(found["changed_rate"]["mean"] - 0.5)
        for kind, found in rates.items()
        if (ends := found["changed_rate"]["ci95"]) and low <= ends[0] and ends[1] <= high
    }
    return min(distance, key=distance.__getitem__, default=None)


def decision_margins(behaviors: Sequence[Behavior], with_none: bool = True) -> Float[np.ndarray, "items 2"]:
    """Log-probability (nats) of the first answer minus that of the second, `none` included unless it can't be
    decided for; with the cue and without."""

    def margin(logprobs: np.ndarray) -> float:
        second, first = np.sort(logprobs[: None if with_none else -1])[-2:]
        return float(first - second)

    return np.array([[margin(row) for row in behavior] for behavior in behaviors]).reshape(-1, 2)


def margin_report(
    items: Sequence[Item],
    decided: Sequence[Decisions],
    margins: Float[np.ndarray, "items 2"],
    threshold: float,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """How close decisions are. An item is close if either of its margins is below `threshold` nats: rounding
    or a word could then reverse its label.

    `changed_rate_close` and `changed_rate_clear` are the rates of close and of other items.
    """
    smaller = margins.min(axis=1)
    close = smaller < threshold
    changed = [d.with_cue != d.without_cue for d in decided]
    flags = {
        "close": close.tolist(),
        "close_with_cue": (margins[:, 0] < threshold).tolist(),
        "close_without_cue": (margins[:, 1] < threshold).tolist(),
        "changed_rate_close": [c if near else None for c, near in zip(changed, close, strict=True)],
        "changed_rate_clear": [None if near else c for c, near in zip(changed, close, strict=True)],
    }
    return {
        "threshold": threshold,
        **shares(flags, [item.group for item in items], rng),
        "below": {f"{step:g}": float(np.mean(smaller < step)) for step in MARGIN_STEPS},
        "quantiles": quantiles(smaller.tolist()),
    }


def quantiles(values: Sequence[float | int]) -> dict[str, float]:
    """Smallest, 5%, median, 95% and largest."""
    return {name: float(np.quantile(values, at)) for name, at in QUANTILES.items()}
