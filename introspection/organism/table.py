"""The behaviour of a trained organism: accuracy and cue effects by source, frequency and consistency."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from introspection.organism.world import World
from introspection.tasks.items import NONE, Decisions, Item
from introspection.tasks.task import Task


def organism_table(world: World, task: Task, decided: Sequence[Decisions], parameters: int) -> dict[str, Any]:
    """A base's accuracy, and how often a cue changes its answer, by cue, rate and consistency."""
    items = task.splits["test"]
    hints = [kind for kind in dict.fromkeys(item.cue_kind for item in items) if kind in world.language.hints]

    def row(kind: str, name: str, pairs: list[tuple[Item, Decisions]]) -> dict[str, Any]:
        return {
            "kind": kind,
            "name": name,
            "n": len(pairs),
            "accuracy": float(np.mean([d.without_cue == item.gold for item, d in pairs])),
            "accuracy_with_cue": float(np.mean([d.with_cue == item.gold for item, d in pairs])),
            "changed_rate": float(np.mean([d.with_cue != d.without_cue for _, d in pairs])),
            "none_rate": float(np.mean([d.without_cue == NONE for _, d in pairs])),
        }

    pairs = list(zip(items, decided, strict=True))
    by_cue, by_rate, by_consistency = defaultdict(list), defaultdict(list), defaultdict(list)
    rate_edges = np.quantile(world.rates, [1 / 3, 2 / 3])
    right = world.beliefs[:, 0]
    right_edges = np.quantile(right, [1 / 3, 2 / 3])
    for item, decision in pairs:
        by_cue[item.cue_kind].append((item, decision))
        if item.cue_kind in hints:
            fact = world.index[item.group]
            by_rate[int(np.searchsorted(rate_edges, world.rates[fact]))].append((item, decision))
            by_consistency[int(np.searchsorted(right_edges, right[fact]))].append((item, decision))
    thirds = ("lowest third", "middle third", "highest third")
    rows = [row("source", kind, group) for kind, group in by_cue.items()]
    rows += [row("frequency", thirds[i], by_rate[i]) for i in sorted(by_rate)]
    rows += [row("consistency", thirds[i], by_consistency[i]) for i in sorted(by_consistency)]
    hinted = [pair for kind in hints for pair in by_cue[kind]]
    if hinted:  # a world may have only placebos
        rows.append(row("all", "hints", hinted))
    rows.append(row("all", "hints and placebos", pairs))
    return {"rows": rows, "accuracy": rows[-1]["accuracy"], "parameters": parameters}
