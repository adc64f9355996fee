"""The tables of a hygiene report."""

from collections.abc import Mapping
from typing import Any

from introspection.coupling.estimates import FEWEST_GROUPS, Estimate, too_few
from introspection.hygiene.rates import DIFFERENCES
from introspection.reports.numbers import DASH, count, estimate, percent
from introspection.reports.table import Table, with_interval

Found = Mapping[str, Any]
RATES = {
    "changed_rate": "Cue changes %",
    "to_cued": "to cued %",
    "to_gold": "to right %",
    "to_other": "to other %",
    "right_without_cue": "Right without cue %",
    "right_with_cue": "Right with cue %",
    "follows_cue": "Decides for cued %",
}
SHARED = ("changed_rate", "right_without_cue")  # with their intervals; levels beside them without
LENGTHS = {"whole": "longest prompt and reply"}  # the others are called what they are
SIDES = {
    "without_cue": "without the cue",
    "with_cue": "with the cue",
    "changed": "whether the cue changes it",
}


def percent_interval(value: Any) -> str:
    """`45.2 [40.1, 50.3]`, or a dash."""
    return with_interval(estimate(value), "percent")


def rate_of(found: Found, name: str) -> Estimate:
    """A rate of some items as it is shown: with the number of their groups where these are too few for an
    interval."""
    return estimate(found[name]).resting_on(too_few(found["groups"]))


def rates_table(title: str, heading: str, parts: Mapping[str, Found], note: str = "") -> Table:
    """How often the cue changes decisions, and where to, a part of the items a row."""
    rows = []
    for part, found in parts.items():
        shown = [
            with_interval(rate_of(found, name), "percent")
            if name in SHARED
            else percent(estimate(found[name]).mean)
            for name in RATES
        ]
        none = [percent(estimate(found[f"none_{side}"]).mean) for side in ("without_cue", "with_cue")]
        rows.append((part or DASH, count(found["n"]), count(found["groups"]), *shown, " / ".join(none)))
    columns = (heading, "Items", "Groups", *RATES.values(), "None, without / with %")
    return Table(title, columns, tuple(rows), note)


def rates_tables(rates: Found) -> list[Table]:
    """The rates by cue kind, of all items, and by subset where there are several."""
    found = [
        rates_table(
            "By kind of cue",
            "Cue kind",
            rates["by_cue_kind"],
            f"95% intervals over groups; too few (n): of n groups, fewer than {FEWEST_GROUPS}. “To cued”, “to"
            " right” and “to other” are shares of all items: where"
            " the decision goes when the cue changes it. Right answers are counted where they are known.",
        )
    ]
    everything, note = {"as decided": rates["all"]}, ""
    if rates["likeliest_candidate"]:
        everything["likeliest candidate"] = rates["likeliest_candidate"]
        note = "The second line leaves “none” out: what would be decided if a candidate had to be chosen."
    found.append(rates_table("All kinds of cue together", "Decisions", everything, note))
    if rates["by_subset"]:
        found.append(rates_table("By subset", "Subset", rates["by_subset"]))
    return found


def difference_table(asked: Found) -> Table:
    rows = [
        (words, count(asked["differences"][kind]), percent(asked["differences"][kind] / asked["items"]))
        for kind, words in DIFFERENCES.items()
        if kind == "insertion" or asked["differences"][kind]
    ]
    return Table(
        "What x has, compared with x\\C",
        ("Difference, word by word", "Items", "%"),
        tuple(rows),
        "Only one added stretch is a cue that is removed without any other change.",
    )


def bias_table(title: str, heading: str, shares: Mapping[str, Found], note: str) -> Table:
    """Shares of decisions by answer or place, beside the share at which each should come."""
    rows = [
        (
            label,
            percent(found["uniform"]),
            percent(found["right"]),
            percent(found["cued"]),
            percent_interval(found["without_cue"]),
            with_interval(estimate(found["excess"])),
            percent(found["probability"]),
            percent_interval(found["with_cue"]),
        )
        for label, found in shares.items()
    ]
    columns = (
        heading,
        "Uniform %",
        "Is right %",
        "Cue names it %",
        "Decided without cue %",
        "minus right, points",
        "Mean probability %",
        "Decided with cue %",
    )
    return Table(title, columns, tuple(rows), note)


def bias_tables(report: Found) -> list[Table]:
    """Which answers and which places the model prefers, where items have them in common."""
    note = (
        "A model that only looked at the question would decide for each as often as it is right. “None” is "
        "the decision where no candidate is."
    )
    kinds = (("By answer", "Answer", "answers"), ("By place in the prompt", "Place", "places"))
    return [bias_table(title, heading, report[key], note) for title, heading, key in kinds if report[key]]


def retest_table(title: str, retest: Mapping[str, Found | None], note: str) -> Table:
    """How often two decisions on one question are equal."""
    rows = []
    for side, words in SIDES.items():
        found = retest[side]
        if found is None:
            rows.append((words, *[DASH] * 4))
            continue
        rows.append(
            (
                words,
                count(found["questions"]),
                count(found["pairs"]),
                percent_interval(found["equal"]),
                kappa_interval(found["kappa"]),
            )
        )
    columns = ("Decision", "Questions", "Pairs", "Equal %", "Kappa")
    return Table(title, columns, tuple(rows), note)


def retest_tables(report: Found) -> list[Table]:
    """The same questions in other words and with their options in other orders, where they were asked so."""
    wording, orders = report["wording"], report["orders"]
    found = []
    if any(wording.values()):
        note = (
            "Pairs of decisions on one question (one group, the same candidates, and with a cue the same "
            "kind and cued answer) in different words. Kappa takes out what two decisions have in common by "
            "chance."
        )
        found.append(retest_table("Another wording", wording, note))
    if orders:
        note = "Pairs of decisions on one question, as options and not as letters, in different orders."
        found.append(retest_table("Another order of the options", orders["agreement"], note))
        found.append(rates_table("By order of the options", "Order", orders["by_order"]))
    if orders and orders["averaged"]:
        parts = {"all orders, each by itself": report["rates"]["all"]}
        parts["mean over orders"] = orders["averaged"]["rates"]
        note = "Probabilities are averaged option by option: a preferred letter or place takes no side."
        found.append(rates_table("Averaged over orders", "Decisions", parts, note))
    return found


def margin_table(margins: Found) -> Table:
    rows = [(f"{step} nats", percent(share)) for step, share in margins["below"].items()]
    note = (
        f"The smaller of an item's two margins, with and without the cue. Below {margins['threshold']:g} "
        f"nats are {percent_interval(margins['close'])}% of items; of these the cue changes "
        f"{percent_interval(margins['changed_rate_close'])}%, of the others "
        f"{percent_interval(margins['changed_rate_clear'])}%."
    )
    return Table("Items whose decision is closer than", ("Margin", "% of items"), tuple(rows), note)


def self_knowledge_table(found: Found) -> Table:
    """How far the model's own log-probabilities tell which decisions the cue changes."""
    auroc = estimate(found["changed_auroc"])
    rows = (
        ("right, from the model's own margins %", percent_interval(found["accuracy"])),
        ("right, the more frequent class of each cue kind %", percent_interval(found["majority"])),
        ("difference, points", with_interval(estimate(found["difference"]))),
        ("AUROC within cue kinds %", with_interval(auroc, "percent")),
    )
    note = (
        "“Does the cue change the decision?”, predicted for facts that the predictor has not seen, from the "
        "candidates' log-probabilities without the cue (logistic regression by cue kind, five folds). Where "
        "AUROC is near 50%, labels can teach little more than the kind of cue."
    )
    return Table("What the model's margins tell of its changes", ("Measure", "Value"), rows, note)


def reply_table(replies: Found) -> Table:
    rows = [
        (words, percent_interval(replies[f"none_{side}"]), percent_interval(replies[f"cut_{side}"]))
        for side, words in list(SIDES.items())[:2]
    ]
    return Table(
        "Generated replies",
        ("Reply", "Names no candidate, or several %", "Cut before its end %"),
        tuple(rows),
        "A reply that names no candidate is the decision “none”.",
    )


def reply_tables(report: Found) -> list[Table]:
    """What generated replies are like, how far judges agree about them, and those that name no candidate."""
    replies, judges = report["replies"], report["judges"]
    found = [reply_table(replies)]
    if judges:
        found.append(judge_table(judges))
        if judges.get("labelled"):  # older reports have none
            found.append(labelled_table(judges["labelled"]))
    if replies["unnamed"]:
        rows = tuple(
            (one["id"], one["side"].replace("_", " "), one["text"], ", ".join(one["candidates"]))
            for one in replies["unnamed"]
        )
        columns = ("Item", "Cue", "Reply", "Candidates")
        found.append(Table("Replies that name no candidate", columns, rows, text_columns=4))
    return found


def judge_table(judges: Found) -> Table:
    asked = judges["judge_model"] or "the model itself"
    return _judge_pairs("Judges of the same replies", judges, f"The judge “model” asks {asked}.")


def labelled_table(labelled: Found) -> Table:
    note = "The labels are the publishers'; other models gave these replies, so no openings are asked for."
    return _judge_pairs("Judges and labels on the data's own replies", labelled, note)


def _judge_pairs(title: str, found: Found, note: str) -> Table:
    rows = []
    for pair in found["pairs"]:
        kappa = kappa_interval(pair["kappa"])
        rows.append(
            (f"{pair['first']} and {pair['second']}", count(pair["n"]), percent(pair["share"]), kappa)
        )
    said = "; ".join(
        f"{judge}: " + ", ".join(f"{count(n)} {verdict}" for verdict, n in classes.items())
        for judge, classes in found["classes"].items()
    )
    columns = ("Judges", "Replies", "Same class %", "Cohen's kappa")
    return Table(title, columns, tuple(rows), f"{said}. {note}")


def kappa_interval(value: Any) -> str:
    """`0.45 [0.40, 0.50]`, or a dash."""
    kappa = estimate(value)
    if kappa.mean is None:
        return DASH
    return f"{kappa.mean:.2f}" + (f" [{kappa.low:.2f}, {kappa.high:.2f}]" if kappa.ci95 else "")


def length_table(report: Found) -> Table:
    """How many tokens the texts have that the model was asked."""
    asked = report["asked"]
    rows = tuple(
        (LENGTHS.get(name) or name.replace("_", " "), *map(count, values.values()))
        for name, values in asked["lengths"].items()
    )
    note = (
        f"The longest is {count(asked['longest']['length'])} tokens ({asked['longest']['id']}); the model's "
        f"context is {count(report['model']['context_length'])}. {count(asked['too_long'])} items were left "
        "out as too long."
    )
    return Table("Lengths in tokens", ("Text", "Least", "5%", "Median", "95%", "Most"), rows, note)
