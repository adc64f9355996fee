"""One arm of one base, reduced to counts summed by cell (seed, group, subset, shifted or not)."""

import dataclasses
import hashlib
import itertools
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from introspection.coupling import metrics
from introspection.coupling.metrics import MATCH_COUNTS
from introspection.coupling.records import WRITE_AGAIN, PredictionRecord, check_one_arm
from introspection.errors import InputError
from introspection.runtime.digests import check_digest, file_digest
from introspection.runtime.json_files import json_lines
from introspection.runtime.workdir import whole
from introspection.tasks.items import Explanation

# Columns that follow `MATCH_COUNTS` against the current model and against the teacher.
MORE_COUNTS = (
    "disagrees",
    "matches_current_in_disagreement",
    "matches_teacher_in_disagreement",
    "invalid",
    "known",  # items whose right answer is known, which the next three are shares of
    "teacher_right",
    "current_right",
    "initial_right",
    "teacher_changed",
    "current_changed",
)
# Columns of exact match: items, explanations that equal E(current), and those that equal E(label_teacher).
EXACT = (0, MATCH_COUNTS.index("exact_match"), len(MATCH_COUNTS) + MATCH_COUNTS.index("exact_match"))
INVALID_COUNT = 2 * len(MATCH_COUNTS) + MORE_COUNTS.index("invalid")
CELL_FIELDS = ("seeds", "groups", "subsets", "shifted", "counts")

Said = Mapping[tuple[int, str], Explanation]  # an emitter's explanations, by seed and item
CONTROL_COUNTS = "control_counts.npz"  # in a point's workdir
VERSION = 3  # of the counts: cached counts of another version are recomputed


@dataclasses.dataclass(frozen=True, eq=False)
class ArmCounts:
    """One arm of one base, all its seeds: counts summed by seed, group, subset and `shifted`."""

    seeds: Int[np.ndarray, " cells"]
    groups: Shaped[np.ndarray, " cells"]
    subsets: Shaped[np.ndarray, " cells"]
    shifted: Bool[np.ndarray, " cells"]  # whether the arm's shift trains the behaviour of the cell's group
    counts: Float[np.ndarray, "cells 30"]
    items: str  # digest of every item's seed, id, group and subset; equal digests can be paired


ByBase = Mapping[str, ArmCounts]


def count_records(records: Sequence[PredictionRecord]) -> ArmCounts:
    """Reduces the records of one arm and base.

    Raises:
        InputError: as `check_one_arm`.
    """
    check_one_arm(records)
    cell_of = [(r.seed, r.group, r.subset, r.shifted) for r in records]
    cells = sorted(set(cell_of))
    row_of = {cell: row for row, cell in enumerate(cells)}
    counts = np.zeros((len(cells), 2 * len(MATCH_COUNTS) + len(MORE_COUNTS)))
    np.add.at(counts, [row_of[cell] for cell in cell_of], _item_counts(records))
    seeds, groups, subsets, shifted = map(np.array, zip(*cells, strict=True))
    return ArmCounts(seeds, groups, subsets, shifted, counts, _digest(records))


def explanations_of(records: Sequence[PredictionRecord]) -> dict[tuple[int, str], Explanation]:
    """An arm's explanations by seed and item, to score on other arms after its records are dropped."""
    return {(r.seed, r.id): r.explanation for r in records}


def emitter_counts(records: Sequence[PredictionRecord], said: Said, emitter: str) -> ArmCounts:
    """Another emitter's explanations, scored against an arm's behaviour as a control.

    Args:
        records: the arm's; their current and teacher decisions are kept.
        said: the emitter's explanations of the same items and seeds.
        emitter: its name, for the error.

    Raises:
        InputError: the emitter has other items or seeds than the arm.
    """
    differing = said.keys() ^ {(r.seed, r.id) for r in records}
    if differing:
        seed, item = min(differing)
        raise InputError(
            f"arm {records[0].arm} and its emitter {emitter} have different items or seeds: only one of them"
            f" has item {item} of seed {seed}"
        )
    return count_records([dataclasses.replace(r, explanation=said[r.seed, r.id]) for r in records])


def subset_counts(by_base: ByBase, subset: str) -> dict[str, ArmCounts]:
    """Counts of one subset's items; bases without any are left out."""
    return _chosen(by_base, lambda counts: counts.subsets == subset, subset)


def shifted_counts(by_base: ByBase, shifted: bool) -> dict[str, ArmCounts]:
    """Counts of the items of shifted (or unshifted) groups; bases without any are left out."""
    return _chosen(by_base, lambda counts: counts.shifted == shifted, "shifted" if shifted else "unshifted")


def has_both_shifted(by_base: ByBase) -> bool:
    """Whether every base has both shifted and unshifted groups."""
    return all(counts.shifted.any() and not counts.shifted.all() for counts in by_base.values())


def exact_columns(counts: ArmCounts, shifted: bool | None = None) -> Float[np.ndarray, "cells 3"]:
    """The columns `EXACT` of every cell, 0 where the cell's `shifted` differs from the argument, so that the
    rows of an arm's two parts stay aligned."""
    columns = counts.counts[:, EXACT]
    return columns if shifted is None else columns * (counts.shifted == shifted)[:, None]


def _chosen(by_base: ByBase, chosen: Callable[[ArmCounts], np.ndarray], name: str) -> dict[str, ArmCounts]:
    found = {}
    for base, counts in by_base.items():
        rows = chosen(counts)
        if rows.any():
            parts = (getattr(counts, field)[rows] for field in CELL_FIELDS)
            found[base] = ArmCounts(*parts, items=f"{counts.items}/{name}")
    return found


def _item_counts(records: Sequence[PredictionRecord]) -> Float[np.ndarray, "items 30"]:
    own, orig = (metrics.record_match_counts(records, target) for target in ("current", "teacher"))
    exact = MATCH_COUNTS.index("exact_match")
    disagrees = np.array([metrics.disagrees(r) for r in records], float)
    more = {
        "disagrees": disagrees,
        "matches_current_in_disagreement": disagrees * own[:, exact],
        "matches_teacher_in_disagreement": disagrees * orig[:, exact],
        "invalid": [not r.explanation.valid for r in records],
        "known": [bool(r.gold) for r in records],
        **{
            f"{who}_right": [bool(r.gold) and getattr(r, who).without_cue == r.gold for r in records]
            for who in ("teacher", "current", "initial")
        },
        "teacher_changed": [r.teacher.explanation.changed for r in records],
        "current_changed": [r.current.explanation.changed for r in records],
    }
    return np.column_stack([own, orig, *(more[name] for name in MORE_COUNTS)]).astype(float)


def _digest(records: Sequence[PredictionRecord]) -> str:
    keys = sorted(repr((r.seed, r.id, r.group, r.subset)) for r in records)
    return hashlib.sha256("\n".join(keys).encode(errors="surrogatepass")).hexdigest()


ControlCounts = tuple[str, str, ArmCounts]  # control, arm, its counts


def control_counts(folder: Path) -> list[ControlCounts]:
    """Every control of every arm of a point, in the order of its `controls.jsonl`; empty without that file.

    Counts are cached beside it with its SHA-256, and recomputed if that differs or the cache is damaged.
    """
    source, kept_path = folder / "controls.jsonl", folder / CONTROL_COUNTS
    if not source.exists():
        return []
    digest = f"{VERSION} {file_digest(source)}"
    kept = _read(kept_path, digest)
    if kept is None:
        kept = list(_count(source))
        _write(kept_path, digest, kept)
    return kept


def _count(source: Path) -> Iterator[ControlCounts]:
    """Reads one control of one arm at a time: their lines are consecutive."""

    def parse(fields: dict[str, Any]) -> tuple[str, PredictionRecord]:
        return str(fields.pop("control")), PredictionRecord.from_json(fields)

    check_digest(source, WRITE_AGAIN)
    lines = json_lines(source, parse, WRITE_AGAIN)
    for (control, arm), group in itertools.groupby(lines, key=lambda line: (line[0], line[1].arm)):
        yield control, arm, count_records([record for _, record in group])


def _read(path: Path, digest: str) -> list[ControlCounts] | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            if str(kept["digest"]) != digest:
                return None
            return [
                (control, arm, ArmCounts(*(kept[f"{number}.{name}"] for name in CELL_FIELDS), items=items))
                for number, (control, arm, items) in enumerate(kept["names"].tolist())
            ]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, digest: str, found: Sequence[ControlCounts]) -> None:
    arrays: dict[str, Any] = {
        "digest": np.array(digest),
        "names": np.array([(c, arm, n.items) for c, arm, n in found]),
    }
    for number, (_, _, counts) in enumerate(found):
        arrays |= {f"{number}.{name}": getattr(counts, name) for name in CELL_FIELDS}
    with whole(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
