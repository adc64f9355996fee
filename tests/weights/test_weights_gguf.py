"""GGUF files: metadata to a config, tensors in our layout, and what is refused."""

import math

import gguf
import numpy as np
import pytest
from gguf_cases import params_of, write_gguf
from row_files import refusal
from tiny import mesh_of
from weights_cases import assert_same_leaves

from introspection.models.config import RopeScaling
from introspection.weights.folder import GGUF_FILE, kind_of
from introspection.weights.gguf import GGUFFile
from introspection.weights.load import load_gguf_tensors
from introspection.weights.tensor_names import named_leaves

QUERY, DOWN = "blk.1.attn_q.weight", "blk.0.ffn_down.weight"


def load_gguf(path, mesh):
    """Config and parameters of a GGUF file."""
    file = GGUFFile(path)
    return file.config, load_gguf_tensors(file, mesh)


def refused(path, *says) -> str:
    return refusal(load_gguf, path, mesh_of(), says=says)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_numbers_and_config_are_those_written(tmp_path, architecture):
    path = tmp_path / "model.gguf"
    config = write_gguf(path, architecture)
    assert kind_of(path) == GGUF_FILE
    loaded_config, params = load_gguf(path, mesh_of())
    assert loaded_config == config
    assert_same_leaves(params, params_of(architecture))


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3"])
def test_gemmas_norms_lose_the_one_that_was_added(tmp_path, architecture):
    layers = 6 if architecture == "gemma3" else 2
    pattern = (True, True, True, True, True, False) if architecture == "gemma3" else (True, False)
    config = write_gguf(tmp_path / "model.gguf", architecture, layers=layers, windowed_layers=pattern)
    loaded_config, params = load_gguf(tmp_path / "model.gguf", mesh_of())
    assert loaded_config == config
    expected = named_leaves(params_of(architecture, layers=layers, windowed_layers=pattern))
    for name, leaf in named_leaves(params).items():
        tolerance = 2e-7 if name.endswith("scale") else 0
        np.testing.assert_allclose(leaf, expected[name], atol=tolerance, rtol=0, err_msg=name)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 2, 2)])
def test_quantised_tensors_are_dequantised_also_by_slice(tmp_path, sizes):
    write_gguf(tmp_path / "model.gguf", quantized=True)
    _, params = load_gguf(tmp_path / "model.gguf", mesh_of(*sizes))
    kind = gguf.GGMLQuantizationType.Q8_0

    def rounded(path, leaf):
        leaf = np.asarray(leaf)
        rows = leaf.swapaxes(-1, -2) if path.endswith("kernel") else leaf  # blocks lie along the inputs
        if path.endswith("scale"):
            return leaf
        rows = gguf.dequantize(gguf.quantize(np.ascontiguousarray(rows), kind), kind)
        return rows.swapaxes(-1, -2) if path.endswith("kernel") else rows

    for path, leaf in named_leaves(params_of("llama")).items():
        np.testing.assert_array_equal(named_leaves(params)[path], rounded(path, leaf), err_msg=path)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama3s_divisors_of_frequencies_are_recognised(tmp_path, factor):
    # As convert_hf_to_gguf.py computes them.
    divisors, half = [], 8 // 2
    for i in range(half):
        length = 2 * math.pi * 500_000.0 ** (i / half)
        smooth = min(max((8192 / length - 1.0) / (4.0 - 1.0), 0.0), 1.0)
        divisors.append(1 / ((1 - smooth) / factor + smooth))
    scaling = RopeScaling("llama3", factor, 1.0, 4.0, 8192)
    divisors = np.array(divisors, np.float32)
    assert 1 == divisors.min() < divisors.max() == factor
    tensors = {"rope_freqs.weight": divisors}
    config = write_gguf(tmp_path / "a.gguf", tensors=tensors, rope_base=500_000.0, rope_scaling=scaling)
    loaded_config, params = load_gguf(tmp_path / "a.gguf", mesh_of())
    assert loaded_config == config
    assert_same_leaves(params, params_of("llama", rope_base=500_000.0, rope_scaling=scaling))
    write_gguf(tmp_path / "b.gguf", tensors={"rope_freqs.weight": divisors * 2}, rope_base=500_000.0)
    assert "rope_freqs.weight is of no published Llama 3" in refused(tmp_path / "b.gguf")


@pytest.mark.parametrize("keep", [4, 20, 100, 1000, -5000, -1], ids=lambda keep: f"{keep}_bytes")
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "model.gguf"
    write_gguf(path)
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, f"{path} can't be read: it is truncated or damaged")


@pytest.mark.parametrize(
    ("metadata", "phrase"),
    [
        ({"expert_count": 8}, "llama.expert_count=8 is not supported"),
        ({"rope.dimension_count": 4}, "llama.rope.dimension_count=4 is not supported"),
        ({"rope.scaling.type": "yarn"}, "'yarn' is not supported"),
        ({"attention.sliding_window": 64}, "llama.attention.sliding_window=64 is not supported"),
        ({"attention.causal": 0}, "llama.attention.causal=0 is not supported"),
        (
            {"embedding_scale": 2.0},
            "llama.embedding_scale=2.0 is not supported, and options are never ignored",
        ),
        ({"feed_forward_length": None}, "the metadata has no llama.feed_forward_length"),
        ({"attention.head_count": 0}, "llama.attention.head_count is 0; it must be a whole number"),
        ({"embedding_length": "32"}, "llama.embedding_length is '32'; it must be a whole number"),
    ],
)
def test_options_are_refused_by_name(tmp_path, metadata, phrase):
    write_gguf(tmp_path / "a.gguf", metadata=metadata)
    refused(tmp_path / "a.gguf", phrase)


def test_other_architectures_are_refused_by_name(tmp_path):
    write_gguf(tmp_path / "a.gguf", named="phi3")
    refused(tmp_path / "a.gguf", "'phi3' is not supported; supported are llama, qwen2")


@pytest.mark.parametrize(("every", "refuses"), [(2, False), (3, True)])
def test_the_pattern_of_windows_is_the_familys(tmp_path, every, refuses):
    pattern = {"attention.sliding_window_pattern": every}
    write_gguf(tmp_path / "model.gguf", "gemma2", metadata=pattern)
    if refuses:
        assert "gemma2.attention.sliding_window_pattern=3 is not" in refused(tmp_path / "model.gguf")
    else:
        load_gguf(tmp_path / "model.gguf", mesh_of())


@pytest.mark.parametrize("field", ["rope.scaling.factor", "rope.scale_linear"])
def test_a_factor_without_a_kind_is_linear(tmp_path, field):
    left_out = {"rope.scaling.type": None, "rope.scaling.factor": None}
    write_gguf(tmp_path / "model.gguf", metadata=left_out | {field: 4.0})
    config, _ = load_gguf(tmp_path / "model.gguf", mesh_of())
    assert config.rope_scaling == RopeScaling("linear", 4.0)


def test_one_report_names_every_tensor_that_does_not_fit(tmp_path):
    changed = {
        QUERY: np.zeros((8, 8), np.float32),
        DOWN: None,
        "blk.0.attn_q.bias": np.zeros(32, np.float32),
        "blk.0.ffn_up.weight": np.zeros((64, 32), np.int8),
    }
    write_gguf(tmp_path / "model.gguf", tensors=changed)
    refused(
        tmp_path / "model.gguf",
        "(4 tensors)",
        f"{QUERY} is (8, 8) in the checkpoint and (32, 32) in the model",
        f"{DOWN} (32, 64) is missing",
        "blk.0.attn_q.bias (32,) is not in the model",
        "blk.0.ffn_up.weight is I8, which can't be read",
    )


def test_fields_are_those_of_the_file(tmp_path):
    write_gguf(tmp_path / "model.gguf")
    fields = GGUFFile(tmp_path / "model.gguf").fields
    assert fields["general.architecture"] == "llama"
    assert fields["llama.block_count"] == 2
