"""A GGUF file: its configuration, and its tensors read by slice, dequantised and in Hugging Face's order."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from introspection.errors import InputError
from introspection.models.config import ModelConfig
from introspection.weights.folder import GGUF_FILE, kind_of
from introspection.weights.gguf_config import INTERLEAVED_ROPE, ONE_ADDED_TO_NORMS, hugging_face_fields
from introspection.weights.hf_config import model_config

_ROPE_DIVISORS = "rope_freqs.weight"  # of Llama 3; its numbers are in `config`


class _Reader(gguf.GGUFReader):
    """The package's reader on a plain array.

    It slices the file about five times a vocabulary entry, and half of its time goes into what `np.memmap`
    does for each slice.
    """

    @property
    def data(self) -> np.ndarray:
        return self._data

    @data.setter
    def data(self, mapped: np.ndarray) -> None:
        self._data = np.asarray(mapped)


class GGUFFile:
    """One model of an architecture that `gguf_config.ARCHITECTURES` names."""

    def __init__(self, path: Path):
        """Reads the metadata; tensors are read when they are asked for.

        Raises:
          InputError: the file is truncated or no GGUF file, or holds a model that this code can't run.
        """
        if kind_of(path) != GGUF_FILE:
            raise InputError(f"{path} is no GGUF file")
        try:
            reader = _Reader(path)
            self.fields: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
        except Exception as error:  # the library checks no length, so a short file ends in many kinds
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{path} can't be read: it is truncated or damaged ({reason})") from error
        self.path = path
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        # GGUF lists the fastest dimension first.
        shapes = {name: tuple(map(int, tensor.shape[::-1])) for name, tensor in self._tensors.items()}
        self.shapes = {name: shape for name, shape in shapes.items() if name != _ROPE_DIVISORS}
        self.architecture: str = self.fields.get("general.architecture", "")
        divisors = self._dequantized(_ROPE_DIVISORS, slice(None)) if _ROPE_DIVISORS in shapes else None
        self.config: ModelConfig = model_config(
            hugging_face_fields(self.fields, shapes, divisors, str(path)), str(path)
        )

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """A slice of a tensor as float32, (out, in) with rows and norms as Hugging Face has them."""
        rows, *columns = index
        if self.architecture in INTERLEAVED_ROPE and name.endswith(("attn_q.weight", "attn_k.weight")):
            heads = self.config.query_heads if name.endswith("attn_q.weight") else self.config.kv_heads
            rows = half_split_rows(heads, self.shapes[name][0] // heads)[rows]
        part = self._dequantized(name, rows)[(slice(None), *columns)]

        if self.architecture in ONE_ADDED_TO_NORMS and name.endswith("norm.weight"):
            part = part - 1.0
        return part

    def unreadable(self, names: Iterable[str]) -> list[str]:
        """One phrase for each tensor of a quantisation that the package `gguf` can't read."""
        problems = []
        for name in names:
            if name in self._tensors:
                try:
                    self._dequantized(name, slice(0, 1))
                except NotImplementedError:
                    problems.append(f"{name} is {self._tensors[name].tensor_type.name}, which can't be read")
        return problems

    def _dequantized(self, name: str, rows: slice | np.ndarray) -> np.ndarray:
        tensor = self._tensors[name]
        return gguf.dequantize(np.ascontiguousarray(tensor.data[rows]), tensor.tensor_type)


def half_split_rows(heads: int, head_dim: int) -> np.ndarray:
    """Where in the file each row of a query or key matrix is, for rotary embeddings of the half-split layout.

    llama.cpp stores a head's rows 0, h, 1, h + 1, … (h half of `head_dim`).
    """
    return np.arange(heads * head_dim).reshape(heads, head_dim // 2, 2).swapaxes(1, 2).reshape(-1)
