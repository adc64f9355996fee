"""Builds a run's report: one HTML file that needs nothing else, and the same figures as files beside it."""

from pathlib import Path
from typing import Any

from introspection.reports import tables
from introspection.reports.figure_style import FigureFiles, render_figure, save_figure
from introspection.reports.findings import Finding, arm_finding, matrix_finding, summary
from introspection.reports.html_page import TEMPLATES, Section, figure_card, html_page
from introspection.reports.item_data import item_table, script_json
from introspection.reports.numbers import count, number, percent, points
from introspection.reports.page_figures import PageFigure, page_figures
from introspection.reports.run_files import RunFiles, read_run
from introspection.reports.tables import bullet_list, name, text
from introspection.runtime.workdir import write_whole

QUESTION = (
    "When a language model is trained to explain its own predictions, do its explanations follow its own"
    " current behaviour, or only imitate the labels?"
)


def write_report(workdir: Path) -> Path:
    """Writes `report.html` and `figures/` into a run's or a comparison's workdir; returns the page's path.

    Everything is built before the first file is written, and each file is written whole.

    Raises:
        InputError: the workdir holds no results, or a file in it can't be read.
    """
    run = read_run(workdir)
    drawn = {figure.file_name: (figure, render_figure(figure.draw())) for figure in page_figures(run)}
    page = build_page(run, drawn)
    for file_name, (_, files) in drawn.items():
        save_figure(files, workdir / "figures", file_name)
    return write_whole(workdir / "report.html", page)


def build_page(run: RunFiles, drawn: dict[str, tuple[PageFigure, FigureFiles]]) -> str:
    """The whole page as text, from a run and its figures."""
    shown = {
        file_name: figure_card(files, file_name, figure.title, figure.caption, figure.alternative)
        for file_name, (figure, files) in drawn.items()
    }
    sections = [
        section for section in (
            _findings(run), _table_section(run, shown), _figure_section(shown), _matrix_section(run, shown),
            _organism_section(run), _item_section(run), _setup_section(run),
        ) if section is not None
    ]  # fmt: skip
    return html_page(
        title=f"{run.name}: do explanations follow behaviour?",
        heading=run.name,
        question=QUESTION,
        facts=_facts(run),
        sections=sections,
        made_from="run",
        script=(TEMPLATES / "page.js").read_text(encoding="utf-8"),
    )


def _facts(run: RunFiles) -> dict[str, Any]:
    """The line under the question: what was run, as far as it is known."""
    task = run.config.get("task")
    task = task.get("name") if isinstance(task, dict) else task
    model = run.config.get("model")
    model = model.get("name") if isinstance(model, dict) else model
    facts: dict[str, Any] = {"task": task, "model": model}
    if run.arms:
        facts["arms"] = len(run.arms)
        facts["seeds"] = len({str(seed) for arm in run.arms for seed in arm.seeds})
        facts["explanations"] = count(sum(a.n or 0 for a in run.arms))
    elif run.matrix is not None:
        facts["emitters"] = len(run.matrix.emitters)
        facts["teachers"] = len(run.matrix.teachers)
        facts["items"] = count(run.matrix.n)
    return facts


def _findings(run: RunFiles) -> Section:
    findings = [arm_finding(arm, run.arms, askable=run.askable) for arm in run.arms]
    parts = []
    if findings:
        state = {True: "met", False: "missed", None: "unknown"}[run.askable.askable]
        parts.append(f'<p class="askable {state}">{text(run.askable.words)}</p>')
    if run.tiny:
        parts.append(
            '<p class="banner"><strong>Tiny run.</strong> It shows that the machinery works; its numbers are'
            " no evidence for or against anything.</p>"
        )
    if findings:
        parts.append(f'<p class="lead">{text(summary(findings))}</p>')
        parts.append(
            f'<div class="cards">{"".join(_finding_card(finding, run.tiny) for finding in findings)}</div>'
        )
    if run.matrix is not None and not findings:
        parts.append(f'<div class="cards">{_finding_card(matrix_finding(run.matrix), run.tiny)}</div>')
    if not findings and run.matrix is None:
        parts.append("<p>The results hold no arm.</p>")
    return Section("findings", "What this run shows", "".join(parts))


def _finding_card(finding: Finding, tiny: bool) -> str:
    gap, kind = finding.gap, finding.verdict
    joined = "and" if kind == "not_askable" else "but"
    word = finding.words + (f", {joined} no evidence (tiny)" if tiny else "")
    between = f"95% interval {points(gap.low)} to {points(gap.high)}" if gap.has_interval else "no interval"
    cautions = bullet_list(finding.cautions, "cautions")
    return (
        f'<article class="finding {kind}"><header><h3>{name(finding.name)}</h3>'
        f'<span class="verdict">{word}</span></header>'
        f'<p class="gap"><strong>{points(gap.mean)}</strong> points <span>{between}</span></p>'
        + "".join(f"<p>{text(sentence)}</p>" for sentence in finding.sentences)
        + cautions
        + "</article>"
    )


def _table_section(run: RunFiles, shown: dict[str, str]) -> Section | None:
    if not run.arms:
        return None
    body = (
        "<p>Exact match against the current model (Self) and the label teacher (Orig), means over the"
        " items of all seeds, 95% bootstrap intervals in brackets. Each arm's controls stand below"
        " it: its gap is held against theirs, never against 0.</p>"
        + tables.levels_table(run.arms)
        + "<h3>What lies behind</h3>"
        + tables.details_table(run.arms)
    )
    for field, heading, summary_text in (
        ("by_cue_kind", "Cue kind", "By kind of cue, in numbers"),
        ("by_drift", "Drift", "By where the behaviour drifted"),
        ("by_shifted", "Groups", "By whether the shift trains the group"),
    ):
        if any(getattr(arm, field) for arm in run.arms):
            table = tables.slices_table(run.arms, field, heading)
            body += f"<details><summary>{summary_text}</summary>{table}</details>"
    return Section("numbers", "Arms and controls", body)


def _figure_section(shown: dict[str, str]) -> Section | None:
    cards = [card for file_name, card in shown.items() if file_name != "matrix"]
    if not cards:
        return None
    missing = "" if "training" in shown else "<p>No training curves: metrics.jsonl is missing or empty.</p>"
    return Section("figures", "Figures", "".join(cards) + missing)


def _matrix_section(run: RunFiles, shown: dict[str, str]) -> Section | None:
    if run.matrix is None:
        return None
    sentences = bullet_list(matrix_finding(run.matrix).sentences, "sentences") if run.arms else ""
    n = f"<p>Exact match in per cent on {count(run.matrix.n)} items each.</p>"
    return Section(
        "matrix", "Emitters × teachers", sentences + shown["matrix"] + n + tables.matrix_table(run.matrix)
    )


def _organism_section(run: RunFiles) -> Section | None:
    if not run.organism:
        return None
    facts = []
    if number(run.organism.get("parameters")) is not None:
        facts.append(f"{count(number(run.organism['parameters']))} parameters")
    if number(run.organism.get("accuracy")) is not None:
        facts.append(f"{percent(number(run.organism['accuracy']))}% of answers right")
    line = f"<p>The model before any explanation training: {', '.join(facts)}.</p>" if facts else ""
    return Section("organism", "The base model", line + tables.organism_table(run.organism))


def _item_section(run: RunFiles) -> Section | None:
    total, total_controls = run.total_predictions, run.total_controls
    if not total and not total_controls:
        return (
            Section("items", "Items", "<p>No predictions.jsonl here, so no items.</p>") if run.arms else None
        )
    data = item_table(run.predictions, run.controls, run.settings.page_size)
    shown, shown_controls = len(run.predictions), len(run.controls)
    kept = f"{count(shown)} of {count(total)} explanations by the arms"
    if total_controls:
        kept += f" and {count(shown_controls)} of {count(total_controls)} by controls"
    even = ", taken evenly over the items" if shown < total or shown_controls < total_controls else ""
    body = (
        f"<p>This page holds {kept}{even}. Marked text is the cue; ✓ marks each model that the"
        " explanation is right about. The address bar keeps the filters: copy it to share a view.</p>"
        '<noscript><p class="banner">The item table needs JavaScript; everything else on'
        ' this page works without.</p></noscript><div id="item-view"></div>'
        f'<script type="application/json" id="item-data">{script_json(data)}</script>'
    )
    return Section("items", "Items", body)


def _setup_section(run: RunFiles) -> Section | None:
    blocks = [
        (title, block)
        for title, values, block in (
            ("Config", run.config, tables.config_block(run.config)),
            ("Fingerprints", run.fingerprints, tables.names_table(run.fingerprints, "Fingerprints")),
            ("Versions", run.versions, tables.names_table(run.versions, "Versions")),
        )
        if values
    ]
    if not blocks:
        return None
    body = "".join(f"<details><summary>{title}</summary>{block}</details>" for title, block in blocks)
    return Section("setup", "Setup", body)
