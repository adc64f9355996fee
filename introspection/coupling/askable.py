"""Whether a run can be asked about coupling: labels must teach before any gap is read (design.md §1)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from introspection.coupling.metrics import divide
from introspection.coupling.records import PredictionRecord
from introspection.coupling.scores import estimates

BELIEF_BLIND = ("majority", "input_only")  # emitters that don't look at what the model believes of the fact
NOT_ASKABLE = "not askable: labels did not teach"
NO_SHUFFLED_ARM = "no arm with shuffled labels ran"
ROUNDING = 1e-9  # a difference of shares that is the threshold but for rounding reaches it


@dataclasses.dataclass(frozen=True)
class AskableThresholds:
    """Shares, not points."""

    orig_above: float = 0.10  # Orig above the shuffled arm's, and above that of the best blind emitter
    accuracy_loss: float = 0.05  # behaviour accuracy below the base's


def main_arm(arms: Mapping[str, Any]) -> str | None:
    """The first arm that breaks nothing: KL, own clean fixed labels, no shift; None if there is none.

    Fields that an arm's config lacks count as unset.
    """
    return next((name for name, arm in arms.items() if _is_plain(arm) and _field(arm, "kl_weight") > 0), None)


def shuffled_arm(arms: Mapping[str, Any]) -> str | None:
    """The first arm with shuffled labels that is otherwise plain; None if there is none."""
    return next(
        (
            name
            for name, arm in arms.items()
            if _field(arm, "shuffle_labels")
            and not (_is_shifted(arm) or _field(arm, "label_noise") or _field(arm, "foreign_to"))
        ),
        None,
    )


def _is_plain(arm: Any) -> bool:
    broken = ("shuffle_labels", "label_noise", "foreign_to", "foreign_labels", "labels")
    refreshed = ("refresh_steps", "refresh_labels")
    return not (_is_shifted(arm) or any(_field(arm, name) for name in (*broken, *refreshed)))


def _is_shifted(arm: Any) -> bool:
    return getattr(getattr(arm, "shift", None), "kind", "none") != "none"


def _field(arm: Any, name: str) -> Any:
    return getattr(arm, name, 0) or 0


def arm_criteria(
    records: Sequence[PredictionRecord],
    references: Mapping[str, Mapping[str, Any]],
    rng: np.random.Generator,
    thresholds: AskableThresholds | None = None,
    *,
    without_shuffled: str = NO_SHUFFLED_ARM,
) -> dict[str, dict[str, Any]]:
    """The criteria of one arm: {name: {"against", "mean", "ci95", "threshold", "met", "note"}}.

    `orig_above_shuffled` and `orig_above_blind` (the better of `BELIEF_BLIND` by Orig) are met where Orig
    exceeds the other's by the threshold and the interval lies above 0, and not known where the interval alone
    fails; `behavior_kept` where accuracy without the cue is at most the threshold below the base's. `met` is
    null where it isn't known; `note` says why.

    Args:
        records: the arm's, on held-out items.
        references: the arm's entry of that name; `shuffled` is looked for there.
        rng: for the interval of accuracy.
        without_shuffled: what is noted where `shuffled` is not there.
    """
    orig = {name: (entry["orig"], entry["orig_difference"]) for name, entry in references.items()}
    accuracy = accuracy_difference(records, rng)
    return criteria_of(orig, accuracy, thresholds or AskableThresholds(), without_shuffled)


def criteria_of(
    orig: Mapping[str, tuple[float, Mapping[str, Any]]],
    accuracy: Mapping[str, Any],
    limits: AskableThresholds,
    without_shuffled: str = NO_SHUFFLED_ARM,
) -> dict[str, dict[str, Any]]:
    """The criteria from what they need, of one run or of several bases.

    Args:
        orig: by emitter, its Orig and the arm's minus it, {"mean", "ci95"}.
        accuracy: right without the cue, current minus base, {"mean", "ci95"}; the mean is None if not known.
        limits: what is enough.
        without_shuffled: as `arm_criteria`.
    """
    blind = max((name for name in BELIEF_BLIND if name in orig), key=lambda name: orig[name][0], default="")
    lost = accuracy["mean"]
    return {
        "orig_above_shuffled": _orig_criterion(orig, "shuffled", limits.orig_above, without_shuffled),
        "orig_above_blind": _orig_criterion(
            orig, blind, limits.orig_above, "no emitter that is blind to beliefs was scored"
        ),
        "behavior_kept": {
            "against": "initial",
            **accuracy,
            "threshold": -limits.accuracy_loss,
            "met": None if lost is None else lost >= -limits.accuracy_loss - ROUNDING,
            "note": "skipped: no right answers are known" if lost is None else None,
        },
    }


def _orig_criterion(
    orig: Mapping[str, tuple[float, Mapping[str, Any]]], name: str, threshold: float, missing: str
) -> dict[str, Any]:
    """Whether Orig is far enough above that of one emitter; not known if it was not scored."""
    difference = orig[name][1] if name in orig else {"mean": None, "ci95": None}
    mean, ci95 = difference["mean"], difference["ci95"]
    note = missing if name not in orig else None
    if mean is None:
        met = None
    elif mean < threshold - ROUNDING:
        met = False
    elif ci95 is not None and ci95[0] > 0:
        met = True
    else:  # far enough on average: an interval that is too wide is no sign that labels did not teach
        wide = f"{_orig_words(difference, name)}, an interval that holds 0: more seeds or facts would tell"
        met, note = None, "no interval" if ci95 is None else wide
    against = name if name in orig else None
    return {"against": against, "mean": mean, "ci95": ci95, "threshold": threshold, "met": met, "note": note}


def accuracy_difference(records: Sequence[PredictionRecord], rng: np.random.Generator) -> dict[str, Any]:
    """Share of decisions without the cue that are right, current minus initial, as {"mean", "ci95"}.

    Of the items whose right answer is known; both are null if none is.
    """
    known = [r for r in records if r.gold]
    if not known:
        return {"mean": None, "ci95": None}
    models = ("current", "initial")
    right = [[getattr(r, model).without_cue == r.gold for model in models] for r in known]
    counts = np.column_stack([np.ones(len(known)), np.array(right, float)])

    def statistic(sums: Float[np.ndarray, "resamples 3"]) -> Float[np.ndarray, "resamples 1"]:
        return divide(sums[:, 1:2] - sums[:, 2:3], sums[:, :1])

    return estimates(known, counts, statistic, rng)[0]


def is_askable(criteria: Mapping[str, Mapping[str, Any]]) -> bool | None:
    """False if a criterion isn't met, None if one isn't known, else True.

    Accuracy that can't be measured, for want of right answers, is left out.
    """
    met = [
        entry["met"]
        for name, entry in criteria.items()
        if name != "behavior_kept" or entry["mean"] is not None
    ]
    return False if False in met else None if None in met else True


def run_askable(main: str | None, criteria_by_arm: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The top-level `askable` of `results.json`: {"arm", "askable", "words", "criteria"}.

    Args:
        main: what `main_arm` returns.
        criteria_by_arm: `arm_criteria` of every arm.
    """
    if main is None:
        words = "askable: not known (no arm with a KL term, clean labels and no shift ran)"
        return {"arm": None, "askable": None, "words": words, "criteria": {}}
    criteria = criteria_by_arm[main]
    askable = is_askable(criteria)
    return {
        "arm": main,
        "askable": askable,
        "words": askable_words(main, askable, criteria),
        "criteria": dict(criteria),
    }


def askable_words(arm: str, askable: bool | None, criteria: Mapping[str, Mapping[str, Any]]) -> str:
    """One line for people: whether labels teach, and by which numbers."""
    if askable is None:
        notes = [entry["note"] for entry in criteria.values() if entry["met"] is None and entry["note"]]
        return f"askable: not known: {'; '.join(notes)}"
    said = [_criterion_words(name, entry) for name, entry in criteria.items()]
    if askable:
        return f"askable: labels teach ({arm}: {'; '.join(said)})"
    failed = [_criterion_words(name, entry) for name, entry in criteria.items() if entry["met"] is False]
    return f"{NOT_ASKABLE} ({arm}: {'; '.join(failed)})"


def _criterion_words(name: str, entry: Mapping[str, Any]) -> str:
    mean = entry["mean"]
    if mean is None:
        return f"{'accuracy' if name == 'behavior_kept' else 'Orig'} {entry['note']}"
    what = (
        f"right without the cue {_points(entry)} against the base"
        if name == "behavior_kept"
        else _orig_words(entry, entry["against"])
    )
    needed = f"at least {100 * entry['threshold']:+.0f}" + (
        "" if name == "behavior_kept" else ", interval above 0"
    )
    return what if entry["met"] else f"{what}, needs {needed}"


def _orig_words(difference: Mapping[str, Any], against: str) -> str:
    return f"Orig {_points(difference)} above {against}"


def _points(difference: Mapping[str, Any]) -> str:
    ends = difference["ci95"]
    shown = "" if ends is None else f" [{100 * ends[0]:+.1f}, {100 * ends[1]:+.1f}]"
    return f"{100 * difference['mean']:+.1f} points{shown}"
