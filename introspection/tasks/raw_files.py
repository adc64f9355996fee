"""Raw files as publishers or users provide them: JSON lines, CSV and parquet.

Text is UTF-8; a byte-order mark and Windows line ends are accepted. Every row knows its place, so that one
message can list all bad rows.
"""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import pyarrow
import pyarrow.parquet

from introspection.errors import InputError
from introspection.runtime.json_files import open_file

ROWS_NAMED = 20  # bad rows listed in a message; the rest are counted
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # escaped in JSON, perhaps without its other half
_BATCH = 1024  # rows of a parquet file in memory at a time


@runtime_checkable
class Identified(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=Identified)


class RawRow(NamedTuple):
    place: str  # "train.jsonl: line 7"
    number: int  # in its file, from 1
    fields: Mapping[str, Any]


def raw_source(data: str, data_dir: Path, task: str) -> Path:
    """The file or folder that a task's `data` field names: "sample", a path, or "" for the default folder."""
    if data == "sample":
        return Path(__file__).parent / task / "sample"
    return Path(data).expanduser() if data else data_dir / "raw" / task


def data_files(source: Path, suffixes: Sequence[str], download: str) -> list[Path]:
    """The file itself, or all files with these suffixes below a folder, by name.

    Raises:
      InputError: there are none; the message ends with `download`, how to get them.
    """
    kinds = " or ".join(suffixes)
    if source.is_file():
        if source.suffix not in suffixes:
            raise InputError(f"{source}: the file must be {kinds}")
        return [source]
    found = sorted(path for suffix in suffixes for path in source.rglob(f"*{suffix}"))
    if not found:
        raise InputError(f"{source}: no {kinds} files found: {download}")
    return found


def read_rows(
    paths: Sequence[Path],
    rows: Callable[[Path], Iterator[RawRow]],
    parse: Callable[[RawRow, str, Path], tuple[T | None, list[str]]],
    what: str,
) -> list[T]:
    """The parsed rows of files, in order.

    Args:
      rows: reads one file.
      parse: gives a value, or None, and the row's problems; its second argument is a default id.
      what: the plural of what a row is, for messages.

    Raises:
      InputError: as `rows` and `parse`; a row has problems or a repeated id; there are no rows.
    """
    found: list[T] = []
    problems: list[str] = []
    first_seen: dict[str, RawRow] = {}
    folder = shared_folder(paths)
    for path in paths:
        for row in rows(path):
            # Named by the file below the shared folder, and the row's number.
            name = f"{path.with_suffix('').relative_to(folder).as_posix()}/{row.number}"
            value, wrong = parse(row, name, path)
            if value is not None:
                first = first_seen.setdefault(value.id, row)
                if first is not row:
                    wrong = [f"id {value.id!r} is already in {first.place}"]
            if wrong:
                problems.append(f"{row.place}: {', '.join(wrong)}")
            elif value is not None:
                found.append(value)
    refuse_rows(paths, problems)
    if not found:
        raise InputError(f"{folder}: the files have no {what}")
    return found


def read_bytes(path: Path) -> bytes:
    """A file's contents. Raises InputError if it can't be read or is UTF-16."""
    with open_file(path) as file:
        data = file.read()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path}: is UTF-16; save it as UTF-8")
    return data


def decode_text(data: bytes, place: str) -> str:
    """Text without its byte-order mark. Raises InputError, which names line and byte, if it is not UTF-8."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line, byte = data.count(b"\n", 0, error.start) + 1, error.start - data.rfind(b"\n", 0, error.start)
        raise InputError(
            f"{place}: line {line}, byte {byte}: {data[error.start : error.start + 1]!r} is not UTF-8 (is the"
            " file Latin-1?); save it as UTF-8"
        ) from error


def read_text(path: Path) -> str:
    """A text file without its byte-order mark, with Unix line ends.

    Raises:
      InputError: it can't be read or is not UTF-8.
    """
    return decode_text(read_bytes(path), str(path)).replace("\r\n", "\n")


def json_lines(path: Path) -> Iterator[RawRow]:
    """The objects of a JSON-lines file; empty lines are skipped.

    Raises:
      InputError: as `read_text`; a line is not a JSON object.
    """
    count = 0
    for number, line in enumerate(read_text(path).split("\n"), start=1):  # JSON lines end only at \n
        if not line.strip():
            continue
        count += 1
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}: line {number} is not JSON ({error})") from error
        if _SURROGATE.search(line) and not _is_unicode(fields):
            raise InputError(f"{path}: line {number} has an unpaired surrogate, which can't be encoded")
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
    """The rows of a comma-separated file with a header; quoted fields may contain line ends.

    Raises:
      InputError: as `read_text`; a row has more or fewer fields than the header; a quote is left open.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header, count = next(reader, []), 0
        if repeated := sorted({name for name in header if header.count(name) > 1}):
            raise InputError(f"{path}: the header has the column {repeated[0]!r} twice; remove one")
        start = reader.line_num + 1
        for values in reader:
            line, start = start, reader.line_num + 1
            if not values:
                continue
            count += 1
            if len(values) != len(header):
                raise InputError(
                    f"{path}: line {line} has {len(values)} fields, the header has {len(header)}: quote "
                    "fields that contain commas or line ends"
                )
            yield RawRow(f"{path.name}: line {line}", count, dict(zip(header, values, strict=True)))
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: {error}") from error


def parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[RawRow]:
    """The rows of a parquet file, with those of `columns` that it has; read in batches.

    Raises:
      InputError: it is not a readable parquet file.
    """
    open_file(path).close()
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            there = [name for name in columns if name in file.schema_arrow.names]
            number = 0
            for batch in file.iter_batches(_BATCH, columns=there):
                for fields in batch.to_pylist():
                    number += 1
                    yield RawRow(f"{path.name}: row {number}", number, fields)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path}: not a readable parquet file ({' '.join(str(error).split())})") from error


def shared_folder(paths: Sequence[Path]) -> Path:
    """The deepest folder that all files lie in."""
    return Path(os.path.commonpath([path.parent for path in paths]))


def refuse_rows(paths: Sequence[Path], problems: Sequence[str]) -> None:
    """Raises one InputError that lists bad rows: `ROWS_NAMED` of them, and the number of others."""
    if problems:
        more = len(problems) - ROWS_NAMED
        named = [*problems[:ROWS_NAMED], *([f"and {more} more bad rows"] if more > 0 else [])]
        raise InputError(f"{shared_folder(paths)}: {'; '.join(named)}")
