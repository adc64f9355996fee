"""Tiny models of every family, and their folders in the layout of Hugging Face."""

import functools
import json

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file
from tiny import mesh_of, tiny_config, tiny_variables

from introspection.models.config import LoraConfig, RopeScaling
from introspection.weights.export import export_model
from introspection.weights.load import load_folder
from introspection.weights.tensor_names import named_leaves

GEMMA = dict(
    activation="gelu",
    zero_centered_norms=True,
    post_norms=True,
    scale_embedding=True,
    window=8,
    query_scale=12**-0.5,
)
FAMILIES = {
    "llama": dict(tied_head=False, rope_scaling=RopeScaling("llama3", 8.0, original_context_length=16)),
    "mistral": dict(tied_head=False, window=8),
    "qwen2": dict(qkv_bias=True),
    "qwen3": dict(qk_norm=True, head_dim=12),
    "gemma2": dict(
        **GEMMA, attention_softcap=20.0, final_softcap=10.0, windowed_layers=(True, False), rope_base=1e4
    ),
    "gemma3_text": dict(
        **GEMMA, qk_norm=True, windowed_layers=(True, False), rope_base=1e6, local_rope_base=1e4
    ),
}
LORA = LoraConfig(rank=3, alpha=5.0, targets=("query", "value", "down"))
SHARDED = 9000  # bytes a shard, of which there are several then


def config_of(family: str, **changes):
    return tiny_config(**(FAMILIES[family] | changes))


def params_of(family: str, **changes) -> dict:
    return tiny_variables(config_of(family, **changes))["params"]


def write_model(folder, family="llama", shard_bytes=1 << 30, **changes):
    config = config_of(family, **changes)
    export_model(folder, config, params_of(family, **changes), {}, {}, shard_bytes)
    return config


def change_tensors(file, **changes) -> None:
    """Rewrites a safetensors file with tensors changed, added or, where None, left out."""
    tensors = {**load_file(file), **changes}
    save_file({name: array for name, array in tensors.items() if array is not None}, file)


def halved(folder, keep=()):
    """A model folder of one file, whose tensors become bfloat16, but for those named."""
    file = folder / "model.safetensors"
    tensors = {name: array for name, array in load_file(file).items() if name not in keep}
    change_tensors(file, **{name: array.astype(ml_dtypes.bfloat16) for name, array in tensors.items()})
    return folder


def change_json(file, **changes) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def assert_same_leaves(actual, expected) -> None:
    """Equal bit by bit, names, dtypes and shapes too."""
    actual, expected = named_leaves(actual), named_leaves(expected)
    assert actual.keys() == expected.keys()
    for name, leaf in actual.items():
        assert leaf.dtype == expected[name].dtype, name
        np.testing.assert_array_equal(np.asarray(leaf), np.asarray(expected[name]), err_msg=name)


@functools.cache
def one_device():
    return mesh_of()


def load(folder, mesh=None, parameter_dtype="float32"):
    return load_folder(folder, mesh or one_device(), parameter_dtype)
