"""The child process in which other people's files are read first (see `child.py`).

It reads one request after another from a connection, and ends with its parent. An answer that takes too long
ends it by SIGPROF, too much memory by an error or an abort.
"""

import contextlib
import importlib
import json
import resource
import signal
import sys
from multiprocessing.connection import Connection

_LIBRARIES = 1 << 30  # bytes of address space
_SECONDS_BACK = 0.02


def main(module: str, descriptor: int, seconds: float, memory: int) -> None:
    """Answers requests until the parent is gone; nothing follows the last answer to one.

    Args:
      module: whose function `answers` does.
      descriptor: of the connection's end.
      seconds: of processor time for one answer; the process ends when they are over. What an answer uses is
        missing for the next ones, and each gets 20 ms back, more than fifty times what a template needs.
      memory: bytes of data, for the process. Some systems only limit the address space, of which libraries
        and locales take a part; macOS limits neither.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    limits = {resource.RLIMIT_DATA: memory, resource.RLIMIT_AS: memory + _LIBRARIES, resource.RLIMIT_CORE: 0}
    for kind, limit in limits.items():
        with contextlib.suppress(ValueError, OSError):  # a lower one holds already
            resource.setrlimit(kind, (limit, limit))
    answers = importlib.import_module(module).answers
    connection, left = Connection(descriptor), seconds
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        while True:
            asked = answers(**json.loads(connection.recv_bytes()))
            answer = b"any"
            while answer:
                signal.setitimer(signal.ITIMER_PROF, left)
                answer = next(asked, b"")
                left, _ = signal.setitimer(signal.ITIMER_PROF, 0)
                left = min(left + _SECONDS_BACK, seconds)
                connection.send_bytes(answer)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
