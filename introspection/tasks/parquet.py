"""Parquet files, row by row; they are read in a child process (`parquet_batches.py`, `runtime/child.py`).

A hostile file of a kilobyte can declare a billion equal rows, or a page that expands to gigabytes.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow

from introspection.errors import InputError
from introspection.runtime.child import ChildError, Limits, lent_child
from introspection.runtime.files import check_file
from introspection.tasks import parquet_batches
from introspection.tasks.file_bytes import most_bytes
from introspection.tasks.raw_files import RawRow, refuse_twice

LIMITS = Limits(8.0, 1 << 30)  # a batch takes a hundredth of a second


def parquet_columns(path: Path) -> tuple[str, ...]:
    """The names of a file's columns. Raises InputError as `parquet_rows`."""
    (names,) = _answers(path, None)
    return tuple(json.loads(bytes(names)))


def parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[RawRow]:
    """The rows of a parquet file, with those of `columns` that it has; read in batches.

    Raises:
      InputError: it is not a readable parquet file, it names a column twice, it declares or expands to more
        than its size allows, or reading it takes too much time or memory.
    """
    answers = _answers(path, columns)
    refuse_twice(path, json.loads(bytes(next(answers))))
    number = 0
    for answer in answers:
        with pyarrow.ipc.open_stream(pyarrow.py_buffer(answer)) as batches:
            rows = [fields for batch in batches for fields in batch.to_pylist()]
        for fields in rows:
            number += 1
            yield RawRow(f"{path.name}: row {number}", number, fields)


def _answers(path: Path, columns: Sequence[str] | None) -> Iterator[memoryview]:
    """What `parquet_batches.py` answers in a child process."""
    check_file(path)
    fault = ""
    asked = {"path": str(path.resolve()), "columns": columns, "most": most_bytes(path)}
    try:
        with lent_child(parquet_batches.__name__, LIMITS) as child:
            for answer in child.ask(**asked):
                if answer[:1] == parquet_batches.FOUND:
                    yield memoryview(answer)[1:]
                else:  # the last answer, after which the child may be asked again
                    fault = answer[1:].decode()
    except ChildError as error:
        raise InputError(f"{path}: not a readable parquet file (it {error})") from error
    if fault:
        raise InputError(f"{path}: {fault}")
