"""Writes our parameters as a folder for transformers: safetensors, config.json and the tokenizer's files."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from introspection.errors import InputError
from introspection.models.config import ModelConfig
from introspection.runtime.lock import held
from introspection.runtime.processes import first, gather, is_first
from introspection.runtime.workdir import LOCK
from introspection.weights.folder import CONFIG, WEIGHTS, WEIGHTS_INDEX
from introspection.weights.hf_config import hf_config
from introspection.weights.tensor_names import TensorName, hugging_face_names, named_leaves

SHARD_BYTES = 5_000_000_000
_METADATA = {"format": "pt"}  # required by transformers


def export_model(
    folder: Path,
    config: ModelConfig,
    params: dict,
    other_files: Mapping[str, bytes],
    token_ids: Mapping[str, int],
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a Hugging Face model folder, whole or not at all.

    Tensors keep their leaves' dtypes. `other_files`, such as the tokenizer's, are written by name, and
    `token_ids`, such as eos_token_id, go into config.json. A shard is at most `shard_bytes` unless it is a
    single tensor; a single shard is written as `model.safetensors`, without an index. The host holds one
    shard at a time.

    Raises:
      InputError: the folder is not empty, or transformers has no model type for this config.
    """
    leaves = named_leaves(params)
    # transformers can't load a padding token beyond the embedding.
    known = {name: index for name, index in token_ids.items() if index < config.vocab_size}
    fields = hf_config(config, str(leaves["embedding"].dtype), **known)
    names = hugging_face_names(leaves, config.post_norms)
    sizes = {
        tensor: int(np.prod(shape)) * leaf.dtype.itemsize
        for path, leaf in leaves.items()
        for tensor, shape in names[path].stored_shapes(leaf.shape).items()
    }
    shards = split_into_shards(sizes, shard_bytes)
    tensors = stored_tensors(leaves, names)

    def write(target: Path) -> None:
        if is_first():
            (target / CONFIG).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
            for name, content in other_files.items():
                (target / name).write_bytes(content)
        files = [WEIGHTS]
        if len(shards) > 1:
            files = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
            index = {
                "metadata": {"total_size": sum(sizes.values())},
                "weight_map": {name: file for file, own in zip(files, shards, strict=True) for name in own},
            }
            if is_first():
                (target / WEIGHTS_INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        for file, own in zip(files, shards, strict=True):
            save_tensors({name: tensors[name]() for name in own}, target / file)

    write_folder(folder, write)


def stored_tensors(
    leaves: Mapping[str, Any], names: Mapping[str, TensorName]
) -> dict[str, Callable[[], np.ndarray]]:
    """For each tensor of the file, a function that brings it to the host in the file's layout; all processes
    call it."""

    def tensor(path: str, layer: int) -> np.ndarray:
        name, leaf = names[path], leaves[path]
        array = gather(leaf[layer] if name.stacked else leaf)
        return np.ascontiguousarray(array.T if name.transposed else array)

    return {
        names[path].of_layer(layer): lambda path=path, layer=layer: tensor(path, layer)
        for path, leaf in leaves.items()
        for layer in range(leaf.shape[0] if names[path].stacked else 1)
    }


def split_into_shards(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Names in order, split before a shard would exceed `limit` bytes."""
    shards: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if not shards or size > room:
            shards.append([])
            room = limit
        shards[-1].append(name)
        room -= size
    return shards


def save_tensors(tensors: Mapping[str, np.ndarray], file: Path) -> None:
    """A safetensors file with the permissions of the files beside it (the library's are narrower); of several
    processes the first writes it."""
    if not is_first():
        return
    file.touch()
    mode = file.stat().st_mode
    save_file(dict(tensors), file, metadata=_METADATA)
    file.chmod(mode)


def check_empty(folder: Path) -> None:
    """Raises InputError if a folder is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty: name another folder")


def check_makeable(folder: Path) -> None:
    """Raises InputError if a folder can't be made: for a check before hours of work."""
    nearest = next(parent for parent in folder.parents if parent.exists())
    if not nearest.is_dir():
        raise InputError(f"{folder}: {nearest} is a file: name another folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: {nearest} is not writable: name another folder")


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Fills a folder by `write`, under a temporary name until it is complete.

    All processes call `write`, of which the first alone may write.

    Raises:
      InputError: the folder is not empty, or another process fills it.
    """
    folder = folder.resolve()
    first(lambda: check_empty(folder))
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    if unfinished.is_symlink():
        raise InputError(f"{unfinished} is a link: remove it")

    def replace() -> None:
        check_empty(folder)
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
        (folder / LOCK).unlink(missing_ok=True)

    with held(unfinished):  # by one command at a time
        first(lambda: _clear(unfinished))  # of what a killed one left
        try:
            write(unfinished)
        except BaseException:
            if is_first():
                _clear(unfinished)
            raise
        first(replace)


def _clear(folder: Path) -> None:
    for path in [path for path in folder.iterdir() if path.name != LOCK]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
