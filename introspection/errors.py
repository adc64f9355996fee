"""The two ways in which a program stops on purpose; each becomes one line on stderr and an exit code."""

from collections.abc import Iterable

_LONGEST_ENTRY, _LONGEST_VALUE = 200, 500  # characters in a message


class InputError(ValueError):
    """What the user gave can't be used: a config, a file, a checkpoint name. Exit code 2, nothing written.

    The message is one line that names the file, field or row and says what to do.
    """


class RunError(RuntimeError):
    """Something failed while running (NaN loss, disk full). Exit code 1, the last good state is kept."""


def listed(entries: Iterable[object], separator: str = ", ", most: int = 5) -> str:
    """Entries of a list for a message, at most `most`: "a, b, c, d, e and 295 more"; long ones are cut."""
    texts = [str(entry) for entry in entries]
    rest = len(texts) - most
    return separator.join(_cut(text, _LONGEST_ENTRY) for text in texts[:most]) + (
        f" and {rest} more" if rest > 0 else ""
    )


def brief(value: object) -> str:
    """A file's value for a message, as Python writes it; a long one is cut."""
    return _cut(repr(value), _LONGEST_VALUE)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
