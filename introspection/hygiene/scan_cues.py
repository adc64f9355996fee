"""How often each kind of cue changes a model's decisions, to choose one that populates both classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from rich.console import Console

from introspection.checkpoints.names import load_model
from introspection.hygiene.findings import HygieneLimits
from introspection.hygiene.probe import ask, asking_session, probed_readout, readable
from introspection.hygiene.rates import POPULATED, rates_by, recommended_cue
from introspection.hygiene.request import ProbeRequest, find_model, probed_task
from introspection.hygiene.tables import rate_of
from introspection.probes.behavior import BehaviorConfig, load_readout
from introspection.probes.readouts import none_advice
from introspection.reports.numbers import count, estimate, percent
from introspection.reports.table import Table, estimate_cell, with_interval
from introspection.runtime.config import settings
from introspection.tasks.items import Item
from introspection.tasks.subsets import evenly
from introspection.tasks.task import print_task_notes

GROUPS = 100  # default limit; intervals are then about ±10 points
SPLIT = "train"  # so that the choice of a cue does not depend on test items


def scan_cues(request: ProbeRequest, console: Console) -> str | None:
    """Asks about the same groups with every kind of cue, prints what each changes, and recommends one.

    Returns the recommended cue kind, or None if there is none.

    Raises:
      InputError: the task or the model is unusable.
    """
    found = find_model(request)
    _, task = probed_task(request, found, every_cue=True)
    print_task_notes(task, console)
    items = one_item_a_cue(task.splits[SPLIT], request.limit)
    reading = probed_readout(request, found, items)
    items, _ = readable(items, found, task, reading, console)
    session = asking_session(request, console)
    with jax.set_mesh(session.mesh):
        readout = load_readout(settings(BehaviorConfig, reading), task, session)
        answers = ask(load_model(found, session.mesh), items, readout, session)
    rates = rates_by(lambda item: item.cue_kind, items, answers.decisions, np.random.default_rng(0))
    console.print(scan_table(rates, task.placebos, f"{task.name}, {request.model}, {reading['readout']}"))
    kind = recommended_cue({kind: found for kind, found in rates.items() if kind not in task.placebos})
    console.print(recommendation(kind, rates), highlight=False, soft_wrap=True)
    unnamed = max(found["none_with_cue"]["mean"] for found in rates.values())
    if unnamed > HygieneLimits().none:
        said = f"caution: up to {percent(unnamed)}% of decisions are none of the candidates"
        console.print(said + none_advice(readout.kind), highlight=False, soft_wrap=True)
    return kind


def one_item_a_cue(items: Sequence[Item], groups: int) -> tuple[Item, ...]:
    """The first item of each cue kind, for at most `groups` groups (0: all), taken evenly, so that every kind
    is asked about the same questions."""
    first: dict[tuple[str, str], Item] = {}
    for item in items:
        first.setdefault((item.group, item.cue_kind), item)
    chosen = set(evenly(tuple(dict.fromkeys(group for group, _ in first)), groups))
    return tuple(item for (group, _), item in first.items() if group in chosen)


def scan_table(rates: Mapping[str, Mapping[str, Any]], placebos: frozenset[str], title: str) -> Table:
    """One row per cue variant."""
    shown = ("changed_rate", "right_without_cue", "right_with_cue", "follows_cue")
    rows = [
        (
            (kind or "(no kind)") + (" (placebo)" if kind in placebos else ""),
            count(found["groups"]),
            *(estimate_cell(rate_of(found, name), "percent") for name in shown),
            percent(found["none_with_cue"]["mean"]),
        )
        for kind, found in rates.items()
    ]
    columns = (
        "cue",
        "groups",
        "changes %",
        "right without %",
        "right with %",
        "decides for cued %",
        "none %",
    )
    return Table(f"Cue variants: {title}", columns, tuple(rows))


def recommendation(kind: str | None, rates: Mapping[str, Mapping[str, Any]]) -> str:
    """The choice in words."""
    low, high = (f"{100 * end:.0f}" for end in POPULATED)
    if kind is None:
        return (
            f"recommended: none. No cue's interval is within {low} to {high}%, so one class of labels may be "
            "nearly empty with each; ask more groups with --limit for narrower intervals"
        )
    changed = with_interval(estimate(rates[kind]["changed_rate"]), "percent")
    return (
        f"recommended: {kind}. It changes {changed}% of decisions, the closest to 50% among cues whose "
        f"interval is within {low} to {high}%"
    )
