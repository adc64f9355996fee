"""Workdirs: whose they are, and files that are written whole or not at all."""

import json
from pathlib import Path
from typing import Any

from introspection.errors import InputError


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


def write_whole(path: Path, content: str) -> Path:
    """Writes a text whole or not at all; a lone surrogate becomes `?`. Returns the path."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content.encode("utf-8", errors="replace"))
    temporary.replace(path)
    return path
