"""Parquet files, row by row; what a file declares is held against its size before it is believed.

A hostile file of a kilobyte can declare a billion equal rows, or a page that expands to gigabytes.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from introspection.errors import InputError
from introspection.tasks.file_bytes import check_file, most_bytes
from introspection.tasks.raw_files import RawRow, refuse_twice

_BATCH = 256  # rows in memory at a time
LEAST_ROWS = 100_000  # rows that a file of any size may have; larger files, one a byte


def parquet_columns(path: Path) -> tuple[str, ...]:
    """The names of a file's columns. Raises InputError as `parquet_rows`."""
    with _readable(path), pyarrow.parquet.ParquetFile(path) as file:
        return tuple(file.schema_arrow.names)


def parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[RawRow]:
    """The rows of a parquet file, with those of `columns` that it has; read in batches.

    Raises:
      InputError: it is not a readable parquet file, it names a column twice, or it declares or expands to
        more than its size allows.
    """
    with _readable(path), pyarrow.parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        refuse_twice(path, names)
        there = [name for name in columns if name in names]
        _check_declared(path, file.metadata)
        number, left = 0, most_bytes(path)
        for batch in map(_decoded, file.iter_batches(_BATCH, columns=there)):
            left -= batch.nbytes
            if left < 0:
                raise InputError(f"{path}: its rows expand to more than {most_bytes(path):,} bytes")
            for fields in batch.to_pylist():
                number += 1
                yield RawRow(f"{path.name}: row {number}", number, fields)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raises every error of reading a parquet file as an InputError of one line."""
    check_file(path)
    try:
        yield
    except InputError:
        raise
    # Beside Arrow's own: text that is not UTF-8, dates beyond Python's, a size beyond memory.
    except (OSError, pyarrow.ArrowException, ValueError, OverflowError, TypeError, MemoryError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: not a readable parquet file ({why[:300]})") from error


def _decoded(batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
    """The batch with a value of its own in every row, as Python will have it."""
    if not batch.num_columns:  # a batch made of no columns would have no rows
        return batch
    columns = [c.dictionary_decode() if isinstance(c, pyarrow.DictionaryArray) else c for c in batch.columns]
    return pyarrow.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _check_declared(path: Path, metadata: Any) -> None:
    size, rows = path.stat().st_size, metadata.num_rows
    if rows > max(LEAST_ROWS, size):
        raise InputError(f"{path}: declares {rows:,} rows in {size:,} bytes; is it damaged?")
    for group in range(metadata.num_row_groups):
        # Not by column: Arrow aborts the process on some damaged descriptions of one.
        declared = metadata.row_group(group).total_byte_size
        if declared > most_bytes(path):
            raise InputError(f"{path}: declares {declared:,} bytes of rows in {size:,}; is it damaged?")
