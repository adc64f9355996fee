"""MMLU's questions for tests: the sample's, and files of the publisher's layout with a test's own rows."""

from pathlib import Path

import row_files

from introspection.tasks.hint_mmlu.files import question_files, read_questions
from introspection.tasks.raw_files import raw_source

SAMPLE = raw_source("sample", Path(), "hint_mmlu")

PARTS = ("test", "validation")


def sample_questions(source=SAMPLE, parts=PARTS):
    return read_questions(question_files(source, parts), parts).questions


def write_csv(folder, rows, encoding="utf-8", end="\n", part="test", subject="astronomy"):
    return row_files.write_csv(folder / part / f"{subject}_{part}.csv", rows, encoding, end)
