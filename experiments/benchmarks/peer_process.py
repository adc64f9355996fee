"""A peer library in its own process and environment, which works on request and is otherwise idle.

The peers (torch, transformers, peft, lm-evaluation-harness) are not requirements of this library: they are in
`tests/requirements-peers.txt`, and their side of a comparison is a script in `tests/peers`.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from introspection.errors import InputError, RunError

ROOT = Path(__file__).parents[2]
VARIABLE = "INTROSPECTION_PEERS"


def peers_python() -> Path:
    """The python of the peers' environment. Raises InputError if there is none."""
    python = Path(os.environ.get(VARIABLE) or ROOT / ".peers" / "bin" / "python")
    if not python.exists():
        raise InputError(
            f"{python} is missing: python3 -m venv .peers && .peers/bin/pip install -r "
            f"tests/requirements-peers.txt, or set {VARIABLE} to a python that has them"
        )
    return python


class Peer:
    """A script in `tests/peers` that answers each JSON line with a JSON line."""

    def __init__(self, script: str, folder: Path):
        """Starts it with a folder to read from, and waits until it is ready.

        Raises:
          InputError: the peers' environment is missing.
          RunError: it exited instead.
        """
        quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | quiet
        # A file, since nobody reads a pipe while this process works.
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [str(peers_python()), str(ROOT / "tests" / "peers" / script), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )
        self._stdin: Any = self._process.stdin
        self._stdout: Any = self._process.stdout
        self.versions: dict[str, str] = self._answer()

    def ask(self, **command: Any) -> dict[str, Any]:
        """The answer to a command. Raises RunError if it exits instead."""
        print(json.dumps(command), file=self._stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        while line := self._stdout.readline():
            if line.startswith("{"):  # libraries print lines of their own
                return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        raise RunError(f"the peer exited: {self._errors.read()[-2000:]}")

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self._stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._errors.close()
