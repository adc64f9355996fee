"""Raw files as publishers or users provide them: JSON (lines or a list), CSV and parquet (`tasks.parquet`).

Text is UTF-8, plain or compressed; a byte-order mark and Windows line ends are accepted. Every row knows its
place, so that one message can list all bad rows.
"""

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from introspection.errors import InputError
from introspection.runtime.files import check_file
from introspection.runtime.places import local_path
from introspection.runtime.terminal import visible
from introspection.tasks.file_bytes import MOST_LINE, byte_lines, decode_text, opened, read_bytes

ROWS_NAMED = 20  # bad rows listed in a message; the rest are counted
MOST_PROBLEMS = 100_000  # bad rows after which a file is given up
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")  # suffixes after a file's own
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # escaped in JSON, perhaps without its other half
_LIST = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[\s*[{\]]")  # a list of objects, not a line that is a list
_NOT_SPACE = re.compile(r"[^ \t\r\n]")
_DECODER = json.JSONDecoder()


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
    return local_path("data", data) if data else data_dir / "raw" / task


def file_kind(path: Path) -> str:
    """A file's suffix in lower case, without that of a compression: ".csv" of both a.csv and a.CSV.gz."""
    name = Path(path.stem) if path.suffix.lower() in COMPRESSED else path
    return name.suffix.lower()


def data_files(source: Path, suffixes: Sequence[str], download: str) -> list[Path]:
    """The file itself, or all files with these suffixes below a folder, by name; each may be compressed.

    A file of JSON may also be called .json, if it is named itself.

    Raises:
      InputError: there are none; the message ends with `download`, how to get them.
    """
    kinds = " or ".join(suffixes)
    if source.is_file():
        named = (*suffixes, *([".json"] if ".jsonl" in suffixes else []))
        if file_kind(source) not in named:
            raise InputError(f"{source}: the file must be {kinds}")
        check_file(source)
        return [source]
    found = [path for path in files_below(source) if file_kind(path) in suffixes]
    if not found:
        raise InputError(f"{visible(str(source))}: no {kinds} files found: {download}")
    return found


def files_below(folder: Path, pattern: str = "**/*") -> list[Path]:
    """The regular files below a folder, by name, without those that a Mac or another program hides there
    (._NAME, .DS_Store, __MACOSX).

    Raises:
      InputError: a name can't be written.
    """
    found = []
    for path in sorted(folder.glob(pattern)):
        inside = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") or part == "__MACOSX" for part in inside):
            check_file(path)
            found.append(path)
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
      parse: gives a value, or None, and the row's problems; its second argument is a default id. A row with
        neither a value nor a problem is skipped.
      what: the plural of what a row is, for messages.

    Raises:
      InputError: as `rows` and `parse`; a row has problems or a repeated id; there are no rows.
    """
    found: list[T] = []
    problems: list[str] = []
    first_seen: dict[str, str] = {}  # places by id
    folder = shared_folder(paths)
    for path in paths:
        bare = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
        for row in rows(path):
            # Named by the file below the shared folder, and the row's number.
            name = f"{bare.with_suffix('').relative_to(folder).as_posix()}/{row.number}"
            value, wrong = parse(row, name, path)
            if value is not None:
                if value.id in first_seen:
                    wrong = [f"id {value.id!r} is already in {first_seen[value.id]}"]
                first_seen.setdefault(value.id, row.place)
            if wrong:
                problems.append(f"{row.place}: {', '.join(wrong)}")
                if len(problems) == MOST_PROBLEMS:
                    refuse_rows(paths, problems)
            elif value is not None:
                found.append(value)
    refuse_rows(paths, problems)
    if not found:
        raise InputError(f"{folder}: the files have no {what}")
    return found


def json_texts(path: Path) -> Iterator[tuple[str, int, bytes]]:
    """The JSON values of a file, unparsed, each with the name of its place ("line" or "row") and its number.

    A file has one value per line, or is a list of objects (of which commas between, or after, are optional).

    Raises:
      InputError: as `byte_lines`; a list is not JSON.
    """
    if _is_list(path):
        for number, text in enumerate(_elements(decode_text(read_bytes(path), str(path)), path), start=1):
            yield "row", number, text.encode("utf-8", "surrogatepass")
        return
    for number, line in byte_lines(path):
        if line.strip():
            yield "line", number, line.removesuffix(b"\n")


def _is_list(path: Path) -> bool:
    with opened(path) as file:
        return _LIST.match(file.read(2**16)) is not None


def _elements(text: str, path: Path) -> Iterator[str]:
    at, count = _next(text, text.index("[") + 1), 0
    while not text.startswith("]", at):
        count += 1
        try:
            _, end = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}: row {count} of the list is not JSON ({error.msg}: line {error.lineno}, column "
                f"{error.colno})"
            ) from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: row {count} of the list is not readable JSON ({error})") from error
        yield text[at:end]
        at = _next(text, end)
        if text.startswith(",", at):
            at = _next(text, at + 1)
    if text[at + 1 :].strip():
        raise InputError(f"{path}: more follows the list's end")


def _next(text: str, at: int) -> int:
    """The place of the next character that is not white space."""
    found = _NOT_SPACE.search(text, at)
    return found.start() if found else len(text)


def json_lines(path: Path) -> Iterator[RawRow]:
    """The objects of a file of JSON; empty lines are skipped.

    Raises:
      InputError: as `json_texts`; a line is not UTF-8 or not a JSON object, or a text in it can't be encoded.
    """
    for count, (unit, number, data) in enumerate(json_texts(path), start=1):
        line = decode_text(data, str(path), number)
        try:
            fields = json.loads(line)
            writable = not _SURROGATE.search(line) or _is_unicode(fields)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: {unit} {number} is not JSON ({error})") from error
        if not writable:
            raise InputError(f"{path}: {unit} {number} has an unpaired surrogate, which can't be encoded")
        if not isinstance(fields, dict):
            raise InputError(f"{path}: {unit} {number} is {type(fields).__name__}, not a JSON object")
        yield RawRow(f"{path.name}: {unit} {number}", count, fields)


def _is_unicode(fields: Any) -> bool:
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def csv_reader(lines: Iterable[str], strict: bool = False) -> Any:
    """`csv.reader`, of cells as long as a line may be."""
    csv.field_size_limit(MOST_LINE)
    return csv.reader(lines, strict=strict)


def csv_rows(path: Path) -> Iterator[RawRow]:
    """The rows of a comma-separated file with a header; quoted fields may contain line ends.

    Raises:
      InputError: as `byte_lines`; a row has more or fewer fields than the header; a quote is left open.
    """
    reader = csv_reader(_text_lines(path), strict=True)
    try:
        header, count = next(reader, []), 0
        refuse_twice(path, header)
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


def _text_lines(path: Path) -> Iterator[str]:
    for number, line in byte_lines(path):
        text = decode_text(line, str(path), number).replace("\r\n", "\n")
        yield from io.StringIO(text, newline="") if "\r" in text else [text]  # an old Mac's line ends


def refuse_twice(path: Path, columns: Sequence[str]) -> None:
    """Raises InputError if two columns share a name: one would replace the other."""
    if repeated := sorted(column for column, times in Counter(columns).items() if times > 1):
        raise InputError(f"{path}: the header has the column {repeated[0]!r} twice; remove one")


def shared_folder(paths: Sequence[Path]) -> Path:
    """The deepest folder that all files lie in."""
    return Path(os.path.commonpath([path.parent for path in paths]))


def refuse_rows(paths: Sequence[Path], problems: Sequence[str]) -> None:
    """Raises one InputError that lists bad rows: `ROWS_NAMED` of them, and the number of others."""
    if problems:
        more = len(problems) - ROWS_NAMED
        named = [*problems[:ROWS_NAMED], *([f"and {more} more bad rows"] if more > 0 else [])]
        raise InputError(f"{shared_folder(paths)}: {'; '.join(named)}")
