"""What an arm's gap is held against: other emitters' explanations of its items, and the verdict they allow.

A reference emitter is scored on the arm's own items, whose current and teacher decisions stay, so it can't
follow how the arm's behaviour moved.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from introspection.coupling import metrics
from introspection.coupling.controls import CONTROLS
from introspection.coupling.records import PredictionRecord
from introspection.coupling.run_results import Paired, Reference, ShiftedDifferences
from introspection.errors import InputError

Verdict = Literal["coupled", "reversed", "undecided"]
# A reference's Orig and the 95% interval of the arm's gap minus its gap, None where there is none.
Held = tuple[float, Sequence[float] | None]

MOST_INVALID = 0.5  # a reference of which more is invalid says nothing that a gap could be held against
LEVEL_TOLERANCE = 0.02  # how far a reference's Orig may lie on the wrong side and still count as level


def with_explanations_of(
    records: Sequence[PredictionRecord], emitter: Sequence[PredictionRecord]
) -> list[PredictionRecord]:
    """An arm's records with what another arm says of the same items, paired by seed and item.

    Raises:
        InputError: the other arm lacks a seed's item.
    """
    said = {(r.seed, r.id): r for r in emitter}
    missing = [r for r in records if (r.seed, r.id) not in said]
    if missing:
        raise InputError(
            f"arm {records[0].arm} has item {missing[0].id} of seed {missing[0].seed}, which an arm that is"
            " to be scored on its items lacks"
        )
    return [record.saying(said[record.seed, record.id].said) for record in records]


def reference_entry(
    paired: Paired,
    replaced: Sequence[PredictionRecord],
    by_shifted: ShiftedDifferences | None = None,
    no_verdict: str | None = None,
) -> Reference:
    """What an arm's gap is held against, by exact match.

    Args:
        paired: `paired_results` of the arm and the reference.
        replaced: the arm's records with the reference's explanations.
        by_shifted: `shifted_differences` of the two, where the arm has a shift.
        no_verdict: why no verdict may rest on it, whatever it says; None if there is no such reason.
    """
    invalid = metrics.invalid_rate([r.explanation for r in replaced])
    own, orig, gap = paired.self.exact_match, paired.orig.exact_match, paired.gap.exact_match
    return Reference(
        own.control,
        orig.control,
        gap.control,
        invalid_rate=invalid,
        usable=invalid <= MOST_INVALID and no_verdict is None,
        self_difference=own.difference,
        orig_difference=orig.difference,
        gap_difference=gap.difference,
        by_shifted=by_shifted,
        no_verdict=no_verdict,
    )


def best_static(references: Mapping[str, Reference]) -> str | None:
    """The usable emitter that no training moves with the highest Orig, the first of equal ones; None without
    one."""
    usable = {name: one for name, one in references.items() if one.usable}
    static = ("initial", *CONTROLS, "bayes_optimal")
    known = {name: orig for name in static if name in usable and (orig := usable[name].orig) is not None}
    return max(known, key=lambda name: known[name], default=None)


def reference_verdict(
    orig: float, references: Mapping[str, Held], *, tolerance: float = LEVEL_TOLERANCE
) -> tuple[Verdict, str]:
    """Whether an arm's gap lies beyond that of every reference emitter, and why, in plain words.

    Nothing is judged against 0. A gap is `drift x (Self_D - Orig_D)`: an emitter that stays put matches the
    teacher on the drifted items as often as elsewhere and the current model by luck, so its gap is below 0
    where behaviour drifts away from what it says, and above where it drifts towards it. Neither is coupling.
    How far depends on the emitter's level: the more often it says what the teacher does, the more it has to
    lose. So references on one side of the arm's level decide nothing, however many they are: an arm
    that only imitates better than all of them differs from all of them in one direction. (coupling/README.md)

    What remains is a reference whose errors are of another kind than the arm's: of two emitters at one level
    the one that errs towards the truth gains where behaviour drifts to the truth. Hence every reference must
    agree, and the raw gap and all levels stand beside the verdict.

    Args:
        orig: the arm's Orig, exact match.
        references: by name, its Orig and the interval of the arm's gap minus its gap, paired; None where
            there is none. Only those that say something valid.
        tolerance: how far below (above) the arm's Orig a reference counts as at or above (below) it.

    Returns:
        "coupled" if every interval lies above 0, "reversed" if every one lies below, provided that at least
        one reference is at or above the arm's level and at least one at or below; else "undecided".
    """
    if not references:
        return "undecided", "there is no reference emitter to hold the gap against"
    sides: dict[str, list[str]] = {"above": [], "below": [], "level": [], "unknown": []}
    for name, (_, ci95) in references.items():
        if ci95 is None:
            sides["unknown"].append(name)
        else:
            low, high = ci95
            sides["above" if low > 0 else "below" if high < 0 else "level"].append(name)
    if sides["unknown"]:
        return "undecided", f"the difference from {_names(sides['unknown'])} has no interval"
    if sides["level"]:
        return "undecided", f"the gap is not distinguishable from that of {_names(sides['level'])}"
    if sides["above"] and sides["below"]:
        return "undecided", (
            f"the gap lies above that of {_names(sides['above'])} but below that of {_names(sides['below'])}"
        )
    levels = [level for level, _ in references.values()]
    for side, exists in (
        ("above", max(levels) >= orig - tolerance),
        ("below", min(levels) <= orig + tolerance),
    ):
        if not exists:
            return "undecided", (
                f"no reference is at or {side} its level (Orig {100 * orig:.1f}%), and an emitter that stays"
                " put has another gap at another level"
            )
    if sides["above"]:
        return "coupled", f"the gap lies above that of every reference ({_names(sides['above'])})"
    return "reversed", f"the gap lies below that of every reference ({_names(sides['below'])})"


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
