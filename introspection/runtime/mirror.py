"""A workdir in a bucket, mirrored by a local folder: what is read comes from there, what is written follows.

A run works in an ordinary local folder, with the renames, locks, appends and memory maps that it and its
libraries need, and everything in this project stays as it is for local workdirs. Only whole files travel.
Changing every file call instead would be many times this code, and would not do: Orbax 0.12.8 refuses
`s3://`, and neither array_record, tensorboardX nor a child process reads through fsspec.

What a dead or failing command leaves in the bucket must be something that it could have left in a local
folder, where `run` resumes from anything. So:
- an object appears whole or not at all;
- files are stored in the order in which they were written, the config and the logs that grow before others,
  so that no checkpoint is ahead of its metrics;
- a folder that appears by a rename (a step, a folder of labels) is stored file by file, and then a marker
  beside it, `100.whole`, which lists its files. Without a marker, or with other files, it is not there.
"""

import contextlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from introspection.runtime.bucket import AbsentError, Bucket, Stored
from introspection.runtime.files import MOST_BYTES
from introspection.runtime.workdir import LOCK, write_whole

MARKER = ".whole"  # what follows a folder's name in its marker's
WRITER = ".last-writer"  # says which local copy wrote last
STATE = "state.json"  # beside the local folder: what the bucket is known to hold of it
_WHOLE = re.compile(r"(?:.+?/)?(?:checkpoints/[^/]+/[0-9]+|labels/[^/]+)(?=/)")
_STORE = re.compile(r"(?:.+?/)?checkpoints/[^/]+(?=/)")
_GROWS = re.compile(r"(?:.+/)?(?:(?:metrics|speed)\.jsonl$|tensorboard/)")
_FIRST = re.compile(r"(?:.+/)?config\.json$")
_TRIES = 3  # of a copy from a bucket that is being written to


class FileState(NamedTuple):
    size: int  # bytes
    changed: int  # ns
    inode: int  # another one has been put in its place, perhaps within the clock's tick


class Known(NamedTuple):
    """A file that local folder and bucket both have."""

    tag: str  # of the object; "" where it is not known
    state: FileState


class Mirror:
    """One local folder, and the bucket's that it stands for. Nobody else may write to the local one."""

    def __init__(self, bucket: Bucket, folder: Path, models: bool = True):
        """Reads nothing yet.

        Args:
          models: whether to read and write steps and labels, too; else they stay as they are on both sides.
        """
        self.half: list[str] = []  # folders in the bucket that have no marker, or other files than it says
        self._bucket, self._folder, self._models = bucket, folder, models
        self._state = folder.parent / STATE
        self._claimed = False
        self._remains: list[str] = []  # objects of half folders
        self._copy, self._known = uuid.uuid4().hex, {}
        self._partial = False  # whether steps and labels were left out when others' files were copied last
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            stored = json.loads(self._state.read_text(encoding="utf-8"))
            known = {name: Known(tag, FileState(*state)) for name, (tag, state) in stored["files"].items()}
            self._copy, self._known = stored["copy"], known
            self._partial = bool(stored.get("partial"))

    def pull(self, keep_ahead: bool) -> None:
        """Makes the local folder what the bucket's is.

        Args:
          keep_ahead: leaves it as it is if nobody has written to the bucket since it was written from here:
            then it has all of that, and perhaps more, which a killed command could not store.

        Raises:
          StorageError, InputError: as `Bucket.list`.
        """
        for left in reversed(range(_TRIES)):
            there = self._bucket.list()
            if keep_ahead and self._is_ahead(there):
                return
            try:
                self._copy_from(there)
                return
            except AbsentError:  # its writer has just deleted something
                if not left:
                    raise

    def is_current(self) -> bool:
        """Whether the local folder is what the bucket's is. Raises as `Bucket.list`."""
        try:
            wanted, here = self._wanted(self._bucket.list()), self._scan()
        except AbsentError:  # its writer has just deleted something
            return False
        return here.keys() == wanted.keys() == self._same(wanted, here)

    def _wanted(self, there: Mapping[str, Stored]) -> dict[str, Stored]:
        return {name: found for name, found in self._whole(there).items() if self._is_ours(name)}

    def _same(self, wanted: Mapping[str, Stored], here: Mapping[str, FileState]) -> set[str]:
        """The files that are known to be as wanted."""
        return {
            name
            for name in wanted.keys() & here.keys()
            if self._known.get(name) == (wanted[name][0], here[name])
        }

    def _is_ahead(self, there: Mapping[str, Stored]) -> bool:
        if self._models and self._partial:
            return False
        ours = {name for name in self._known if self._is_ours(name)}
        return WRITER in there and ours <= there.keys() and self._bucket.read(WRITER) == self._copy.encode()

    def _copy_from(self, there: Mapping[str, Stored]) -> None:
        wanted, here = self._wanted(there), self._scan()
        for name in here.keys() - wanted.keys():
            (self._folder / name).unlink()
        _remove_empty(self._folder)
        missing = wanted.keys() - self._same(wanted, here)
        moves: dict[Path, Path] = {}
        copies: list[tuple[str, Path]] = []
        for unit, names in _units(wanted):
            if missing & set(names):
                final = self._folder / unit
                moves[final] = final.with_name(f"{final.name}.tmp")
                _remove(moves[final])
                copies += [(name, moves[final] / name[len(unit) + 1 :]) for name in names]
        for _, file in copies:
            file.parent.mkdir(parents=True, exist_ok=True)
        self._bucket.download(copies) if copies else None
        for name, file in copies:
            if file.stat().st_size != wanted[name].size:
                raise AbsentError(f"{self._bucket.url}: {name} changed while it was read")
        for final, temporary in moves.items():
            _remove(final)
            temporary.rename(final)
        here = self._scan()
        others = {name: known for name, known in self._known.items() if not self._is_ours(name)}
        self._known = others | {name: Known(wanted[name].tag, here[name]) for name in wanted}
        self._partial = not self._models
        self._save()

    def _whole(self, there: Mapping[str, Stored]) -> dict[str, Stored]:
        """What counts of a listing: half folders do not, nor a store that has no whole step."""
        self.half, self._remains = [], []
        chosen = {}
        for unit, names in _units(name for name in there if not _is_internal(name)):
            found = {name: there[name] for name in names}
            if unit != names[0] and self._models:
                listed = self._listed(f"{unit}{MARKER}", there)
                sizes = {name[len(unit) + 1 :]: one.size for name, one in found.items()}
                if not listed or any(sizes.get(name) != size for name, size in listed.items()):
                    self.half.append(unit)
                    self._remains += [f"{unit}{MARKER}", *names]
                    continue
                found = {name: one for name, one in found.items() if name[len(unit) + 1 :] in listed}
            chosen |= found
        stored = {found[0] for name in chosen if _WHOLE.match(name) and (found := _STORE.match(name))}
        return {n: one for n, one in chosen.items() if not (found := _STORE.match(n)) or found[0] in stored}

    def _listed(self, marker: str, there: Mapping[str, Stored]) -> dict[str, int]:
        """The files of a whole folder with their sizes; {} if it has no marker that can be read."""
        if marker not in there or there[marker].size > MOST_BYTES:
            return {}
        try:
            return {str(name): int(size) for name, size in json.loads(self._bucket.read(marker)).items()}
        except (ValueError, TypeError, AttributeError, RecursionError):
            return {}

    def push(self) -> None:
        """Stores what has changed in the local folder since the last time; a command may be writing there.

        Raises:
          StorageError: the bucket can't be written; what is stored is in order, and the next call goes on.
        """
        found = self._scan()
        changed = {name for name, state in found.items() if (self._known.get(name) or ("", None))[1] != state}
        gone = {name for name in self._known.keys() - found.keys() if self._is_ours(name)}
        if not changed and not gone:
            return
        try:
            self._claim()
            for unit, names in sorted(_units(found), key=lambda one: _place(*one, found)):
                if changed & set(names) and not self._store(unit, names, found, changed):
                    return  # it changes now; what was written after it must not be stored before it
            self._delete(gone, found)
        finally:
            self._save()

    def _claim(self) -> None:
        """From now on, the bucket's contents come from this local copy."""
        if not self._claimed:
            self._save()
            for name in self._remains:
                self._bucket.delete(name)
            self._bucket.write(WRITER, self._copy.encode())
            self._claimed = True

    def _store(
        self, unit: str, names: Sequence[str], found: Mapping[str, FileState], changed: Collection[str]
    ) -> bool:
        """Stores a file, or a folder that is whole or absent. Returns whether it stayed as it was."""
        marked, grows = unit != names[0], _GROWS.match(unit) is not None
        if marked:
            self._bucket.delete(f"{unit}{MARKER}")
        for name in names:
            if name not in changed:
                continue
            if not grows and _state(self._folder / name) != found[name]:
                return False
            try:
                self._bucket.upload(name, self._folder / name)
            except AbsentError:
                if (self._folder / name).exists():
                    raise
                return False
        if not grows and any(_state(self._folder / name) != found[name] for name in names):
            return False
        if marked:
            sizes = {name[len(unit) + 1 :]: found[name].size for name in names}
            self._bucket.write(f"{unit}{MARKER}", json.dumps(sizes, indent=1).encode())
        self._known |= {name: Known("", found[name]) for name in names if name in changed}
        return True

    def _delete(self, gone: Collection[str], found: Mapping[str, FileState]) -> None:
        left = {unit for unit, _ in _units(found)}
        for unit, names in _units(gone):
            if unit != names[0] and unit not in left:
                self._bucket.delete(f"{unit}{MARKER}")
            for name in names:
                self._bucket.delete(name)
                del self._known[name]

    def learn_tags(self) -> None:
        """Asks the bucket once for what it calls what was stored, so that it need not be read again."""
        there = self._bucket.list()
        for name, known in self._known.items():
            if name in there and there[name].size == known.state.size:
                self._known[name] = Known(there[name].tag, known.state)
        self._save()

    def _save(self) -> None:
        files = {name: (known.tag, known.state) for name, known in self._known.items()}
        write_whole(self._state, json.dumps({"copy": self._copy, "files": files, "partial": self._partial}))

    def _is_ours(self, name: str) -> bool:
        return self._models or _WHOLE.match(name) is None

    def _scan(self) -> dict[str, FileState]:
        """Every file of the local folder that is finished, by name; "" if it is a file itself."""
        if self._folder.is_file():
            state = _state(self._folder)
            return {"": state} if state else {}
        found = {}
        for folder, _, files in os.walk(self._folder):
            for file in files:
                path = Path(folder) / file
                name, state = path.relative_to(self._folder).as_posix(), _state(path)
                if state and self._is_ours(name) and not _is_internal(name):
                    found[name] = state
        return found


def _units(names: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """What is stored at once: `(file, [file])`, or a folder that is whole or absent and its files."""
    units: dict[str, list[str]] = {}
    for name in sorted(names):
        folder = _WHOLE.match(name)
        units.setdefault(folder[0] if folder else name, []).append(name)
    yield from units.items()


def _place(unit: str, names: Sequence[str], found: Mapping[str, FileState]) -> tuple[int, int, str]:
    """Where a unit stands in the order of storing."""
    card = unit == names[0] and _STORE.match(unit) is not None  # a step is nothing without it
    early = 0 if _FIRST.match(unit) else 1 if _GROWS.match(unit) or card else 2
    return early, max(found[name].changed for name in names), unit


def _is_internal(name: str) -> bool:
    """Whether a file is no part of a workdir: of a lock, a marker, or an unfinished write."""
    *folders, file = name.split("/")
    unfinished = (".tmp", ".orbax-checkpoint-tmp")
    return (
        any(part.endswith(unfinished) for part in (*folders, file))
        or file.startswith((LOCK, ".shared-"))
        or file == WRITER
        or file.endswith(MARKER)
    )


def _state(file: Path) -> FileState | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return FileState(found.st_size, found.st_mtime_ns, found.st_ino)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _remove_empty(folder: Path) -> None:
    for path, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):  # there is something in it
            os.rmdir(path)
