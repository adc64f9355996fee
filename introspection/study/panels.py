"""Gaps against references: an arm's and other emitters' explanations of the same items, in one bootstrap.

The estimand is never a raw gap but `gap(arm) - gap(reference emitter)` on the same items
(coupling/README.md). A contrast of two arms, or of one arm's shifted and unshifted groups, is the difference
of two of these, each with its own reference on its own items. All counts are columns of one array, so every
resample draws the same bases, seeds and groups for all emitters.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from introspection.coupling.metrics import divide
from introspection.coupling.statistics import null
from introspection.errors import InputError
from introspection.study.base_bootstrap import USUAL, Resamples, estimates, over_bases
from introspection.study.counts import ArmCounts, ByBase, exact_columns

SCORES = ("self", "orig", "gap")
Levels = Float[np.ndarray, "resamples panels emitters 3"]  # `SCORES` by exact match


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """One arm's own explanations and its references', all scored against the arm's behaviour."""

    own: ByBase
    references: Mapping[str, ByBase]
    shifted: bool | None = None  # True: only items of shifted groups; False: only the others; None: all


def held_against(
    panels: Sequence[Panel], seed: int, resamples: Resamples = USUAL
) -> dict[str, dict[str, Any]]:
    """An arm minus each of its references; with two panels, the first's difference minus the second's.

    Args:
        panels: one, or two to contrast. References and bases that a panel lacks are left out.
        seed: of the resamples, so that no interval depends on what else is computed.
        resamples: of the bootstrap.

    Returns:
        By reference: for `self`, `orig` and `gap`, under `exact_match`, the levels `first` (the arm's) and
        `second` (the reference's), their difference `mean` and its `ci95` (with two panels each of the four
        is the first panel's value minus the second's); `levels`, the arm's and the reference's Orig in each
        panel; `bases`; the same fields for each base (`by_base`); and `over_bases` of the gap. The key "" has
        the same without a reference, with raw values as `mean`. A reference that no base has is left out.

    Raises:
        InputError: counts to compare are from different items or seeds.
    """
    shared = set.intersection(*(set(panel.references) for panel in panels))
    names = [name for name in panels[0].references if name in shared]
    by_bases: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        emitters = [counts for panel in panels for counts in (panel.own, panel.references[name])]
        bases = tuple(sorted(set.intersection(*map(set, emitters))))
        if bases:
            by_bases.setdefault(bases, []).append(name)
    own_bases = tuple(sorted(set.intersection(*(set(panel.own) for panel in panels))))
    if own_bases:
        by_bases.setdefault(own_bases, [])
    found: dict[str, dict[str, Any]] = {}
    for bases, together in by_bases.items():
        raw = bases == own_bases
        entries = _compared(panels, together, bases, seed, resamples, raw)
        each = {base: _compared(panels, together, (base,), seed, resamples, raw) for base in bases}
        for name, entry in entries.items():
            own = {base: values[name] for base, values in each.items() if name in values}
            gaps = [value["gap"]["exact_match"]["mean"] for value in own.values()]
            found[name] = {
                **entry,
                "bases": list(bases),
                "over_bases": over_bases(gaps, np.random.default_rng(seed)),
                "by_base": own,
            }
    return {name: found[name] for name in ("", *names) if name in found}


def _compared(
    panels: Sequence[Panel],
    names: Sequence[str],
    bases: Sequence[str],
    seed: int,
    resamples: Resamples,
    raw: bool,
) -> dict[str, dict[str, Any]]:
    """The entries pooled over `bases`, each of which has every reference in `names`."""
    blocks = [_side_by_side(panels, names, base) for base in bases]
    signs = np.array([1.0, -1.0])[: len(panels)]
    shape = (len(panels), 1 + len(names))

    def levels(sums: Float[np.ndarray, "resamples columns"]) -> Levels:
        items, own, orig = np.moveaxis(sums.reshape(len(sums), *shape, 3), -1, 0)
        own, orig = divide(own, items), divide(orig, items)
        return np.stack([own, orig, own - orig], axis=-1)

    def statistic(sums: Float[np.ndarray, "resamples columns"]) -> Float[np.ndarray, "resamples outputs"]:
        signed = np.einsum("p,rpes->res", signs, levels(sums))
        differences = signed[:, :1] - signed[:, 1:]
        return np.concatenate([signed[:, :1], differences], axis=1).reshape(len(sums), -1)

    counts = np.concatenate(blocks)
    first_arm = {base: panels[0].own[base] for base in bases}
    values = estimates(first_arm, counts, statistic, np.random.default_rng(seed), resamples)
    level = levels(counts.sum(0, keepdims=True))[0]
    signed = np.einsum("p,pes->es", signs, level)
    found = {}
    for index, name in enumerate(["", *names]):
        if not name and not raw:
            continue
        found[name] = {
            score: {
                "exact_match": {
                    "first": null(signed[0, s]),
                    "second": null(signed[index, s]) if name else None,
                    **values[index * len(SCORES) + s],
                }
            }
            for s, score in enumerate(SCORES)
        }
        orig = SCORES.index("orig")
        found[name]["levels"] = [[null(panel[0, orig]), null(panel[index, orig])] for panel in level]
    return found


def _side_by_side(
    panels: Sequence[Panel], names: Sequence[str], base: str
) -> Float[np.ndarray, "cells columns"]:
    """The three exact-match columns of every panel's arm and references, which must have the same cells."""
    emitters = [
        (counts[base], panel.shifted)
        for panel in panels
        for counts in (panel.own, *(panel.references[name] for name in names))
    ]
    first = emitters[0][0]
    for other, _ in emitters[1:]:
        if not _same_cells(first, other):
            sizes = [f"{round(c.counts[:, 0].sum())} items of seeds" for c in (first, other)]
            seeds = [sorted(set(c.seeds.tolist())) for c in (first, other)]
            raise InputError(
                f"base {base}: the arms or emitters to compare have different items or seeds"
                f" ({sizes[0]} {seeds[0]}; {sizes[1]} {seeds[1]});"
                " run them with the same config.task and config.seeds"
            )
    return np.concatenate([exact_columns(counts, shifted) for counts, shifted in emitters], axis=1)


def _same_cells(first: ArmCounts, other: ArmCounts) -> bool:
    return first.items == other.items and all(
        np.array_equal(getattr(first, name), getattr(other, name)) for name in ("seeds", "groups", "subsets")
    )
