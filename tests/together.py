"""One command as several processes on this machine, joined by gloo over the loopback, for the slow tests."""

import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from programs import QUICK_COMPILING, Programs

MOST_SECONDS = 900.0  # of one command, on a busy machine


class Ended(NamedTuple):
    code: int
    stdout: str
    stderr: str
    seconds: float  # from the start of the wait to the end of this process

    @property
    def said(self) -> list[str]:
        """The lines on stderr that are the command's own."""
        return [line for line in self.stderr.splitlines() if line.startswith(("error:", "stopped:"))]


class Together:
    """The processes of one command, in order: one on each of the first `count` servers."""

    def __init__(
        self,
        servers: Sequence[Programs],
        count: int,
        name: str,
        *arguments: object,
        devices: int = 1,
        caches: Mapping[int, Path] | None = None,
        environment: Mapping[str, str] | None = None,
    ):
        """`caches` are of processes that do not share their servers'; `environment` is added to all."""
        for server in servers:
            server.end_last()
        with socket.socket() as found:
            found.bind(("localhost", 0))
            port = found.getsockname()[1]
        flags = f"{QUICK_COMPILING} --xla_force_host_platform_device_count={devices}"
        # A single process is the plain command, which starts no distributed runtime.
        place = [f"--coordinator=localhost:{port}", f"--processes={count}"] if count > 1 else []
        self.processes = [
            servers[i].start(
                name,
                *arguments,
                *place,
                *([f"--process={i}"] if place else []),
                cache=(caches or {}).get(i),
                environment={"XLA_FLAGS": flags, **(environment or {})},
            )
            for i in range(count)
        ]

    def when(self, condition: Callable[[], object]) -> None:
        """Returns once a condition holds; all processes must still run then."""
        deadline = time.monotonic() + MOST_SECONDS
        while not condition():
            assert time.monotonic() < deadline
            for i, process in enumerate(self.processes):
                assert process.runs(), (i, process.errors())
            time.sleep(0.05)

    def send(self, number: int, process: int) -> None:
        self.processes[process].send(number)

    def wait(self) -> list[Ended]:
        """How each ended."""
        started, ended = time.monotonic(), dict[int, Ended]()
        while len(ended) < len(self.processes):
            for i, process in enumerate(self.processes):
                if i not in ended and not process.runs():
                    ended[i] = Ended(*process.wait(), time.monotonic() - started)
            if time.monotonic() - started > MOST_SECONDS:
                for process in self.processes:
                    process.send(signal.SIGKILL)
            time.sleep(0.05)
        return [ended[i] for i in range(len(self.processes))]

    def wait_well(self) -> list[Ended]:
        ended = self.wait()
        assert [one.code for one in ended] == [0] * len(ended), [one.stderr for one in ended]
        return ended
