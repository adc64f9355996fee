"""Opens files that others may have put there: regular ones alone, since a pipe or a device may never end."""

from pathlib import Path
from typing import BinaryIO

from introspection.errors import InputError
from introspection.runtime.terminal import visible

MOST_BYTES = 64 * 2**20  # of a file of one value, and of a line; a run's largest are far below 1 MB


def open_file(path: Path) -> BinaryIO:
    """Opens a regular file for reading.

    Raises:
      InputError: it is missing or can't be read; it is a folder, a pipe or a device; or its name can't be
        written, as a page would have to.
    """
    try:
        str(path).encode()
        if path.is_file():
            return path.open("rb")
        there = "it is not a regular file" if path.exists() else "No such file"
        reason = "it is a folder" if path.is_dir() else there
    except UnicodeEncodeError:
        raise InputError(
            f"{visible(str(path))}: this name is not UTF-8 and can't be written; rename it"
        ) from None
    except OSError as error:
        reason = error.strerror
    except ValueError as error:  # a zero byte in the name
        reason = str(error)
    raise InputError(f"{path}: can't be read: {reason}")


def check_file(path: Path) -> None:
    """Raises InputError as `open_file`."""
    open_file(path).close()


def read_whole(path: Path, most: int = MOST_BYTES) -> bytes:
    """A file's contents. Raises InputError as `open_file`, or if it has more than `most` bytes."""
    with open_file(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise InputError(f"{path}: can't be read: it has more than {most:,} bytes")
    return data
