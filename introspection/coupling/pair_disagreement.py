"""The items on which two models differ: whom does each emitter match there?"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from introspection.coupling.estimates import Estimate
from introspection.coupling.matrix_results import PairDisagreement, PairMatches
from introspection.coupling.metrics import divide
from introspection.coupling.statistics import hierarchical_bootstrap
from introspection.tasks.items import Decisions, Explanation


def seed_pairs(one: Sequence[str], other: Sequence[str], same: bool) -> list[tuple[str, str]]:
    """Which seeds of two names are held against each other: of the same name each with itself, else all."""
    return [(seed, seed) for seed in one] if same else [*itertools.product(one, other)]


def pair_disagreements(
    explanations: Mapping[str, Sequence[Explanation]],
    decisions: Mapping[str, Sequence[Decisions]],
    members: Mapping[str, Sequence[str]],
    emitters: Sequence[str],
    teachers: Sequence[str],
    groups: Shaped[np.ndarray, " items"],
    rng: np.random.Generator,
) -> Iterator[PairDisagreement]:
    """Each two teachers' disagreement set, with every emitter's matches there.

    With several seeds, an item counts by the share of the pairs of seeds that differ on it. An emitter that
    is one of the two is held to both behaviours of a pair with its own seed's explanations. Intervals are
    over groups.
    """
    number: dict[Explanation, int] = {}
    said = {one: _numbers(of, number) for one, of in explanations.items()}
    does = {one: _numbers([d.explanation for d in of], number) for one, of in decisions.items()}

    def differs(pair: tuple[str, str]) -> Bool[np.ndarray, " items"]:
        return does[pair[0]] != does[pair[1]]

    def matches(emitter: str, names: tuple[str, str], side: int) -> Float[np.ndarray, " items"]:
        """The share of seeds that match one of the two, where they differ."""
        found = [
            differs(pair) & (said[one] == does[pair[side]])
            for pair in itertools.product(members[names[0]], members[names[1]])
            for one in ([pair[names.index(emitter)]] if emitter in names else members[emitter])
        ]
        return np.mean(found, axis=0)

    for names in itertools.combinations(teachers, 2):
        share = np.mean([*map(differs, itertools.product(members[names[0]], members[names[1]]))], axis=0)
        in_set = len(np.unique(groups[share > 0]))
        if not in_set:
            yield PairDisagreement(*names, 0.0, 0)
            continue
        columns = [matches(emitter, names, side) for emitter in emitters for side in (0, 1)]
        counts = np.column_stack([share, *columns])
        intervals = hierarchical_bootstrap(counts, groups, _differences, rng).T
        n, *total = counts.sum(0)
        yield PairDisagreement(
            *names,
            float(n),
            in_set,
            tuple(
                PairMatches(emitter, float(a / n), float(b / n), Estimate(float((a - b) / n), _ends(*ends)))
                for emitter, a, b, ends in zip(emitters, total[::2], total[1::2], intervals, strict=True)
            ),
        )


def _differences(sums: Float[np.ndarray, "resamples sums"]) -> Float[np.ndarray, "resamples emitters"]:
    return divide(sums[:, 1::2] - sums[:, 2::2], sums[:, :1])


def _numbers(
    explanations: Sequence[Explanation], number: dict[Explanation, int]
) -> Int[np.ndarray, " items"]:
    """Equal explanations have equal numbers; an invalid one has that of nobody's behaviour."""
    return np.array([number.setdefault(explanation, len(number)) for explanation in explanations], int)


def _ends(low: float, high: float) -> tuple[float, float] | None:
    return None if np.isnan(low) else (float(low), float(high))
