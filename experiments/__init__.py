"""Thin programs: parse flags, call the library."""

import os
import signal
import sys


def _stop(*_: object) -> None:
    os.write(2, b"error: interrupted: nothing was begun\n")
    os._exit(1)


# `python -m experiments.NAME` imports this first, then for seconds what it needs; `run_program` takes over.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _stop)
