"""The TFDS builder of MMLU's questions, in splits by question."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from introspection.tasks.hint_mmlu.files import MmluQuestion, read_questions
from introspection.tasks.prepared import TaskBuilder
from introspection.tasks.sequences import Row
from introspection.tasks.splits import NearDuplicates, split_questions


@dataclasses.dataclass(frozen=True)
class MmluDraw:
    """Which questions are in which split. Sizes are numbers of questions; 0 is all that is left."""

    parts: tuple[str, ...]
    train: int
    validation: int
    test: int
    seed: int
    near_duplicates: str
    similarity: float


class HintMmlu(TaskBuilder):
    """A row is a question with its options in the publishers' order; hints are put to it when it is read."""

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
        "answer": tfds.features.Scalar(np.int64),  # the place of the right option, from 0
        "named": tfds.features.Scalar(np.int64),  # the place of the option that a hint names, of any
        "named_wrong": tfds.features.Scalar(np.int64),  # and of the one that a hint names, of the wrong ones
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

        # For all questions before any are chosen: sizes don't change what hints say.
        rng = np.random.default_rng([draw.seed, 32])
        named = rng.integers(0, 4, len(questions))
        further = rng.integers(1, 4, len(questions))  # places from the right option to the wrong one

        def rows(places: Sequence[int]) -> Iterator[Row]:
            for place in places:
                yield row_of(questions[place], split.groups[place], int(named[place]), int(further[place]))

        about = dict(
            questions=len(questions),
            equal_or_empty_options=unusable,  # passed over
            near_duplicates=split.duplicates,
            near_duplicates_moved=split.moved,
            drawn={name: len(places) for name, places in split.rows.items()},
        )
        return {name: rows(places) for name, places in split.rows.items()}, about


def row_of(question: MmluQuestion, group: str, named: int, further: int) -> Row:
    """A question, the option that hints name, and how many places behind the right one the wrong one is."""
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
