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


def cache_dir(config: Mapping[str, Any]) -> Path:
    """Where data sets, organisms and compiled programs are kept between runs."""
    chosen = config["cache_dir"] or os.environ.get("INTROSPECTION_CACHE") or "~/.cache/introspective-coupling"
    return Path(chosen).expanduser()


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


def differing_fields(here: Any, there: Any, prefix: str = "") -> list[str]:
    """One phrase a field that two configs differ in."""
    if isinstance(here, dict) and isinstance(there, dict):
        problems = []
        for name in sorted(here.keys() | there.keys()):
            path = f"{prefix}.{name}" if prefix else name
            if name not in here or name not in there:
                problems.append(f"{path} is only {'here' if name in here else 'there'}")
            else:
                problems += differing_fields(here[name], there[name], path)
        return problems
    return [] if here == there else [f"{prefix} is {there!r} there and {here!r} here"]


def check_workdir(workdir: Path, config: dict[str, Any]) -> None:
    """Writes nothing.

    Raises:
      InputError: the workdir belongs to another config (the differing fields are named), or holds other
        files.
    """
    path = workdir / "config.json"
    if path.exists():
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path}: not readable ({error}); give another --workdir") from error
        differing = differing_fields(config, there)
        if differing:
            shown = "; ".join(differing[:8]) + (
                f"; and {len(differing) - 8} more" if len(differing) > 8 else ""
            )
            raise InputError(
                f"{workdir} belongs to another config: {shown}; give another --workdir or the same config"
            )
    elif workdir.exists() and not workdir.is_dir():
        raise InputError(f"{workdir} is a file: give another --workdir")
    elif workdir.exists() and any(child.name != f"{path.name}.tmp" for child in workdir.iterdir()):
        raise InputError(f"{workdir} is not empty and has no config.json: give another --workdir")


def claim_workdir(workdir: Path, config: dict[str, Any]) -> None:
    """Makes the workdir this config's. Raises InputError as `check_workdir` does."""
    check_workdir(workdir, config)
    if not (workdir / "config.json").exists():
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", config)


def write_json(path: Path, value: Any) -> None:
    """Strict JSON, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(
        json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    temporary.replace(path)
