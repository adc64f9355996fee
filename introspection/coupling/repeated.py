"""How far repeated decisions on the same questions agree, beyond what chance gives."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from introspection.coupling.hygiene import estimates
from introspection.coupling.metrics import divide


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
