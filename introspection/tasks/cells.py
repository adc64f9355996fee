"""Cells of other people's tables: text, names, booleans and numbers, as published files write them.

One reader per kind for all tasks, whichever file a cell comes from: CSV has only text, JSON its own types,
parquet also dates, decimals and bytes. A reader returns None for a missing cell and raises `CellError` for
one that it can't read; its message continues the column's name and gives the accepted forms.
"""

import decimal
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from introspection.errors import brief

_BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1", "1.0"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0", "0.0"), False),
}
# What other programs write for a missing boolean or number. In a text they may be an answer: NA is sodium.
_MISSING = ("", "nan", "none", "null", "na", "n/a", "<na>")
_MOST = 2**63 - 1  # a prepared data set keeps whole numbers in 64 bits

Read = TypeVar("Read")


class CellError(ValueError):
    """A cell can't be read. The message follows the column's name."""


def cell(
    fields: Mapping[str, Any], column: str, read: Callable[[Any], Read | None], wrong: list[str]
) -> Read | None:
    """One cell of a row; None if it is missing or unreadable, which is added to the row's problems."""
    try:
        return read(fields.get(column))
    except CellError as error:
        wrong.append(f"{column} {error}")
        return None


def is_missing(value: Any) -> bool:
    """Whether a cell has no value: null, or the NaN that stands for null in a table of numbers."""
    if isinstance(value, decimal.Decimal):
        return value.is_nan()
    return value is None or (isinstance(value, float) and math.isnan(value))


def kind_of(value: Any) -> str:
    """What a value is, with its article."""
    kinds = {bool: "true or false", str: "text", bytes: "binary", list: "a list", dict: "an object"}
    if isinstance(value, int | float | decimal.Decimal) and not isinstance(value, bool):
        return "a number"
    return "null" if value is None else kinds.get(type(value), f"a {type(value).__name__}")


def text(value: Any) -> str | None:
    """A text as it is. Raises CellError for any other value, or half a surrogate pair."""
    if is_missing(value):
        return None
    if not isinstance(value, str):
        example = f'; write it as text: "{value}"' if type(value) is int and abs(value) <= _MOST else ""
        raise CellError(f"is {kind_of(value)}, not text{example}")
    if why := unwritable(value):
        raise CellError(why)
    return value


def name(value: Any) -> str | None:
    """A row's own name: a text, or a whole number as published ids often are; blank ones are missing.

    Raises:
      CellError: any other value, or half a surrogate pair.
    """
    if not isinstance(value, str | bool) and not is_missing(value):
        try:
            return str(integer(value))
        except CellError:
            raise CellError(f"is {kind_of(value)}, neither text nor a whole number") from None
    found = text(value)
    return found if found and found.strip() else None


def boolean(value: Any) -> bool | None:
    """A truth value: true, yes, 1 or 1.0 and their opposites, in any case, as text or not.

    Raises:
      CellError: any other value.
    """
    if is_missing(value) or (isinstance(value, str) and value.strip().lower() in _MISSING):
        return None
    if isinstance(value, str):
        known = _BOOLEANS.get(value.strip().lower())
    else:
        known = bool(value) if isinstance(value, int | float | decimal.Decimal) and value in (0, 1) else None
    if known is None:
        raise CellError(f"is {brief(value)}; write true or false (or yes or no, 1 or 0)")
    return known


def integer(value: Any) -> int | None:
    """A whole number: 3, 3.0 or "3".

    Raises:
      CellError: any other value, also one with separators ("1,234" is 1.234 to some) or beyond 64 bits.
    """
    if is_missing(value) or (isinstance(value, str) and value.strip().lower() in _MISSING):
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | decimal.Decimal | str):
            raise ValueError
        if isinstance(value, str) and (not value.isascii() or "_" in value):
            raise ValueError
        found = value if isinstance(value, int) else decimal.Decimal(value)
        if abs(found) > _MOST or found != int(found):
            raise ValueError
        return int(found)
    except (ValueError, ArithmeticError):
        raise CellError(f"is {brief(value)}; write a whole number without separators, such as 1234") from None


def unwritable(found: str) -> str:
    """Why a text can't be written to a file; "" if it can."""
    if any("\ud800" <= character <= "\udfff" for character in found):
        return "has an unpaired surrogate, which can't be encoded"
    return ""
