"""Reads JSON files that others may have written: within bounds, and one line where they can't be read."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from introspection.errors import InputError
from introspection.runtime.files import MOST_BYTES, open_file, read_whole

Parsed = TypeVar("Parsed")

MOST_DEPTH = 100  # of lists and objects in each other; Python's own writers stop near 1,000
DAMAGED = "it is damaged; restore it, or give another workdir"
# What a value of the wrong kind makes its reader raise.
_MISREAD = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


def parsed(place: object, parse: Callable[[], Parsed], advice: str = DAMAGED) -> Parsed:
    """Runs `parse`; what a damaged file makes it raise becomes one line that names the `place`."""
    try:
        return parse()
    except _MISREAD as error:
        raise InputError(f"{place} can't be read ({_reason(error)}): {advice}") from error


def read_json(path: Path, advice: str = DAMAGED) -> Any:
    """The JSON value in a file. Raises InputError as `read_whole`, or if it is no JSON or too deep."""

    def parse() -> Any:
        value = json.loads(data.decode())
        if _is_deep(value):
            raise ValueError(f"it is nested more than {MOST_DEPTH} levels deep")
        return value

    data = read_whole(path)
    return parsed(path, parse, advice)


def read_object(path: Path, advice: str = DAMAGED) -> dict[str, Any]:
    """The JSON object in a file. Raises InputError as `read_json`, or if it holds another value."""
    value = read_json(path, advice)
    if not isinstance(value, dict):
        raise InputError(f"{path} does not hold a JSON object: {advice}")
    return value


def json_lines(
    path: Path,
    parse: Callable[[dict[str, Any]], Parsed],
    advice: str = DAMAGED,
    may_be_torn: bool = False,
) -> Iterator[Parsed]:
    """Every line of a JSON Lines file, parsed one at a time; empty lines are left out.

    Args:
      may_be_torn: whether a writer may have been stopped in the last line, which then has no line end and is
        left out.

    Raises:
      InputError: as `open_file`; or a line is no JSON object, is too long, or `parse` can't use it.
    """

    def parse_line(line: bytes) -> Parsed:
        if len(line) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        fields = json.loads(line.decode())
        if not isinstance(fields, dict):
            raise ValueError("it is not a JSON object")
        return parse(fields)

    with open_file(path) as lines:
        for number, line in enumerate(iter(lambda: lines.readline(MOST_BYTES + 1), b""), start=1):
            if not line.strip():
                continue
            try:
                found = parse_line(line)
            except _MISREAD as error:
                if may_be_torn and not line.endswith(b"\n"):
                    return
                raise InputError(f"{path}:{number} can't be read ({_reason(error)}): {advice}") from error
            yield found


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MOST_DEPTH + 1):
        containers = [inner for inner in level if isinstance(inner, dict | list)]
        level = [
            one for inner in containers for one in (inner.values() if isinstance(inner, dict) else inner)
        ]
        if not containers:
            return False
    return True
