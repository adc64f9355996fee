"""Frozen dataclasses as JSON objects and back: a field is a key, so a file is read into what wrote it."""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

LARGEST = 2**53  # in size; no number that we write is larger, and sums and figures of larger ones overflow


def optional() -> Any:
    """A field that is None by default and then has no key."""
    return dataclasses.field(default=None, metadata={"optional": True})


def unstored(default: Any) -> Any:
    """A field that has no key. One called `name` becomes the key of the object that holds the value."""
    return dataclasses.field(default=default, metadata={"unstored": True})


def to_json(value: Any) -> Any:
    """Dataclasses and mappings as dicts, sequences as lists; everything else as it is."""
    if dataclasses.is_dataclass(value):
        return {
            field.name: to_json(found)
            for field in dataclasses.fields(value)
            if not field.metadata.get("unstored")
            and ((found := getattr(value, field.name)) is not None or not field.metadata.get("optional"))
        }
    if isinstance(value, Mapping):
        return {key: to_json(inner) for key, inner in value.items()}
    return [to_json(inner) for inner in value] if isinstance(value, list | tuple) else value


def from_json(cls: type[T], value: Any, path: str = "") -> T:
    """The dataclass that `to_json` wrote. Keys that it has no field for are left out; a field with a default
    may have no key, as in files that were written before there was the field.

    Args:
        path: where the value stands, for errors.

    Raises:
        ValueError: a key is missing, or its value is of another type; the message names it.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{path or 'the file'} is not an object")
    kind: Any = cls
    known = {}
    for field in dataclasses.fields(kind):
        where = f"{path}.{field.name}" if path else field.name
        if field.name in value and not field.metadata.get("unstored"):
            known[field.name] = _read(_types(cls)[field.name], value[field.name], where)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where} is missing")
    return cls(**known)


@functools.cache
def _types(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _read(kind: Any, value: Any, path: str) -> Any:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _read(parts[0], value, path)
    if dataclasses.is_dataclass(kind):
        return from_json(typing.cast(type, kind), value, path)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [parts[0]] * len(value) if parts[-1] is ... else parts
        if len(kinds) == len(value):
            return tuple(_read(part, inner, path) for part, inner in zip(kinds, value, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {key: _named(_read(parts[1], inner, f"{path}.{key}"), key) for key, inner in value.items()}
    if kind in (int, float) and type(value) in (int, kind):
        if -LARGEST <= value <= LARGEST:  # NaN is not
            return kind(typing.cast(Any, value))  # others may write 1 for 1.0
        raise ValueError(f"{path} is {value!r:.60}; it must be a number within ±2^53")
    if kind in (str, bool) and type(value) is kind:
        return value
    wanted = getattr(kind, "__name__", kind)
    raise ValueError(f"{path} is {value!r:.60}; it must be of type {wanted}")


def _named(value: Any, key: str) -> Any:
    has_name = dataclasses.is_dataclass(value) and any(
        field.name == "name" and field.metadata.get("unstored") for field in dataclasses.fields(value)
    )
    return dataclasses.replace(typing.cast(Any, value), name=key) if has_name else value
