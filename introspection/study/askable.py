"""Whether a part of a study can be asked about coupling: do labels teach its main arm, over all bases?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from introspection.coupling.askable import AskableThresholds, criteria_of, judged
from introspection.coupling.estimates import Estimate
from introspection.coupling.metrics import MATCH_COUNTS, divide
from introspection.coupling.run_results import Askable
from introspection.runtime.json_values import from_json
from introspection.study.base_bootstrap import USUAL, Resamples, estimates
from introspection.study.counts import MORE_COUNTS, ByBase

MAIN_ARM = "kl"


def part_askable(
    main: ByBase | None,
    controls: Mapping[str, Mapping[str, Mapping[str, Any]]],
    seed: int,
    resamples: Resamples = USUAL,
    thresholds: AskableThresholds | None = None,
) -> Askable:
    """The criteria of `coupling.askable` for the arm `kl`, pooled over bases.

    Args:
        main: that arm's counts; None if it did not run.
        controls: by emitter and arm, what `part_results` returns: whose Orig the arm's is held against.
    """
    if not main:
        return Askable(words=f"askable: not known (the arm {MAIN_ARM} did not run)")
    found = {name: by_arm[MAIN_ARM] for name, by_arm in controls.items() if MAIN_ARM in by_arm}
    exact = {name: entry["orig"]["exact_match"] for name, entry in found.items()}
    orig = {name: (one["second"], from_json(Estimate, one)) for name, one in exact.items()}
    accuracy = _accuracy_difference(main, seed, resamples)
    return judged(MAIN_ARM, criteria_of(orig, accuracy, thresholds or AskableThresholds()))


def _accuracy_difference(main: ByBase, seed: int, resamples: Resamples) -> Estimate:
    """Share of decisions without the cue that are right, current minus the base's own, with its interval."""
    first = 2 * len(MATCH_COUNTS)
    columns = [first + MORE_COUNTS.index(name) for name in ("known", "current_right", "initial_right")]
    counts = np.concatenate([main[base].counts[:, columns] for base in sorted(main)])

    def statistic(sums: Float[np.ndarray, "resamples 3"]) -> Float[np.ndarray, "resamples 1"]:
        return divide(sums[:, 1:2] - sums[:, 2:3], sums[:, :1])

    return from_json(Estimate, estimates(main, counts, statistic, np.random.default_rng(seed), resamples)[0])
