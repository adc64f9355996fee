"""Verdicts on the study's claims, by a rule fixed before the runs.

No verdict compares a raw gap with 0, because where behaviour drifts even an emitter that does not change has
a gap. Claims are about an arm's gap minus a reference emitter's on the same items. A verdict requires all
references to agree, with levels on both sides of the arm's (`reference_verdict`). If labels did not teach,
there is no verdict.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from introspection.coupling.references import reference_verdict
from introspection.study.base_bootstrap import USUAL, Resamples
from introspection.study.knee import KneeFit, fit_knee
from introspection.study.panels import held_against
from introspection.study.parts import PartResults, StudyPart, best_static, is_static, used_references
from introspection.study.slopes import MATCHED, Condition, live_lines, orig_slopes, slope_points
from introspection.study.verdicts import CLAIMS, MAIN_PART, SLOPE_ARMS, SLOPE_PARTS, Claim, Estimand

Verdict = Literal["confirmed", "refuted", "undecided", "not askable", "not run"]
Parts = Sequence[tuple[StudyPart, PartResults]]

# With fewer, an interval from resampled bases can't be wide enough: with 4 bases it is at most the range of
# their values, which covers the true value in only 87.5% of studies if all variation is between bases.
FEWEST_BASES = 5


@dataclasses.dataclass(frozen=True)
class Found:
    """The estimates of a claim, or the reason there are none."""

    reason: str = ""  # why nothing was estimated
    headline: str = ""  # the reference whose difference is shown first
    deciding: tuple[str, ...] = ()  # the references that the verdict uses
    # By reference, an entry of `held_against` or `orig_slopes`.
    entries: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    raw: Mapping[str, Any] | None = None  # the gap with no reference subtracted
    used: frozenset[str] = frozenset()  # references of every arm that are not mostly invalid


def interval_verdict(ci95: Sequence[float] | None, direction: Literal[1, -1] = 1) -> Verdict:
    """Confirmed if the whole interval is on the claimed side of 0, refuted if it is on the other side.

    An interval that touches 0, or is missing, is undecided.
    """
    if ci95 is None:
        return "undecided"
    low, high = sorted(direction * end for end in ci95)
    return "confirmed" if low > 0 else "refuted" if high < 0 else "undecided"


def evaluate_claims(
    parts: Parts,
    seed: int = 0,
    claims: Sequence[Claim] = CLAIMS,
    resamples: Resamples = USUAL,
    advance: Callable[[int], None] = lambda count: None,
) -> list[dict[str, Any]]:
    """Every claim on every part that ran its arms, in the order of the claims.

    A claim that no part ran appears once, as "not run". Parts named `explained-…` are conditions of one claim
    and have no verdicts of their own. `advance(1)` is called after each claim.
    """
    conditions = [(part, results) for part, results in parts if part.name.startswith(SLOPE_PARTS)]
    asked = [(part, results) for part, results in parts if not part.name.startswith(SLOPE_PARTS)]
    nothing = StudyPart("", {}, {}, {})
    outcomes = []
    for claim in claims:
        found = [
            evaluate(
                claim, part, results, seed, conditions if part.name == MAIN_PART else (), resamples=resamples
            )
            for part, results in asked
        ]
        ran = [outcome for outcome in found if outcome["verdict"] != "not run"]
        if not ran:
            empty = {"arms": {}, "controls": {}, "askable": {"askable": None, "words": ""}}
            missing = found[0] if len(found) == 1 else evaluate(claim, nothing, empty, seed)
            ran = [missing | {"part": None}]
        outcomes += ran
        advance(1)
    return outcomes


def evaluate(
    claim: Claim,
    part: StudyPart,
    results: PartResults,
    seed: int = 0,
    conditions: Parts = (),
    *,
    resamples: Resamples = USUAL,
) -> dict[str, Any]:
    """A claim's verdict on one part, with its intervals, each base's value, and the arms shown beside it.

    Args:
        results: `part_results` of the part.
        conditions: the parts `explained-…`, further conditions for a slope on Orig.
        resamples: of the bootstrap.

    Returns:
        `mean` and `ci95` of the estimate with the headline `reference`, and `by_base`; the same estimate with
        every other reference (`references`) and with none (`raw`); each `shown` arm with its own verdict; the
        knee's `fit`, the `points` of a knee or slope, and a slope's `lines`; the verdict's `reason`; and the
        number of `intervals` shown.

    Raises:
        InputError: two arms to compare have different items or seeds in a base.
    """
    fit, points, lines = None, [], {}
    own: Found | None = None
    if claim.estimand == "slope_change":
        outcome, fit, points = _knee(claim, part, results, seed)
    elif claim.estimand == "slope":
        own, points, lines = _slope(part, results, conditions, seed)
        outcome = _outcome(claim, own, _slope_verdict(claim, own))
    else:
        own = _find(claim, claim.arm, part, results, seed, resamples)
        outcome = _outcome(claim, own, _verdict(claim, own))
    if outcome["verdict"] != "not run" and results["askable"]["askable"] is not True:
        outcome |= {"verdict": "not askable", "reason": results["askable"]["words"]}
    shown = [_shown(claim, arm, part, results, seed, resamples) for arm in claim.shown]
    intervals = [outcome["ci95"], *(entry["ci95"] for entry in shown)]
    intervals += [value["ci95"] for value in outcome["by_base"].values()]
    intervals += [
        value["ci95"] for name, value in outcome["references"].items() if name != outcome["reference"]
    ]
    if fit is not None:
        intervals.append(fit.knot_ci95)
    return {
        "name": claim.name,
        "part": part.name,
        "statement": claim.statement,
        "estimated": claim.estimated,
        "estimand": claim.estimand,
        **outcome,
        "shown": shown,
        "fit": None if fit is None else dataclasses.asdict(fit),
        "points": points,
        "lines": lines,
        "other_explanation": claim.other_explanation,
        "intervals": sum(interval is not None for interval in intervals),
    }


def _find(
    claim: Claim, arm: str, part: StudyPart, results: PartResults, seed: int, resamples: Resamples
) -> Found:
    """The claim's estimates for one of its arms."""
    controls = results["controls"]
    arms = [arm, claim.other] if claim.estimand == "contrast" else [arm]
    missing = [name for name in arms if name not in results["arms"]]
    if missing:
        return Found(reason=f"{' and '.join(missing)} did not run")
    if claim.reference and arm not in controls.get(claim.reference, {}):
        kind = f"a {claim.reference} explainer of {arm}" if claim.reference == "foreign" else claim.reference
        return Found(reason=f"{kind} did not run")
    if claim.estimand == "contrast":
        first, second = (part.arms[name] for name in arms)
        if not first.keys() & second.keys():
            return Found(reason="no base ran both arms")
        found = held_against([part.panel(name) for name in arms], seed, resamples)
    elif claim.estimand == "shifted":
        found = results["arms"][arm]["by_shifted"].get("difference")
        if found is None:
            return Found(reason=f"not every base of {arm} has shifted and unshifted groups")
    else:
        found = _single(arm, results)
    used = [name for name in used_references(controls, arms) if name in found]
    if not used:
        return Found(reason=f"no reference emitter was scored for {' and '.join(arms)}")
    wide = [name for name in used if len(found[name]["bases"]) >= FEWEST_BASES]
    deciding = [name for name in wide if not claim.reference or is_static(name) or name == claim.reference]
    return Found(
        headline=claim.reference or best_static(controls, arms) or used[0],
        deciding=tuple(deciding),
        entries={name: entry for name, entry in found.items() if name},
        raw=found[""],
        used=frozenset(used),
    )


def _single(arm: str, results: PartResults) -> dict[str, Any]:
    """`held_against` for a single arm, taken from the part's results instead of being recomputed."""
    own = results["arms"][arm]
    orig = own["orig"]["exact_match"]["mean"]
    found = {name: by_arm[arm] for name, by_arm in results["controls"].items() if arm in by_arm}
    return {"": {"gap": own["gap"], "levels": [[orig, orig]], "bases": own["bases"]}, **found}


def _verdict(claim: Claim, found: Found) -> tuple[Verdict, str]:
    """Decided if `reference_verdict` decides at the level of every panel."""
    early = _too_little(found)
    if early is not None:
        return early
    if claim.reference and claim.reference not in found.deciding:
        return "undecided", f"{claim.reference} ran in fewer than {FEWEST_BASES} bases, or is mostly invalid"
    said = []
    for panel, (orig, _) in enumerate((found.raw or {})["levels"]):
        references = {
            name: (found.entries[name]["levels"][panel][1], found.entries[name]["gap"]["exact_match"]["ci95"])
            for name in found.deciding
        }
        if orig is None or any(level is None for level, _ in references.values()):
            return "undecided", "the Orig of the arm or of a reference is undefined"
        said.append(reference_verdict(orig, references))
    for verdict, reason in said:
        if verdict == "undecided":
            return "undecided", reason
    holds = (said[0][0] == "coupled") == (claim.direction == 1)
    return ("confirmed" if holds else "refuted"), ""


def _slope_verdict(claim: Claim, found: Found) -> tuple[Verdict, str]:
    """Decided if the slopes of all references, including the level-matched one, are on one side of 0."""
    early = _too_little(found)
    if early is not None:
        return early
    if MATCHED not in found.deciding:
        return "undecided", "in some base and condition no emitter has an Orig as high as the arm's"
    verdicts: dict[str, Verdict] = {
        name: interval_verdict(found.entries[name]["ci95"], claim.direction) for name in found.deciding
    }
    agreed = set(verdicts.values())
    if len(agreed) == 1 and "undecided" not in agreed:
        return next(iter(verdicts.values())), ""
    words = ", ".join(f"{name}: {verdict}" for name, verdict in verdicts.items())
    return "undecided", f"references disagree ({words})"


def _too_little(found: Found) -> tuple[Verdict, str] | None:
    if found.reason:
        return "not run", found.reason
    bases = len(found.entries[found.headline]["bases"])
    if bases < FEWEST_BASES:
        return "undecided", f"{bases} bases; a verdict needs at least {FEWEST_BASES}"
    return None


def _outcome(claim: Claim, found: Found, verdict: tuple[Verdict, str]) -> dict[str, Any]:
    """The fields of a claim's entry in `study.json` that depend on its estimates."""
    empty = {"mean": None, "ci95": None, "bases": 0, "over_bases": None, "by_base": {}, "raw": None}
    if found.reason:
        return {"verdict": verdict[0], "reason": verdict[1], "reference": None, "references": {}, **empty}
    references = {
        name: {
            **_estimate(entry),
            "levels": entry.get("levels"),
            "bases": len(entry["bases"]),
            "used": name in found.used,
            "decides": name in found.deciding,
        }
        for name, entry in found.entries.items()
    }
    headline = found.entries[found.headline]
    return {
        "verdict": verdict[0],
        "reason": verdict[1],
        "reference": found.headline,
        "references": references,
        **_estimate(headline),
        "bases": len(headline["bases"]),
        "over_bases": headline.get("over_bases"),
        "by_base": {base: _estimate(value) for base, value in headline["by_base"].items()},
        "raw": None if found.raw is None else _estimate(found.raw),
    }


def _estimate(entry: Mapping[str, Any]) -> dict[str, Any]:
    """`mean` and `ci95` of a `held_against` entry's exact-match gap, or of an estimate itself."""
    value = entry["gap"]["exact_match"] if "gap" in entry else entry
    return {"mean": value["mean"], "ci95": value["ci95"]}


def _shown(
    claim: Claim, arm: str, part: StudyPart, results: PartResults, seed: int, resamples: Resamples
) -> dict[str, Any]:
    """An arm shown beside the claim: its gap minus the claim's reference's, and its own verdict."""
    kept: tuple[Estimand, ...] = ("minus_reference", "shifted")
    estimand = claim.estimand if claim.estimand in kept else "minus_reference"
    alone = dataclasses.replace(claim, estimand=estimand, arm=arm, other="")
    found = _find(alone, arm, part, results, seed, resamples)
    verdict, reason = _verdict(alone, found)
    if verdict != "not run" and results["askable"]["askable"] is not True:
        verdict, reason = "not askable", results["askable"]["words"]
    outcome = _outcome(alone, found, (verdict, reason))
    return {
        "arm": arm,
        **{k: outcome[k] for k in ("verdict", "reason", "mean", "ci95", "bases", "reference", "raw")},
    }


def _slope(
    part: StudyPart, results: PartResults, conditions: Parts, seed: int
) -> tuple[Found, list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """Slopes on Orig over a part's learning rates and, in the main part, numbers of explained facts."""
    places = [Condition(arm, arm, part, results) for arm in SLOPE_ARMS if arm in results["arms"]]
    places += [Condition(p.name, "kl", p, r) for p, r in conditions if "kl" in r["arms"]]
    if len(places) < 3:
        return Found(reason=f"fewer than 3 of {', '.join(SLOPE_ARMS)}, {SLOPE_PARTS}… ran"), [], {}
    points = slope_points(places)
    slopes = orig_slopes(places, np.random.default_rng(seed))
    if not slopes:
        return Found(reason="no base has 3 conditions that share a reference"), points, live_lines(places)
    headline = best_static(results["controls"], ["kl"]) if "kl" in results["arms"] else None
    names = tuple(slopes)
    found = Found(
        headline=headline if headline in slopes else names[0],
        deciding=names,
        entries=slopes,
        used=frozenset(names),
    )
    return found, points, live_lines(places)


def _knee(
    claim: Claim, part: StudyPart, results: PartResults, seed: int
) -> tuple[dict[str, Any], KneeFit | None, list[dict[str, Any]]]:
    points = knee_points(part, results, claim.shown)
    if len({point["arm"] for point in points}) < 2:
        reason = f"fewer than 2 of {', '.join(claim.shown)} ran with a logged agreement and a static emitter"
        return _outcome(claim, Found(reason=reason), ("not run", reason)), None, []
    agreement, gap, base, arm = ([p[name] for p in points] for name in ("agreement", "gap", "base", "arm"))
    fit = fit_knee(agreement, gap, base, arm, np.random.default_rng(seed))
    ci95 = None if fit.slope_change_ci95 is None else list(fit.slope_change_ci95)
    verdict: tuple[Verdict, str] = (interval_verdict(ci95, claim.direction), "")
    if fit.bases < FEWEST_BASES:
        verdict = "undecided", f"{fit.bases} bases; a verdict needs at least {FEWEST_BASES}"
    elif fit.reason:
        verdict = "undecided", fit.reason
    outcome = {
        "verdict": verdict[0],
        "reason": verdict[1],
        "reference": "each arm's best static emitter",
        "references": {},
        "mean": fit.slope_change,
        "ci95": ci95,
        "bases": fit.bases,
        "over_bases": None,
        "by_base": {},
        "raw": None,
    }
    return outcome, fit, points


def knee_points(part: StudyPart, results: PartResults, arms: Sequence[str]) -> list[dict[str, Any]]:
    """One point per arm and base: mean agreement of trained labels over training, and the exact-match gap
    minus that of the arm's best static emitter. Arms and bases that lack either are left out."""
    points = []
    for arm in arms:
        static = results["arms"].get(arm, {}).get("best_static")
        if static is None:
            continue
        for base, value in results["controls"][static][arm]["by_base"].items():
            log = part.training.get(arm, {}).get(base)
            agreement = None if log is None else log.agreement["mean"]
            gap = value["gap"]["exact_match"]["mean"]
            if agreement is not None and gap is not None:
                points.append(
                    {"arm": arm, "base": base, "agreement": agreement, "gap": gap, "static": static}
                )
    return points
