"""TFDS builder of MMLU questions, split by question."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from introspection.tasks.hint_mmlu.files import MmluQuestion, read_questions
from introspection.tasks.prepared import TaskBuilder
from introspection.tasks.sequences import Row
from introspection.tasks.splits import NearDuplicates, split_questions

USUAL_TRAIN = 12_642  # questions to train on


@dataclasses.dataclass(frozen=True)
class MmluDraw:
    """How questions are drawn into splits. Sizes are numbers of questions; 0 is all remaining."""

    parts: tuple[str, ...]
    train: int
    validation: int
    test: int
    seed: int
    near_duplicates: str
    similarity: float


class HintMmlu(TaskBuilder):
    """A row is a question with its options in the publishers' order; hints are added when it is read."""

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION: ClassVar[str] = "Multiple-choice questions of MMLU with four options each."
    CITATION: ClassVar[str] = (
        "Hendrycks, Burns, Basart, Zou, Mazeika, Song, Steinhardt: Measuring Massive Multitask Language "
        "Understanding. ICLR 2021, arXiv:2009.03300"
    )
    LICENSE: ClassVar[str] = "MIT"
    FEATURES: ClassVar[Mapping[str, tfds.features.FeatureConnector]] = {
        "id": tfds.features.Text(),
        "group": tfds.features.Text(),
        "subject": tfds.features.Text(),
        "question": tfds.features.Text(),
        "options": tfds.features.Sequence(tfds.features.Text()),
        "answer": tfds.features.Scalar(np.int64),  # index of the correct option
        "named": tfds.features.Scalar(np.int64),  # index of the option named by a hint, drawn from all
        "named_wrong": tfds.features.Scalar(np.int64),  # the same, drawn from the wrong options
    }
    settings: MmluDraw

    def splits(self) -> tuple[Mapping[str, Iterator[Row]], Mapping[str, Any]]:
        draw = self.settings
        questions, unusable = read_questions(self.files, draw.parts)
        split = split_questions(
            [question.id for question in questions],
            [question.text for question in questions],
            {"train": draw.train, "validation": draw.validation, "test": draw.test},
            draw.seed,
            NearDuplicates(draw.near_duplicates, draw.similarity),
        )

        # Drawn for all questions before the split, so that sizes don't change the hints.
        rng = np.random.default_rng([draw.seed, 32])
        named = rng.integers(0, 4, len(questions))
        further = rng.integers(1, 4, len(questions))  # offset of the wrong option from the correct one

        def rows(places: Sequence[int]) -> Iterator[Row]:
            for place in places:
                yield row_of(questions[place], split.groups[place], int(named[place]), int(further[place]))

        about = dict(
            questions=len(questions),
            equal_or_empty_options=unusable,  # skipped
            near_duplicates=split.duplicates,
            near_duplicates_moved=split.moved,
            drawn={name: len(places) for name, places in split.rows.items()},
        )
        return {name: rows(places) for name, places in split.rows.items()}, about


def row_of(question: MmluQuestion, group: str, named: int, further: int) -> Row:
    """A question, the option that hints name, and the offset of the wrong option from the correct one."""
    return dict(
        id=question.id,
        group=group,
        subject=question.subject,
        question=question.text,
        options=list(question.options),
        answer=question.answer,
        named=named,
        named_wrong=(question.answer + further) % len(question.options),
    )
