"""Builds a run's report: one HTML file that needs nothing else, and the same figures as files beside it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from introspection.reports import tables
from introspection.reports.figure_style import FigureFiles, render_figure, save_figure
from introspection.reports.findings import alignment_line, arm_finding, summary
from introspection.reports.html_page import ROOMS, Section, figure_card, html_page, macros
from introspection.reports.item_data import item_table, script_json
from introspection.reports.matrix_findings import matrix_finding
from introspection.reports.numbers import count, number, percent
from introspection.reports.page_figures import PageFigure, page_figures
from introspection.reports.run_files import RunFiles, read_run
from introspection.reports.soft import soft_arms, soft_measure_tables, soft_table
from introspection.reports.speed import speed_table
from introspection.runtime.workdir import write_whole
from introspection.text.chat_template import PLAIN_FORMAT, PLAIN_TEMPLATE

QUESTION = (
    "When a language model is trained to explain its own predictions, do its explanations follow its own"
    " current behaviour, or only imitate the labels?"
)
SLICES = (  # of an arm's items: its field, what the parts are, the table's title
    ("by_cue_kind", "Cue kind", "By kind of cue, in numbers"),
    ("by_drift", "Drift", "By where the behaviour drifted"),
    ("by_shifted", "Groups", "By whether the shift trains the group"),
)


def write_report(workdir: Path) -> Path:
    """Writes `report.html` and `figures/` into a run's or a comparison's workdir; returns the page's path.

    Everything is built before the first file is written, and each file is written whole.

    Raises:
        InputError: the workdir holds no results, or a file in it can't be read.
    """
    run = read_run(workdir)
    drawn = {
        figure.file_name: (figure, render_figure(figure.draw(), figure.numbers))
        for figure in page_figures(run)
    }
    page = build_page(run, drawn)
    for file_name, (_, files) in drawn.items():
        save_figure(files, workdir / "figures", file_name)
    return write_whole(workdir / "report.html", page)


def build_page(run: RunFiles, drawn: dict[str, tuple[PageFigure, FigureFiles]]) -> str:
    """The whole page as text, from a run and its figures."""
    cards = {
        file_name: figure_card(files, file_name, figure.title, figure.caption, figure.alternative)
        for file_name, (figure, files) in drawn.items()
    }
    return html_page(
        title=f"{run.name}: do explanations follow behaviour?",
        heading=run.name,
        question=QUESTION,
        facts=_facts(run),
        sections=list(_sections(run, cards)),
        made_from="run",
        script=(ROOMS / "reports" / "page.js").read_text(encoding="utf-8"),
    )


def _facts(run: RunFiles) -> dict[str, Any]:
    """The line under the question: what was run, as far as it is known."""
    task = run.config.get("task")
    task = task.get("name") if isinstance(task, dict) else task
    model = run.config.get("model")
    model = model.get("name") if isinstance(model, dict) else model
    facts: dict[str, Any] = {"task": task, "model": model}
    if run.chat and str(run.chat.get("template")).endswith(PLAIN_TEMPLATE):
        facts["prompts, without a chat template"] = PLAIN_FORMAT
    if run.arms:
        facts["arms"] = len(run.arms)
        facts["seeds"] = len({str(seed) for arm in run.arms for seed in arm.seeds})
        facts["explanations"] = count(sum(a.n or 0 for a in run.arms))
    elif run.matrix is not None:
        facts["emitters"] = len(run.matrix.emitters)
        facts["teachers"] = len(run.matrix.teachers)
        facts["items"] = count(run.matrix.n)
    facts["note"] = "; ".join(run.results.notes or (run.matrix.notes if run.matrix else ()))
    return facts


def _sections(run: RunFiles, cards: dict[str, Markup]) -> Iterator[Section]:
    """The sections that the run has something for."""
    html = macros("reports/sections.html")
    found = [arm_finding(arm, run.arms, askable=run.results.askable) for arm in run.arms]
    of_matrix = None if run.matrix is None else matrix_finding(run.matrix)
    shown = found or ([] if of_matrix is None else [of_matrix])
    body = html.findings(run, summary(found) if found else "", shown)
    yield Section("findings", "What this run shows", [body])
    if run.arms:
        levels, details = tables.levels_table(run.arms), tables.details_table(run.arms)
        slices = [
            tables.slices_table(run.arms, field, heading, title)
            for field, heading, title in SLICES
            if any(getattr(arm, field) for arm in run.arms)
        ]
        yield Section("numbers", "Arms and controls", [html.numbers(levels, details, slices)])
    if soft := soft_arms(run.arms):
        body = html.soft(soft_table(soft), cards.get("reliability", ""), soft_measure_tables(soft))
        yield Section("soft", "Soft faithfulness", [body])
    if figures := [card for name, card in cards.items() if name not in ("matrix", "reliability")]:
        yield Section("figures", "Figures", figures if "training" in cards else [*figures, html.no_curves()])
    if run.matrix is not None and of_matrix is not None:
        sentences = of_matrix.sentences if run.arms else ()
        table = tables.matrix_table(run.matrix)
        more = [tables.leads_table(run.matrix)] if run.matrix.leads else []
        more += [tables.excess_table(run.matrix)] if run.matrix.excess else []
        pairs = [tables.pairs_table(run.matrix)] if run.matrix.pairs else []
        body = html.matrix(sentences, cards["matrix"], run.matrix, count(run.matrix.n), table, more, pairs)
        yield Section("matrix", "Emitters × teachers", [body])
    alignment = run.results.alignment
    for name, matrix in run.results.explained_both.items():
        line = "" if alignment is None else alignment_line(alignment)
        body = html.aligned(line, tables.matrix_table(matrix))
        yield Section(f"aligned-{name}", f"{name} and its aligned foreign explainer", [body])
    if run.organism:
        facts = _organism_facts(run.organism)
        body = html.organism(facts, tables.organism_table(run.organism))
        yield Section("organism", "The base model", [body])
    if run.total_predictions or run.total_controls:
        yield Section("items", "Items", [_items(run, html)])
    elif run.arms:
        yield Section("items", "Items", [html.no_items()])
    if run.speeds:
        yield Section("speed", "Speed", [html.speed(speed_table(run.speeds))])
    config = json.dumps(run.config, indent=2, ensure_ascii=False) if run.config else ""
    named = [
        tables.names_table(values, title)
        for title, values in (("Fingerprints", run.fingerprints), ("Versions", run.results.versions))
        if values
    ]
    if config or named:
        yield Section("setup", "Setup", [html.setup(config, named)])


def _organism_facts(organism: Mapping[str, Any]) -> list[str]:
    size, right = number(organism.get("parameters")), number(organism.get("accuracy"))
    facts = {f"{count(size)} parameters": size, f"{percent(right)}% of answers right": right}
    return [fact for fact, value in facts.items() if value is not None]


def _items(run: RunFiles, html: Any) -> Markup:
    kept = [(len(run.predictions), run.total_predictions), (len(run.controls), run.total_controls)]
    by_arms, by_controls = (f"{count(shown)} of {count(total)}" for shown, total in kept)
    data = item_table(run.predictions, run.controls, run.settings.page_size)
    return html.items(
        by_arms,
        by_controls if run.total_controls else "",
        any(shown < total for shown, total in kept),
        Markup(script_json(data)),  # escaped as JSON in a script is
    )
