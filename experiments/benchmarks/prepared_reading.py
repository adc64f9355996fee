"""Prepared data sets: the time to build `hint_mmlu` at full size, and the cost of reading at any size.

A reader loads its file's index but no rows: with 10,000,000 rows (November 2026, two shared cores) the peak
memory of a process that read 20,000 of them at random was 1.02 times that with 10,000 rows; it grew by 10 MB,
against 4. Opening took 0.03 s, an item 0.15 ms in both; writing took 32 s.
"""

import csv
import dataclasses
import functools
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]
from tensorflow_datasets.proto import tf_example_pb2

from experiments.benchmarks.sharded_loading import memory_of
from experiments.benchmarks.timing import Measure
from introspection.errors import RunError
from introspection.tasks.hint_mmlu.builder import row_of
from introspection.tasks.hint_mmlu.files import LETTERS, MmluQuestion
from introspection.tasks.hint_mmlu.task import HintMmluConfig, build_hint_mmlu, make_item
from introspection.tasks.prepared import GROUP, PreparedRows
from introspection.tasks.sequences import LazyItems

SUBJECTS = 57  # of MMLU
_ALLOWED = 120.0  # seconds to build
_TIMEOUT = 600


@dataclasses.dataclass(frozen=True)
class Size:
    """The generated sets. The archive has as many questions as MMLU."""

    test: int = 14_042  # questions of the archive's test part
    validation: int = 1_531
    words: int = 60  # average per question
    config: HintMmluConfig = dataclasses.field(default_factory=HintMmluConfig)
    few: int = 10_000  # rows of the small set
    many: int = 10_000_000
    reads: int = 20_000  # items read from each, at random


TINY = Size(
    test=120,
    validation=30,
    config=HintMmluConfig(train_items=80, validation_items=20, test_items=20),
    few=100,
    many=1000,
    reads=50,
)


def run(size: Size | None = None) -> list[Measure]:
    """Writes generated sets, builds one, reads the others in their own processes, and deletes them.

    Memory is the peak of the resident set; `grown` is its growth since the set was opened. Raises RunError if
    a process fails or there is no /proc.
    """
    size = size or Size()
    with tempfile.TemporaryDirectory() as folder:
        write_archive(Path(folder) / "raw" / "data.tar", size)
        start = time.perf_counter()
        config = dataclasses.replace(size.config, data=str(Path(folder) / "raw"))
        task = build_hint_mmlu(config, Path(folder) / "datasets")
        built = time.perf_counter() - start
        start = time.perf_counter()
        items = sum(1 for split in task.splits.values() for _ in split)
        read = time.perf_counter() - start
        few = _read_in_a_process(Path(folder), size.few, size.reads)
        many = _read_in_a_process(Path(folder), size.many, size.reads)
    return [
        Measure(
            name="prepared_reading.build",
            value=round(built, 2),
            unit="s",
            reference=_ALLOWED,
            ratio=built / _ALLOWED,
            extra={
                "ratio_is": "taken / allowed",
                "target": "< 1",
                "items": items,
                "read_all_seconds": round(read, 2),
            },
        ),
        Measure(
            name="prepared_reading.memory",
            value=round(many["peak"] / 1e6, 1),
            unit="MB, peak of the process",
            reference=round(few["peak"] / 1e6, 1),
            ratio=many["peak"] / few["peak"],
            extra={
                "ratio_is": f"of {size.many:,} rows / of {size.few:,}",
                "target": "< 1.05",
                **{f"many_{name}": value for name, value in many.items()},
                **{f"few_{name}": value for name, value in few.items()},
            },
        ),
    ]


def write_archive(path: Path, size: Size) -> None:
    """A tar archive in MMLU's layout, of random words; one question in 20 nearly repeats another."""
    rng = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for part, count in (("test", size.test), ("val", size.validation)):
            questions = list(_random_questions(count, size.words, rng))
            for subject in range(SUBJECTS):
                text = io.StringIO()
                csv.writer(text).writerows(questions[subject::SUBJECTS])
                member = tarfile.TarInfo(f"data/{part}/subject_{subject}_{part}.csv")
                contents = text.getvalue().encode()
                member.size = len(contents)
                archive.addfile(member, io.BytesIO(contents))


def _random_questions(count: int, words: int, rng: np.random.Generator) -> Iterator[list[str]]:
    vocabulary = np.array([f"word{i}" for i in range(20_000)])
    text = ""
    for number in range(count):
        # Every twentieth repeats the one before it, except for its end.
        if number % 20 or not text:
            text = " ".join(vocabulary[rng.integers(0, len(vocabulary), rng.integers(5, 2 * words))])
        else:
            text += " again"
        options = [f"{vocabulary[rng.integers(0, len(vocabulary))]} {letter}" for letter in LETTERS]
        yield [text, *options, LETTERS[rng.integers(0, 4)]]


def write_rows(path: Path, rows: int) -> None:
    """A file of rows like the builder's, but written directly; they differ only in their ids."""
    marked, width = "#" * 10, 10
    options = ("An option", "Another option", "A third option", "The last option")
    question = MmluQuestion("test", marked, 1, "A question of about as many words as usual. " * 6, options, 2)
    example = tf_example_pb2.Example()  # pyright: ignore[reportAttributeAccessIssue]
    for name, value in row_of(question, question.id, 0, 1).items():
        feature = example.features.feature[name]
        if isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            values = value if isinstance(value, list) else [value]
            feature.bytes_list.value.extend(text.encode() for text in values)
    record = example.SerializeToString()
    writer = array_record_module.ArrayRecordWriter(str(path), GROUP)
    for row in range(rows):
        writer.write(record.replace(marked.encode(), b"%0*d" % (width, row)))
    writer.close()


def _read_in_a_process(folder: Path, rows: int, reads: int) -> dict[str, int | float]:
    path = folder / f"{rows}.array_record"
    start = time.perf_counter()
    write_rows(path, rows)
    written = round(time.perf_counter() - start, 1)
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(path), str(rows), str(reads)],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    path.unlink()
    if done.returncode:
        raise RunError(f"reading {rows} rows failed: {done.stderr[-500:]}")
    return json.loads(done.stdout.strip().splitlines()[-1]) | {"write_seconds": written}


def read_here(path: Path, rows: int, reads: int) -> dict[str, int | float]:
    """Reads items at random; returns the memory (bytes) and time (seconds) that it took."""
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, rows, reads)
    convert = functools.partial(make_item, HintMmluConfig())
    before = memory_of("VmRSS")
    start = time.perf_counter()
    items = LazyItems(PreparedRows((path,), (rows,), frozenset(["options"])), convert)
    _ = items[0]
    opened = time.perf_counter() - start
    start = time.perf_counter()
    for index in chosen:
        item: Any = items[int(index)]
        if f"{index:010d}" not in item.id:
            raise RunError(f"item {index} is not the row with this number")
    seconds = time.perf_counter() - start
    peak = memory_of("VmHWM")
    return {
        "peak": peak,
        "grown": peak - before,
        "open_seconds": round(opened, 3),
        "microseconds_an_item": round(seconds / reads * 1e6, 1),
    }


if __name__ == "__main__":
    _path, *_numbers = sys.argv[1:]
    print(json.dumps(read_here(Path(_path), *map(int, _numbers))), flush=True)
