"""A study's page: one HTML file that needs nothing else, in the style of a run's report."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from introspection.reports.figure_style import FigureFiles
from introspection.reports.html_page import Section, figure_card, html_page, macros
from introspection.reports.numbers import estimate
from introspection.reports.table import Table
from introspection.study.claim_tables import claim_tables, claim_value
from introspection.study.tables import circuit_table, part_tables, predictor_table

QUESTION = (
    "When a language model is trained to explain its own predictions, do its explanations follow its own"
    " current behaviour, or only imitate the labels? Here the base model is the unit that varies."
)
CARD_KINDS = {
    "confirmed": "coupled",
    "refuted": "reversed",
    "not askable": "not_askable",
}  # the report's colours


def study_markdown(study: Mapping[str, Any]) -> str:
    """Whether labels taught, what did not run, the claims, what stands beside them, and every part's tables,
    to paste into a README."""
    sections = ["## Can it be asked?", ""]
    sections += [
        f"- {_plain(part)}: {_plain(found['askable']['words'])}" for part, found in study["parts"].items()
    ]
    sections += ["", *(f"{line}\n" for line in not_run(study))]
    sections += ["## Claims", "", *(table.markdown() for table in claim_tables(study["claims"]))]
    for part_name, part in study["parts"].items():
        sections += [f"## Part {part_name}", ""]
        sections += [table.markdown() for table in part_tables(part_name, part)]
        sections += [table.markdown() for table in exploratory_tables(part_name, study)]
    banner = ["*Tiny runs: they show that the machinery works; the numbers are no evidence.*", ""]
    return "\n".join([*(banner if study["tiny"] else []), *sections])


def not_run(study: Mapping[str, Any]) -> list[str]:
    """What is missing: points without results and claims whose arms did not run, a sentence each."""
    claims = [
        f"{claim['name']} ({claim['reason']})" for claim in study["claims"] if claim["verdict"] == "not run"
    ]
    found = []
    if study["unfinished"]:
        found.append(f"Points without results, left out: {', '.join(study['unfinished'])}.")
    if claims:
        found.append(f"Claims that were not run: {'; '.join(claims)}.")
    return found


def _plain(value: str) -> str:
    return " ".join(value.split())


def exploratory_tables(part_name: str, study: Mapping[str, Any]) -> list[Table]:
    """What in a base goes with its gap, where there are bases enough to ask, and which parts a base uses."""
    found = study["predictors"].get(part_name, [])
    predictors = [predictor_table(part_name, found)] if found else []
    return [*predictors, circuit_table(part_name, study["parts"][part_name])]


def study_page(
    study: Mapping[str, Any], figures: Sequence[tuple[str, Mapping[str, Any], FigureFiles]]
) -> str:
    """The whole page as text.

    Args:
        study: what `study.json` holds.
        figures: of each claim that has one: its file's name, the claim, and the drawing.
    """
    html = macros("study/sections.html")
    cards = [_card(claim) for claim in study["claims"]]
    sections = [
        Section("findings", "What this study shows", [html.findings(study, not_run(study), cards)]),
        Section("claims", "Claims", claim_tables(study["claims"])),
    ]
    if figures:
        sections.append(Section("figures", "Figures", [_figure(*figure) for figure in figures]))
    for index, (part_name, part) in enumerate(study["parts"].items()):
        if shown := [*part_tables(part_name, part), *exploratory_tables(part_name, study)]:
            sections.append(Section(f"part-{index}", f"Part {part_name}", shown))
    return html_page(
        title="study: do explanations follow behaviour?",
        heading="A study over several bases",
        question=QUESTION,
        facts={
            "parts": len(study["parts"]),
            "bases": len({base for part in study["parts"].values() for base in part["bases"]}),
            "points": len(study["points"]),
        },
        sections=sections,
        made_from="study",
    )


def _card(claim: Mapping[str, Any]) -> dict[str, Any]:
    """A claim with what its card shows of it."""
    against = f"against {claim['reference']}" if claim["reference"] else ""
    part = f"part {claim['part']}" if claim["part"] else ""
    about = " · ".join(filter(None, (claim["estimated"], against, part)))
    kind = CARD_KINDS.get(claim["verdict"], "undecided")
    return {**claim, "kind": kind, "about": about, "value": claim_value(claim, estimate(claim))}


def _figure(file_name: str, claim: Mapping[str, Any], files: FigureFiles) -> Markup:
    title = f"{claim['name']}: {claim['verdict']}"
    if claim["estimand"] == "slope_change":
        caption = (
            "Each point is one arm in one base, the mean of its seeds: its gap minus its best static"
            " emitter's on its mean agreement. Hatched: where the paper sees the knee."
        )
    elif claim["estimand"] == "slope":
        caption = (
            "Left: each point is one condition in one base, a thin line is a base's fit. Right: live measures"
            " on validation items at every evaluation, means over bases, without a reference."
        )
    else:
        caption = (
            "Diamond: over all bases, with the interval that decides. Dots below it: each base by itself,"
            " intervals over its seeds and groups. On grey: the same against every other reference, and the"
            " arms beside the claim, pooled."
        )
    alternative = f"{claim['statement']} {claim['estimated']}: {claim_value(claim, estimate(claim))}."
    return figure_card(files, file_name, title, caption, alternative)
