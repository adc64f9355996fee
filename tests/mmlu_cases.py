"""MMLU's questions for tests: the sample's, and files of the publisher's layout with a test's own rows."""

import csv
import io
from pathlib import Path

from introspection.tasks.hint_mmlu.files import question_files, read_questions
from introspection.tasks.raw_files import raw_source

SAMPLE = raw_source("sample", Path(), "hint_mmlu")

PARTS = ("test", "validation")


def sample_questions(source=SAMPLE, parts=PARTS):
    return read_questions(question_files(source, parts), parts).questions


def write_csv(folder, rows, encoding="utf-8", end="\n", part="test", subject="astronomy"):
    text = io.StringIO()
    csv.writer(text, lineterminator=end).writerows(rows)
    path = folder / part / f"{subject}_{part}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.getvalue().encode(encoding))
    return path
