"""Models named in a text file, one a line."""

from collections.abc import Iterable
from pathlib import Path

from introspection.errors import InputError


def listed_models(names: Iterable[str], flag: str) -> tuple[str, ...]:
    """The names, with those that a file lists in place of `@FILE` or `FILE.txt`.

    A file has one model a line. Blank lines are left out, and so is what follows a # that starts a line or
    comes after a space.

    Raises:
      InputError: a file can't be read or names no model; names the flag and the file.
    """
    found: list[str] = []
    for name in names:
        found += (
            _lines(Path(name.removeprefix("@")), flag) if name.startswith("@") or _is_list(name) else [name]
        )
    return tuple(found)


def _is_list(name: str) -> bool:
    return name.lower().endswith(".txt")


def _lines(path: Path, flag: str) -> list[str]:
    if not path.is_file():
        raise InputError(f"{flag}: {path} is no file; it should have one model a line")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"{flag}: {path} can't be read ({error})") from error
    models = [line for row in text.splitlines() if (line := f" {row}".split(" #", 1)[0].strip())]
    if not models:
        raise InputError(f"{flag}: {path} names no model; give one a line")
    return models
