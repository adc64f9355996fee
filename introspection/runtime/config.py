"""From a config's fields to the frozen dataclasses of the library."""

import ast
import dataclasses
import json
import os
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from introspection.errors import InputError
from introspection.runtime.known_as import by_meaning, with_arm
from introspection.runtime.places import local_path

T = TypeVar("T")


def settings(cls: type[T], section: Mapping[str, Any], path: str = "config", **extra: Any) -> T:
    """A frozen dataclass from a config section, nested sections included; lists become tuples.

    Args:
      path: the section's name in error messages.
      extra: fields that are derived elsewhere.

    Raises:
      InputError: the section has an unknown field, or lacks a required one.
    """
    kind: Any = cls
    known = {field.name for field in dataclasses.fields(kind) if field.init}
    given = {**section, **extra}
    unknown = sorted(set(given) - known)
    if unknown:
        hint = by_meaning(unknown[0], with_arm(path.removeprefix("config").removeprefix(".")))
        hint = f"; {hint}" if hint else ""
        raise InputError(f"{path} has no field {unknown[0]!r}{hint}; it has {', '.join(sorted(known))}")
    kinds = typing.get_type_hints(cls)
    values = {name: _value(kinds[name], value, f"{path}.{name}") for name, value in given.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise InputError(f"{path}: {error}") from error


def check_least(section: str, values: Any, **least: int) -> None:
    """Raises InputError if a field of a config's section is below its smallest value."""
    for name, smallest in least.items():
        value = getattr(values, name)
        if value < smallest:
            raise InputError(f"config.{section}.{name} is {value}; it must be at least {smallest}")


def check_choice(field: str, chosen: Any, known: Collection[str]) -> None:
    """Raises InputError unless a field's text is known."""
    if chosen not in known:
        raise InputError(f"{field} is {chosen!r}; choose from {', '.join(known)}")


def check_choices(field: str, chosen: Any, known: Collection[str]) -> None:
    """Raises InputError unless a field is a tuple or list of known, distinct texts (one text is not)."""
    if not isinstance(chosen, tuple | list):
        raise InputError(f"{field} is {chosen!r}; give a tuple of {', '.join(known)}")
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen or len(set(chosen)) < len(chosen):
        given = unknown[0] if unknown else chosen
        raise InputError(f"{field} has {given!r}; choose from {', '.join(known)}, each at most once")


def _value(kind: Any, value: Any, path: str) -> Any:
    """A config's value as the type of its field."""
    if isinstance(value, list):
        return tuple(value)
    if typing.get_origin(kind) is tuple:
        return comma_values(value) if isinstance(value, str) else value
    if isinstance(value, Mapping) and dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return settings(kind, value, path)
    entry = typing.get_args(kind)[-1] if typing.get_origin(kind) is Mapping else None
    if dataclasses.is_dataclass(entry):
        return {name: _entry(entry, section, f"{path}.{name}") for name, section in value.items()}
    return value


def _entry(kind: Any, section: Any, path: str) -> Any:
    """One of several sections of a kind; adds its path to errors, which lack it."""
    try:
        return _value(kind, section, path)
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path} ')}") from error


def comma_values(text: str) -> tuple[Any, ...]:
    """The values that a text lists between commas, such as `a,b` or `0,1`."""
    return tuple(literal(part.strip()) for part in text.split(",") if part.strip())


def literal(text: str) -> Any:
    """The Python literal that a text writes; the text itself if it is not one."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def config_dict(section: Any) -> ConfigDict:
    """A frozen dataclass or mapping as a section of a config file."""
    if dataclasses.is_dataclass(section):
        section = {field.name: getattr(section, field.name) for field in dataclasses.fields(section)}
    return ConfigDict({name: _config_value(value) for name, value in section.items()})


def _config_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value) or isinstance(value, Mapping):
        return config_dict(value)
    if isinstance(value, list):
        return tuple(value)  # so that a flag replaces it; a flag would append to a list
    return placeholder(str) if value is None else value  # so that a flag can set a text


def cache_dir(chosen: str | None = "") -> Path:
    """The folder of data sets, organisms and compiled programs: a config's `cache_dir`, or the default.

    Raises:
      InputError: it is a URL; what is cached is locked, mapped and read by child processes.
    """
    folder = chosen or os.environ.get("INTROSPECTION_CACHE") or "~/.cache/introspective-coupling"
    return local_path("config.cache_dir" if chosen else "INTROSPECTION_CACHE", folder)


def plain(config: Any) -> Any:
    """A config, or part of it, as JSON values: dataclasses and ConfigDicts to dicts, tuples to lists.

    Raises:
      InputError: a number is infinite or NaN.
    """
    try:
        return json.loads(json.dumps(config, allow_nan=False, default=_as_dict))
    except ValueError as error:
        raise InputError(f"config: a field is not a finite number ({error})") from error


def _as_dict(section: Any) -> Any:
    return section.to_dict() if isinstance(section, ConfigDict) else dataclasses.asdict(section)
