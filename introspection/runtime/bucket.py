"""A folder in a bucket, through fsspec: what is read, written, listed and created there, and nothing else.

fsspec itself rather than `etils.epath`, which wraps it for these schemes and hides what a workdir needs: who
changed an object (its tag), and creating one only where there is none. A single object appears whole or not
at all (a long upload is committed by its last request), but there are no renames: fsspec copies and deletes,
file by file, so a folder may be found half there. `mirror.py` deals with that.
"""

import contextlib
import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from introspection.errors import InputError, RunError
from introspection.runtime.places import check_schemes, url_parts


class StorageError(RunError):
    """A bucket can't be read or written; earlier objects stay as they are."""


class AbsentError(StorageError):
    """There is no such object, or no such bucket."""


class Stored(NamedTuple):
    """An object of a listing."""

    tag: str  # changes with its contents
    size: int  # bytes


class Bucket:
    """The objects below `SCHEME://BUCKET/FOLDER`, by their paths relative to it."""

    def __init__(self, flag: str, url: str):
        """Connects to nothing yet.

        Raises:
          InputError: as `check_schemes` and `url_parts`, or the driver can't start.
        """
        check_schemes(flag, url)
        scheme, self.root = url_parts(flag, url)
        self.url = f"{scheme}://{self.root}"
        import fsspec  # only where a bucket is named: local workdirs pay nothing for it

        try:
            self._files: Any = fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)
        except Exception as error:  # of a driver, its settings or credentials
            raise InputError(f"{flag}: {self.url} can't be opened: {_reason(error)}") from error

    def list(self) -> dict[str, Stored]:
        """Every object, by name. One that lies at the URL itself has the name "".

        Raises:
          StorageError: the bucket can't be listed.
          InputError: a name would lead out of a local folder.
        """
        with self._explained("listed"):
            found = self._files.find(self.root, detail=True)
        listed = {}
        for path, info in found.items():
            name = path.removeprefix(self.root).removeprefix("/")
            if path.endswith("/"):
                continue  # what a console leaves for an empty folder
            if name and ({"", ".", ".."} & set(name.split("/")) or "\0" in name):
                raise InputError(
                    f"{self.url}: it holds an object called {name!r}, which can't be a file here"
                )
            tag = info.get("ETag") or info.get("etag") or info.get("generation") or info.get("mtime")
            listed[name] = Stored(str(tag), int(info["size"]))
        return listed

    def read(self, name: str) -> bytes:
        """Raises AbsentError, StorageError."""
        with self._explained("read"):
            return self._files.cat_file(self._path(name))

    def write(self, name: str, data: bytes) -> None:
        with self._explained("written"):
            self._files.pipe_file(self._path(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Writes an object only if there is none of this name, whoever else may try; says whether it did."""
        with self._explained("written"):
            try:
                self._files.pipe_file(self._path(name), data, mode="create")
            except FileExistsError:
                return False
        return True

    def modified(self, name: str) -> datetime.datetime:
        """When an object was written, by the server's clock."""
        with self._explained("read"):
            return self._files.modified(self._path(name))

    def upload(self, name: str, file: Path) -> None:
        """Writes a file's contents; an object that is there is replaced once all of them have arrived."""
        with self._explained("written"):
            self._files.put_file(str(file), self._path(name))

    def download(self, files: Sequence[tuple[str, Path]]) -> None:
        """Copies objects to new files, several at a time."""
        with self._explained("read"):
            self._files.get([self._path(name) for name, _ in files], [str(file) for _, file in files])

    def delete(self, name: str) -> None:
        """Deletes an object, which may be missing."""
        with contextlib.suppress(AbsentError), self._explained("written"):
            self._files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    @contextlib.contextmanager
    def _explained(self, done: str) -> Iterator[None]:
        """What drivers raise, of many kinds, as one that says in a line what could not be done."""
        try:
            yield
        except FileNotFoundError as error:
            raise AbsentError(f"{self.url} can't be {done}: {_reason(error)}") from error
        except Exception as error:
            raise StorageError(f"{self.url} can't be {done}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
