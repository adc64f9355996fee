"""Ctrl-C: it is never dropped, and ends a process at once, in one line."""

import _thread
import os
import sys
import threading
from types import TracebackType
from typing import Any, NoReturn

STARTING = "error: interrupted while the program was loading: nothing was started"


def keep_interrupts() -> None:
    """Interrupts once more where Python drops a Ctrl-C: one that arrives in a destructor or in a callback of
    the garbage collector, of which JAX has one, is ignored. One that comes before a command's `main` ends in
    a line."""
    usual, reported = sys.unraisablehook, sys.excepthook

    def unraisable(dropped: Any) -> None:
        if isinstance(dropped.exc_value, KeyboardInterrupt):
            again = threading.Timer(0.1, _thread.interrupt_main)  # once the callback is over
            again.daemon = True
            again.start()
        else:
            usual(dropped)

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            print(STARTING, file=sys.stderr)
            leave(1)
        reported(kind, error, trace)

    sys.unraisablehook, sys.excepthook = unraisable, uncaught


def leave(code: int) -> NoReturn:
    """Ends the process without Python's own end, which waits for programs that still run on a device, and
    may crash with them."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
