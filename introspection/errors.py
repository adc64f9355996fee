"""The two ways in which a program stops on purpose; each becomes one line on stderr and an exit code."""

from collections.abc import Iterable

_LONGEST = 200  # characters of a text in a message


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
    return separator.join(map(shortened, texts[:most])) + (f" and {rest} more" if rest > 0 else "")


def brief(value: object) -> str:
    """A value of a file for a message, as Python writes it; a long one is cut."""
    try:
        return shortened(repr(value if not isinstance(value, str) else value[: 2 * _LONGEST]))
    except (ValueError, RecursionError):  # a whole number of thousands of digits, or lists in lists
        return "a very large number" if isinstance(value, int) else f"a very large {type(value).__name__}"


def shortened(text: str) -> str:
    """A text as a message can show it; a long one is cut."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
