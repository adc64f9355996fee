"""Every emitter's explanations against every teacher's behaviour; coupling is a diagonal that stands out."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Shaped

from introspection.coupling.metrics import (
    METRICS,
    divide,
    invalid_rate,
    match_counts,
    match_metrics,
    none_rate,
)
from introspection.coupling.run_results import Matrix
from introspection.coupling.statistics import hierarchical_bootstrap
from introspection.runtime.json_values import from_json
from introspection.tasks.items import Decisions, Explanation


def coupling_matrix(
    explanations: Mapping[str, Sequence[Explanation]],
    decisions: Mapping[str, Sequence[Decisions]],
    groups: Shaped[np.ndarray, " items"] | Sequence[str],
    rng: np.random.Generator,
    *,
    seeds: Sequence[int] | None = None,
    resamples: int = 2_000,
) -> Matrix:
    """Scores emitters (rows) against teachers (columns) on the same items.

    Args:
        explanations: of each emitter, one an item.
        decisions: of each teacher, one pair an item, in the same order.
        groups: of the items; intervals resample groups, the same ones for all cells.
        rng: for the intervals.
        seeds: of the items, if several training runs answered the same ones; intervals are over these, too.
        resamples: how many.
    """
    emitters, teachers, groups = list(explanations), list(decisions), np.asarray(groups)
    if not emitters or not teachers or len(groups) == 0:
        raise ValueError("the matrix needs an emitter, a teacher and an item")
    targets = {name: [d.explanation for d in decisions[name]] for name in teachers}
    for name, values in (*explanations.items(), *decisions.items()):
        if len(values) != len(groups):
            raise ValueError(f"{name} has {len(values)} items, the groups {len(groups)}")
    counts = np.stack([[match_counts(explanations[e], targets[t]) for t in teachers] for e in emitters])
    measures = match_metrics(counts.sum(axis=2))
    exact_items = counts[..., 1].reshape(-1, len(groups)).T  # items, cells
    own = np.array([[e == t for t in teachers] for e in emitters])
    shared = np.array([[e in decisions and t in explanations for t in teachers] for e in emitters])
    on, off = (own & shared).ravel(), (~own & shared).ravel()

    def statistic(
        sums: Float[np.ndarray, "resamples cells_and_items"],
    ) -> Float[np.ndarray, "resamples outputs"]:
        shares = divide(sums[:, :-1], sums[:, -1:])
        return np.column_stack([shares, *_diagonal(shares, on, off)])

    sums = np.column_stack([exact_items, np.ones(len(groups))])
    of_seeds = None if seeds is None else np.asarray(seeds)
    low, high = hierarchical_bootstrap(sums, groups, statistic, rng, seeds=of_seeds, resamples=resamples)
    intervals = [_interval(*ends) for ends in zip(low, high, strict=True)]
    own_mean, other_mean, difference = _diagonal(measures["exact_match"].reshape(1, -1), on, off)[:, 0]
    found = {
        "emitters": emitters,
        "teachers": teachers,
        "n": len(groups),
        **{metric: measures[metric].tolist() for metric in METRICS},
        "ci95": [intervals[row * len(teachers) :][: len(teachers)] for row in range(len(emitters))],
        "diagonal": {
            "own": float(own_mean),
            "others": float(other_mean),
            "difference": {"mean": float(difference), "ci95": intervals[-1]},
        }
        if on.any() and off.any()
        else None,
        "invalid_rate": [invalid_rate(explanations[name]) for name in emitters],
        "groups": len(np.unique(groups)),
        "none_rate": [none_rate(decisions[name]) for name in teachers],
    }
    return from_json(Matrix, found)


def _diagonal(
    shares: Float[np.ndarray, "resamples cells"],
    on: Shaped[np.ndarray, " cells"],
    off: Shaped[np.ndarray, " cells"],
) -> Float[np.ndarray, "3 resamples"]:
    """Mean on the diagonal, mean off it, and their difference; NaN where there is no such cell."""
    own, others = (divide(shares[:, cells].sum(1), np.sum(cells)) for cells in (on, off))
    return np.stack([own, others, own - others])


def _interval(low: float, high: float) -> list[float] | None:
    return None if np.isnan(low) else [float(low), float(high)]
