"""The page of a patched run: one HTML file that needs nothing else, and its figure's files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from introspection.patching.results import PatchedModel, PatchingResults, SiteEffects
from introspection.patching.summary import attribution_table, decimal, patching_table, summary
from introspection.reports.figure_numbers import Numbers, estimate_columns
from introspection.reports.figure_style import (
    BAND,
    INK,
    MUTED,
    NEUTRAL,
    new_figure,
    render_figure,
    save_figure,
    styled,
    wrapped,
)
from introspection.reports.html_page import Section, figure_card, html_page, macros
from introspection.reports.table import Table
from introspection.runtime.workdir import write_whole

QUESTION = "Do a model's behaviour and its explanation of it depend on the same parts of the model?"
FIGURE = "patching_maps"  # its files' name
COLORS = "RdBu_r"  # effects lie on both sides of 0
SHOWN = 1.0  # effects at which colours end: full restoration


def write_patching_page(workdir: Path, title: str, results: PatchingResults) -> Path:
    """Writes `patching.html` and its figure's files into a run's workdir; returns the page's path."""
    figure = render_figure(map_figure(results.models), map_numbers(results.models))
    card = figure_card(
        figure,
        FIGURE,
        "Where behaviour and explanation are decided",
        "Each cell is a site: the run with the cue gets this activation from the run without it. Red: the"
        " logit difference moves to that of the other run (1: all of it); blue: away from it. Rows are"
        " layers, columns kinds of block and groups of positions, then single heads. Groups before the cue"
        " are equal in both runs, and left out.",
        "Two maps of effects for each model: of behaviour, and of the explanation; the CSV has the numbers.",
    )
    html = macros("patching/sections.html")
    tables = [
        attribution_table(results),
        *(table for name, model in results.models.items() for table in weight_tables(name, model)),
    ]
    page = html_page(
        title=f"{title}: patching",
        heading=f"{title}: patching",
        question=QUESTION,
        facts={"models": len(results.models), "items": sum(model.n for model in results.models.values())},
        sections=[
            Section("findings", "What patching shows", [html.findings(results, summary(results))]),
            Section("table", "Arms", [html.numbers(patching_table(results))]),
            Section("figures", "Maps", [card]),
            Section("details", "Attribution and weights", [html.details(tables, results.models)]),
        ],
        made_from="run",
        words=False,
    )
    save_figure(figure, workdir / "figures", FIGURE)
    return write_whole(workdir / "patching.html", page)


def weight_tables(name: str, model: PatchedModel) -> list[Table]:
    """Gradients by matrix, and each donor's matrices."""
    found = []
    if model.gradients:
        found.append(
            Table(
                f"{name}: cosine of the gradients of both logit differences",
                ("", "same items", "other items", "behaviour, halves", "explanation, halves"),
                tuple(
                    (
                        _part(one.layer, one.module),
                        *map(
                            decimal,
                            (one.same_items, one.other_items, one.behavior_halves, one.explanation_halves),
                        ),
                    )
                    for one in model.gradients
                ),
                "Other items: behaviour on one half of the facts, explanation on the other. Halves: one logit"
                " difference with itself",
            )
        )
    for swap in model.swaps:
        rows = tuple(
            (_part(one.layer, one.module), decimal(one.behavior), decimal(one.explanation))
            for one in swap.parts
        )
        found.append(
            Table(
                f"{name}: with matrices of {swap.donor}",
                ("", "behaviour", "explanation"),
                rows,
                f"Shares of what all of them do: {decimal(swap.behavior_change)} nats of behaviour's logit"
                f" difference on x, {decimal(swap.explanation_change)} of the explanation's. The two columns"
                f" correlate at {decimal(swap.correlation)}",
            )
        )
    return found


def _part(layer: int | None, module: str) -> str:
    return module if layer is None else f"layer {layer} {module}"


def map_numbers(models: Mapping[str, PatchedModel]) -> Numbers:
    return [
        {
            "model": name,
            "direction": direction,
            "layer": site.layer,
            "kind": site.kind,
            "group": site.group,
            "head": site.head,
            "fixed": site.fixed,
            **estimate_columns("behavior", site.behavior),
            **estimate_columns("explanation", site.explanation),
        }
        for name, model in models.items()
        for direction, sites in (("without_into_with", model.sites), ("with_into_without", model.reverse))
        for site in sites
    ]


@styled
def map_figure(models: Mapping[str, PatchedModel]) -> Figure:
    """Both maps of every model, one model a row."""
    layers = max(len({site.layer for site in model.sites}) for model in models.values())
    figure = new_figure(1.1 + len(models) * (0.9 + 0.17 * layers))
    panels = figure.subplots(len(models), 2, squeeze=False)
    for row, (name, model) in enumerate(models.items()):
        for axes, effect in zip(panels[row], ("behavior", "explanation"), strict=True):
            image = _draw_map(axes, model.sites, effect, labelled=row == len(models) - 1)
        panels[row][0].set_ylabel(f"{wrapped(name, 18)}\nlayer", color=INK)
        panels[row][1].tick_params(labelleft=False)
    panels[0][0].set_title("behaviour")
    panels[0][1].set_title("explanation")
    bar = figure.colorbar(image, ax=panels.ravel().tolist(), shrink=0.7, aspect=40, location="right")
    bar.set_label("share of the logit difference restored", color=MUTED, fontsize=9)
    return figure


def _draw_map(axes: Axes, sites: Sequence[SiteEffects], effect: str, labelled: bool):
    """Layers down; kinds with their groups, then heads, across."""
    columns = list(dict.fromkeys((site.kind, site.group, site.head) for site in sites))
    layers = sorted({site.layer for site in sites})
    values = np.full((len(layers), len(columns)), np.nan)
    for site in sites:
        mean = getattr(site, effect).mean
        if mean is not None:
            values[layers.index(site.layer), columns.index((site.kind, site.group, site.head))] = mean
    axes.set_facecolor(BAND)
    image = axes.imshow(values, cmap=COLORS, vmin=-SHOWN, vmax=SHOWN, aspect="auto", interpolation="none")
    kinds = [kind for kind, _, _ in columns]
    for edge in (i for i in range(1, len(kinds)) if kinds[i] != kinds[i - 1]):
        axes.axvline(edge - 0.5, color=NEUTRAL, linewidth=1)
    axes.set_yticks(range(len(layers)), [str(layer) for layer in layers])
    names = [f"{kind} {head}" if head is not None else f"{kind}, {group}" for kind, group, head in columns]
    axes.set_xticks(range(len(columns)), [name.replace("_", " ") for name in names] if labelled else [])
    axes.tick_params(axis="x", rotation=90, labelsize=7)
    axes.spines[:].set_visible(False)
    return image
