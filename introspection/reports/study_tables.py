"""A study's tables, once as data: as Markdown to paste, and as HTML for its page."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from introspection.reports.findings import interval
from introspection.reports.measures import DASH, Estimate, count, estimate, percent, points
from introspection.reports.tables import name, scrolling, text

Entry = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class StudyTable:
    """Cells are plain text; the first `text_columns` are words, the others numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str
    text_columns: int = 1

    def markdown(self) -> str:
        """The title, the table and its note."""
        rule = ["---" if i < self.text_columns else "--:" for i in range(len(self.columns))]
        lines = [_markdown_row(row) for row in (self.columns, rule, *self.rows)]
        return "\n".join([f"**{_markdown_text(self.title)}**", "", *lines, "", _markdown_text(self.note), ""])

    def html(self) -> str:
        number = [' class="number"' if i >= self.text_columns else "" for i in range(len(self.columns))]
        head = "".join(
            f'<th scope="col"{kind}>{text(c)}</th>' for c, kind in zip(self.columns, number, strict=True)
        )
        rows = "".join(
            f'<tr><th scope="row">{name(first)}</th>'
            + "".join(f"<td{kind}>{name(c)}</td>" for c, kind in zip(rest, number[1:], strict=True))
            + "</tr>"
            for first, *rest in self.rows
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        return f"<h3>{text(self.title)}</h3>{scrolling(table, self.title)}<p>{text(self.note)}</p>"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_markdown_text(cell) for cell in cells) + " |"


def _markdown_text(cell: str) -> str:
    return " ".join(cell.replace("|", "\\|").split())


def with_interval(value: Estimate, form: str = "points") -> str:
    """`+2.1 [−0.3, +4.4]`."""
    mean = points(value.mean) if form == "points" else percent(value.mean)
    return f"{mean} {interval(value, form)}".strip()


def part_tables(name: str, part: Entry) -> list[StudyTable]:
    """The arms, each base's gaps, and what subsets and controls there are, of one part of `study.json`."""
    found = [main_table(name, part), base_table(name, part)]
    if any(arm["by_subset"] for arm in part["arms"].values()):
        found.append(subset_table(name, part))
    if part["controls"]:
        found.append(control_table(name, part))
    return found


def main_table(part_name: str, part: Entry) -> StudyTable:
    """A row an arm, pooled over its bases."""
    rows = []
    for arm, entry in part["arms"].items():
        foreign = entry["foreign"] or {"self": {}, "gap": {}}
        share = Estimate(
            entry["disagreement"]["current_share"], *(entry["disagreement"]["current_share_ci95"] or ())
        )
        rows.append(
            (
                arm,
                str(len(entry["bases"])),
                percent(entry["self"]["exact_match"]["mean"]),
                percent(entry["orig"]["exact_match"]["mean"]),
                with_interval(estimate(entry["gap"]["exact_match"])),
                with_interval(estimate(foreign["self"].get("exact_match"))),
                with_interval(estimate(foreign["gap"].get("exact_match"))),
                percent(entry["drift"]),
                with_interval(share, "percent"),
                percent(entry["agreement"]["end"]),
                percent(entry["invalid_rate"]),
                " → ".join(percent(entry["behavior_accuracy"][who]) for who in ("teacher", "current")),
            )
        )
    return StudyTable(
        f"{part_name}: arms over {len(part['bases'])} bases",
        (
            "Arm", "Bases", "Self", "Orig", "Gap", "Self minus foreign's", "Gap minus foreign's", "Drift",
            "Current share", "Agreement, end", "Invalid", "Right: base → current",
        ),
        tuple(rows),
        "Exact match in per cent, differences in points, means over the items of all bases and seeds;"
        " [95% interval over bases, seeds and groups].",
    )  # fmt: skip


def base_table(part_name: str, part: Entry) -> StudyTable:
    """The gap of every arm in each base by itself."""
    bases = part["bases"]
    rows = []
    for arm, entry in part["arms"].items():
        spread = entry["over_bases"]
        gaps = [estimate(entry["by_base"].get(base, {}).get("gap", {}).get("exact_match")) for base in bases]
        rows.append(
            (
                arm,
                *map(with_interval, gaps),
                percent(spread["standard_deviation"]),
                f"{spread['above_0']} of {spread['n']}",
                probability(spread["sign_flip_p"]),
            )
        )
    return StudyTable(
        f"{part_name}: gap in each base",
        ("Arm", *bases, "SD between bases", "Above 0", "Sign-flip p"),
        tuple(rows),
        "Points; [95% interval over that base's seeds and groups]. The sign-flip test takes a value a base.",
    )


def subset_table(part_name: str, part: Entry) -> StudyTable:
    """Every arm on each subset of the items."""
    rows = [
        (
            arm,
            subset,
            count(found["n"]),
            percent(found["self"]["exact_match"]["mean"]),
            percent(found["orig"]["exact_match"]["mean"]),
            with_interval(estimate(found["gap"]["exact_match"])),
            percent(found["drift"]),
        )
        for arm, entry in part["arms"].items()
        for subset, found in entry["by_subset"].items()
    ]
    return StudyTable(
        f"{part_name}: by subset of the items",
        ("Arm", "Subset", "n", "Self", "Orig", "Gap", "Drift"),
        tuple(rows),
        "As in the table of arms, over the items of one subset.",
        text_columns=2,
    )


def control_table(part_name: str, part: Entry) -> StudyTable:
    """Every control, scored on an arm's behaviours, and the arm minus it."""
    rows = [
        (
            arm,
            control,
            percent(found["self"]["exact_match"]["second"]),
            percent(found["orig"]["exact_match"]["second"]),
            points(found["gap"]["exact_match"]["second"]),
            with_interval(estimate(found["self"]["exact_match"])),
            with_interval(estimate(found["gap"]["exact_match"])),
        )
        for arm in part["arms"]
        for control, by_arm in part["controls"].items()
        if (found := by_arm.get(arm))
    ]
    return StudyTable(
        f"{part_name}: controls",
        ("Arm", "Control", "Self", "Orig", "Gap", "Arm's Self minus control's", "Arm's gap minus control's"),
        tuple(rows),
        "Controls scored against the arm's own current model and label teacher; differences paired by item.",
        text_columns=2,
    )


def predictor_table(part_name: str, found: Sequence[Entry]) -> StudyTable:
    """What in a base goes with its gap."""
    rows = tuple(
        (
            entry["name"],
            str(len(entry["values"])),
            _correlation(entry["correlation"]),
            probability(entry["p"]),
            f"{percent(min(entry['values'].values()))} to {percent(max(entry['values'].values()))}",
        )
        for entry in found
    )
    return StudyTable(
        f"{part_name}, exploratory: what in a base goes with the gap of {found[0]['arm']}",
        ("In a base", "Bases", "Rank correlation with its gap", "p", "Range, per cent"),
        rows,
        f"Spearman's correlation over bases, p by permutation, not corrected for {len(rows)} candidates: a"
        " place to look next, and no claim.",
    )


def circuit_table(part_name: str, part: Entry) -> StudyTable:
    """How far each base's behaviour and explanations hang on the same parts of it."""
    columns = ("overlap", "blocks_alone", "across_halves", "ceiling")
    columns += ("behavior_reliability", "explanation_reliability")
    found = part.get("circuits", {})
    rows = []
    for base in part["bases"]:
        entry = found.get(base) or {}
        size = (str(len(entry["parts"])), count(entry["n"])) if entry else (DASH, DASH)
        correlations = [_correlation(entry.get(column)) for column in columns]
        rows.append((base, *size, *correlations[:2], percent(entry.get("shared_effect")), *correlations[2:]))
    return StudyTable(
        f"{part_name}, exploratory: do the untrained base's behaviour and explanations use the same parts?",
        (
            "Base", "Parts", "Items", "Overlap", "By layers alone", "Shared effect, per cent",
            "Across halves", "Ceiling", "Behaviour with itself", "Explanations with themselves",
        ),
        tuple(rows),
        "Every attention head and every layer's MLP is zeroed in turn. Overlap: Spearman's correlation, over"
        " parts, between the mean drop in log-probability of the base's own two decisions and that of its own"
        " most likely explanation. By layers alone: its expectation if the heads of a layer changed places at"
        " random. Shared effect: the sum, over parts, of the smaller of the two shares of all drops. Across"
        " halves: the overlap with behaviour on a random half of the facts and explanations on the other;"
        " ceiling: about what that would be of two uses of the very same parts, from the two correlations of"
        " one half with the other that follow. A dash: a point's workdir does not hold what it takes.",
    )  # fmt: skip


def _correlation(value: float | None) -> str:
    return DASH if value is None else f"{value:+.2f}".replace("-", "−")


def claims_table(claims: Sequence[Entry]) -> StudyTable:
    """Every claim with its verdict."""
    rows = tuple(
        (
            claim["name"],
            claim["part"] or DASH,
            claim["estimated"],
            claim_value(claim, estimate(claim)),
            str(claim["bases"]) if claim["bases"] else DASH,
            claim["verdict"] + (f" ({claim['reason']})" if claim["reason"] else ""),
            claim["other_explanation"],
        )
        for claim in claims
    )
    deciding = sum(claim["ci95"] is not None for claim in claims)
    beside = sum(claim["intervals"] for claim in claims) - deciding
    return StudyTable(
        "Claims",
        ("Claim", "Part", "Estimated", "Value", "Bases", "Verdict", "What else could explain it"),
        rows,
        f"A claim is confirmed if its 95% interval lies wholly on the claimed side of 0, refuted if wholly on"
        f" the other, else undecided. Plain 95% intervals, not corrected for their number: {deciding} here,"
        f" of which about {0.05 * deciding:.1f} would miss the truth by chance, and {beside} beside them.",
        text_columns=7,
    )  # fmt: skip


def shown_table(claims: Sequence[Entry]) -> StudyTable:
    """The arms that stand beside each claim's verdict, and the knee."""
    rows = [
        (
            claim["name"],
            claim["part"] or DASH,
            entry["label"],
            with_interval(estimate(entry)),
            entry["verdict"] if entry["mean"] is None else f"gap {_sign(entry)}",
        )
        for claim in claims
        for entry in claim["shown"]
    ]
    for claim in claims:
        if fit := claim["fit"]:
            knot = with_interval(estimate(fit["knot"], fit["knot_ci95"]), "percent")
            rows.append((claim["name"], claim["part"] or DASH, "knee at agreement", knot, knee_words(fit)))
    return StudyTable(
        "Beside the claims",
        ("Claim", "Part", "Arm", "Gap", "Interval"),
        tuple(rows),
        "Points (the knee's agreement in per cent); [95% interval over bases, seeds and groups].",
        text_columns=3,
    )


def _sign(entry: Entry) -> str:
    if entry["ci95"] is None:
        return "without an interval"
    low, high = entry["ci95"]
    return "above 0" if low > 0 else "below 0" if high < 0 else "undecided"


def knee_words(fit: Entry) -> str:
    """What the fit found out."""
    if not fit["identified"]:
        return f"not identified: {fit['reason']}"
    return f"straight line rejected, p = {probability(fit['line_p'])}"


def claim_value(claim: Entry, value: Estimate) -> str:
    """A difference in points; a slope change as points of gap for one point of agreement."""
    if claim["estimand"] != "slope_change":
        return with_interval(value)
    if value.mean is None:
        return DASH
    ends = f" [{value.low:+.2f}, {value.high:+.2f}]" if value.has_interval else ""
    return f"{value.mean:+.2f}{ends} points a point".replace("-", "−")


def probability(value: float | None) -> str:
    return DASH if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
