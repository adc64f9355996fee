"""What a run shows, in plain words and from its numbers alone: a verdict, levels, and cautions.

A verdict holds an arm's gap against those of reference emitters (`reference_verdict`), never against 0, and
stands only where labels taught (coupling/README.md).
"""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Literal

from introspection.coupling.estimates import Estimate
from introspection.coupling.references import Verdict as ReferenceVerdict
from introspection.coupling.references import reference_verdict
from introspection.coupling.run_results import (
    NOT_RECORDED,
    Alignment,
    ArmResults,
    Askable,
    ControlResults,
    Reference,
)
from introspection.reports.numbers import count, decimal, percent, points

Verdict = Literal["coupled", "undecided", "reversed", "not_askable"]
FORMS = {  # of an estimate's numbers: shares, their differences, nats and correlations, differences of these
    "percent": percent,
    "points": points,
    "decimal": decimal,
    "signed": functools.partial(decimal, sign="+"),
}
NOT_ASKABLE = "Not askable: labels did not teach"


@dataclasses.dataclass(frozen=True)
class Cautions:
    """From where on the page warns. These decide what is said, never a number or a verdict."""

    invalid_rate: float = 0.1
    agreement: float = 0.7  # mean over training; the upper end of where the paper stops seeing coupling
    one_class: float = 0.05  # a changed-rate within this of 0 or 1
    accuracy_loss: float = 0.1
    none_rate: float = 0.1
    cut_rate: float = 0.05
    one_explanation: float = 0.5
    disagreement_items: int = 30


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one arm (or the matrix) shows."""

    name: str
    verdict: Verdict
    words: str  # the verdict as a reader sees it
    gap: Estimate
    sentences: tuple[str, ...]
    cautions: tuple[str, ...]


def gap_verdict(difference: Estimate) -> ReferenceVerdict:
    """On which side of 0 a difference between an arm and something else lies (never a raw gap).

    An interval that includes 0, or is missing, decides nothing.
    """
    low, high = difference.ci95 or (0.0, 0.0)
    if low > 0:
        return "coupled"
    if high < 0:
        return "reversed"
    return "undecided"


def arm_verdict(arm: ArmResults) -> tuple[ReferenceVerdict, str]:
    """An arm's verdict and its reason, from the references that can be used."""
    orig, gap = arm.orig.exact_match.mean, arm.gap.exact_match
    if arm.no_verdict is not None:
        return "undecided", arm.no_verdict
    if arm.invalid_rate == 1:
        return "undecided", "none of its explanations is valid"
    if gap.mean is None or orig is None:
        return "undecided", "no gap was measured"
    if gap.few is not None:
        groups = "1 group" if gap.few == 1 else f"{gap.few} groups"
        return "undecided", f"the two behaviours differ on {groups}, too few to tell"
    return reference_verdict(
        orig,
        {
            isolated(one.name): (one.orig, one.gap_difference.ci95)
            for one in arm.references.values()
            if one.usable and one.orig is not None
        },
    )


def isolated(name: str) -> str:
    """A name inside a sentence: marks that reorder text are left out, and right-to-left letters keep to
    themselves, so that the sentence around it reads as it was written."""
    return "\u2068" + re.sub("[\u202a-\u202e\u2066-\u2069]", "", name) + "\u2069"


def unmarked(text: str) -> str:
    """A text without `isolated`'s marks, for a terminal and for Markdown, where they would be pasted."""
    return text.replace("\u2068", "").replace("\u2069", "")


def interval(value: Estimate, form: str = "percent") -> str:
    """`[8.2, 14.0]`, `too few (4)`, or nothing where the interval is missing."""
    if value.few is not None:
        return f"too few ({value.few})"
    write = FORMS[form]
    return f"[{write(value.low)}, {write(value.high)}]" if value.ci95 else ""


def arm_finding(
    arm: ArmResults,
    arms: Sequence[ArmResults] = (),
    limits: Cautions | None = None,
    askable: Askable = NOT_RECORDED,
) -> Finding:
    """What one arm shows.

    Args:
        arm: with its references.
        arms: all of the run's.
        limits: from where on to warn.
        askable: the run's. Where labels did not teach there is no verdict, whatever the numbers are.
    """
    verdict, reason = arm_verdict(arm)
    words = verdict.capitalize()
    first = f"{words}: {reason}."
    if askable.askable is False:
        words, first = NOT_ASKABLE, "Labels did not teach, so this gap says nothing about coupling."
    elif askable.askable is None and askable != NOT_RECORDED:
        verdict, words = "undecided", "Undecided: not known whether labels teach"
        first = f"{words}."
    sentences = [first, _level_sentence(arm), *_reference_sentences(arm), _drift_sentence(arm)]
    sentences += [_shift_sentence(arm), _control_sentence(arm)]
    cautions = _arm_cautions(arm, verdict, limits or Cautions()) + _shuffled_caution(arm, verdict, arms)
    return Finding(
        name=arm.name,
        verdict="not_askable" if askable.askable is False else verdict,
        words=words + (", with cautions" if cautions and askable.askable is not False else ""),
        gap=arm.gap.exact_match,
        sentences=tuple(sentence for sentence in sentences if sentence),
        cautions=tuple(cautions),
    )


def summary(findings: Sequence[Finding]) -> str:
    """The verdicts of all arms, e.g. `Of 3 arms, 1 coupled, 1 undecided and 1 reversed.`, and a warning."""
    arms = "1 arm" if len(findings) == 1 else f"{len(findings)} arms"
    if findings and all(finding.verdict == "not_askable" for finding in findings):
        return f"{NOT_ASKABLE}, so there is no verdict on {arms.replace('1 arm', 'the arm')}."
    counts = [
        f"{sum(finding.verdict == verdict for finding in findings)} {verdict}"
        for verdict in ("coupled", "undecided", "reversed")
    ]
    line = f"Of {arms}, {counts[0]}, {counts[1]} and {counts[2]}."
    warned = sum(bool(finding.cautions) for finding in findings)
    which = "It comes" if len(findings) == 1 else "1 comes" if warned == 1 else f"{warned} come"
    return f"{line} {which} with cautions: read them before the verdict." if warned else line


def alignment_line(found: Alignment) -> str:
    """How far the aligned foreign model behaves as the initial one, with what follows if it falls short."""
    short = "" if found.reached else f"; below {percent(found.threshold)}%, so no verdict rests on it"
    return (
        f"aligned: after {count(found.steps)} steps on behaviour alone, config.foreign decides as"
        f" config.initial on {percent(found.trained)}% of the items that it learned from and on"
        f" {percent(found.held_out)}% of those with a held-out prompt ({percent(found.before)}% before)"
        f"{short}"
    )


def _level_sentence(arm: ArmResults) -> str:
    own, orig = arm.self.exact_match.mean, arm.orig.exact_match.mean
    if own is None or orig is None:
        return ""
    of_items = f" of {count(arm.n)} explanations" if arm.n is not None else " of explanations"
    return (
        f"{percent(own)}%{of_items} are right about the current model (Self), {percent(orig)}% about the"
        " label teacher (Orig)."
    )


def _drift_sentence(arm: ArmResults) -> str:
    found = arm.disagreement
    if arm.drift == 0 or (arm.drift is None and found.n == 0):
        return (
            "The behaviour did not drift, so the gap is 0 by construction: this says nothing about coupling."
        )
    if arm.drift is None:
        return ""
    items = f" ({count(found.n)} items)" if found.n is not None else ""
    sentence = f"Its behaviour drifted from the label teacher's on {percent(arm.drift)}%{items}."
    share = found.share
    if share.mean is None:
        return sentence
    with_interval = " ".join(part for part in (f"{percent(share.mean)}%", interval(share)) if part)
    return (
        f"{sentence} Of the explanations there that match exactly one of the two, {with_interval} match the"
        " current model. That is the gap's size seen another way, not a second finding."
    )


def _reference_sentences(arm: ArmResults) -> list[str]:
    """Each reference's difference and level, and which ones are left out."""
    used = [_reference_words(one) for one in arm.references.values() if one.usable]
    unused = [
        f"{isolated(one.name)} ({percent(one.invalid_rate)}% not valid)"
        for one in arm.references.values()
        if not one.usable and one.no_verdict is None
    ]
    no_verdict = [one for one in arm.references.values() if one.no_verdict is not None]
    return [
        f"Its gap minus that of {'; '.join(used)}." if used else "",
        f"Not held against, for want of valid explanations: {', '.join(unused)}." if unused else "",
        *(f"Not held against {isolated(one.name)}: {one.no_verdict}." for one in no_verdict),
    ]


def _reference_words(one: Reference) -> str:
    difference = one.gap_difference
    ends = interval(difference, "points") or "no interval"
    return f"{isolated(one.name)} (Orig {percent(one.orig)}%): {points(difference.mean)} points {ends}"


def _shift_sentence(arm: ArmResults) -> str:
    difference = arm.shifted_minus_unshifted
    if difference.mean is None:
        return ""
    ends = interval(difference, "points")
    return (
        f"Its gap on the groups that the shift trains minus that on the others: {points(difference.mean)}"
        f" points {ends}{_shift_of_static(arm)}."
    )


def _shift_of_static(arm: ArmResults) -> str:
    """How much of that an emitter that stays put doesn't show: the shift alone moves its gap too."""
    best = arm.references.get(arm.best_static or "")
    if best is None or best.by_shifted is None:
        return ""
    excess = best.by_shifted.shifted_minus_unshifted
    return (
        f"; above what {isolated(best.name)} has, which the shift moves too: {points(excess.mean)}"
        f" {interval(excess, 'points')}"
    )


def _foreign(arm: ArmResults) -> ControlResults | None:
    """The headline control: another base, the same recipe; aligned with this one, if one can be used."""
    aligned = arm.references.get("aligned")
    named = "aligned" if aligned is not None and aligned.usable else "foreign"
    return next((control for control in arm.controls if named in control.name.lower()), None)


def _strongest(arm: ArmResults) -> ControlResults | None:
    known = [control for control in arm.controls if control.self.exact_match.mean is not None]
    return max(known, key=lambda control: control.self.exact_match.mean or 0.0, default=None)


def _control_sentence(arm: ArmResults) -> str:
    sentences = []
    foreign, strongest = _foreign(arm), _strongest(arm)
    if foreign is not None and foreign.paired_self.mean is not None:
        difference = foreign.paired_self
        meaning = {"coupled": "above 0", "undecided": "undecided", "reversed": "below 0"}[
            gap_verdict(difference)
        ]
        sentences.append(
            f"Self minus that of the control {isolated(foreign.name)}, paired by item:"
            f" {points(difference.mean)} points"
            f" {interval(difference, 'points')} ({meaning})."
        )
    if strongest is not None:
        level = percent(strongest.self.exact_match.mean)
        sentences.append(f"The strongest control by Self is {isolated(strongest.name)}, with {level}%.")
    return " ".join(sentences)


def _shuffled_caution(arm: ArmResults, verdict: Verdict, arms: Sequence[ArmResults]) -> list[str]:
    """Whether the run has labels without content that this arm wasn't held against."""
    if verdict != "coupled" or any("shuffled" in one.name.lower() for one in arm.references.values()):
        return []
    return [
        f"It is not held against the arm {isolated(other.name)}, whose gap is"
        f" {points(other.gap.exact_match.mean)} points: what labels without content give."
        for other in arms
        if other is not arm and "shuffled" in other.name.lower()
    ]


def _arm_cautions(arm: ArmResults, verdict: Verdict, limits: Cautions) -> list[str]:
    found = []
    own, strongest, foreign = arm.self.exact_match.mean, _strongest(arm), _foreign(arm)
    if strongest is not None and own is not None and (strongest.self.exact_match.mean or 0.0) >= own:
        found.append(f"The control {isolated(strongest.name)} reaches at least as high a Self.")
    if (
        verdict == "coupled"
        and foreign is not None
        and foreign.paired_self.mean is not None
        and gap_verdict(foreign.paired_self) != "coupled"
    ):
        found.append(f"Its Self is not shown to be above that of {isolated(foreign.name)}.")
    mean = arm.agreement.mean
    if mean is not None and mean < limits.agreement:
        found.append(
            f"On average over training {percent(mean)}% of its trained labels held (agreement); the paper"
            " sees coupling only above about 60 to 70%."
        )
    if arm.invalid_rate is not None and arm.invalid_rate >= limits.invalid_rate:
        found.append(
            f"{percent(arm.invalid_rate)}% of its explanations can't be parsed; each counts as wrong."
        )
    said = arm.commonest_explanation
    share = said.share
    if share is not None and share >= limits.one_explanation:
        found.append(
            f"{percent(share)}% of its explanations are the same one; said of every item, it"
            f" would be right about the current model on {percent(said.self)}% and about the label"
            f" teacher on {percent(said.orig)}%."
        )
    for who in ("teacher", "current"):
        rate = getattr(arm.changed_rate, who)
        if rate is not None and not limits.one_class < rate < 1 - limits.one_class:
            model = "label teacher" if who == "teacher" else "current model"
            found.append(
                f"The cue changes the {model}'s decision on {percent(rate)}% of items: nearly one class,"
                " which a constant explanation also gets right."
            )
    before, after = arm.behavior_accuracy.teacher, arm.behavior_accuracy.current
    if before is not None and after is not None and before - after >= limits.accuracy_loss:
        found.append(
            f"Its answers without the cue are right on {percent(after)}%, the label teacher's on"
            f" {percent(before)}%: the behaviour itself got worse."
        )
    none = arm.none_rate.current
    if none is not None and none >= limits.none_rate:
        found.append(f"{percent(none)}% of its decisions are none of the candidates.")
    n = arm.disagreement.n
    if n is not None and 0 < n < limits.disagreement_items:
        found.append(f"The gap rests on only {n} items where the two models differ.")
    if len(arm.seeds) == 1:
        found.append("One seed: the interval leaves out how much training runs differ.")
    return found
