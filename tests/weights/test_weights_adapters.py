"""PEFT adapters: what is written comes back bit by bit; options not implemented are refused by name."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from row_files import refusal
from safetensors.numpy import load_file
from tiny import assert_placed, mesh_of, tiny_config, tiny_variables
from weights_cases import LORA, assert_same_leaves, change_json, change_tensors, config_of

from introspection.errors import InputError
from introspection.models.decoder import Decoder
from introspection.models.model import merged_parameters
from introspection.weights.adapters import export_adapters, load_adapters
from introspection.weights.folder import ADAPTER_FOLDER, kind_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
VALUE_A = "base_model.model.model.layers.1.self_attn.v_proj.lora_A.weight"


def adapters():
    return tiny_variables(config_of("llama", lora=LORA))["lora"]


def write(folder):
    export_adapters(folder, LORA, adapters(), base="some/base")
    return folder


def refused(folder, *says) -> str:
    return refusal(load_adapters, folder, config_of("llama"), says=says)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 2, 2)])
def test_adapters_come_back_bit_by_bit_on_any_mesh(tmp_path, sizes):
    folder, mesh = write(tmp_path / "adapter"), mesh_of(*sizes)
    assert kind_of(folder) == ADAPTER_FOLDER
    lora, loaded = load_adapters(folder, config_of("llama"), mesh)
    assert lora == LORA
    assert_same_leaves(loaded, adapters())
    assert_placed(loaded, mesh)
    assert_same_leaves(load_adapters(folder, config_of("llama"))[1], adapters())


def test_the_layout_is_pefts(tmp_path):
    tensors = load_file(write(tmp_path / "adapter") / WEIGHTS)
    assert len(tensors) == 2 * 2 * 3
    np.testing.assert_array_equal(tensors[VALUE_A], adapters()["layers"]["value"]["A"][1].T)
    fields = json.loads((tmp_path / "adapter" / CONFIG).read_text())
    assert fields["peft_type"] == "LORA"
    assert (fields["r"], fields["lora_alpha"]) == (3, 5)
    assert fields["target_modules"] == ["down_proj", "q_proj", "v_proj"]
    assert fields["base_model_name_or_path"] == "some/base"


@pytest.mark.parametrize(
    "option",
    [
        {"use_dora": True},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 4}},
        {"alpha_pattern": {"q_proj": 4}},
        {"modules_to_save": ["lm_head"]},
        {"bias": "lora_only"},
        {"lora_bias": True},
        {"fan_in_fan_out": True},
        {"layers_to_transform": [0]},
        {"init_lora_weights": "pissa"},
        {"an_option_of_tomorrow": True},
        {"peft_type": "IA3"},
        {"r": 0},
        {"lora_alpha": None},
    ],
    ids=lambda option: next(iter(option)),
)
def test_options_that_are_not_implemented_are_refused_by_name(tmp_path, option):
    folder = write(tmp_path / "adapter")
    change_json(folder / CONFIG, **option)
    refused(folder, str(folder / CONFIG), next(iter(option)))


def test_options_that_are_off_or_without_effect_are_accepted(tmp_path):
    folder = write(tmp_path / "adapter")
    change_json(
        folder / CONFIG,
        layers_to_transform=[0, 1],
        lora_dropout=0.1,
        init_lora_weights="gaussian",
        rank_pattern={},
        loftq_config={},
        megatron_core="megatron.core",
        target_modules="all-linear",
        peft_version="0.21.2",
    )
    assert_same_leaves(load_adapters(folder, config_of("llama"))[1], adapters())


def test_one_report_names_every_tensor_that_does_not_fit(tmp_path):
    folder = write(tmp_path / "adapter")
    embedding = "base_model.model.model.embed_tokens.lora_embedding_A"
    change_tensors(folder / WEIGHTS, **{VALUE_A: None, embedding: np.zeros((3, 50), np.float32)})
    refused(
        folder, "(2 tensors)", f"{VALUE_A} (3, 16) is missing", f"{embedding} (3, 50) is not in the model"
    )
    with pytest.raises(InputError, match=r"\(6 tensors\)"):
        load_adapters(write(tmp_path / "other"), tiny_config(width=32))


def test_an_adapter_folder_says_what_it_lacks(tmp_path):
    folder = write(tmp_path / "adapter")
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    assert "only pickled weights (adapter_model.bin)" in refused(folder)
    (folder / "adapter_model.bin").unlink()
    assert "adapter_model.safetensors is missing" in refused(folder)
    (folder / CONFIG).unlink()
    assert "is not a model" in refused(folder)


def test_merged_parameters_compute_what_the_adapted_model_does(tmp_path):
    config = config_of("qwen2", lora=LORA)
    variables = tiny_variables(config)
    tokens = jnp.arange(4, 16)[None]
    positions, segments = jnp.arange(12)[None], jnp.zeros((1, 12), jnp.int32)
    merged = {"params": merged_parameters(variables["params"], variables["lora"], LORA)}
    adapted = Decoder(config).apply(variables, tokens, positions, segments).hidden
    plain = Decoder(config_of("qwen2")).apply(merged, tokens, positions, segments).hidden
    base = Decoder(config_of("qwen2")).apply({"params": variables["params"]}, tokens, positions, segments)
    np.testing.assert_allclose(plain, adapted, atol=2e-5)
    assert np.abs(base.hidden - adapted).max() > 0.1
