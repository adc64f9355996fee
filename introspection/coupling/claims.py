"""The study's claims, each with what is estimated for it, and a verdict rule fixed before the runs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from introspection.coupling.knee import KneeFit, fit_knee
from introspection.coupling.pooling import StudyPart, paired_contrast

Verdict = Literal["confirmed", "refuted", "undecided", "not run"]
Results = Mapping[str, Mapping[str, Any]]  # what `part_results` returns
Estimand = Literal["gap", "difference", "minus_foreign", "slope_change"]

# With fewer, an interval that resamples bases can't be wide enough: with 4, the largest it can be is the
# range of the bases' values, which holds the truth in 87.5% of studies if bases are what varies.
FEWEST_BASES = 5


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence about the gap, and the number whose interval decides it.

    The number is exact match's gap of `arm` (`gap`), that minus `other`'s (`difference`), minus that of the
    arm's foreign explainer (`minus_foreign`), all paired by base, seed and item; or the slope change at the
    knee of the gap on agreement over `shown` (`slope_change`).
    """

    name: str
    statement: str
    estimated: str
    estimand: Estimand
    other_explanation: str
    arm: str = ""
    other: str = ""
    direction: Literal[1, -1] = 1  # the side of 0 on which the claim holds
    shown: tuple[str, ...] = ()  # arms whose own numbers stand beside the verdict


SHIFTS = tuple(
    f"shift_{kind}_{groups}" for groups in ("held_out", "all") for kind in ("less", "more", "facts", "source")
)
# Without those whose labels aren't the arm's own (shuffled, foreign, refreshed) and those where another
# objective moves the tested behaviour but not the agreement over training items (shifts).
KNEE_ARMS = ("kl", "no_kl", "lr_low", "lr_high", "noise15", "noise30", "noise45")

CLAIMS = (
    Claim(
        "KL is needed",
        "Without the KL term the gap is smaller.",
        "gap of kl minus gap of no_kl",
        "difference",
        "Without KL the behaviour drifts farther, so the gap is taken over more and other items: the size of"
        " drift, not the term itself, may make the difference.",
        arm="kl",
        other="no_kl",
        shown=("kl", "no_kl"),
    ),
    Claim(
        "A higher learning rate widens the gap",
        "The gap is larger at the high learning rate than at the low one.",
        "gap of lr_high minus gap of lr_low",
        "difference",
        "More drift at the high rate scales any gap up (gap = drift × difference on the disagreement set),"
        " and the low rate may only be trained less far.",
        arm="lr_high",
        other="lr_low",
        shown=("lr_low", "kl", "lr_high"),
    ),
    Claim(
        "Noise is tolerated",
        "With 30% of the labels wrong the gap is still above 0.",
        "gap of noise30",
        "gap",
        "Noise makes the labels harder to imitate, which lowers Orig by itself: a gap may come from labels"
        " learned worse rather than from behaviour tracked better.",
        arm="noise30",
        shown=("kl", "noise15", "noise30", "noise45"),
    ),
    Claim(
        "Shifts are tracked",
        "Explanations follow a behaviour that a concurrent shift moves on held-out groups.",
        "gap of shift_less_held_out",
        "gap",
        "The shift trains the very answers that explanations name, so the answer half of an explanation can"
        " follow through shared knowledge of the new answers without any look at the own behaviour.",
        arm="shift_less_held_out",
        shown=SHIFTS,
    ),
    Claim(
        "Coupling needs agreement above a knee",
        "The gap rises with the agreement at the end more steeply above a knee than below it.",
        "slope change at the knee of gap on agreement",
        "slope_change",
        "Arms differ in more than their agreement (KL, rate, noise), so a bend may be one arm's own effect;"
        " agreement is measured, not set.",
        shown=KNEE_ARMS,
    ),
    Claim(
        "It is not shared drift",
        "The model's own explanations couple to it more than a foreign explainer's do.",
        "gap of kl minus its foreign explainer's gap on the same items",
        "minus_foreign",
        "The foreign explainer starts from another base and explains worse in all, and gaps at unequal levels"
        " are not comparable; each base is also its neighbour's explainer, so the bases are not quite"
        " independent.",
        arm="kl",
        shown=("kl", "noise30", "lr_high", "no_kl"),
    ),
)


def interval_verdict(ci95: Sequence[float] | None, direction: Literal[1, -1] = 1) -> Verdict:
    """Confirmed where the interval lies wholly on the claimed side of 0, refuted wholly on the other.

    An interval that touches 0, or is missing, decides nothing.
    """
    if ci95 is None:
        return "undecided"
    low, high = sorted(direction * end for end in ci95)
    return "confirmed" if low > 0 else "refuted" if high < 0 else "undecided"


def evaluate_claims(
    parts: Sequence[tuple[StudyPart, Results]], seed: int = 0, claims: Sequence[Claim] = CLAIMS
) -> list[dict[str, Any]]:
    """Every claim on every part that ran its arms, in the order of the claims; else once as "not run"."""
    outcomes = []
    for claim in claims:
        found = [evaluate(claim, part, results, seed) for part, results in parts]
        ran = [outcome for outcome in found if outcome["verdict"] != "not run"]
        if not ran:
            missing = found[0] if len(found) == 1 else evaluate(claim, StudyPart("", {}, {}, {}), {}, seed)
            ran = [missing | {"part": None}]
        outcomes += ran
    return outcomes


def evaluate(claim: Claim, part: StudyPart, results: Results, seed: int = 0) -> dict[str, Any]:
    """A claim's verdict on one part, the interval it rests on, each base's value, and the arms beside it.

    Args:
        results: `part_results` of the part.

    Returns:
        `mean` and `ci95` of what is estimated (a difference of shares; the slope change is one of gap by
        agreement), `by_base`, the same of each `shown` arm with a verdict of its own, the knee's `fit`, why
        a verdict is what it is where the interval isn't all (`reason`), and how many `intervals` are shown.

    Raises:
        InputError: two arms to compare hold other items or seeds in a base.
    """
    found = {
        "gap": lambda: _level(results, claim.arm),
        "difference": lambda: _difference(claim, part, seed),
        "minus_foreign": lambda: _minus_foreign(results, claim.arm),
        "slope_change": lambda: _knee(claim, part, results, seed),
    }[claim.estimand]()
    of_arm = _minus_foreign if claim.estimand == "minus_foreign" else _level
    shown = [_shown(claim, arm, of_arm(results, arm)) for arm in claim.shown]
    ci95, by_base = found.get("ci95"), found.get("by_base") or {}
    verdict, reason = _verdict(claim, found)
    fit: KneeFit | None = found.get("fit")
    intervals = [ci95, *(value["ci95"] for value in by_base.values()), *(entry["ci95"] for entry in shown)]
    if fit is not None:
        intervals.append(fit.knot_ci95)
    return {
        "name": claim.name,
        "part": part.name,
        "statement": claim.statement,
        "estimated": claim.estimated,
        "estimand": claim.estimand,
        "verdict": verdict,
        "reason": reason,
        "mean": found.get("mean"),
        "ci95": ci95,
        "bases": found.get("bases", 0),
        "over_bases": found.get("over_bases"),
        "by_base": by_base,
        "shown": shown,
        "fit": None if fit is None else dataclasses.asdict(fit),
        "points": found.get("points", []),
        "other_explanation": claim.other_explanation,
        "intervals": sum(interval is not None for interval in intervals),
    }


def _verdict(claim: Claim, found: Mapping[str, Any]) -> tuple[Verdict, str]:
    if "mean" not in found:
        return "not run", found["reason"]
    if found["bases"] < FEWEST_BASES:
        return "undecided", f"{found['bases']} bases; a verdict takes at least {FEWEST_BASES}"
    if found.get("reason"):
        return "undecided", found["reason"]
    return interval_verdict(found["ci95"], claim.direction), ""


def _estimate(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The gap of `pooled_results` or `paired_contrast`, by exact match."""
    gap_of_base = {base: part["gap"]["exact_match"] for base, part in entry["by_base"].items()}
    gap = entry["gap"]["exact_match"]
    return {
        "mean": gap["mean"],
        "ci95": gap["ci95"],
        "bases": len(entry["bases"]),
        "over_bases": entry["over_bases"],
        "by_base": {base: {"mean": g["mean"], "ci95": g["ci95"]} for base, g in gap_of_base.items()},
    }


def _level(results: Results, arm: str) -> dict[str, Any]:
    return _estimate(results[arm]) if arm in results else {"reason": f"{arm} did not run"}


def _minus_foreign(results: Results, arm: str) -> dict[str, Any]:
    foreign = results.get(arm, {}).get("foreign")
    if foreign is None:
        return {"reason": f"{arm if arm not in results else f'a foreign explainer of {arm}'} did not run"}
    return _estimate(foreign)


def _difference(claim: Claim, part: StudyPart, seed: int) -> dict[str, Any]:
    missing = [arm for arm in (claim.arm, claim.other) if arm not in part.arms]
    if missing:
        return {"reason": f"{' and '.join(missing)} did not run"}
    first, second = part.arms[claim.arm], part.arms[claim.other]
    if not first.keys() & second.keys():
        return {"reason": "no base ran both arms"}
    return _estimate(paired_contrast(first, second, np.random.default_rng(seed)))


def _shown(claim: Claim, arm: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """An arm's own gap (in a claim about foreign explainers its gap minus theirs) with its own verdict."""
    verdict, reason = _verdict(claim, found)
    return {
        "arm": arm,
        "label": f"{arm} minus its foreign explainer" if claim.estimand == "minus_foreign" else arm,
        "verdict": verdict,
        "reason": reason,
        "mean": found.get("mean"),
        "ci95": found.get("ci95"),
        "bases": found.get("bases", 0),
    }


def _knee(claim: Claim, part: StudyPart, results: Results, seed: int) -> dict[str, Any]:
    points = knee_points(part, results, claim.shown)
    if not points:
        return {"reason": f"none of {', '.join(claim.shown)} ran with a logged agreement"}
    columns = ([point[name] for point in points] for name in ("agreement", "gap", "base", "arm"))
    fit = fit_knee(*columns, np.random.default_rng(seed))
    ci95 = None if fit.slope_change_ci95 is None else list(fit.slope_change_ci95)
    return {
        "mean": fit.slope_change,
        "ci95": ci95,
        "bases": fit.bases,
        "reason": fit.reason,
        "fit": fit,
        "points": points,
    }


def knee_points(part: StudyPart, results: Results, arms: Sequence[str]) -> list[dict[str, Any]]:
    """Agreement at the end and exact match's gap, one point an arm and base that has both."""
    points = []
    for arm in arms:
        for base, entry in results.get(arm, {"by_base": {}})["by_base"].items():
            agreement = part.agreement.get(arm, {}).get(base)
            gap = entry["gap"]["exact_match"]["mean"]
            if agreement is not None and gap is not None:
                points.append({"arm": arm, "base": base, "agreement": agreement, "gap": gap})
    return points
