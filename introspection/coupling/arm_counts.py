"""One arm of one base, reduced to sums of counts by seed, group and subset: what pooling works on."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

from introspection.coupling import metrics
from introspection.coupling.metrics import MATCH_COUNTS
from introspection.coupling.records import PredictionRecord, check_one_arm
from introspection.errors import InputError

# Columns of the counts beside `MATCH_COUNTS` against current and against the teacher.
MORE_COUNTS = (
    "disagrees",
    "matches_current_in_disagreement",
    "matches_teacher_in_disagreement",
    "invalid",
    "teacher_right",
    "current_right",
    "teacher_changed",
    "current_changed",
)


@dataclasses.dataclass(frozen=True, eq=False)
class ArmCounts:
    """One arm of one base, all its seeds: counts summed by seed, group and subset."""

    seeds: Int[np.ndarray, " cells"]
    groups: Shaped[np.ndarray, " cells"]
    subsets: Shaped[np.ndarray, " cells"]
    counts: Float[np.ndarray, "cells 28"]
    items: str  # digest of every item's seed, id, group and subset: equal ones are paired item by item


ByBase = Mapping[str, ArmCounts]


def count_records(records: Sequence[PredictionRecord]) -> ArmCounts:
    """Reduces one arm of one base.

    Raises:
        InputError: no records, several arms, or an item twice in a seed.
    """
    check_one_arm(records)
    cell_of = [(r.seed, r.group, r.subset) for r in records]
    cells = sorted(set(cell_of))
    row_of = {cell: row for row, cell in enumerate(cells)}
    counts = np.zeros((len(cells), 2 * len(MATCH_COUNTS) + len(MORE_COUNTS)))
    np.add.at(counts, [row_of[cell] for cell in cell_of], _item_counts(records))
    seeds, groups, subsets = zip(*cells, strict=True)
    return ArmCounts(np.array(seeds), np.array(groups), np.array(subsets), counts, _digest(records))


def foreign_counts(records: Sequence[PredictionRecord], foreign: Sequence[PredictionRecord]) -> ArmCounts:
    """Another emitter's explanations as a control of an arm: scored against the arm's own behaviour.

    Args:
        records: the arm's; their current and teacher decisions stay.
        foreign: the foreign explainer's, of the same seeds and items; their explanations are taken.

    Raises:
        InputError: the two don't hold the same items and seeds.
    """
    said = {(r.seed, r.id): r for r in foreign}
    if len(said) != len(foreign) or said.keys() != {(r.seed, r.id) for r in records}:
        raise InputError(
            f"arm {records[0].arm} and its foreign explainer {foreign[0].arm} don't hold the same items and"
            " seeds"
        )
    return count_records([_with_explanation(r, said[r.seed, r.id]) for r in records])


def _with_explanation(record: PredictionRecord, other: PredictionRecord) -> PredictionRecord:
    return dataclasses.replace(record, explanation_text=other.explanation_text, explanation=other.explanation)


def subset_counts(by_base: ByBase, subset: str) -> dict[str, ArmCounts]:
    """The items of one subset; a base that has none of them is left out."""
    found = {}
    for base, counts in by_base.items():
        rows = counts.subsets == subset
        if rows.any():
            parts = (getattr(counts, name)[rows] for name in ("seeds", "groups", "subsets", "counts"))
            found[base] = ArmCounts(*parts, items=f"{counts.items}/{subset}")
    return found


def _item_counts(records: Sequence[PredictionRecord]) -> Float[np.ndarray, "items 28"]:
    own, orig = (metrics.record_match_counts(records, target) for target in ("current", "teacher"))
    exact = MATCH_COUNTS.index("exact_match")
    disagrees = np.array([metrics.disagrees(r) for r in records], float)
    more = {
        "disagrees": disagrees,
        "matches_current_in_disagreement": disagrees * own[:, exact],
        "matches_teacher_in_disagreement": disagrees * orig[:, exact],
        "invalid": [not r.explanation.valid for r in records],
        "teacher_right": [r.teacher.without_cue == r.gold for r in records],
        "current_right": [r.current.without_cue == r.gold for r in records],
        "teacher_changed": [r.teacher.explanation.changed for r in records],
        "current_changed": [r.current.explanation.changed for r in records],
    }
    return np.column_stack([own, orig, *(more[name] for name in MORE_COUNTS)]).astype(float)


def _digest(records: Sequence[PredictionRecord]) -> str:
    keys = sorted(repr((r.seed, r.id, r.group, getattr(r, "subset", ""))) for r in records)
    return hashlib.sha256("\n".join(keys).encode(errors="surrogatepass")).hexdigest()
