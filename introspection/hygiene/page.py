"""The page of a hygiene report: one HTML file that needs nothing else, in the style of a run's report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from introspection.errors import InputError
from introspection.hygiene import tables
from introspection.hygiene.rates import POPULATED
from introspection.reports.figure_style import (
    BAND,
    INK,
    MUTED,
    SELF_COLOR,
    FigureFiles,
    draw_interval,
    new_figure,
    percent_axis,
    render_figure,
    save_figure,
    styled,
    wrapped,
)
from introspection.reports.html_page import Section, figure_card, html_page
from introspection.reports.numbers import DASH, count, estimate, percent
from introspection.reports.tables import bullet_list, config_block, name, names_table, scrolling, text
from introspection.runtime.workdir import write_whole

HYGIENE = "hygiene.json"
PAGE = "hygiene.html"
QUESTION = (
    "Do x and x\\C differ in the cue alone, and are the model's decisions on them more than noise and habit?"
)
FOLDED = 600  # a longer stretch that both prompts share is shortened to its two ends
EDGE = 220  # characters of each end

Report = Mapping[str, Any]
MOST_ROWS = 60  # of one figure; the table has all
LABEL_WIDTH = 28  # characters of a row's label in one line
ROW_INCHES = 0.36


def write_hygiene_page(workdir: Path) -> Path:
    """Writes `hygiene.html` and `figures/` from a probe's `hygiene.json`; returns the page's path.

    Raises:
      InputError: the workdir holds no hygiene report.
    """
    try:
        report = json.loads((workdir / HYGIENE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{workdir / HYGIENE}: not readable ({error}); is it a probe's workdir?") from error
    figures = hygiene_figures(report)
    page = hygiene_page(report, figures)
    for file_name, files in figures.items():
        save_figure(files, workdir / "figures", file_name)
    return write_whole(workdir / PAGE, page)


def hygiene_figures(report: Report) -> dict[str, FigureFiles]:
    """The figures that the report has data for, drawn, by their files' names."""
    found = {"rates": render_figure(rates_figure(report["rates"]["by_cue_kind"]))}
    if report["margins"]:
        found["margins"] = render_figure(margin_figure(report["margins"]))
    return found


def hygiene_page(report: Report, figures: Mapping[str, FigureFiles]) -> str:
    """The whole page as text."""
    sections = [
        ("findings", "What to be careful about", _findings(report)),
        ("differences", "x and x\\C", _differences(report["asked"])),
        ("rates", "What the cue changes", _rates(report["rates"], figures["rates"])),
        ("habits", "Letters and places", _habits(report)),
        ("retest", "Wording and order", _retests(report)),
        (
            "margins",
            "Close decisions" if report["margins"] else "Replies",
            _margins(report, figures.get("margins")),
        ),
        ("lengths", "Lengths", _lengths(report)),
        ("setup", "Setup", _setup(report)),
    ]
    return html_page(
        title=f"{report['task']}, {report['model']['name']}: hygiene",
        heading=f"{report['task']}: behaviour and hygiene",
        question=QUESTION,
        facts=_facts(report),
        sections=[Section(*section) for section in sections],
        made_from="probe",
        own=Path(__file__).parent,
        words=False,
    )


def _facts(report: Report) -> dict[str, Any]:
    asked = report["asked"]
    of = report["splits"][asked["split"]]
    return {
        "task": report["task"],
        "model": report["model"]["name"],
        "behaviour is": "scored" if report["readout"]["readout"] == "score" else "generated",
        "asked": f"{count(asked['items'])} of {count(of)} {asked['split']} items",
        "groups": count(asked["groups"]),
        "cue kinds": len(asked["cue_kinds"]),
    }


def _findings(report: Report) -> str:
    cautions = report["cautions"]
    if not cautions:
        return '<p class="lead">Nothing here calls for caution; the numbers are below.</p>'
    said = "1 thing" if len(cautions) == 1 else f"{len(cautions)} things"
    return f'<p class="lead">{said} to be careful about.</p>{bullet_list(cautions, "cautions")}'


def _differences(asked: Report) -> str:
    examples = _examples(asked["examples"], "Examples of pairs")
    odd = ""
    if asked["odd"]:
        odd = f"<h3>Pairs that differ otherwise</h3>{_examples(asked['odd'], 'Pairs that differ otherwise')}"
    key = (
        "<p>Marked text is in x alone, struck-out text in x\\C alone; compared word by word. Two pairs of"
        " each kind of cue.</p>"
    )
    return tables.difference_table(asked).html() + key + examples + odd


def _examples(examples: Sequence[Report], label: str) -> str:
    rows = []
    for example in examples:
        decided = example.get("decisions") or {}
        decisions = "".join(
            f'<span class="pair"><span class="key">{side.replace("_", " ")}</span> {name(decision)}</span>'
            for side, decision in decided.items()
        )
        kind = name(example["cue_kind"] or DASH)
        rows.append(
            f'<tr><th scope="row">{name(example["id"])}<span class="label">{kind}</span></th>'
            f'<td><div class="prompt">{_segments(example["segments"])}</div></td>'
            f"<td>{decisions}</td></tr>"
        )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("Item and cue", "x and x\\C", "Decisions"))
    return scrolling(
        f'<table class="examples"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>',
        label,
    )


def _segments(segments: Sequence[Sequence[str]]) -> str:
    """Both prompts as one text."""
    parts = []
    for kind, part in segments:
        if kind == "=":
            if len(part) > FOLDED:
                more = f" … {count(len(part) - 2 * EDGE)} more characters … "
                part = part[:EDGE] + more + part[-EDGE:]
            parts.append(text(part))
        else:
            # A highlight that starts with a space looks off.
            start = len(part) - len(part.lstrip()) if part.strip() else 0
            attribute = "" if kind == "+" else ' class="without"'
            parts.append(f"{text(part[:start])}<mark{attribute}>{text(part[start:])}</mark>")
    return "".join(parts)


def _rates(rates: Report, figure: FigureFiles) -> str:
    note = (
        "95% intervals over groups. “To cued”, “to right” and “to other” are shares of all items: where the "
        "decision goes when the cue changes it. Right answers are counted where they are known."
    )
    shown = tables.rates_table("By kind of cue", "Cue kind", rates["by_cue_kind"], note).html()
    everything, note = {"as decided": rates["all"]}, ""
    if rates["likeliest_candidate"]:
        everything["likeliest candidate"] = rates["likeliest_candidate"]
        note = "The second line leaves “none” out: what would be decided if a candidate had to be chosen."
    shown += tables.rates_table("All kinds of cue together", "Decisions", everything, note).html()
    if rates["by_subset"]:
        shown += tables.rates_table("By subset", "Subset", rates["by_subset"]).html()
    caption = (
        "The share of decisions that each kind of cue changes. Explanations can be trained and tested only "
        "where both classes are there: outside the band nearly all labels are the same."
    )
    return _figure(figure, "rates", "How often the cue changes the decision", caption) + shown


def _habits(report: Report) -> str:
    note = (
        "A model that only looked at the question would decide for each as often as it is right. “None” is "
        "the decision where no candidate is."
    )
    shown = ""
    if report["answers"]:
        shown += tables.bias_table("By answer", "Answer", report["answers"], note).html()
    if report["places"]:
        shown += tables.bias_table("By place in the prompt", "Place", report["places"], note).html()
    return shown or (
        "<p>The items do not share their answers, and their prompts do not show options: there are no "
        "letters and no places to prefer.</p>"
    )


def _retests(report: Report) -> str:
    wording, orders = report["wording"], report["orders"]
    note = (
        "Pairs of decisions on one question (one group, the same candidates, and with a cue the same kind "
        "and cued answer) in different words. Kappa takes out what two decisions have in common by chance."
    )
    if any(wording.values()):
        shown = tables.retest_table("Another wording", wording, note).html()
    else:
        shown = "<p>No question was asked in two wordings.</p>"
    if orders:
        note = "Pairs of decisions on one question, as options and not as letters, in different orders."
        shown += tables.retest_table("Another order of the options", orders["agreement"], note).html()
        shown += tables.rates_table("By order of the options", "Order", orders["by_order"]).html()
        if orders["averaged"]:
            parts = {"all orders, each by itself": report["rates"]["all"]}
            parts["mean over orders"] = orders["averaged"]["rates"]
            note = "Probabilities are averaged option by option: a preferred letter or place takes no side."
            shown += tables.rates_table("Averaged over orders", "Decisions", parts, note).html()
    return shown


def _margins(report: Report, figure: FigureFiles | None) -> str:
    if report["margins"] and figure is not None:
        caption = (
            "The share of items where one of the two decisions is closer than so many nats "
            "(log-probability of the first answer minus that of the second)."
        )
        return (
            _figure(figure, "margins", "How close decisions are", caption)
            + tables.margin_table(report["margins"]).html()
        )
    unnamed = "".join(
        f'<tr><th scope="row">{name(reply["id"])}</th><td>{text(reply["side"].replace("_", " "))}</td>'
        f"<td>{name(reply['text'])}</td><td>{name(', '.join(reply['candidates']))}</td></tr>"
        for reply in report["replies"]["unnamed"]
    )
    shown = tables.reply_table(report["replies"]).html()
    if report["judges"]:
        shown += tables.judge_table(report["judges"]).html()
        if report["judges"].get("labelled"):  # older reports have none
            shown += tables.labelled_table(report["judges"]["labelled"]).html()
    if unnamed:
        heads = "".join(f'<th scope="col">{head}</th>' for head in ("Item", "Cue", "Reply", "Candidates"))
        table = f"<table><thead><tr>{heads}</tr></thead><tbody>{unnamed}</tbody></table>"
        shown += (
            f"<h3>Replies that name no candidate</h3>{scrolling(table, 'Replies that name no candidate')}"
        )
    return shown + "<p>Generated replies have no margins; probe with --readout=score for them.</p>"


def _lengths(report: Report) -> str:
    asked, model = report["asked"], report["model"]
    note = (
        f"The longest is {count(asked['longest']['length'])} tokens ({asked['longest']['id']}); the model's "
        f"context is {count(model['context_length'])}. {count(asked['too_long'])} items were left out as too "
        "long."
    )
    return tables.length_table(asked["lengths"], "tokens", note).html()


def _figure(files: FigureFiles, file_name: str, title: str, caption: str) -> str:
    return figure_card(files, file_name, title, caption, f"{title}; the table below has the numbers.")


def _setup(report: Report) -> str:
    blocks = {
        "Model": names_table(report["model"], "Model"),
        "Readout": config_block(report["readout"]),
        "Splits, items": names_table(report["splits"], "Splits"),
        "Versions": names_table(report["versions"], "Versions"),
    }
    return "".join(f"<details><summary>{title}</summary>{block}</details>" for title, block in blocks.items())


@styled
def rates_figure(by_kind: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Each cue kind's changed-rate with its interval, over the band where both classes are populated."""
    shown = list(by_kind.items())[:MOST_ROWS]
    figure = new_figure(1.0 + ROW_INCHES * len(shown))
    axes = figure.add_subplot()
    axes.axvspan(*(100 * end for end in POPULATED), color=BAND, linewidth=0, zorder=0)
    for y, (_, found) in enumerate(shown):
        value = estimate(found["changed_rate"])
        draw_interval(axes, value, float(y), SELF_COLOR, linewidth=2.0)
        axes.plot(100 * (value.mean or 0), y, "o", markersize=6, color=SELF_COLOR, clip_on=False)
        said = f"{percent(value.mean)}  n = {found['n']:,}"
        axes.text(1.015, y, said, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5, color=INK)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_yticks(range(len(shown)), [wrapped(kind or "(no kind)", LABEL_WIDTH) for kind, _ in shown])
    percent_axis(axes, "share of items whose decision the cue changes (%), 95% interval")
    return figure


@styled
def margin_figure(margins: Mapping[str, Any]) -> Figure:
    """The share of items below each margin, and the threshold that the report counts with."""
    steps = [float(step) for step in margins["below"]]
    below = [100 * share for share in margins["below"].values()]
    figure = new_figure(2.9)
    axes = figure.add_subplot()
    axes.axvline(margins["threshold"], color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.plot(steps, below, "o-", color=SELF_COLOR, linewidth=2.0, clip_on=False)
    for step, share in zip(steps, below, strict=True):
        axes.annotate(
            f"{share:.1f}", (step, share), (0, 7), textcoords="offset points", ha="center", fontsize=8.5
        )
    axes.set_xscale("log")
    axes.set_xticks(steps, [f"{step:g}" for step in steps])
    axes.minorticks_off()
    axes.set_ylim(0, max(10.0, 1.2 * max(below)))
    axes.set_xlabel("margin between the first answer and the second (nats)")
    axes.set_ylabel("items below (%)")
    axes.grid(axis="y")
    return figure
