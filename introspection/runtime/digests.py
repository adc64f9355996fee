"""A digest beside a file, `NAME.sha256`, as `sha256sum -c` reads it: a file that was changed is not read."""

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from introspection.errors import InputError
from introspection.runtime.files import open_file, read_whole
from introspection.runtime.workdir import whole, write_whole


def digest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


@contextlib.contextmanager
def digested_lines(path: Path) -> Iterator[Callable[[str], None]]:
    """Yields `write(line)`, which adds the line's end; writes the file whole or not at all, after its digest.

    Who is stopped between the two leaves a digest without its file, or one that differs: the file then counts
    as changed, never as right.
    """
    digest = hashlib.sha256()
    with whole(path) as temporary:
        with temporary.open("wb") as lines:

            def write(line: str) -> None:
                data = line.encode(errors="replace") + b"\n"
                digest.update(data)
                lines.write(data)

            yield write
        _write(path, digest.hexdigest())


def write_digest(path: Path) -> None:
    """Writes the digest of a file that is there."""
    _write(path, file_digest(path))


def _write(path: Path, digest: str) -> None:
    write_whole(digest_path(path), f"{digest}  {path.name}\n")


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's contents. Raises InputError as `open_file`."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def check_digest(path: Path, advice: str) -> None:
    """Checks a file against its digest; files of before there were digests have none and pass.

    Raises:
      InputError: the file was changed, or one of the two can't be read; the message ends with `advice`.
    """
    kept = digest_path(path)
    if not kept.exists():
        return
    stored = re.match(rb"[0-9a-f]{64}(?= )", read_whole(kept, 4096))
    if stored is None or stored[0].decode() != file_digest(path):
        raise InputError(f"{path} has changed since it was written (its digest is in {kept.name}): {advice}")
