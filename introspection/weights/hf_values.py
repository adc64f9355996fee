"""Numbers of a config.json, checked before anything is made of that size."""

import math
from collections.abc import Mapping
from typing import Any

from introspection.errors import InputError, brief

_LARGEST = 3.4028234e38  # float32's
MOST = 2**31 - 1  # what an array's index can count to; no size in a config is larger


def whole_number(fields: Mapping[str, Any], key: str, source: str, most: int = MOST) -> int:
    """A whole number of at least 1. Raises InputError if it is not one, or missing."""
    value = fields.get(key)
    if value is None:
        raise InputError(f"{source}: the key {key!r} is missing")
    if isinstance(value, bool) or value != int(number(fields, key, source)) or value < 1:
        raise InputError(f"{source}: {key} is {brief(value)}; it must be a whole number of at least 1")
    if value > most:
        raise InputError(f"{source}: {key} is {brief(value)}; it must be at most {most}")
    return int(value)


def number(fields: Mapping[str, Any], key: str, source: str, default: float | None = None) -> float:
    """A number that float32 holds. Raises InputError if it is not one, or missing without a default."""
    value = fields.get(key)
    value = default if value is None else value
    if value is None:
        raise InputError(f"{source}: the key {key!r} is missing")
    try:
        found = float(value) if not isinstance(value, bool | str) else math.nan
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not abs(found) <= _LARGEST:
        raise InputError(f"{source}: {key} is {brief(value)}; it must be a number that float32 holds")
    return found


def optional_number(fields: Mapping[str, Any], key: str, source: str) -> float | None:
    """Such a number, or None if it is missing or null. Raises InputError as `number`."""
    return None if fields.get(key) is None else number(fields, key, source)
