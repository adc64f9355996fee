"""The peers that parity tests are held against run in an environment of their own, by subprocess.

A parity test is marked `parity`; its session fixture calls `run_peer`, and it reads what the script wrote.
"""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
VARIABLE = "INTROSPECTION_PEERS"


def peers_python() -> Path:
    """The python of the peers' environment; a test that needs it fails without one, it does not skip."""
    chosen = os.environ.get(VARIABLE)
    python = Path(chosen) if chosen else ROOT / ".peers" / "bin" / "python"
    if not python.exists():
        pytest.fail(
            f"there is no {python}; install the peers with `python3 -m venv .peers && .peers/bin/pip install "
            f"-r tests/requirements-peers.txt`, or set {VARIABLE} to a python that has them",
            pytrace=False,
        )
    return python


def run_peer(script: str, folder: Path) -> Path:
    """Runs `tests/peers/<script>` with the folder to write to as its argument, and returns the folder."""
    # No network, and none of this environment's packages.
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | quiet
    command = [str(peers_python()), str(ROOT / "tests" / "peers" / script), str(folder)]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    if finished.returncode:
        pytest.fail(f"peers/{script} failed:\n{finished.stderr[-4000:]}", pytrace=False)
    return folder
