"""Whether a part of a study can be asked about coupling: do labels teach its main arm, over all bases?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from introspection.coupling.arm_counts import MORE_COUNTS, ByBase
from introspection.coupling.askable import (
    BELIEF_BLIND,
    NO_SHUFFLED_ARM,
    AskableThresholds,
    askable_words,
    is_askable,
)
from introspection.coupling.base_bootstrap import USUAL, Resamples, estimates
from introspection.coupling.metrics import MATCH_COUNTS, divide

MAIN_ARM = "kl"
ROUNDING = 1e-9  # a difference of shares that is the threshold but for rounding reaches it


def part_askable(
    main: ByBase | None,
    controls: Mapping[str, Mapping[str, Mapping[str, Any]]],
    seed: int,
    resamples: Resamples = USUAL,
    thresholds: AskableThresholds | None = None,
) -> dict[str, Any]:
    """The criteria of `coupling.askable` for the arm `kl`, pooled over bases.

    Args:
        main: that arm's counts; None if it did not run.
        controls: by emitter and arm, what `part_results` returns: whose Orig the arm's is held against.

    Returns:
        {"arm", "askable", "words", "criteria"}, as `run_askable`; `askable` is None where it isn't known.
    """
    if not main:
        words = f"askable: not known (the arm {MAIN_ARM} did not run)"
        return {"arm": None, "askable": None, "words": words, "criteria": {}}
    limits = thresholds or AskableThresholds()
    orig = {
        name: by_arm[MAIN_ARM]["orig"]["exact_match"]
        for name, by_arm in controls.items()
        if MAIN_ARM in by_arm
    }
    blind = [name for name in BELIEF_BLIND if name in orig]
    best = max(blind, key=lambda name: orig[name]["second"], default=None)
    shuffled = "shuffled" if "shuffled" in orig else None
    accuracy = _accuracy_difference(main, seed, resamples)
    criteria = {
        "orig_above_shuffled": _orig_criterion(orig, shuffled, limits, NO_SHUFFLED_ARM),
        "orig_above_blind": _orig_criterion(
            orig, best, limits, "no emitter that is blind to beliefs was scored"
        ),
        "behavior_kept": {
            "against": "initial",
            **accuracy,
            "threshold": -limits.accuracy_loss,
            "met": accuracy["mean"] >= -limits.accuracy_loss - ROUNDING,
            "note": None,
        },
    }
    askable = is_askable(criteria)
    words = askable_words(MAIN_ARM, askable, criteria)
    return {"arm": MAIN_ARM, "askable": askable, "words": words, "criteria": criteria}


def _orig_criterion(
    orig: Mapping[str, Mapping[str, Any]], name: str | None, limits: AskableThresholds, missing: str
) -> dict[str, Any]:
    known = {"mean": None, "ci95": None} if name is None else {k: orig[name][k] for k in ("mean", "ci95")}
    note = missing if name is None else "no interval" if known["ci95"] is None else None
    met = None
    if known["mean"] is not None and known["mean"] < limits.orig_above - ROUNDING:
        met = False
    elif known["ci95"] is not None:
        met = known["ci95"][0] > 0
    return {"against": name, **known, "threshold": limits.orig_above, "met": met, "note": note}


def _accuracy_difference(main: ByBase, seed: int, resamples: Resamples) -> dict[str, Any]:
    """Share of decisions without the cue that are right, current minus the base's own, with its interval."""
    first = 2 * len(MATCH_COUNTS)
    columns = [0, *(first + MORE_COUNTS.index(name) for name in ("current_right", "initial_right"))]
    counts = np.concatenate([main[base].counts[:, columns] for base in sorted(main)])

    def statistic(sums: Float[np.ndarray, "resamples 3"]) -> Float[np.ndarray, "resamples 1"]:
        return divide(sums[:, 1:2] - sums[:, 2:3], sums[:, :1])

    return estimates(main, counts, statistic, np.random.default_rng(seed), resamples)[0]
