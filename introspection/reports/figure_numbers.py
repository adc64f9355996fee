"""The numbers that figures draw, as rows of a CSV file beside each: shares, with all their digits."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from introspection.coupling.estimates import Estimate
from introspection.coupling.matrix_results import Matrix
from introspection.coupling.run_results import ArmResults

Numbers = Sequence[Mapping[str, Any]]


def csv_text(rows: Numbers) -> str:
    """Rows as CSV with a header; all have the columns of the first, and an empty cell is a null."""
    written = io.StringIO()
    writer = csv.DictWriter(written, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue()


def estimate_columns(name: str, value: Estimate) -> dict[str, float | None]:
    """`NAME`, `NAME_lo` and `NAME_hi`."""
    return {name: value.mean, f"{name}_lo": value.low, f"{name}_hi": value.high}


def gap_numbers(arms: Iterable[ArmResults]) -> Numbers:
    """Gaps of arms and controls, and the arm's minus the control's."""
    rows = []
    for arm in arms:
        for control, entry in (("", arm), *((one.name, one) for one in arm.controls)):
            reference = arm.references.get(control)
            difference = Estimate() if reference is None else reference.gap_difference
            rows.append(
                {
                    "arm": arm.name,
                    "control": control,
                    **estimate_columns("gap", entry.gap.exact_match),
                    **estimate_columns("arm_minus_control", difference),
                }
            )
    return rows


def level_numbers(arms: Iterable[ArmResults]) -> Numbers:
    return [
        {
            "arm": arm.name,
            "control": control,
            **estimate_columns("self", entry.self.exact_match),
            **estimate_columns("orig", entry.orig.exact_match),
        }
        for arm in arms
        for control, entry in (("", arm), *((one.name, one) for one in arm.controls))
    ]


def disagreement_numbers(arms: Iterable[ArmResults]) -> Numbers:
    return [
        {
            "arm": arm.name,
            "n": arm.disagreement.n,
            "self": arm.disagreement.self,
            "orig": arm.disagreement.orig,
            **estimate_columns("current_share", arm.disagreement.share),
        }
        for arm in arms
    ]


def cue_kind_numbers(arms: Iterable[ArmResults]) -> Numbers:
    return [
        {"arm": arm.name, "cue_kind": kind, "n": part.n, "self": part.self, "orig": part.orig}
        for arm in arms
        for kind, part in arm.by_cue_kind.items()
    ]


def training_numbers(metrics: Iterable[Mapping[str, Any]], arms: Sequence[str]) -> Numbers:
    """The logged lines of these arms, before they are thinned for the figure."""
    lines = [line for line in metrics if line.get("arm") in arms]
    columns = dict.fromkeys(name for line in lines for name in line)
    return [{name: line.get(name) for name in columns} for line in lines]


def shift_numbers(metrics: Iterable[Mapping[str, Any]], arms: Sequence[str]) -> Numbers:
    """The logged lines of these arms on shifted and unshifted test items, before they are thinned."""
    lines = [line for line in metrics if line.get("arm") in arms and "shifted_drift" in line]
    shown = ("arm", "seed", "step")
    columns = [name for name in lines[0] if name in shown or name.startswith(("shifted_", "unshifted_"))]
    return [{name: line.get(name) for name in columns} for line in lines]


def matrix_numbers(matrix: Matrix) -> Numbers:
    return [
        {"emitter": emitter, "teacher": teacher, **estimate_columns("exact_match", cell)}
        for emitter, cells in zip(matrix.emitters, matrix.cells, strict=True)
        for teacher, cell in zip(matrix.teachers, cells, strict=True)
    ]
