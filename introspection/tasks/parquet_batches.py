"""Parquet files as Arrow batches, read in a child process: the library may hang, abort or take all memory.

What a file declares is held against its size before it is believed, and every batch is turned into Python's
values once, as the parent will.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

FAULT, FOUND = b"!", b"+"  # how an answer begins: the rest is a message, or what was asked for
LEAST_ROWS = 100_000  # rows that a file of any size may have; larger files, one a byte
_BATCH = 256  # rows in memory at a time


class _RefusedError(ValueError):
    """A file declares or expands to more than its size allows."""


def answers(path: str, columns: Sequence[str] | None, most: int) -> Iterator[bytes]:
    """The names of a file's columns as JSON, then its rows as Arrow streams of a batch each, or a fault.

    Args:
      columns: those to read, as far as the file has them; None to read no rows.
      most: bytes that the rows may expand to.
    """
    try:
        with pyarrow.parquet.ParquetFile(path, memory_map=False) as file:
            names = file.schema_arrow.names
            yield FOUND + json.dumps(names).encode()
            if columns is not None:
                there = [name for name in columns if name in names]
                yield from (FOUND + batch for batch in _batches(file, there, Path(path).stat().st_size, most))
    except _RefusedError as error:
        yield FAULT + str(error).encode()
    # Beside Arrow's own: text that is not UTF-8, dates beyond Python's, a size beyond memory.
    except (OSError, pyarrow.ArrowException, ValueError, OverflowError, TypeError, MemoryError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        yield FAULT + f"not a readable parquet file ({why[:300]})".encode(errors="backslashreplace")


def _batches(file: Any, columns: Sequence[str], size: int, most: int) -> Iterator[bytes]:
    _check_declared(file.metadata, size, most)
    left = most
    for batch in map(_decoded, file.iter_batches(_BATCH, columns=columns, use_threads=False)):
        left -= batch.nbytes
        if left < 0:
            raise _RefusedError(f"its rows expand to more than {most:,} bytes")
        batch.to_pylist()  # a list of nulls has no bytes until it is Python's
        written = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(written, batch.schema) as stream:
            stream.write_batch(batch)
        yield written.getvalue().to_pybytes()


def _decoded(batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
    """The batch with a value of its own in every row, as Python will have it."""
    if not batch.num_columns:  # a batch made of no columns would have no rows
        return batch
    columns = [c.dictionary_decode() if isinstance(c, pyarrow.DictionaryArray) else c for c in batch.columns]
    return pyarrow.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _check_declared(metadata: Any, size: int, most: int) -> None:
    rows = metadata.num_rows
    if rows > max(LEAST_ROWS, size):
        raise _RefusedError(f"declares {rows:,} rows in {size:,} bytes; is it damaged?")
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        if group.total_byte_size > most:
            raise _RefusedError(
                f"declares {group.total_byte_size:,} bytes of rows in {size:,}; is it damaged?"
            )
        # A list's nulls have no bytes.
        values = max((group.column(column).num_values for column in range(group.num_columns)), default=0)
        if values > most:
            raise _RefusedError(f"declares {values:,} values of a column in {size:,} bytes; is it damaged?")
