"""A study's tables, once as data: as Markdown to paste, and as HTML for its page."""

from collections.abc import Sequence

from introspection.coupling.estimates import Estimate
from introspection.reports.numbers import DASH, count, estimate, percent, points, probability
from introspection.reports.table import Entry, Table, with_interval


def part_tables(part_name: str, part: Entry) -> list[Table]:
    """A part of `study.json`: the arms, each base's gaps, and what shifts, subsets and controls there are."""
    found = [main_table(part_name, part), base_table(part_name, part)]
    if any(arm["by_shifted"] for arm in part["arms"].values()):
        found.append(shifted_table(part_name, part))
    if any(arm["by_subset"] for arm in part["arms"].values()):
        found.append(subset_table(part_name, part))
    if part["controls"]:
        found.append(control_table(part_name, part))
    return found


def gap_minus(part: Entry, arm: str, emitter: str | None) -> Estimate:
    """An arm's gap minus an emitter's on its items; empty without one, or where most of it is invalid."""
    entry = part["controls"].get(emitter, {}).get(arm)
    return Estimate() if entry is None or not entry["used"] else estimate(entry["gap"]["exact_match"])


def main_table(part_name: str, part: Entry) -> Table:
    """One row per arm, pooled over its bases."""
    rows = []
    for arm, entry in part["arms"].items():
        apart = entry["disagreement"]
        share = estimate(apart["current_share"], apart["current_share_ci95"])
        static = with_interval(gap_minus(part, arm, entry["best_static"]))
        rows.append(
            (
                arm,
                str(len(entry["bases"])),
                percent(entry["self"]["exact_match"]["mean"]),
                percent(entry["orig"]["exact_match"]["mean"]),
                with_interval(estimate(entry["gap"]["exact_match"])),
                f"{static} ({entry['best_static']})" if entry["best_static"] else static,
                with_interval(gap_minus(part, arm, "shuffled")),
                with_interval(gap_minus(part, arm, "foreign")),
                percent(entry["drift"]),
                with_interval(share, "percent"),
                percent(entry["agreement"]["mean"]),
                percent(entry["kept_behavior"]["end"]),
                " → ".join(percent(entry["behavior_accuracy"][who]) for who in ("initial", "current")),
                percent(entry["invalid_rate"]),
            )
        )
    return Table(
        f"{part_name}: arms over {len(part['bases'])} bases",
        (
            "Arm", "Bases", "Self", "Orig", "Gap", "Gap minus best static's", "Gap minus shuffled's",
            "Gap minus foreign's", "Drift", "Current share", "Agreement, mean", "Kept behaviour, end",
            "Right: base → current", "Invalid",
        ),
        tuple(rows),
        "Exact match in per cent, differences in points, means over the items of all bases and seeds;"
        " [95% interval over bases, seeds and groups]. A gap alone says nothing: where behaviour drifts, an"
        " explainer that stays put has one too. Agreement: of trained labels, noise and all, the mean over"
        " training; kept behaviour: the same of clean labels.",
    )  # fmt: skip


def base_table(part_name: str, part: Entry) -> Table:
    """The gap minus the best static emitter's, of every arm in each base by itself."""
    bases = part["bases"]
    rows = []
    for arm, entry in part["arms"].items():
        held = part["controls"].get(entry["best_static"], {}).get(arm)
        if held is None:
            continue
        spread = held["over_bases"]
        gaps = [estimate(held["by_base"].get(base, {}).get("gap", {}).get("exact_match")) for base in bases]
        rows.append(
            (
                arm,
                *map(with_interval, gaps),
                percent(spread["standard_deviation"]),
                f"{spread['above_0']} of {spread['n']}",
                probability(spread["sign_flip_p"]),
            )
        )
    return Table(
        f"{part_name}: gap minus best static's in each base",
        ("Arm", *bases, "SD between bases", "Above 0", "Sign-flip p"),
        tuple(rows),
        "Points; [95% interval over that base's seeds and groups]. The sign-flip test takes a value a base.",
    )


def shifted_table(part_name: str, part: Entry) -> Table:
    """Every arm with a shift, on the groups whose behaviour it trains, on the others, and the difference."""
    rows = []
    for arm, entry in part["arms"].items():
        halves, static = entry["by_shifted"], entry["best_static"]
        for half in ("shifted", "unshifted"):
            if found := halves.get(half):
                minus = found.get("minus_reference", {}).get(static, {"gap": {"exact_match": None}})
                rows.append(
                    (
                        arm,
                        half,
                        count(found["n"]),
                        percent(found["self"]["exact_match"]["mean"]),
                        percent(found["orig"]["exact_match"]["mean"]),
                        with_interval(estimate(found["gap"]["exact_match"])),
                        with_interval(estimate(minus["gap"]["exact_match"])),
                        percent(found["drift"]),
                    )
                )
        if difference := halves.get("difference"):
            nothing = {"gap": {"exact_match": None}}
            raw, minus = (difference.get(key, nothing)["gap"]["exact_match"] for key in ("", static))
            values = (with_interval(estimate(raw)), with_interval(estimate(minus)))
            rows.append((arm, "shifted minus unshifted", DASH, DASH, DASH, *values, DASH))
    return Table(
        f"{part_name}: by whether the arm's shift trains the group",
        ("Arm", "Groups", "n", "Self", "Orig", "Gap", "Gap minus best static's", "Drift"),
        tuple(rows),
        "As in the table of arms. Shifted minus unshifted: both in the same resamples.",
        text_columns=2,
    )


def subset_table(part_name: str, part: Entry) -> Table:
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
    return Table(
        f"{part_name}: by subset of the items",
        ("Arm", "Subset", "n", "Self", "Orig", "Gap", "Drift"),
        tuple(rows),
        "As in the table of arms, over the items of one subset.",
        text_columns=2,
    )


def control_table(part_name: str, part: Entry) -> Table:
    """Every emitter that an arm is held against, scored on the arm's behaviours, and the arm minus it."""
    rows = [
        (
            arm,
            control,
            percent(found["self"]["exact_match"]["second"]),
            percent(found["orig"]["exact_match"]["second"]),
            points(found["gap"]["exact_match"]["second"]),
            with_interval(estimate(found["self"]["exact_match"])),
            with_interval(estimate(found["gap"]["exact_match"])),
            percent(found["invalid_rate"]) + ("" if found["used"] else ", not used"),
        )
        for arm in part["arms"]
        for control, by_arm in part["controls"].items()
        if (found := by_arm.get(arm))
    ]
    return Table(
        f"{part_name}: controls",
        (
            "Arm", "Control", "Self", "Orig", "Gap", "Arm's Self minus control's",
            "Arm's gap minus control's", "Invalid",
        ),
        tuple(rows),
        "Controls scored against the arm's own current model and label teacher; differences paired by item."
        " shuffled: what the base's arm of that name says; foreign: the arm's foreign explainer. One of which"
        " more than half is invalid decides nothing.",
        text_columns=2,
    )  # fmt: skip


def predictor_table(part_name: str, found: Sequence[Entry]) -> Table:
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
    return Table(
        f"{part_name}, exploratory: what in a base goes with the gap of {found[0]['arm']}",
        ("In a base", "Bases", "Rank correlation with its gap", "p", "Range, per cent"),
        rows,
        f"Spearman's correlation over bases, p by permutation, not corrected for {len(rows)} candidates: a"
        " place to look next, and no claim.",
    )


def circuit_table(part_name: str, part: Entry) -> Table:
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
    return Table(
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
