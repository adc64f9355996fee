"""Fixed labels on disk: E(label_teacher) on the training items, clean and as trained on."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from introspection.errors import InputError
from introspection.runtime.digests import check_digest, write_digest
from introspection.runtime.json_files import read_object
from introspection.tasks.items import Decisions, Explanation, Item
from introspection.tasks.task import Task

RECORDS, METADATA = "labels.array_record", "metadata.json"


@dataclasses.dataclass(frozen=True)
class Label:
    id: str
    group: str
    teacher: Decisions  # the label teacher's
    explanation: Explanation  # the trained label: clean, noisy or shuffled

    @property
    def clean(self) -> Explanation:
        return self.teacher.explanation


def write_labels(folder: Path, labels: Sequence[Label], metadata: dict[str, Any]) -> None:
    """Writes a labels folder atomically."""
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    writer = array_record_module.ArrayRecordWriter(str(temporary / RECORDS), "group_size:1")
    for label in labels:
        fields = {
            "id": label.id,
            "group": label.group,
            "teacher": label.teacher._asdict(),
            **label.explanation._asdict(),
        }
        writer.write(json.dumps(fields, ensure_ascii=False).encode())
    writer.close()
    write_digest(temporary / RECORDS)
    (temporary / METADATA).write_text(json.dumps(metadata, indent=1, sort_keys=True), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def read_labels(folder: Path, expected: dict[str, Any], items: Sequence[Item]) -> list[Label]:
    """The labels of `items`, in their order.

    Raises:
      InputError: as `labels_by_id`, or the folder lacks some items.
    """
    by_id = labels_by_id(folder, expected)
    missing = [item.id for item in items if item.id not in by_id]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(items)} training items have no label, such as {missing[0]}"
        )
    return [by_id[item.id] for item in items]


def labels_by_id(folder: Path, expected: dict[str, Any]) -> dict[str, Label]:
    """All labels of a folder, by item.

    Raises:
      InputError: the folder is missing or unreadable, or its metadata differ from `expected` (another model,
        task or template).
    """
    try:
        metadata = read_object(folder / METADATA)
        check_digest(folder / RECORDS, "the labels are not those that were made")
        reader = array_record_module.ArrayRecordReader(str(folder / RECORDS))
        lines = reader.read_all()
        reader.close()
        by_id = {label.id: label for label in map(_read_label, lines)}
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{folder} is not a readable labels folder ({error}); give one that a run wrote,"
            " WORKDIR/labels/ARM"
        ) from error
    differing = [
        f"{name} is {metadata.get(name)!r} in its {METADATA} but {value!r} in this run"
        for name, value in expected.items()
        if metadata.get(name) != value
    ]
    if differing:
        raise InputError(
            f"{folder}: these labels are from another model or task: {'; '.join(differing)}; "
            "set config.label_teacher to the model that gave them, or let the run make its own labels"
        )
    return by_id


def _read_label(line: bytes) -> Label:
    fields = json.loads(line)
    teacher, trained = Decisions(**fields["teacher"]), Explanation(fields["changed"], fields["answer"])
    texts = (fields["id"], fields["group"], *teacher, trained.answer)
    if any(type(text) is not str for text in texts) or type(trained.changed) is not bool:
        raise ValueError(f"label {fields['id']!r:.60} is not of texts and one true or false")
    return Label(fields["id"], fields["group"], teacher, trained)


def label_metadata(
    task: Task,
    seed: int,
    teacher_fingerprint: str,
    noise: float,
    shuffled: bool = False,
    foreign: float = 0.0,
    kept: float = 1.0,
    noise_part: str = "both",
    noise_towards: str = "uniform",
) -> dict[str, Any]:
    """Contents of a labels folder's metadata; `kept` is the share of labels that equal the clean ones."""
    return {
        "teacher_fingerprint": teacher_fingerprint,
        "task": task.name,
        "template_version": task.template_version,
        "noise": noise,
        "noise_part": noise_part,
        "noise_towards": noise_towards,
        "shuffled": shuffled,
        "foreign_share": foreign,
        "clean_share": kept,
        "seed": seed,
    }
