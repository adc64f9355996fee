"""A study's tables of claims: verdicts, every reference, and the arms beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

from introspection.coupling.estimates import Estimate
from introspection.reports.numbers import DASH, estimate, percent, probability
from introspection.reports.table import Table, with_interval

Entry = Mapping[str, Any]
SLOPES = ("slope", "slope_change")  # estimands in points of gap a point


def claim_tables(claims: Sequence[Entry]) -> list[Table]:
    return [claims_table(claims), reference_table(claims), shown_table(claims)]


def claims_table(claims: Sequence[Entry]) -> Table:
    """Every claim with its verdict."""
    rows = tuple(
        (
            claim["name"],
            claim["part"] or DASH,
            claim["estimated"],
            claim_value(claim, estimate(claim)),
            claim["reference"] or DASH,
            claim_value(claim, estimate(claim["raw"])),
            str(claim["bases"]) if claim["bases"] else DASH,
            claim["verdict"] + (f" ({claim['reason']})" if claim["reason"] else ""),
            claim["other_explanation"],
        )
        for claim in claims
    )
    deciding = sum(claim["ci95"] is not None for claim in claims)
    beside = sum(claim["intervals"] for claim in claims) - deciding
    return Table(
        "Claims",
        (
            "Claim", "Part", "Estimated", "Value", "Against", "Without a reference", "Bases", "Verdict",
            "What else could explain it",
        ),
        rows,
        "A claim is confirmed if its 95% interval lies wholly on the claimed side of 0 against every"
        " reference that decides, refuted if wholly on the other against every one, and only where"
        " references stand on both sides of the level; else undecided. Where labels did not teach there is"
        " no verdict. Plain 95% intervals, not corrected for their number:"
        f" {deciding} here, of which about {0.05 * deciding:.1f} would miss the truth by chance, and {beside}"
        " beside them.",
        text_columns=9,
    )  # fmt: skip


def reference_table(claims: Sequence[Entry]) -> Table:
    """What every claim is held against, with levels."""
    rows = [
        (
            claim["name"],
            claim["part"] or DASH,
            name,
            claim_value(claim, estimate(entry)),
            *(_levels(entry["levels"], place) for place in (0, 1)),
            str(entry["bases"]),
            "yes" if entry["decides"] else "no" if entry["used"] else "no, mostly invalid",
        )
        for claim in claims
        for name, entry in claim["references"].items()
    ]
    return Table(
        "Every reference",
        ("Claim", "Part", "Against", "Value", "Arm's Orig", "Reference's Orig", "Bases", "Decides"),
        tuple(rows),
        "Points of gap minus the reference's (a slope in points a point); [95% interval over bases, seeds and"
        " groups]. Two levels: of the two arms, or of shifted and unshifted groups. Differences at unequal"
        " levels are not comparable, so references on both sides must agree.",
        text_columns=3,
    )


def _levels(levels: Sequence[Sequence[float | None]] | None, place: int) -> str:
    return DASH if levels is None else "; ".join(percent(panel[place]) for panel in levels)


def shown_table(claims: Sequence[Entry]) -> Table:
    """The arms that stand beside each claim's verdict, and the knee."""
    rows = [
        (
            claim["name"],
            claim["part"] or DASH,
            entry["arm"],
            with_interval(estimate(entry)),
            entry["reference"] or DASH,
            with_interval(estimate(entry["raw"])),
            entry["verdict"] + (f" ({entry['reason']})" if entry["verdict"] == "undecided" else ""),
        )
        for claim in claims
        for entry in claim["shown"]
        if entry["verdict"] != "not run"
    ]
    for claim in claims:
        if fit := claim["fit"]:
            knot = with_interval(estimate(fit["knot"], fit["knot_ci95"]), "percent")
            place = (claim["name"], claim["part"] or DASH, "knee at agreement")
            rows.append((*place, knot, DASH, DASH, knee_words(fit)))
    return Table(
        "Beside the claims",
        ("Claim", "Part", "Arm", "Gap minus reference's", "Against", "Gap", "Verdict by itself"),
        tuple(rows),
        "Points (the knee's agreement in per cent); [95% interval over bases, seeds and groups]. Arms that"
        " did not run are left out.",
        text_columns=3,
    )


def knee_words(fit: Entry) -> str:
    """What the fit found out."""
    if not fit["identified"]:
        return f"not identified: {fit['reason']}"
    return f"straight line rejected, p = {probability(fit['line_p'])}"


def claim_value(claim: Entry, value: Estimate) -> str:
    """A difference in points; a slope, or its change, as points of gap for one point."""
    if claim["estimand"] not in SLOPES:
        return with_interval(value)
    if value.mean is None:
        return DASH
    ends = f" [{value.low:+.2f}, {value.high:+.2f}]" if value.ci95 else ""
    return f"{value.mean:+.2f}{ends} points a point".replace("-", "−")
