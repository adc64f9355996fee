"""The kind of a path: a Hugging Face model folder, a PEFT adapter folder or a GGUF file."""

import json
from pathlib import Path
from typing import Any

from introspection.errors import InputError
from introspection.runtime.json_files import read_whole

MODEL_FOLDER, ADAPTER_FOLDER, GGUF_FILE = "model folder", "adapter folder", "GGUF file"
CONFIG, WEIGHTS, WEIGHTS_INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_GGUF_MAGIC = b"GGUF"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def kind_of(path: Path) -> str:
    """One of `MODEL_FOLDER`, `ADAPTER_FOLDER`, `GGUF_FILE`.

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
        if not (path / ADAPTER_WEIGHTS).is_file():
            raise _without_weights(path, ADAPTER_WEIGHTS)
        return ADAPTER_FOLDER
    if not (path / CONFIG).is_file():
        raise InputError(
            f"{path} is not a model: it has neither {CONFIG} (a Hugging Face model) nor {ADAPTER_CONFIG} "
            "(a PEFT adapter)"
        )
    if not (path / WEIGHTS).is_file() and not (path / WEIGHTS_INDEX).is_file():
        raise _without_weights(path, f"{WEIGHTS} or {WEIGHTS_INDEX}")
    return MODEL_FOLDER


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
            f"{folder} has only pickled weights ({', '.join(pickles)}), which can run code and are never "
            "read; if you trust them, convert them with transformers or peft: "
            "from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
        )
    return InputError(f"{folder} has no weights: {wanted} is missing")
