"""GGUF files: the configuration, and tensors read by slice, dequantised and in Hugging Face's order."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from introspection.errors import InputError, brief
from introspection.models.config import ModelConfig, RopeScaling
from introspection.models.rotary import rotary_frequencies
from introspection.weights.folder import GGUF_FILE, kind_of
from introspection.weights.gguf_header import read_header
from introspection.weights.hf_config import model_config

_ROPE_DIVISORS = "rope_freqs.weight"  # of Llama 3; identifies the scaling in `config`
ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3")
# Norm scales are stored as 1 + w.
ONE_ADDED_TO_NORMS = ("gemma2", "gemma3")
# Rows of query and key are reordered so that the halves that rotate together are adjacent.
INTERLEAVED_ROPE = ("llama",)
# Other keys of an architecture: those without effect, and the values that leave an unsupported option off.
WITHOUT_EFFECT = ("vocab_size", "rope.scaling.finetuned", "rope.scaling.original_context_length")
OFF = {
    "attention.causal": True,
    "expert_count": 0,
    "expert_used_count": 0,
    "leading_dense_block_count": 0,
    "logit_scale": 0.0,
    "pooling_type": 0,
    "use_parallel_residual": False,
}
# In each group of this many layers, the last has full attention.
WINDOWED_LAYERS = {"gemma2": 2, "gemma3": 6}
# Llama 3's files store the divisors of the rotary frequencies instead of their parameters, which take these
# values in every published Llama 3.1, 3.2 and 3.3.
_LLAMA3_SCALINGS = tuple(RopeScaling("llama3", factor, 1.0, 4.0, 8192) for factor in (8.0, 32.0))


class GGUFFile:
    """An open model file of an architecture in `ARCHITECTURES`."""

    def __init__(self, path: Path):
        """Reads the metadata; tensors are read on access. Any part of a split file stands for all of them.

        Raises:
          InputError: the file is truncated, not a GGUF file, or an unsupported model.
        """
        if kind_of(path) != GGUF_FILE:
            raise InputError(f"{path} is not a GGUF file")
        header = read_header(path)
        self.path, self.fields, self._tensors = path, header.fields, header.tensors
        shapes = {name: tensor.shape for name, tensor in self._tensors.items()}
        self.shapes = {name: shape for name, shape in shapes.items() if name != _ROPE_DIVISORS}
        self.architecture: str = self.fields.get("general.architecture", "")
        divisors = self._dequantized(_ROPE_DIVISORS, slice(None)) if _ROPE_DIVISORS in shapes else None
        self.config: ModelConfig = model_config(
            hugging_face_fields(self.fields, shapes, divisors, str(path)), str(path)
        )

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """A slice of a tensor as float32, (out, in), with rows and norms as in Hugging Face's files."""
        rows, *columns = index
        if self.architecture in INTERLEAVED_ROPE and name.endswith(("attn_q.weight", "attn_k.weight")):
            heads = self.config.query_heads if name.endswith("attn_q.weight") else self.config.kv_heads
            rows = half_split_rows(heads, self.shapes[name][0] // heads)[rows]
        part = self._dequantized(name, rows)[(slice(None), *columns)]
        if self.architecture in ONE_ADDED_TO_NORMS and name.endswith("norm.weight"):
            part = part - 1.0
        return part

    def unreadable(self, names: Iterable[str]) -> list[str]:
        """One phrase for each tensor whose quantisation the package `gguf` can't read."""
        problems = []
        for name in names:
            if name in self._tensors:
                try:
                    self._dequantized(name, slice(0, 1))
                except NotImplementedError:
                    problems.append(f"{name} is {self._tensors[name].kind.name}, which can't be read")
        return problems

    def _dequantized(self, name: str, rows: slice | np.ndarray) -> np.ndarray:
        tensor = self._tensors[name]
        stored = np.asarray(np.memmap(tensor.file, np.uint8, "r", tensor.start, tensor.row_shape))
        if stored.ndim == 1:  # one row, of which a part is asked for
            return gguf.dequantize(stored, tensor.kind)[rows]
        return gguf.dequantize(np.ascontiguousarray(stored[rows]), tensor.kind)


def half_split_rows(heads: int, head_dim: int) -> np.ndarray:
    """The position in the file of each row of a query or key matrix, in half-split rotary order.

    llama.cpp stores a head's rows as 0, h, 1, h + 1, … (h is half of `head_dim`).
    """
    return np.arange(heads * head_dim).reshape(heads, head_dim // 2, 2).swapaxes(1, 2).reshape(-1)


def hugging_face_fields(
    metadata: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    rope_divisors: np.ndarray | None,
    source: str,
) -> dict[str, Any]:
    """config.json's fields from GGUF metadata; `rope_divisors` is the tensor rope_freqs.weight.

    Raises:
      InputError: an architecture or option is unsupported, or a field is missing.
    """
    architecture = metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise InputError(
            f"{source}: the architecture {brief(architecture)} is not supported; "
            f"supported are {', '.join(ARCHITECTURES)}"
        )

    known: set[str] = {*WITHOUT_EFFECT}

    def get(name: str, default: Any = None) -> Any:
        known.add(name)
        return metadata.get(f"{architecture}.{name}", default)

    def need(name: str) -> Any:
        if get(name) is None:
            raise InputError(f"{source}: the metadata has no {architecture}.{name}; convert the model again")
        return get(name)

    def size(name: str, default: int | None = None) -> int:
        value = need(name) if default is None else get(name, default)
        if not isinstance(value, int) or value < 1:
            raise InputError(
                f"{source}: {architecture}.{name} is {brief(value)}; it must be a whole number of at least "
                "1, the same in all layers"
            )
        return value

    heads, width, layers = size("attention.head_count"), size("embedding_length"), size("block_count")
    stored = len({name.split(".")[1] for name in shapes if name.startswith("blk.")})
    if layers > stored:  # before anything is made for each layer
        raise InputError(f"{source}: {architecture}.block_count is {layers}, but there are {stored} layers")
    head_dim = size("attention.key_length", max(width // heads, 1))
    for name, wanted in (
        ("rope.dimension_count", head_dim),
        ("attention.value_length", head_dim),
        *OFF.items(),
    ):
        if get(name, wanted) != wanted:
            raise InputError(f"{source}: {architecture}.{name}={brief(get(name))} is not supported")
    if "token_embd.weight" not in shapes:
        raise InputError(f"{source}: the tensor token_embd.weight is missing")
    fields = {
        "model_type": "gemma3_text" if architecture == "gemma3" else architecture,
        "vocab_size": shapes["token_embd.weight"][0],
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": get("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "intermediate_size": need("feed_forward_length"),
        "max_position_embeddings": need("context_length"),
        "rms_norm_eps": need("attention.layer_norm_rms_epsilon"),
        "rope_theta": get("rope.freq_base", 10_000.0),
        "rope_scaling": _rope_scaling(get, head_dim, rope_divisors, source),
        "tie_word_embeddings": "output.weight" not in shapes,
    }
    if architecture.startswith("gemma"):
        fields |= _gemma_fields(architecture, fields, get, source)
    else:
        fields |= {"hidden_act": "silu"}
    own = {key.removeprefix(f"{architecture}.") for key in metadata if key.startswith(f"{architecture}.")}
    if unknown := sorted(own - known):
        key = f"{architecture}.{unknown[0]}"
        raise InputError(
            f"{source}: {key}={brief(metadata[key])} is not supported, and options are never ignored"
        )
    return fields


def _gemma_fields(
    architecture: str, fields: Mapping[str, Any], get: Callable[..., Any], source: str
) -> dict[str, Any]:
    layers, heads, width = (
        fields[name] for name in ("num_hidden_layers", "num_attention_heads", "hidden_size")
    )
    largest = {"gemma2": 46, "gemma3": 62}[architecture]  # the 27B models scale queries differently
    every = WINDOWED_LAYERS[architecture]
    windowed = [(layer + 1) % every != 0 for layer in range(layers)]
    pattern = get("attention.sliding_window_pattern", every)
    if pattern not in (every, windowed):
        raise InputError(
            f"{source}: {architecture}.attention.sliding_window_pattern={brief(pattern)} is not supported; "
            f"only a window in every layer but each {every}th is"
        )
    gemma = {
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": width // heads if layers == largest else fields["head_dim"],
        "sliding_window": get("attention.sliding_window", 4096),
        "layer_types": ["sliding_attention" if local else "full_attention" for local in windowed],
    }
    if architecture == "gemma2":
        return gemma | {
            "attn_logit_softcapping": get("attn_logit_softcapping", 50.0),
            "final_logit_softcapping": get("final_logit_softcapping", 30.0),
        }
    return gemma | {
        "rope_theta": get("rope.freq_base", 1_000_000.0),
        "rope_local_base_freq": get("rope.freq_base_swa", 10_000.0),
        "attn_logit_softcapping": None,
        "final_logit_softcapping": get("final_logit_softcapping"),
    }


def _rope_scaling(
    get: Callable[..., Any], head_dim: int, divisors: np.ndarray | None, source: str
) -> dict[str, Any] | None:
    if divisors is not None:
        base = get("rope.freq_base", 10_000.0)
        fits = divisors.shape == (head_dim // 2,) and isinstance(base, int | float) and base > 0
        for scaling in _LLAMA3_SCALINGS if fits else ():
            plain, scaled = (np.asarray(rotary_frequencies(head_dim, base, to)) for to in (None, scaling))
            if np.allclose(plain / scaled, divisors, rtol=1e-4):
                return {
                    "rope_type": scaling.kind,
                    "factor": scaling.factor,
                    "low_freq_factor": scaling.low_frequency_factor,
                    "high_freq_factor": scaling.high_frequency_factor,
                    "original_max_position_embeddings": scaling.original_context_length,
                }
        raise InputError(f"{source}: rope_freqs.weight is of no published Llama 3; it is not supported")
    # As in llama.cpp: a factor without a kind is linear, and older files use another name.
    factor = get("rope.scaling.factor", get("rope.scale_linear", 0.0))
    kind = get("rope.scaling.type", "linear" if factor else "none")
    if kind == "none":
        return None
    # `model_config` rejects kinds other than linear by name.
    return {"rope_type": kind, "factor": factor or 1.0}
