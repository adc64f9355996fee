"""The one door to places that are not local: a `--workdir` or a model in a bucket, `gs://…` or `s3://…`.

A local place passes through as it is. For a URL, the command works in a local folder of the cache
(`INTROSPECTION_CACHE/remote`), which `mirror.py` keeps equal to the bucket's: read when the command starts,
stored every few seconds and when it ends, however it ends. What could not be stored stays in the local
folder, and the same command on the same host goes on from it. Messages show the URL.

Of several processes the first reads and stores, and all work in its local folder, which must therefore be
on storage that they share (`check_shared`).
"""

import atexit
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from introspection.errors import InputError, RunError, listed
from introspection.runtime import processes
from introspection.runtime.bucket import Bucket, StorageError
from introspection.runtime.config import cache_dir
from introspection.runtime.lease import Lease
from introspection.runtime.lock import HeldError, flock, holder_in_words, this_process
from introspection.runtime.mirror import Mirror
from introspection.runtime.places import URL, check_schemes, is_url
from introspection.runtime.terminal import one_line, show_as, shown

STORE_S = 10  # seconds between two looks for what has changed
# What this command reads: one state of it, held by the lock of its copy until the process ends.
_fetched: dict[str, tuple[Path, int]] = {}


@contextlib.contextmanager
def working_folder(
    place: str | Path, *, models: bool = True, alone: bool = True, flag: str = "--workdir"
) -> Iterator[Path]:
    """The local folder in which a command works for a workdir; of a URL, what is written there is stored.

    Args:
      models: whether the command reads or writes models (and labels), which are most of a workdir.
      alone: whether nobody else may write there meanwhile; else the last writer of a file wins.

    Raises:
      HeldError: another command writes there.
      InputError: the URL can't be used: its scheme or driver is missing, or the bucket can't be read or
        written; or several processes do not share their local folder.
      RunError: at the end, what was written could not be stored.
    """
    if not is_url(place):
        yield Path(place)
        return
    bucket = Bucket(flag, str(place))
    apart = "" if alone else processes.first(lambda: uuid.uuid4().hex)
    folder = _local_folder(bucket.url, apart)
    show_as(str(folder), bucket.url)
    processes.check_shared(
        folder.parent,
        f"{flag}={bucket.url} is kept there while the command runs: give the variable INTROSPECTION_CACHE a "
        "folder on shared storage, or use one process",
    )
    with processes.only_first_holds(lambda: _mirrored(bucket, folder, models, alone, flag)):
        yield folder
    if apart and processes.is_first():
        shutil.rmtree(folder.parent, ignore_errors=True)


def own_folder(folder: Path) -> contextlib.AbstractContextManager[Path]:
    """A folder within a workdir that others write to, to work in alone: `working_folder` of its place."""
    return working_folder(shown(str(folder)))


def fetched(what: str, url: str) -> Path:
    """The local copy of a folder or file in a bucket, which nobody may write to. A run may still write there:
    what it has stored whole is read.

    A copy of an earlier command is brought up to date. If a command that still runs reads it, and it is not
    what the bucket holds now, this one has a copy of its own for as long as it runs.

    Raises:
      InputError: it can't be read, or there is nothing; names `what`.
    """
    bucket = Bucket(what, url)
    if bucket.url not in _fetched:
        try:
            _fetched[bucket.url] = _copied(bucket)
        except StorageError as error:
            raise InputError(f"{what}: {error}") from error
        if not _fetched[bucket.url][0].exists():
            os.close(_fetched.pop(bucket.url)[1])
            raise InputError(f"{what}: {bucket.url}: there is nothing of that name")
    return _fetched[bucket.url][0]


def _copied(bucket: Bucket) -> tuple[Path, int]:
    """A current copy, and the open file whose lock holds it."""
    alone = fcntl.LOCK_EX | fcntl.LOCK_NB
    with contextlib.suppress(BlockingIOError):
        return _copy(bucket, "read", alone)
    try:
        return _copy(bucket, "read", fcntl.LOCK_SH)  # somebody reads it, or makes it
    except _OutdatedError:
        own = f"read {uuid.uuid4().hex}"
        atexit.register(shutil.rmtree, _local_folder(bucket.url, own).parent, ignore_errors=True)
        return _copy(bucket, own, alone)


class _OutdatedError(Exception):
    """What others read is not what the bucket holds now."""


def _copy(bucket: Bucket, apart: str, operation: int) -> tuple[Path, int]:
    """A copy under a lock; what is not locked alone is left as it is.

    Raises:
      BlockingIOError: as `flock`.
      _OutdatedError: it is not locked alone, and not current.
    """
    folder = _local_folder(bucket.url, apart)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as failed:
        lock = os.open(folder.parent / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        failed.callback(os.close, lock)  # else whoever tries again would wait for it
        flock(lock, operation)
        mirror = Mirror(bucket, folder)
        if operation != fcntl.LOCK_SH:
            mirror.pull(keep_ahead=False)
            flock(lock, fcntl.LOCK_SH)
        elif not mirror.is_current():
            raise _OutdatedError
        failed.pop_all()
    show_as(str(folder), bucket.url)
    _say_half(mirror, bucket)
    return folder, lock


def fetched_parts(what: str, name: str) -> str:
    """A model's or workdir's name with each URL in it replaced by the path of its local copy.

    Raises:
      InputError: as `fetched` and `check_schemes`.
    """
    check_schemes(what, name)
    return URL.sub(lambda found: str(fetched(what, found[0])), name)


def _local_folder(url: str, apart: str) -> Path:
    """Its last part is the URL's, which names a run; the digest keeps folders of one name apart."""
    digest = hashlib.sha256(f"{url} {apart}".encode()).hexdigest()[:16]
    return cache_dir().absolute() / "remote" / digest / url.rsplit("/", 1)[-1]


@contextlib.contextmanager
def _mirrored(bucket: Bucket, folder: Path, models: bool, alone: bool, flag: str) -> Iterator[None]:
    """The first process's part of `working_folder`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            lease = stack.enter_context(_leased(bucket, folder.parent)) if alone else None
            mirror = Mirror(bucket, folder, models)
            mirror.pull(keep_ahead=alone)
        except StorageError as error:
            raise InputError(f"{flag}: {error}") from error
        _say_half(mirror, bucket)
        storing = _Storing(mirror, lease)
        try:
            yield
        except BaseException:
            try:
                storing.finish(folder)
            except RunError as error:
                print(f"warning: {one_line(error)}", file=sys.stderr)
            raise
        storing.finish(folder)


@contextlib.contextmanager
def _leased(bucket: Bucket, beside: Path) -> Iterator[Lease]:
    """Holds the local folder by the system's lock, then the bucket's.

    A previous holder on this host has ended, so its hold on the bucket ends, too; of other hosts, or without
    locks, that is not known.
    """
    token = uuid.uuid4().hex
    file = os.open(beside / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        before = os.pread(file, 4096, 0)
        try:
            locks = flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HeldError(
                f"{bucket.url} is in use {holder_in_words(before)}: wait for it to end, or name "
                "another folder"
            ) from error
        dead = ""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            holder = json.loads(before)
            if locks and holder["host"] == this_process()["host"]:
                dead = holder["token"]
        lease = Lease(bucket, token, dead)
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps({**this_process(), "token": token}).encode(), 0)
        try:
            yield lease
        finally:
            lease.release()
    finally:
        os.close(file)


class _Storing:
    """A thread that stores what a command writes, while it runs."""

    def __init__(self, mirror: Mirror, lease: Lease | None):
        self._mirror, self._lease = mirror, lease
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def _go_on(self) -> None:
        told = False
        while not self._ending.wait(STORE_S):
            try:
                self._store()
                told = False
            except Exception as error:  # the command goes on; `finish` raises what is still wrong at its end
                if not told:
                    print(f"warning: {one_line(error)}; trying again", file=sys.stderr)
                told = True

    def _store(self) -> None:
        if self._lease is not None and not self._lease.is_held():
            raise RunError("another command has taken the workdir: nothing more is stored")
        self._mirror.push()

    def finish(self, folder: Path) -> None:
        """Stores the rest. Raises RunError if it can't."""
        self._ending.set()
        self._thread.join()
        try:
            self._store()
            self._mirror.learn_tags()
        except (RunError, OSError) as error:
            raise RunError(
                f"{error}; all of it is kept below {folder.parent}, from where the same command on this "
                "host stores it"
            ) from error


def _say_half(mirror: Mirror, bucket: Bucket) -> None:
    if mirror.half:
        names = listed(sorted(mirror.half), most=3)
        print(
            one_line(f"warning: {bucket.url}: not stored whole, so read as if it were not there: {names}"),
            file=sys.stderr,
        )
