"""Checkpoints into our parameter tree; each device reads only its part of each leaf from the file."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from introspection.errors import InputError, listed
from introspection.models.config import ModelConfig
from introspection.models.decoder import initialize
from introspection.runtime import processes
from introspection.runtime.mesh import parameter_shardings
from introspection.runtime.processes import any_process, together
from introspection.weights.folder import CONFIG, MODEL_FOLDER, kind_of, read_json_object
from introspection.weights.gguf import GGUFFile
from introspection.weights.hf_config import model_config
from introspection.weights.safetensors_files import SafetensorsFiles, open_folder
from introspection.weights.tensor_names import (
    TensorName,
    gguf_names,
    hugging_face_names,
    named_leaves,
    shape_problems,
    tree_of,
)

# Buffers stored by old versions of transformers; the decoder computes them.
_HARMLESS = ("rotary_emb.inv_freq",)
_NORM = "norm.weight"
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
_COMPARED_ROWS = 4096
_CHECKED_BYTES = 1 << 26  # at a time, for finite numbers
_ALIGNMENT = 64  # bytes


@runtime_checkable
class TensorSource(Protocol):
    @property
    def shapes(self) -> dict[str, tuple[int, ...]]: ...

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray: ...

    def unreadable(self, names: Any) -> list[str]: ...


def load_folder(
    folder: Path, mesh: jax.sharding.Mesh, parameter_dtype: str = "float32"
) -> tuple[ModelConfig, dict]:
    """A Hugging Face model folder as `(config, params)`, placed on the mesh.

    Raises:
      InputError: the model is not supported, a file is damaged, the tensors do not match config.json, or a
        number is not finite (the message names the first of them).
    """
    if kind_of(folder) != MODEL_FOLDER:
        raise InputError(f"{folder} is not a model folder with {CONFIG} and weights")
    config = model_config(read_json_object(folder / CONFIG), str(folder / CONFIG))
    config = dataclasses.replace(config, parameter_dtype=parameter_dtype)
    return config, load_safetensors(open_folder(folder), str(folder), config, mesh)


def is_bfloat16(folder: Path) -> bool:
    """Whether a model folder's matrices are bfloat16 throughout, so that keeping them so loses nothing.
    Norms' scales are float32 in any case."""
    dtypes = open_folder(folder).dtypes
    kept = {dtype for name, dtype in dtypes.items() if not name.endswith((*_HARMLESS, _NORM))}
    return kept == {"BF16"}


def check_folder(folder: Path, config: ModelConfig) -> None:
    """Checks a model folder by its headers, and a stored head against a tied embedding.

    Raises InputError as `load_folder`.
    """
    check_safetensors(open_folder(folder), str(folder), config)


def check_gguf_tensors(file: GGUFFile) -> None:
    """Checks an open file's names and shapes against its config. Raises InputError as `load_folder`."""
    check_sizes(file, str(file.path), file.config)
    abstract = abstract_parameters(file.config)
    check_tensors(file, str(file.path), abstract, gguf_names(named_leaves(abstract)))


def load_gguf_tensors(file: GGUFFile, mesh: jax.sharding.Mesh) -> dict:
    """The parameters of an open GGUF file. Raises InputError as `load_folder`."""
    check_sizes(file, str(file.path), file.config)
    abstract = abstract_parameters(file.config)
    return load_tree(file, str(file.path), abstract, gguf_names(named_leaves(abstract)), mesh)


def load_safetensors(
    files: SafetensorsFiles, where: str, config: ModelConfig, mesh: jax.sharding.Mesh
) -> dict:
    """The parameters of `config` from open files; `where` starts an error message.

    Raises:
      InputError: as `check_safetensors`.
    """
    check_safetensors(files, where, config)
    abstract = abstract_parameters(config)
    names = hugging_face_names(named_leaves(abstract), config.post_norms)
    return load_tree(files, where, abstract, names, mesh, _surplus(files, config))


def check_safetensors(files: SafetensorsFiles, where: str, config: ModelConfig) -> None:
    """Checks open files' names and shapes against a config.

    A stored head beside a tied embedding must equal it bit by bit; otherwise it is unclear which is meant.

    Raises:
      InputError: as `load_folder`.
    """
    check_sizes(files, where, config)
    abstract = abstract_parameters(config)
    names = hugging_face_names(named_leaves(abstract), config.post_norms)
    check_tensors(files, where, abstract, names, _surplus(files, config))  # before reading two of them
    if config.tied_head and _HEAD in files.shapes and not _equal(files, _HEAD, _EMBEDDING):
        raise InputError(
            f"{where}: tie_word_embeddings is true, but {_HEAD} differs from {_EMBEDDING}; "
            f"set it to false in {CONFIG}, or remove the tensor"
        )


def _surplus(files: SafetensorsFiles, config: ModelConfig) -> set[str]:
    doubled = {_HEAD} if config.tied_head else set()
    return {name for name in files.shapes if name.endswith(_HARMLESS) or name in doubled}


def check_sizes(source: TensorSource, where: str, config: ModelConfig) -> None:
    """Checks a config's sizes against what is stored, before anything of these sizes is made.

    Raises:
      InputError: some of the parameters alone would be more than all tensors together have.
    """
    stored = sum(map(math.prod, source.shapes.values()))
    wanted = {
        "the embedding (vocabulary × width)": config.vocab_size * config.width,
        "the queries (layers × width × heads × head_dim)": config.layers
        * config.width
        * config.query_heads
        * config.head_dim,
        "the MLPs (layers × width × mlp_width)": config.layers * config.width * config.mlp_width,
    }
    for what, count in wanted.items():
        if count > stored:
            raise InputError(
                f"{where} does not fit the model: {what} would have {count} numbers, but all tensors "
                f"together have {stored}"
            )


def abstract_parameters(config: ModelConfig) -> dict:
    """Shapes and dtypes of the parameter tree."""
    return jax.eval_shape(lambda key: initialize(config, key)["params"], jax.random.key(0))


def load_tree(
    source: TensorSource,
    where: str,
    abstract: dict,
    names: Mapping[str, TensorName],
    mesh: jax.sharding.Mesh,
    ignored: Set[str] = frozenset(),
) -> dict:
    """Every leaf of `abstract`, read from the tensors in `names` and sharded by `parameter_shardings`.

    Raises:
      InputError: as `check_tensors`; or numbers are not finite in the leaf's dtype, of which nothing could be
        decided (each process checks what it reads, and tells the others).
    """
    check_tensors(source, where, abstract, names, ignored)
    leaves = named_leaves(abstract)
    shardings = named_leaves(parameter_shardings(abstract, mesh))
    make_array: Any = jax.make_array_from_callback  # its type allows an index of None
    spoiled: dict[str, None] = {}
    read = {
        path: make_array(leaf.shape, shardings[path], _reader(source, names[path], leaf, spoiled), leaf.dtype)
        for path, leaf in leaves.items()
    }

    def check() -> None:
        if spoiled:
            raise InputError(
                f"{where} has numbers that are not finite (NaN or infinite) in {listed(spoiled)}; "
                "the file is damaged or its training diverged: give another checkpoint"
            )

    together(check)
    return tree_of(read)


def check_tensors(
    source: TensorSource,
    where: str,
    abstract: dict,
    names: Mapping[str, TensorName],
    ignored: Set[str] = frozenset(),
) -> None:
    """Compares the stored names, shapes and dtypes with a tree's; reads no numbers.

    Raises:
      InputError: tensors are missing, surplus (except those `ignored`), misshapen or of an unreadable dtype.
    """
    wanted: dict[str, tuple] = {}
    for path, leaf in named_leaves(abstract).items():
        wanted |= names[path].stored_shapes(leaf.shape)
    check_shapes(source, where, wanted, ignored)


def check_shapes(
    source: TensorSource,
    where: str,
    wanted: Mapping[str, tuple[int, ...]],
    ignored: Set[str] = frozenset(),
) -> None:
    """Compares stored names, shapes and dtypes with those `wanted`. Raises InputError as `check_tensors`."""
    stored = {name: shape for name, shape in source.shapes.items() if name not in ignored}
    problems = shape_problems(stored, dict(wanted)) + source.unreadable(wanted)
    if problems:
        raise InputError(
            f"{where} does not fit the model ({len(problems)} tensors): {listed(problems, '; ')}"
        )


def _reader(
    source: TensorSource, name: TensorName, leaf: jax.ShapeDtypeStruct, spoiled: dict[str, None]
) -> Callable[[tuple[slice, ...]], np.ndarray]:
    """A function that reads one device's part of a leaf; devices with the same part share a copy.

    Tensors with numbers that are not finite are added to `spoiled`.
    """
    parts: dict[str, np.ndarray] = {}

    def read(index: tuple[slice, ...]) -> np.ndarray:
        if str(index) not in parts:
            parts[str(index)] = _read_part(source, name, leaf, index, spoiled)
        return parts[str(index)]

    return read


def _read_part(
    source: TensorSource,
    name: TensorName,
    leaf: jax.ShapeDtypeStruct,
    index: tuple[slice, ...],
    spoiled: dict[str, None],
) -> np.ndarray:
    ranges = [range(*own.indices(size)) for own, size in zip(index, leaf.shape, strict=True)]
    part = _empty([len(own) for own in ranges], leaf.dtype)
    layers, inner = (ranges[0], index[1:]) if name.stacked else (range(1), index)
    places = part if name.stacked else part[None]
    for place, layer in zip(places, layers, strict=True):
        # Only one layer's slice is in memory besides the part; it is cast while copied.
        with np.errstate(all="ignore"):  # what overflows is found next
            if name.transposed:
                place[...] = source.read(name.of_layer(layer), inner[::-1]).T
            else:
                place[...] = source.read(name.of_layer(layer), inner)
        blocks = np.array_split(place, place.nbytes // _CHECKED_BYTES + 1)
        if not all(np.isfinite(block).all() for block in blocks):
            spoiled[name.of_layer(layer)] = None
    return part


def _empty(shape: list[int], dtype: np.dtype) -> np.ndarray:
    """An aligned array, which a CPU device takes over; it would copy an unaligned one."""
    size = int(np.prod(shape)) * dtype.itemsize
    room = np.empty(size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size].view(dtype).reshape(shape)


def _equal(files: SafetensorsFiles, one: str, other: str) -> bool:
    if files.shapes.get(one) != files.shapes.get(other) or files.dtypes[one] != files.dtypes[other]:
        return False
    rows = files.shapes[one][0]
    # Each process compares its share, so that together they read both tensors once.
    starts = range(processes.index() * _COMPARED_ROWS, rows, processes.count() * _COMPARED_ROWS)
    blocks = [(slice(start, min(start + _COMPARED_ROWS, rows)),) for start in starts]
    same = all(files.read(one, block).tobytes() == files.read(other, block).tobytes() for block in blocks)
    return not any_process(not same)
