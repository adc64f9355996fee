"""A command of several processes, one a host, on JAX's own distributed runtime: all run the same program.

The first process alone writes, prints, and decides what depends on files; `first` tells its decisions to all.
What all compute, they compute together: an array may lie on devices of several processes, and `gather` brings
it to each. With a single process each function here is the plain thing that it stands for.
"""

import contextlib
import itertools
import pickle
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

# JAX has no public name for its key-value store, nor for these numbers before its backend is up.
from jax._src import distributed
from jax.experimental import multihost_utils

from introspection.errors import InputError, RunError

T = TypeVar("T")

AGES_MS = 7 * 24 * 3600 * 1000  # others may wait long for the first; if it dies, the runtime says so
NAMES = "introspection"  # what begins the keys that are ours
_calls = itertools.count()  # the same in all processes, which run the same program


def count() -> int:
    """How many processes run this command."""
    return distributed.global_state.num_processes


def index() -> int:
    return distributed.global_state.process_id


def is_first() -> bool:
    """Whether this process writes and prints; also true where there is only one."""
    return index() == 0


def client() -> Any:
    """JAX's key-value store and list of living processes; None for a single process."""
    return distributed.global_state.client


def first(compute: Callable[[], T]) -> T:
    """What the first process computes, told to all; an error that it raises is raised by all.

    All processes must call it at the same places. It is also a barrier: nobody goes on before the first has
    finished, for instance, writing what `compute` writes.
    """
    if count() == 1:
        return compute()
    key = f"{NAMES}/first/{next(_calls)}"
    if not is_first():
        said = pickle.loads(client().blocking_key_value_get_bytes(key, AGES_MS))
        if isinstance(said, BaseException):
            raise said
        return said
    try:
        said = compute()
    except Exception as error:
        client().key_value_set_bytes(key, _pickled(error))
        raise
    client().key_value_set_bytes(key, pickle.dumps(said))
    return said


def first_before_others(compute: Callable[[], T]) -> T:
    """What each process computes itself, the first before the others: it makes files that they then find."""
    made: list[T] = []
    first(lambda: made.append(compute()))
    return made[0] if made else compute()


def together(compute: Callable[[], T]) -> T:
    """What each process computes itself; an error of one is raised by all, each its own or the first's."""
    if count() == 1:
        return compute()
    result: Any = None
    own: Exception | None = None
    try:
        result = compute()
    except Exception as error:
        own = error
    errors = [pickle.loads(said) for said in _told_by_all(_pickled(own))]
    if own is not None:
        raise own
    for error in errors:
        if error is not None:
            raise error
    return result


def _told_by_all(said: bytes) -> list[bytes]:
    """What every process says, in order."""
    key = f"{NAMES}/all/{next(_calls)}"
    client().key_value_set_bytes(f"{key}/{index()}", said)
    every = range(count())
    return [client().blocking_key_value_get_bytes(f"{key}/{i}", AGES_MS) for i in every]


def any_process(flag: bool) -> bool:
    """Whether a flag is set in any process."""
    return flag if count() == 1 else any(map(pickle.loads, _told_by_all(pickle.dumps(flag))))


def _pickled(error: Exception | None) -> bytes:
    with contextlib.suppress(Exception):
        said = pickle.dumps(error)
        pickle.loads(said)  # an exception with arguments of its own can't always be made again
        return said
    return pickle.dumps(RunError(f"{type(error).__name__}: {error}"))


def gather(array: Any) -> np.ndarray:
    """The whole array on every host, also where devices of other processes hold parts of it."""
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
        return np.asarray(array)
    if array.is_fully_replicated:
        return np.asarray(array.addressable_data(0))
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


SHARE = "give --workdir, and the variable INTROSPECTION_CACHE, on shared storage"


def check_shared(folder: Path, advice: str = SHARE) -> None:
    """Checks that all processes see the same folder, and leaves it as it was.

    Args:
      advice: what the message says to do where they don't.

    Raises:
      InputError: a process does not, or the first can't write there.
    """
    if count() == 1:
        return
    made: list[Path] = []

    def leave_mark() -> str:
        name = f".shared-{uuid.uuid4().hex}"
        try:
            missing = [one for one in (folder, *folder.parents) if not one.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            made.extend(missing)
            (folder / name).touch()
        except OSError as error:
            raise InputError(f"{folder} can't be written to ({error.strerror}): give another") from error
        return name

    mark = folder / first(leave_mark)  # in the folder that each process itself has by this name
    seen = [pickle.loads(said) for said in _told_by_all(pickle.dumps(mark.exists()))]
    if is_first():
        with contextlib.suppress(OSError):
            mark.unlink()
            for one in made:
                one.rmdir()
    if not all(seen):
        blind = ", ".join(str(i) for i, sees in enumerate(seen) if not sees)
        raise InputError(
            f"{folder} is not the same folder for all {len(seen)} processes (process {blind} can't see what "
            f"process 0 writes): {advice}"
        )


@contextlib.contextmanager
def only_first_holds(hold: Callable[[], contextlib.AbstractContextManager[Any]]) -> Iterator[None]:
    """A block in which the first process holds something for all, such as a lock; all raise its errors."""
    with contextlib.ExitStack() as stack:
        first(lambda: stack.enter_context(hold()) and None)
        yield
