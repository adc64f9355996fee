"""SIGTERM and Ctrl-C: training finishes its step and saves; everything else ends at once.

A process has one set of signal handlers, so what has arrived is kept in this module. Of several processes any
may get a signal, and all must stop at the same place: JAX's preemption service agrees on it. All call
`is_asked` at the same places (between steps, between batches of a probe), and it becomes true for all at the
same one.
"""

import contextlib
import itertools
import os
import signal
from collections.abc import Iterator
from types import FrameType

from jax.experimental import multihost_utils

from introspection.runtime import processes

INTERRUPTED = 128 + signal.SIGINT  # a shell's exit code for Ctrl-C
TERMINATED = 128 + signal.SIGTERM

_arrived: list[int] = []
_deferring: list[bool] = []
_agreed: list[bool] = []
_places = itertools.count()


def listen(catch_terminate: bool) -> None:
    """Installs the handlers; called once a command has joined its other processes.

    Args:
      catch_terminate: whether SIGTERM is a request to save and resume later; otherwise it ends the process.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in the background of a shell
        signal.signal(signal.SIGINT, _handle)
    if processes.count() == 1 and catch_terminate:  # of several processes, JAX's service catches it
        signal.signal(signal.SIGTERM, _handle)


def _handle(number: int, frame: FrameType | None) -> None:
    del frame
    _arrived.append(number)
    if len(_arrived) > 1 or (processes.count() == 1 and not _deferring):
        raise KeyboardInterrupt
    if processes.count() > 1:
        os.kill(os.getpid(), signal.SIGTERM)  # what JAX's service listens to


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """A block that asks `is_asked` by itself, and where a first signal interrupts nothing."""
    _deferring.append(True)
    try:
        yield
    finally:
        _deferring.pop()


def is_asked() -> bool:
    """Whether to stop here, for all processes alike; true from then on."""
    if processes.count() == 1:
        return bool(_arrived)
    if multihost_utils.reached_preemption_sync_point(next(_places)):
        _agreed.append(True)
    return bool(_agreed)


def stop_if_asked() -> None:
    """Raises KeyboardInterrupt in all processes at the same call, unless a block around it is `deferred`."""
    if is_asked() and not _deferring:
        stop()


def stop(said: str = "") -> None:
    """Raises KeyboardInterrupt, in all processes, where `is_asked`."""
    if processes.any_process(signal.SIGINT in _arrived) and signal.SIGINT not in _arrived:
        _arrived.append(signal.SIGINT)
    raise KeyboardInterrupt(said)


def is_agreed() -> bool:
    """Whether all processes stop together."""
    return bool(_agreed)


def exit_code(resumes: bool) -> int:
    """That of a command which a signal has ended; one that resumes has done what SIGTERM asks for."""
    if signal.SIGINT in _arrived or not (_arrived or _agreed):
        return INTERRUPTED
    return 0 if resumes else TERMINATED
