"""Whether a run can be asked about coupling: labels must teach before any gap is read (README.md)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from introspection.coupling.estimates import Estimate
from introspection.coupling.metrics import divide
from introspection.coupling.records import PredictionRecord
from introspection.coupling.run_results import Askable, Criterion, Reference
from introspection.coupling.scores import estimates
from introspection.runtime.json_values import from_json

BELIEF_BLIND = ("majority", "input_only")  # emitters that don't look at what the model believes of the fact
NOT_ASKABLE = "not askable: labels did not teach"
NO_SHUFFLED_ARM = "no arm with shuffled labels ran"
# Fields of an arm that say what its labels are.
LABEL_FIELDS = (
    "shuffle_labels",
    "label_noise",
    "noise_part",
    "noise_towards",
    "labels",
    "foreign_labels",
    "refresh_steps",
)
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


def shuffled_arm(arms: Mapping[str, Any], name: str = "") -> str | None:
    """The arm with shuffled labels that otherwise repeats the recipe of the arm `name`.

    If there is none, or no name is given, the first with shuffled labels that is otherwise plain; None if
    there is none either.
    """
    shuffled = [other for other, arm in arms.items() if _is_only_shuffled(arm)]
    same = [other for other in shuffled if name and _recipe(arms[other]) == _recipe(arms[name])]
    return next(iter([*same, *(other for other in shuffled if not _is_shifted(arms[other]))]), None)


def _is_only_shuffled(arm: Any) -> bool:
    return bool(_field(arm, "shuffle_labels")) and not (
        _field(arm, "label_noise") or _field(arm, "foreign_to")
    )


def _recipe(arm: Any) -> dict[str, Any]:
    """An arm's fields but for those that say what its labels are."""
    return {name: value for name, value in vars(arm).items() if name not in LABEL_FIELDS}


def _is_plain(arm: Any) -> bool:
    broken = ("shuffle_labels", "label_noise", "foreign_to", "foreign_labels", "labels", "shown")
    refreshed = ("refresh_steps", "refresh_labels")
    return not (_is_shifted(arm) or any(_field(arm, name) for name in (*broken, *refreshed)))


def _is_shifted(arm: Any) -> bool:
    return getattr(getattr(arm, "shift", None), "kind", "none") != "none"


def _field(arm: Any, name: str) -> Any:
    return getattr(arm, name, 0) or 0


def arm_criteria(
    records: Sequence[PredictionRecord],
    references: Mapping[str, Reference],
    rng: np.random.Generator,
    thresholds: AskableThresholds | None = None,
    *,
    without_shuffled: str = NO_SHUFFLED_ARM,
) -> dict[str, Criterion]:
    """The criteria of one arm, by name.

    `orig_above_shuffled` and `orig_above_blind` (the better of `BELIEF_BLIND` by Orig) are met where Orig
    exceeds the other's by the threshold and the interval lies above 0, and not known where the interval alone
    fails; `behavior_kept` where accuracy without the cue is at most the threshold below the base's. Where
    `met` isn't known, `note` says why.

    Args:
        records: the arm's, on held-out items.
        references: the arm's entry of that name; `shuffled` is looked for there.
        rng: for the interval of accuracy.
        without_shuffled: what is noted where `shuffled` is not there.
    """
    orig = {name: (one.orig, one.orig_difference) for name, one in references.items()}
    accuracy = accuracy_difference(records, rng)
    return criteria_of(orig, accuracy, thresholds or AskableThresholds(), without_shuffled)


def criteria_of(
    orig: Mapping[str, tuple[float | None, Estimate]],
    accuracy: Estimate,
    limits: AskableThresholds,
    without_shuffled: str = NO_SHUFFLED_ARM,
) -> dict[str, Criterion]:
    """The criteria from what they need, of one run or of several bases.

    Args:
        orig: by emitter, its Orig and the arm's minus it; one without an Orig counts as not scored.
        accuracy: right without the cue, current minus base; the mean is None if not known.
        limits: what is enough.
        without_shuffled: as `arm_criteria`.
    """
    levels = {name: level for name, (level, _) in orig.items() if level is not None}
    differences = {name: orig[name][1] for name in levels}
    blind = max((name for name in BELIEF_BLIND if name in levels), key=lambda name: levels[name], default="")
    lost = accuracy.mean
    return {
        "orig_above_shuffled": _orig_criterion(differences, "shuffled", limits.orig_above, without_shuffled),
        "orig_above_blind": _orig_criterion(
            differences, blind, limits.orig_above, "no emitter that is blind to beliefs was scored"
        ),
        "behavior_kept": Criterion(
            "initial",
            lost,
            accuracy.ci95,
            threshold=-limits.accuracy_loss,
            met=None if lost is None else lost >= -limits.accuracy_loss - ROUNDING,
            note="skipped: no right answers are known" if lost is None else None,
        ),
    }


def _orig_criterion(
    differences: Mapping[str, Estimate], name: str, threshold: float, missing: str
) -> Criterion:
    """Whether Orig is far enough above that of one emitter; not known if it was not scored."""
    difference = differences.get(name, Estimate())
    mean, ci95 = difference.mean, difference.ci95
    note = missing if name not in differences else None
    if mean is None:
        met = None
    elif mean < threshold - ROUNDING:
        met = False
    elif ci95 is not None and ci95[0] > 0:
        met = True
    else:  # far enough on average: an interval that is too wide is no sign that labels did not teach
        wide = "an interval that holds 0: more seeds or facts would tell"
        wide = f"Orig {_points(difference)} above {name}, {wide}"
        met, note = None, "no interval" if ci95 is None else wide
    against = name if name in differences else None
    return Criterion(against, mean, ci95, threshold, met, note)


def accuracy_difference(records: Sequence[PredictionRecord], rng: np.random.Generator) -> Estimate:
    """Share of decisions without the cue that are right, current minus initial.

    Of the items whose right answer is known; undefined if none is.
    """
    known = [r for r in records if r.gold]
    if not known:
        return Estimate()
    models = ("current", "initial")
    right = [[getattr(r, model).without_cue == r.gold for model in models] for r in known]
    counts = np.column_stack([np.ones(len(known)), np.array(right, float)])

    def statistic(sums: Float[np.ndarray, "resamples 3"]) -> Float[np.ndarray, "resamples 1"]:
        return divide(sums[:, 1:2] - sums[:, 2:3], sums[:, :1])

    return from_json(Estimate, estimates(known, counts, statistic, rng)[0])


def is_askable(criteria: Mapping[str, Criterion]) -> bool | None:
    """False if a criterion isn't met, None if one isn't known, else True.

    Accuracy that can't be measured, for want of right answers, is left out.
    """
    met = [one.met for name, one in criteria.items() if name != "behavior_kept" or one.mean is not None]
    return False if False in met else None if None in met else True


def run_askable(main: str | None, criteria_by_arm: Mapping[str, Mapping[str, Criterion]]) -> Askable:
    """The top-level `askable` of `results.json`.

    Args:
        main: what `main_arm` returns.
        criteria_by_arm: `arm_criteria` of every arm.
    """
    if main is None:
        return Askable(words="askable: not known (no arm with a KL term, clean labels and no shift ran)")
    return judged(main, criteria_by_arm[main])


def judged(arm: str, criteria: Mapping[str, Criterion]) -> Askable:
    """Whether it can be asked, by the criteria of its main arm."""
    askable = is_askable(criteria)
    return Askable(arm, askable, askable_words(arm, askable, criteria), criteria)


def askable_words(arm: str, askable: bool | None, criteria: Mapping[str, Criterion]) -> str:
    """One line for people: whether labels teach, and by which numbers."""
    if askable is None:
        notes = [one.note for one in criteria.values() if one.met is None and one.note]
        return f"askable: not known: {'; '.join(notes)}"
    said = [_criterion_words(name, one) for name, one in criteria.items()]
    if askable:
        return f"askable: labels teach ({arm}: {'; '.join(said)})"
    failed = [_criterion_words(name, one) for name, one in criteria.items() if one.met is False]
    return f"{NOT_ASKABLE} ({arm}: {'; '.join(failed)})"


def _criterion_words(name: str, one: Criterion) -> str:
    kept = name == "behavior_kept"
    if one.mean is None:
        return f"{'accuracy' if kept else 'Orig'} {one.note}"
    shown = _points(Estimate(one.mean, one.ci95))
    what = f"right without the cue {shown} against the base" if kept else f"Orig {shown} above {one.against}"
    needed = f"at least {100 * one.threshold:+.0f}" + ("" if kept else ", interval above 0")
    return what if one.met else f"{what}, needs {needed}"


def _points(difference: Estimate) -> str:
    if difference.mean is None:
        return "not known"
    ends = difference.ci95
    shown = "" if ends is None else f" [{100 * ends[0]:+.1f}, {100 * ends[1]:+.1f}]"
    return f"{100 * difference.mean:+.1f} points{shown}"
