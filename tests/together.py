"""One command as several processes on this machine, joined by gloo over the loopback, for the slow tests."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from programs import ROOT

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
    """The processes of one command, in order."""

    def __init__(
        self,
        count: int,
        name: str,
        *arguments: object,
        cache: Path,
        devices: int = 1,
        caches: Mapping[int, Path] | None = None,
    ):
        """`caches` are those of processes that do not share `cache`."""
        with socket.socket() as found:
            found.bind(("localhost", 0))
            port = found.getsockname()[1]
        self.folder = Path(tempfile.mkdtemp(dir=cache.parent))
        # Compiling is most of the time; see conftest.
        flags = f"--xla_backend_optimization_level=0 --xla_force_host_platform_device_count={devices}"
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": flags,
            "COLUMNS": "200",
        }
        command = [sys.executable, "-m", f"experiments.{name}", *map(str, arguments)]
        # A single process is the plain command, which starts no distributed runtime.
        place = [f"--coordinator=localhost:{port}", f"--processes={count}"] if count > 1 else []
        self.processes = [
            subprocess.Popen(
                [*command, *place, *([f"--process={i}"] if place else [])],
                stdout=(self.folder / f"{i}.out").open("w"),
                stderr=(self.folder / f"{i}.err").open("w"),
                cwd=ROOT,
                env=environment | {"INTROSPECTION_CACHE": str((caches or {}).get(i, cache))},
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
            for i in range(count)
        ]

    def when(self, condition: Callable[[], object]) -> None:
        """Returns once a condition holds; all processes must still run then."""
        deadline = time.monotonic() + MOST_SECONDS
        while not condition():
            assert time.monotonic() < deadline
            for i, process in enumerate(self.processes):
                assert process.poll() is None, (i, (self.folder / f"{i}.err").read_text())
            time.sleep(0.05)

    def send(self, number: int, process: int) -> None:
        self.processes[process].send_signal(number)

    def wait(self) -> list[Ended]:
        """How each ended."""
        started, seconds = time.monotonic(), dict[int, float]()
        while len(seconds) < len(self.processes):
            for i, process in enumerate(self.processes):
                if i not in seconds and process.poll() is not None:
                    seconds[i] = time.monotonic() - started
            if time.monotonic() - started > MOST_SECONDS:
                for process in self.processes:
                    process.kill()
            time.sleep(0.05)
        return [
            Ended(
                process.returncode,
                (self.folder / f"{i}.out").read_text(),
                (self.folder / f"{i}.err").read_text(),
                seconds[i],
            )
            for i, process in enumerate(self.processes)
        ]

    def wait_well(self) -> list[Ended]:
        ended = self.wait()
        assert [one.code for one in ended] == [0] * len(ended), [one.stderr for one in ended]
        return ended
