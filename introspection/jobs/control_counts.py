"""A finished point's controls, counted once and kept: their lines are most of what a study reads."""

import hashlib
import itertools
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from introspection.coupling.arm_counts import CELL_FIELDS, ArmCounts, count_records
from introspection.coupling.records import PredictionRecord

CONTROL_COUNTS = "control_counts.npz"  # in a point's workdir
VERSION = 2  # of what is counted: numbers kept by another one are not used

ControlCounts = tuple[str, str, ArmCounts]  # control, arm, its counts


def control_counts(folder: Path) -> list[ControlCounts]:
    """Every control of every arm of a point, in the order of its `controls.jsonl`; none without the file.

    Counts are kept beside it under its SHA-256, and made anew where they are another file's or damaged.
    """
    source, kept_path = folder / "controls.jsonl", folder / CONTROL_COUNTS
    if not source.exists():
        return []
    with source.open("rb") as file:
        digest = f"{VERSION} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    kept = _read(kept_path, digest)
    if kept is None:
        kept = list(_count(source))
        _write(kept_path, digest, kept)
    return kept


def _count(source: Path) -> Iterator[ControlCounts]:
    """A control's lines of one arm follow each other, so no more are held."""
    with source.open(encoding="utf-8") as lines:
        parsed = (json.loads(line) for line in lines)
        for (control, arm), group in itertools.groupby(
            parsed, key=lambda line: (line["control"], line["arm"])
        ):
            records = [
                PredictionRecord.from_json({key: value for key, value in line.items() if key != "control"})
                for line in group
            ]
            yield control, arm, count_records(records)


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
    arrays = {"digest": np.array(digest), "names": np.array([(c, arm, n.items) for c, arm, n in found])}
    for number, (_, _, counts) in enumerate(found):
        arrays |= {f"{number}.{name}": getattr(counts, name) for name in CELL_FIELDS}
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        np.savez(file, **arrays)
    temporary.replace(path)
