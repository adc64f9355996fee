"""Tables with named columns, in whichever form they are published."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from introspection.tasks.parquet import parquet_rows
from introspection.tasks.raw_files import RawRow, csv_rows, file_kind, json_lines

SUFFIXES = (".jsonl", ".csv", ".parquet")  # in which a task's folder is searched


def table_rows(path: Path, columns: Sequence[str]) -> Iterator[RawRow]:
    """The rows of a CSV file with a header, a parquet file (of `columns` alone), or a file of JSON.

    Raises:
      InputError: as `csv_rows`, `parquet_rows` and `json_lines`.
    """
    if file_kind(path) == ".csv":
        return csv_rows(path)
    return parquet_rows(path, columns) if file_kind(path) == ".parquet" else json_lines(path)
