"""Workdirs: each belongs to one config, and files are written atomically."""

import contextlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from introspection.errors import InputError
from introspection.runtime.json_files import parsed, read_object

LOCK = ".lock"  # of whoever writes into a workdir now; `held` makes and removes it


def differing_fields(here: Any, there: Any, prefix: str = "") -> list[str]:
    """One phrase for each field in which two configs differ."""
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


def check_workdir(
    workdir: Path, config: dict[str, Any], completed: Callable[[dict], dict] = lambda stored: stored
) -> None:
    """Checks that the workdir is empty or belongs to this config; writes nothing.

    Args:
      completed: adds to a stored config the fields that are newer than it.

    Raises:
      InputError: the workdir belongs to another config (the message names the fields) or has other files.
    """
    path = workdir / "config.json"
    if path.exists():
        there = read_object(path, "give another --workdir")
        differing = differing_fields(config, parsed(path, lambda: completed(there), "give another --workdir"))
        if differing:
            shown = "; ".join(differing[:8]) + (
                f"; and {len(differing) - 8} more" if len(differing) > 8 else ""
            )
            raise InputError(
                f"{workdir} belongs to another config: {shown}; give another --workdir or the same config"
            )
    elif workdir.exists() and not workdir.is_dir():
        raise InputError(f"{workdir} is a file: give another --workdir")
    elif workdir.exists() and any(not _is_half_written(child, path) for child in workdir.iterdir()):
        raise InputError(f"{workdir} is not empty and has no config.json: give another --workdir")


def with_newer(config: dict[str, Any], *fields: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What completes a stored config that was written before it had `fields`: as this config has them."""
    return lambda stored: {field: config[field] for field in fields} | stored


def _is_half_written(child: Path, path: Path) -> bool:
    """Whether a file is a lock, or a leftover of an interrupted write."""
    return child.name == LOCK or (child.name.startswith(f"{path.name}.") and child.suffix == ".tmp")


def claim_workdir(
    workdir: Path, config: dict[str, Any], completed: Callable[[dict], dict] = lambda stored: stored
) -> None:
    """Makes the workdir this config's, which may add to the one that it has. Raises as `check_workdir`."""
    check_workdir(workdir, config, completed)
    path = workdir / "config.json"
    if not path.exists() or json.loads(path.read_text(encoding="utf-8")) != config:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(path, config)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yields a new, empty file's path; the file replaces `path` when the block ends without an error.

    Several writers may write the same file at once; the last one wins. A link at `path` is replaced, not
    followed; that no folder on the way is a link, `held` sees to for whole workdirs.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    # A link of that name would be followed: the file must be new.
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> Path:
    """Writes a file atomically and returns its path. A lone surrogate becomes `?`."""
    with whole(path) as temporary:
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode(errors="replace"))
    return path


def write_json(path: Path, value: Any) -> None:
    """Writes strict JSON atomically."""
    write_whole(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
