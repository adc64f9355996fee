"""The page of a hygiene report: one HTML file that needs nothing else, in the style of a run's report."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from introspection.hygiene import tables
from introspection.hygiene.rates import POPULATED
from introspection.probes.readouts import READOUTS
from introspection.reports.figure_numbers import estimate_columns
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
from introspection.reports.html_page import ROOMS, Section, figure_card, html_page, macros
from introspection.reports.numbers import count, estimate, percent
from introspection.reports.tables import names_table
from introspection.runtime.json_files import parsed, read_object
from introspection.runtime.workdir import write_whole
from introspection.tasks.matching import find_match

HYGIENE = "hygiene.json"
PAGE = "hygiene.html"
QUESTION = (
    "Do x and x\\C differ in the cue alone, and are the model's decisions on them more than noise and habit?"
)
FIGURES = {
    "rates": (
        "How often the cue changes the decision",
        "The share of decisions that each kind of cue changes. Explanations can be trained and tested only"
        " where both classes are there: outside the band nearly all labels are the same.",
    ),
    "margins": (
        "How close decisions are",
        "The share of items where one of the two decisions is closer than so many nats (log-probability of"
        " the first answer minus that of the second).",
    ),
}

Report = Mapping[str, Any]
MOST_ROWS = 60  # of one figure; the table has all
LABEL_WIDTH = 28  # characters of a row's label in one line
ROW_INCHES = 0.36


def write_hygiene_page(workdir: Path) -> Path:
    """Writes `hygiene.html` and `figures/` from a probe's `hygiene.json`; returns the page's path.

    Raises:
      InputError: the workdir holds no hygiene report.
    """
    advice = "is it a probe's workdir?"
    report = read_object(workdir / HYGIENE, advice)

    def draw() -> tuple[dict[str, FigureFiles], str]:
        figures = hygiene_figures(report)
        return figures, hygiene_page(report, figures)

    figures, page = parsed(workdir / HYGIENE, draw, advice)
    for file_name, files in figures.items():
        save_figure(files, workdir / "figures", file_name)
    return write_whole(workdir / PAGE, page)


def hygiene_figures(report: Report) -> dict[str, FigureFiles]:
    """The figures that the report has data for, drawn, by their files' names."""
    by_kind, margins = report["rates"]["by_cue_kind"], report["margins"]
    rates = [
        {"cue_kind": kind, "n": found["n"]}
        | estimate_columns("changed_rate", estimate(found["changed_rate"]))
        for kind, found in by_kind.items()
    ]
    found = {"rates": render_figure(rates_figure(by_kind), rates)}
    if margins:
        below = [{"nats": nats, "share": share} for nats, share in margins["below"].items()]
        found["margins"] = render_figure(margin_figure(margins), below)
    return found


def hygiene_page(report: Report, figures: Mapping[str, FigureFiles]) -> str:
    """The whole page as text."""
    html = macros("hygiene/sections.html")
    asked = report["asked"]
    cards = {name: _figure(name, files) for name, files in figures.items()}
    retests = tables.retest_tables(report)
    if not any(report["wording"].values()):
        retests = [html.one_wording(), *retests]
    if report["margins"]:
        margins = [cards["margins"], tables.margin_table(report["margins"])]
    else:
        examples = [named_reply(one) for one in report["replies"].get("named", [])]  # older reports have none
        shown = [html.named_replies(examples)] if examples else []
        margins = [*tables.reply_tables(report), *shown, html.no_margins()]
    if report.get("self_knowledge"):  # older reports have none
        margins.append(tables.self_knowledge_table(report["self_knowledge"]))
    readout = json.dumps(report["readout"], indent=2, ensure_ascii=False)
    named = [
        names_table(report[key], title)
        for key, title in (("model", "Model"), ("splits", "Splits, items"), ("versions", "Versions"))
    ]
    sections = [
        Section("findings", "What to be careful about", [html.findings(report["cautions"])]),
        Section("differences", "x and x\\C", [tables.difference_table(asked), html.differences(asked)]),
        Section("rates", "What the cue changes", [cards["rates"], *tables.rates_tables(report["rates"])]),
        Section("habits", "Letters and places", tables.bias_tables(report) or [html.no_habits()]),
        Section("retest", "Wording and order", retests),
        Section("margins", "Close decisions" if report["margins"] else "Replies", margins),
        Section("lengths", "Lengths", [tables.length_table(report)]),
        Section("setup", "Setup", [html.setup(named, readout)]),
    ]
    return html_page(
        title=f"{report['task']}, {report['model']['name']}: hygiene",
        heading=f"{report['task']}: behaviour and hygiene",
        question=QUESTION,
        facts=_facts(report),
        sections=sections,
        made_from="probe",
        own=ROOMS / "hygiene",
        words=False,
    )


def named_reply(example: Report) -> dict[str, Any]:
    """An example of a reply that names a candidate: the parts before, in and after what named it."""
    text = example["text"]
    found = find_match(text, example["candidates"], example["case_counts"])
    parts = (text[: found.start], text[found.start : found.end], text[found.end :])
    return {**example, "parts": parts, "candidate": found.candidate}


def _facts(report: Report) -> dict[str, Any]:
    asked = report["asked"]
    of = report["splits"][asked["split"]]
    return {
        "task": report["task"],
        "model": report["model"]["name"],
        "behaviour is": READOUTS[report["readout"]["readout"]],
        "asked": f"{count(asked['items'])} of {count(of)} {asked['split']} items",
        "groups": count(asked["groups"]),
        "cue kinds": len(asked["cue_kinds"]),
        "note": report["model"].get("note"),
    }


def _figure(name: str, files: FigureFiles) -> Markup:
    title, caption = FIGURES[name]
    return figure_card(files, name, title, caption, f"{title}; the table below has the numbers.")


@styled
def rates_figure(by_kind: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Each cue kind's changed-rate with its interval, over the band where both classes are populated."""
    shown = list(by_kind.items())[:MOST_ROWS]
    figure = new_figure(1.0 + ROW_INCHES * len(shown))
    axes = figure.add_subplot()
    axes.axvspan(*(100 * end for end in POPULATED), color=BAND, linewidth=0, zorder=0)
    for y, (_, found) in enumerate(shown):
        value = tables.rate_of(found, "changed_rate")
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
