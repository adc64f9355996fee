"""A child process for what strangers wrote: chat templates, tokenizers and parquet files are read there.

None can be bounded from within: one expression of a template (`'x'.ljust(10**10)`), one text that a
tokenizer encodes, or one page of a parquet file may take all memory or run for ever, and a library may abort
its process.

A child starts in a tenth of a second, since it imports no JAX, answers in about a tenth of a millisecond,
and ends with its parent. After a request that it does not survive there is a new one.
"""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator
from multiprocessing.connection import Pipe
from typing import Any, NamedTuple

_WALL_FACTOR = 8  # processor time passes slowly on a busy machine


class Limits(NamedTuple):
    """What one answer may take, and all together hardly more (`child_program.py`)."""

    seconds: float  # of processor time
    memory: int  # bytes of the child's data


class ChildError(Exception):
    """A request took more than its limits; the message is the rest of a sentence."""


class Child:
    """A process that runs `child_program.py`, as long as this object lives.

    Args:
      module: has a function `answers`, which takes the fields of a request and yields its answers.
    """

    def __init__(self, module: str, limits: Limits) -> None:
        self.limits = limits
        self.connection, theirs = Pipe()
        program = [sys.executable, "-P", "-m", "introspection.runtime.child_program", module]
        # What the parent can import, wherever it started; and one thread, since each reserves memory.
        settings = {"PYTHONPATH": os.pathsep.join(sys.path), "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        allocators = {"MALLOC_ARENA_MAX": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
        self.process = subprocess.Popen(
            [*program, *map(str, (theirs.fileno(), limits.seconds, limits.memory))],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # where libraries write their panics
            start_new_session=True,  # the terminal's Ctrl-C is for the parent
            env={**os.environ, **settings, **allocators},
        )
        theirs.close()
        weakref.finalize(self, _end, self.process, self.connection)

    def ask(self, **request: Any) -> Iterator[bytes]:
        """The answers to a request, each as the child gives it.

        Raises:
          ChildError: one took more than the limits; the child has ended.
        """
        seconds, memory = self.limits
        with contextlib.suppress(EOFError, OSError):  # it ended; its exit code says why
            self.connection.send_bytes(json.dumps(request).encode())
            while self.connection.poll(_WALL_FACTOR * seconds):
                answer = self.connection.recv_bytes()
                if not answer:
                    return
                yield answer
            self.process.kill()
        code = self.process.wait()
        if code in (-signal.SIGPROF, -signal.SIGKILL):
            raise ChildError(f"takes more than {seconds:g} s")
        raise ChildError(f"needs more than {memory >> 20} MB, or crashes (exit code {code})")


@contextlib.contextmanager
def lent_child(module: str, limits: Limits) -> Iterator[Child]:
    """A child of this process that nobody else asks now.

    It is kept for the next one, unless the block ends early (also by Ctrl-C): then the next request would get
    answers to this one.
    """
    idle = _idle(os.getpid(), module, limits)
    try:
        child = idle.pop()
    except IndexError:
        child = Child(module, limits)
    yield child
    idle.append(child)


@functools.cache
def _idle(process: int, module: str, limits: Limits) -> list[Child]:
    del process, module, limits  # a forked process must not share its parent's children
    return []


def _end(process: subprocess.Popen, connection: Any) -> None:
    connection.close()
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
