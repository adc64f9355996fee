"""A child process for what strangers wrote: chat templates are rendered there, tokenizer files tried.

Neither can be bounded from within: one expression of a template (`'x'.ljust(10**10)`) or one text that a
tokenizer encodes may take all memory or run for ever, and the tokenizers' library may abort its process.

A process has one child for templates. It starts in a tenth of a second, since it imports no JAX, answers in
about a tenth of a millisecond, and ends with its parent. After a request that it does not survive there is a
new one.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any, NamedTuple

from introspection.errors import InputError


class Limits(NamedTuple):
    """What one request may take, and all together hardly more (`child_program.py`)."""

    seconds: float  # of processor time
    memory: int  # bytes of the child's data


TEMPLATE = Limits(1.0, 256 << 20)
TOKENIZER = Limits(6.0, 1 << 30)  # a vocabulary of 262,000 pieces takes 1.5 s and 270 MB
_WALL_FACTOR = 8  # processor time passes slowly on a busy machine


class ChildError(Exception):
    """A request took more than its limits; the message is the rest of a sentence."""


class Child:
    """A process that runs `child_program.py`, as long as this object lives."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.lock = limits, threading.Lock()
        self.connection, theirs = Pipe()
        program = [sys.executable, "-P", "-m", "introspection.text.child_program"]
        # What the parent can import, wherever it started; and one thread, since each reserves memory.
        settings = {"PYTHONPATH": os.pathsep.join(sys.path), "RAYON_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*program, *map(str, (theirs.fileno(), limits.seconds, limits.memory))],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # where the library writes its panics
            start_new_session=True,  # the terminal's Ctrl-C is for the parent
            env={**os.environ, **settings, "MALLOC_ARENA_MAX": "1"},
        )
        theirs.close()
        weakref.finalize(self, _end, self.process, self.connection)

    def ask(self, request: dict[str, Any]) -> dict[str, str]:
        """The answer to a request. Raises ChildError, and the child has ended, if there is none."""
        seconds, memory = self.limits
        with self.lock:
            try:
                self.connection.send_bytes(json.dumps(request).encode())
                if self.connection.poll(_WALL_FACTOR * seconds):
                    return json.loads(self.connection.recv_bytes())
                self.process.kill()
            except (EOFError, OSError):
                pass  # it ended; its exit code says why
            code = self.process.wait()
        if code in (-signal.SIGPROF, -signal.SIGKILL):
            raise ChildError(f"takes more than {seconds:g} s")
        raise ChildError(f"needs more than {memory >> 20} MB, or crashes (exit code {code})")


def ask_template_child(request: dict[str, Any]) -> dict[str, str]:
    """What `child_program.py` answers, of a template's process. Raises ChildError."""
    try:
        return _template_child(os.getpid()).ask(request)
    except BaseException:  # Ctrl-C too, or the next request would get this one's answer
        _template_child.cache_clear()
        raise


@functools.lru_cache(maxsize=1)
def _template_child(process: int) -> Child:
    del process  # a forked process must not share its parent's child
    return Child(TEMPLATE)


def check_tokenizer_file(path: Path) -> None:
    """Reads a stranger's `tokenizer.json` and encodes sample texts, in a process of its own.

    Raises:
      InputError: the library fails, or takes too much time or memory.
    """
    stat = path.stat()
    if fault := _tokenizer_fault(str(path.resolve()), (stat.st_ino, stat.st_size, stat.st_mtime_ns)):
        raise InputError(f"{path}: not a readable tokenizer ({' '.join(fault.split())})")


@functools.lru_cache(maxsize=64)
def _tokenizer_fault(path: str, version: tuple[int, ...]) -> str:
    del version  # a file is tried once, and again when it changes
    try:
        return Child(TOKENIZER).ask({"tokenizer": path}).get("fault", "")
    except ChildError as error:
        return f"it {error}"


def _end(process: subprocess.Popen, connection: Any) -> None:
    connection.close()
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
