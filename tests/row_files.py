"""Files of rows as tests write them, and what a call that must be refused says."""

import csv
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from introspection.errors import InputError


def write_lines(path: Path, rows: Iterable[Any], encoding: str = "utf-8", end: str = "\n") -> Path:
    """A JSON-lines file."""
    path.write_bytes("".join(json.dumps(row, ensure_ascii=False) + end for row in rows).encode(encoding))
    return path


def write_csv(path: Path, rows: Iterable[Any], encoding: str = "utf-8", end: str = "\n") -> Path:
    out = io.StringIO()
    csv.writer(out, lineterminator=end).writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out.getvalue().encode(encoding))
    return path


def refusal(call: Callable[..., Any], *arguments: Any, says: Iterable[str] = (), **options: Any) -> str:
    """The one line with which a call is refused, which holds all of `says`."""
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message, message
    for part in says:
        assert part in message, message
    return message
