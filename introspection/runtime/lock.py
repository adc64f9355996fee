"""One command at a time writes into a workdir, and only into that workdir."""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from rich.console import Console

from introspection.errors import InputError
from introspection.runtime.processes import only_first_holds
from introspection.runtime.workdir import LOCK

# What `flock` says where the file system has no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class HeldError(InputError):
    """Another process writes into the workdir."""


def held(workdir: Path) -> contextlib.AbstractContextManager[None]:
    """Holds a workdir for this command, and makes it if it is missing; what is left empty is removed again.

    The lock is the system's (`flock`), so it ends with its process, however that ends. Without locks in the
    file system it does nothing. Of several processes the first holds it for all.

    Raises:
      HeldError: another process holds it; the message says which, where and since when.
      InputError: as `check_inside`, or the workdir can't be written to.
    """
    return only_first_holds(lambda: _held(workdir))


@contextlib.contextmanager
def _held(workdir: Path) -> Iterator[None]:
    made: list[Path] = []
    try:
        try:
            made = _make(workdir)
            file = _locked(workdir)
        except OSError as error:
            raise InputError(
                f"{workdir} can't be written to ({error.strerror}): give another --workdir"
            ) from error
        try:
            check_inside(workdir)
            yield
        finally:
            with contextlib.suppress(OSError):
                (workdir / LOCK).unlink()
            os.close(file)
    finally:
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # there is something in it
                folder.rmdir()


def flock(file: IO[str] | int, operation: int) -> bool:
    """`fcntl.flock`, but without effect where the file system has no locks; returns whether it has some.

    Raises BlockingIOError.
    """
    try:
        fcntl.flock(file, operation)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def one_at_a_time(lock: Path, console: Console, what: str) -> contextlib.AbstractContextManager[None]:
    """Locks a file beside what a cache holds: of two runs that need the same, one makes it and one waits.

    Of a run's processes the first holds the lock for all.
    """
    return only_first_holds(lambda: _one_at_a_time(lock, console, what))


@contextlib.contextmanager
def _one_at_a_time(lock: Path, console: Console, what: str) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(f"another process is {what}; waiting for it")
            flock(file, fcntl.LOCK_EX)
        yield


def check_inside(workdir: Path, depth: int | None = None) -> None:
    """Checks that nothing in a workdir (to a depth) leads out of it: links, pipes and devices are refused.

    A link that somebody left there would make a command write elsewhere. The workdir itself may be one.

    Raises:
      InputError: names the first.
    """
    folders = [(str(workdir), 1)]
    while folders:
        folder, level = folders.pop()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders += [(entry.path, level + 1)] * (level != depth)
                elif not entry.is_file(follow_symlinks=False) and os.path.lexists(entry.path):
                    kind = "a link" if entry.is_symlink() else "neither a file nor a folder"
                    raise InputError(
                        f"{entry.path} is {kind}: remove it (only the workdir itself may be a link: what is "
                        "written into it would end up elsewhere)"
                    )


def _make(workdir: Path) -> list[Path]:
    """Makes a folder and its parents; returns those that were missing."""
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"{workdir} is a file: give another --workdir")
    missing = [folder for folder in (workdir, *workdir.parents) if not folder.exists()][::-1]
    workdir.mkdir(parents=True, exist_ok=True)
    return missing


def _locked(workdir: Path) -> int:
    """The open and locked file, with this process's name in it."""
    path = workdir / LOCK
    while True:
        # O_NONBLOCK: a pipe of that name would wait for a reader.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        file = os.open(path, flags, 0o666)
        try:
            if not flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
                return file
            current = os.stat(path, follow_symlinks=False)
        except BlockingIOError as error:
            by = holder_in_words(os.pread(file, 4096, 0))
            os.close(file)
            raise HeldError(
                f"{workdir} is in use {by}: wait for it to end, or name another folder"
            ) from error
        except FileNotFoundError:  # its holder has just removed it
            os.close(file)
            continue
        except OSError:
            os.close(file)
            raise
        if current.st_ino == os.fstat(file).st_ino:
            break
        os.close(file)
    os.ftruncate(file, 0)
    os.write(file, json.dumps(this_process()).encode())
    return file


def this_process() -> dict[str, Any]:
    """What a lock says of the process that holds it."""
    program, *arguments = sys.argv or [""]
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
        "command": shlex.join([Path(program).stem, *arguments])[:500],
    }


def holder_in_words(data: bytes) -> str:
    """Who wrote a lock: `by process 12 on tpu-0 since …`, or `by another process` if the data don't say."""
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "by process {pid} on {host} since {since} ({command})".format(**json.loads(data))
    return "by another process"
