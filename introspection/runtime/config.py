"""From a config file's fields to the frozen values that the library works with."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from introspection.errors import InputError

T = TypeVar("T")


def settings(cls: type[T], section: Mapping[str, Any], **extra: Any) -> T:
    """A frozen dataclass from a config section; `extra` gives fields that the config derives elsewhere.

    Raises:
      InputError: the section has a field that the class lacks, or lacks one that it needs.
    """
    known = {field.name for field in dataclasses.fields(cls) if field.init}
    given = {**dict(section), **extra}
    unknown = sorted(set(given) - known)
    if unknown:
        raise InputError(
            f"config: {cls.__name__} has no field {unknown[0]!r}; it has {', '.join(sorted(known))}"
        )
    try:
        return cls(**given)
    except TypeError as error:
        raise InputError(f"config: {error}") from error


def cache_dir(chosen: str | None = "") -> Path:
    """Where data sets, organisms and compiled programs are kept between runs: a config's `cache_dir`, or the
    default."""
    folder = chosen or os.environ.get("INTROSPECTION_CACHE") or "~/.cache/introspective-coupling"
    return Path(folder).expanduser()


def plain(config: Any) -> Any:
    """A config as JSON-like values (ConfigDicts to dicts, tuples to lists).

    Raises:
      InputError: a number is not finite.
    """
    value = config.to_dict() if hasattr(config, "to_dict") else config
    try:
        return json.loads(json.dumps(value, allow_nan=False, default=lambda section: section.to_dict()))
    except ValueError as error:
        raise InputError(f"config: a field is no finite number ({error})") from error
