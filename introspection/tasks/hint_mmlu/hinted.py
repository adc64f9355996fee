"""MMLU questions that bring their hints, and a model's predictions: the predecessor's data sets.

Li et al. (2025, arXiv:2511.08579) publish them for Qwen3-8B and Llama-3.1-8B-Instruct as `train` and `test`
parquet files. A row has `system_prompt`, `original_user_prompt`, `hint_user_prompt` (the same with the hint),
`hint` ("Hint: I think the answer is (C) but …"), and the model's most likely next tokens after "Answer:",
`zeroshot_prediction` and `random_hint_prediction`; `changed_pred_bc_hint` says whether they differ, or is
missing. JSON lines with these fields are read, too, and `subject` and `answer`, if there are any.

The predictions are the decisions of a named teacher (`config.label_teacher=published:NAME`). Ours of the same
model may differ: it is asked for a letter as its whole reply, not for what follows "Answer:".
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from introspection.errors import InputError
from introspection.tasks.cells import boolean, cell, is_missing, name, text
from introspection.tasks.hint_mmlu.builder import USUAL_TRAIN, MmluDraw
from introspection.tasks.hint_mmlu.files import LETTERS, answer_place
from introspection.tasks.items import NONE, Conversation, Decisions, Item, Prompt, Turn
from introspection.tasks.parquet import parquet_columns
from introspection.tasks.prepared import TaskBuilder
from introspection.tasks.raw_files import RawRow, file_kind, files_below, json_lines, read_rows
from introspection.tasks.sequences import Row
from introspection.tasks.splits import NearDuplicates, split_questions
from introspection.tasks.table_files import table_rows

WITH, WITHOUT = "hint_user_prompt", "original_user_prompt"
PREDICTED = {"predicted_with": "random_hint_prediction", "predicted_without": "zeroshot_prediction"}
COLUMNS = (
    *(WITH, WITHOUT, "system_prompt", "hint", *PREDICTED.values(), "changed_pred_bc_hint"),
    *("id", "subject", "answer"),
)
CUE_KIND = "published"
_NAMED = re.compile(r"\(([A-D])\)|\b(?:is|be|was):?\s+([A-D])\b|^\s*([A-D])\s*$")  # by a hint
_PREDICTED = re.compile(r"(?:Answer:)?\s*\(?([A-D])\)?[.:]?")


@dataclasses.dataclass(frozen=True)
class HintedQuestion:
    id: str
    subject: str  # "" if unknown
    system: str  # "" for none
    with_hint: str
    without_hint: str
    answer: str  # of LETTERS; "" if unknown
    named: str  # by the hint; "" if it can't be told
    predicted_with: str  # of LETTERS, or NONE; "" if the data have no predictions
    predicted_without: str


def hinted_files(source: Path) -> tuple[Path, ...]:
    """The files at a source if they have this layout, else none."""
    kinds = (".parquet", ".jsonl", ".json") if source.is_file() else (".parquet", ".jsonl")
    paths = [source] if source.is_file() else files_below(source)
    found = [path for path in paths if file_kind(path) in kinds]
    return tuple(found) if found and WITH in _columns(found[0]) else ()


def _columns(path: Path) -> Sequence[str]:
    if file_kind(path) == ".parquet":
        return parquet_columns(path)
    first = next(json_lines(path), None)
    return list(first.fields) if first else []


def read_hinted(paths: Sequence[Path]) -> list[HintedQuestion]:
    """The questions of `.parquet` and `.jsonl` files, in order.

    Raises:
      InputError: a file can't be read, rows lack a prompt or only some of the predictions, predictions
        contradict `changed_pred_bc_hint` (one message lists all bad rows), or there are no rows.
    """
    return read_rows(paths, _rows, lambda row, default, path: _question(row, default), "questions")


def _rows(path: Path) -> Iterator[RawRow]:
    return table_rows(path, COLUMNS)


def _question(row: RawRow, default: str) -> tuple[HintedQuestion, list[str]]:
    fields, wrong = row.fields, []
    texts = {one: (cell(fields, one, text, wrong) or "").strip() for one in (WITH, WITHOUT, "system_prompt")}
    if not wrong:
        wrong += [f"{one} is missing" for one in (WITH, WITHOUT) if not texts[one]]
        if texts[WITH].split() == texts[WITHOUT].split():
            wrong.append(f"{WITH} equals {WITHOUT}: there is no hint")
    hinted = _NAMED.search(cell(fields, "hint", text, wrong) or "")
    answer = fields.get("answer")
    place = answer_place(answer)
    if place is None and not is_missing(answer) and answer != "":
        wrong.append("answer must be A to D or 0 to 3")
    predicted = dict.fromkeys(PREDICTED, "")
    if any(column in fields for column in PREDICTED.values()):
        for ours, column in PREDICTED.items():
            said = cell(fields, column, text, wrong)
            if said is None and not wrong:
                wrong.append(f"{column} is missing")
            letter = _PREDICTED.fullmatch((said or "").strip())
            predicted[ours] = letter[1] if letter else NONE
    changed = cell(fields, "changed_pred_bc_hint", boolean, wrong)
    decided = tuple(predicted.values())
    told = changed is not None and not {NONE, ""} & {*decided}
    if told and changed != (decided[0] != decided[1]):
        wrong.append(f"changed_pred_bc_hint is {changed}, but the predictions are {' and '.join(decided)}")
    return HintedQuestion(
        id=cell(fields, "id", name, wrong) or default,
        subject=cell(fields, "subject", text, wrong) or "",
        system=texts["system_prompt"],
        with_hint=texts[WITH],
        without_hint=texts[WITHOUT],
        answer="" if place is None else LETTERS[place],
        named=next(filter(None, hinted.groups())) if hinted else "",
        **predicted,
    ), wrong


class HintedMmlu(TaskBuilder):
    """A row is a question with both of its prompts, and a model's predictions."""

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION: ClassVar[str] = "Questions of MMLU with hints, and a model's answers with and without them."
    CITATION: ClassVar[str] = (
        "Li, Guo, Huang, Steinhardt, Andreas: Training Language Models to Explain Their Own Computations. "
        "2025, arXiv:2511.08579"
    )
    LICENSE: ClassVar[str] = "as published"
    FEATURES: ClassVar[Mapping[str, tfds.features.FeatureConnector]] = {
        "group": tfds.features.Text(),
        **{field.name: tfds.features.Text() for field in dataclasses.fields(HintedQuestion)},
    }
    settings: MmluDraw

    def splits(self) -> tuple[Mapping[str, Iterator[Row]], Mapping[str, Any]]:
        draw, questions = self.settings, read_hinted(self.files)
        # As many training questions as are left, unless a number was chosen: all of MMLU's test part, which
        # these data are, has fewer than the usual sizes ask for.
        left = len(questions) - draw.validation - draw.test
        is_usual = draw.train == USUAL_TRAIN and draw.validation and draw.test
        train = 0 if is_usual and left <= draw.train else draw.train
        split = split_questions(
            [question.id for question in questions],
            [question.without_hint for question in questions],
            {"train": train, "validation": draw.validation, "test": draw.test},
            draw.seed,
            NearDuplicates(draw.near_duplicates, draw.similarity),
        )

        def rows(places: Sequence[int]) -> Iterator[Row]:
            return (dataclasses.asdict(questions[i]) | {"group": split.groups[i]} for i in places)

        about = dict(
            questions=len(questions),
            near_duplicates=split.duplicates,
            near_duplicates_moved=split.moved,
            drawn={name: len(places) for name, places in split.rows.items()},
        )
        return {name: rows(places) for name, places in split.rows.items()}, about


def hinted_item(row: Row, variant: int = 0) -> Item:
    """The item of a row; both prompts are as published."""
    del variant  # a row is one item

    def prompt(said: str) -> Prompt:
        return Conversation((Turn("system", row["system"]), Turn("user", said))) if row["system"] else said

    return Item(
        id=row["id"],
        group=row["group"],
        stratum=row["subject"],
        cue_kind=CUE_KIND,
        prompt_with_cue=prompt(row["with_hint"]),
        prompt_without_cue=prompt(row["without_hint"]),
        candidates=LETTERS,
        gold=row["answer"],
        cued=row["named"],
    )


def published_decisions(splits: Mapping[str, Sequence[Row]]) -> dict[str, Decisions]:
    """The predictions that the data bring, by item id.

    Raises:
      InputError: they bring none.
    """
    found = {
        row["id"]: Decisions(row["predicted_with"], row["predicted_without"])
        for rows in splits.values()
        for row in rows
    }
    if not all(decided.with_cue for decided in found.values()):
        raise InputError(
            f"config.label_teacher: not all of the task's data have the columns "
            f"{' and '.join(PREDICTED.values())}; name a model instead"
        )
    return found
