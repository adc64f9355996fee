"""Rows of raw files as their publishers or users give them: JSON lines, CSV and parquet.

Text is UTF-8; a byte-order mark and Windows line ends do no harm. Every row carries its place, so that a
reader can name all bad rows of a file in one message.
"""

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet

from introspection.errors import InputError

ROWS_NAMED = 20  # bad rows that a message names; the others are counted
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # of a surrogate pair, as JSON escapes it
_BATCH = 1024  # rows of a parquet file in memory at a time


class RawRow(NamedTuple):
    """One row and where it stands."""

    place: str  # "train.jsonl: line 7"
    number: int  # of the row in its file, from 1
    fields: Mapping[str, Any]


def read_text(path: Path) -> str:
    """A text file without its byte-order mark, lines ended by line feeds.

    Raises:
      InputError: it can't be read, or is not UTF-8; the message names the line and the byte.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path}: is UTF-16; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, start = data.count(b"\n", 0, error.start) + 1, data.rfind(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: line {line}, byte {error.start - start + 1}: {data[error.start : error.start + 1]!r} "
            "is not UTF-8 (is the file Latin-1?); save it as UTF-8"
        ) from error
    return text.replace("\r\n", "\n")


def json_lines(path: Path) -> Iterator[RawRow]:
    """The objects of a JSON-lines file; empty lines are passed over.

    Raises:
      InputError: as `read_text`; a line is no JSON object.
    """
    count = 0
    for number, line in enumerate(read_text(path).split("\n"), start=1):  # only \n ends a line of JSON
        if not line.strip():
            continue
        count += 1
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}: line {number} is no JSON ({error})") from error
        if _HALF.search(line) and not _is_unicode(fields):
            raise InputError(f"{path}: line {number} holds half of a surrogate pair, which is no character")
        if not isinstance(fields, dict):
            raise InputError(f"{path}: line {number} is {type(fields).__name__}, not a JSON object")
        yield RawRow(f"{path.name}: line {number}", count, fields)


def _is_unicode(fields: Any) -> bool:
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def csv_rows(path: Path) -> Iterator[RawRow]:
    """The rows of a comma-separated file with a header; fields may hold line ends inside quotes.

    Raises:
      InputError: as `read_text`; a row has more or fewer fields than the header; quotes are left open.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header, count = next(reader, []), 0
        if repeated := sorted({name for name in header if header.count(name) > 1}):
            raise InputError(f"{path}: the header names the column {repeated[0]!r} twice; leave one out")
        start = reader.line_num + 1
        for values in reader:
            line, start = start, reader.line_num + 1
            if not values:
                continue
            count += 1
            if len(values) != len(header):
                raise InputError(
                    f"{path}: line {line} has {len(values)} fields, the header has {len(header)}: put quotes "
                    "around a field that holds commas or line ends"
                )
            fields = dict(zip(header, values, strict=True))
            yield RawRow(f"{path.name}: line {line}", count, fields)
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: {error}") from error


def parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[RawRow]:
    """The rows of a parquet file: those of `columns` that it has, a few at a time.

    Raises:
      InputError: it is no readable parquet file.
    """
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            there = [name for name in columns if name in file.schema_arrow.names]
            number = 0
            for batch in file.iter_batches(_BATCH, columns=there):
                for fields in batch.to_pylist():
                    number += 1
                    yield RawRow(f"{path.name}: row {number}", number, fields)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path}: no readable parquet file ({' '.join(str(error).split())})") from error


def row_id(paths: Sequence[Path], path: Path, row: RawRow) -> str:
    """A name for a row that brings none: its file below the folder that all `paths` share, and its number."""
    file = path.with_suffix("").relative_to(shared_folder(paths))
    return f"{file.as_posix()}/{row.number}"


def shared_folder(paths: Sequence[Path]) -> Path:
    """The deepest folder that all files lie in."""
    return Path(os.path.commonpath([path.parent for path in paths]))


def refuse_rows(paths: Sequence[Path], problems: Sequence[str]) -> None:
    """Raises one InputError that names some files' bad rows: `ROWS_NAMED` of them, and how many more."""
    if problems:
        more = len(problems) - ROWS_NAMED
        named = [*problems[:ROWS_NAMED], *([f"and {more} more bad rows"] if more > 0 else [])]
        raise InputError(f"{shared_folder(paths)}: {'; '.join(named)}")
