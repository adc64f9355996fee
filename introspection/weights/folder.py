"""The kind of a path: a Hugging Face model folder, a PEFT adapter folder or a GGUF file."""

import json
from pathlib import Path
from typing import Any

from introspection.errors import InputError, listed
from introspection.runtime.files import read_whole

MODEL_FOLDER, ADAPTER_FOLDER, GGUF_FILE = "model folder", "adapter folder", "GGUF file"
CONFIG, WEIGHTS, WEIGHTS_INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_GGUF_MAGIC = b"GGUF"
_CACHED, SNAPSHOTS, BLOBS, _MAIN = "models--", "snapshots", "blobs", "refs/main"
_TO_BLOBS, _LINKED = b"../../blobs/", (".json", ".safetensors", ".jinja", ".model", ".txt")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def kind_of(path: Path) -> str:
    """One of `MODEL_FOLDER`, `ADAPTER_FOLDER`, `GGUF_FILE`.

    A whole model beside an adapter_config.json without its weights, as merging leaves it, is a model.

    Raises:
      InputError: it is none of them; the message says what is missing. Pickled weights are never read.
    """
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(_GGUF_MAGIC)) == _GGUF_MAGIC:
                return GGUF_FILE
        if path.suffix == ".safetensors":
            raise InputError(f"{path}: name the folder with this file and {CONFIG}, not the file")
        raise InputError(f"{path} is not a GGUF file (it does not start with {_GGUF_MAGIC.decode()})")
    if not path.is_dir():
        raise InputError(f"{path} does not exist")
    if (path / ADAPTER_CONFIG).is_file():
        if (path / ADAPTER_WEIGHTS).is_file():
            return ADAPTER_FOLDER
        if not has_whole_model(path):
            raise _without_weights(path, ADAPTER_WEIGHTS)
    if not (path / CONFIG).is_file():
        if files := sorted(file.name for file in path.glob("[!.]*.gguf")):
            raise InputError(f"{path} is a folder of GGUF files; name the file: {path}/ and {listed(files)}")
        raise InputError(
            f"{path} is not a model: it has neither {CONFIG} (a Hugging Face model) nor {ADAPTER_CONFIG} "
            "(a PEFT adapter)"
        )
    if not (path / WEIGHTS).is_file() and not (path / WEIGHTS_INDEX).is_file():
        raise _without_weights(path, f"{WEIGHTS} or {WEIGHTS_INDEX}")
    return MODEL_FOLDER


def has_whole_model(folder: Path) -> bool:
    """Whether a folder has a model's config and weights, whatever else it has."""
    weights = (folder / WEIGHTS).is_file() or (folder / WEIGHTS_INDEX).is_file()
    return weights and (folder / CONFIG).is_file()


def snapshot_of(path: Path) -> Path:
    """The model that a folder of the Hugging Face cache has, `models--ORG--NAME` or the cache around a single
    one; any other path as it is.

    It is the snapshot that `refs/main` names, or the only one.

    Raises:
      InputError: there are several models; there are several snapshots and none of them is main's; there is
        none; or, of any snapshot, links are lost, or the files that they lead to are.
    """
    root = path.parent if path.name == SNAPSHOTS else path
    if path.parent.name == SNAPSHOTS and path.is_dir():
        _check_snapshot(path)
    cached = sorted(path.glob(f"{_CACHED}*")) if path.is_dir() and not (path / CONFIG).is_file() else []
    if len(cached) > 1:
        raise InputError(
            f"{path} is a cache of {len(cached)} models; give the path of one: {path}/ and "
            f"{listed(one.name for one in cached)}"
        )
    root = cached[0] if cached else root
    if not (root / SNAPSHOTS).is_dir() or (root / CONFIG).is_file():
        return path
    found = sorted(child.name for child in (root / SNAPSHOTS).iterdir() if child.is_dir())
    main = ""
    if (root / _MAIN).is_file():
        main = (root / _MAIN).read_text(encoding="utf-8", errors="replace").strip()
    if main in found or len(found) == 1:
        snapshot = root / SNAPSHOTS / (main if main in found else found[0])
        _check_snapshot(snapshot)
        return snapshot
    if not found:
        raise InputError(f"{root / SNAPSHOTS} is empty: {_whole_again(root)}")
    raise InputError(
        f"{root} has {len(found)} snapshots, and {_MAIN} names none of them; give the path of one: "
        f"{root / SNAPSHOTS}/ and {listed(found)}"
    )


def _check_snapshot(snapshot: Path) -> None:
    """Raises InputError unless a snapshot has files, and its links are links to files that are there."""
    files, cache = sorted(snapshot.iterdir()), snapshot.parent.parent
    if not files:
        raise InputError(f"{snapshot} is empty: {_whole_again(cache)}")
    for file in files:
        if file.is_symlink() and not file.exists():
            raise InputError(
                f"{file} is a link to {file.readlink()}, which is missing: the Hugging Face cache was copied "
                f"without {BLOBS}/, or in part; {_whole_again(cache)}"
            )
        if file.is_file() and file.suffix in _LINKED and _starts_with_path(file):
            raise InputError(
                f"{file} contains the path of a file in {BLOBS}/ instead of being a link to it: the Hugging "
                f"Face cache was copied without its links; {_whole_again(cache)}"
            )


def _starts_with_path(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(_TO_BLOBS)) == _TO_BLOBS


def _whole_again(cache: Path) -> str:
    """How to get a cached model as a folder of files."""
    model = cache.name.removeprefix("models--").replace("--", "/")
    return (
        f"where the cache is whole, copy {SNAPSHOTS}/REVISION as files (cp -rL), or run huggingface-cli "
        f"download {model} --local-dir FOLDER, and name that folder"
    )


def exists(path: Path) -> bool:
    """Whether there is such a path; a name that no file can have is none."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a null character
        return False


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises InputError if it can't be read as one."""
    try:
        value = json.loads(read_whole(path).decode())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} contains {type(value).__name__}, not a JSON object")
    return value


def _without_weights(folder: Path, wanted: str) -> InputError:
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        return InputError(
            f"{folder} has only pickled weights ({listed(pickles)}), which can run code and are never "
            "read; if you trust them, convert them with transformers or peft: "
            "from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
        )
    others = sorted(path.name for path in folder.glob("[!.]*.safetensors*") if path.name != ADAPTER_WEIGHTS)
    there = f"; {listed(others)} is not read: unpack or rename it, or save the model again" if others else ""
    return InputError(f"{folder} has no weights: {wanted} is missing{there}")
