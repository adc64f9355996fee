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
from introspection.models.config import LoraConfig
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
        {"modules_to_save": ["lm_head", "norm"]},
        {"trainable_token_indices": [3]},
        {"target_parameters": ["mlp.experts.gate_up_proj"]},
        {"alora_invocation_tokens": [1, 2]},
        {"bias": "lora_only"},
        {"lora_bias": True},
        {"fan_in_fan_out": True},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "PiSSA_niter_4"},
        {"an_option_of_tomorrow": True},
        {"peft_type": "IA3"},
    ],
    ids=lambda option: next(iter(option)),
)
def test_options_that_are_not_implemented_are_refused_by_name(tmp_path, option):
    folder = write(tmp_path / "adapter")
    change_json(folder / CONFIG, **option)
    refused(folder, str(folder / CONFIG), next(iter(option)), "merge_and_unload")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("r", 0),
        ("r", True),
        ("r", 10**400),
        ("lora_alpha", None),
        ("lora_alpha", float("nan")),
        ("lora_alpha", float("inf")),
        ("target_modules", {"q_proj": 1}),
        ("exclude_modules", [1]),
        ("modules_to_save", "lm_head"),
        ("layers_to_transform", [0, "1"]),
        ("layers_pattern", 3),
        ("rank_pattern", {"q_proj": 0}),
        ("rank_pattern", {"q_proj": 2.0}),
        ("alpha_pattern", ["q_proj"]),
        ("use_rslora", "false"),
        ("target_modules", "(q_proj"),
        ("rank_pattern", {"q_proj)": 3}),
        ("exclude_modules", "(.*.*.*.*.*.*)*!"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_field_that_can_not_be_read_is_named(tmp_path, field, value):
    folder = write(tmp_path / "adapter")
    change_json(folder / CONFIG, **{field: value})
    message = refused(folder, str(folder / CONFIG))
    assert field in message or "pattern" in message
    assert len(message) < len(str(folder)) + 400


@pytest.mark.parametrize("changes", [{"r": 10**8}, {"rank_pattern": {"v_proj": 2}}])
def test_a_rank_that_is_not_the_tensors_is_refused_before_anything_is_made_of_it(tmp_path, changes):
    folder = write(tmp_path / "adapter")
    change_json(folder / CONFIG, **changes)
    wanted = changes.get("r", 2)
    refused(folder, "(3, 16) in the checkpoint", f"and ({wanted}, 16) in the model")


def uneven(folder):
    """Query and down in layer 0 alone, at rank 3 and alpha 5; value at rank 2 and alpha 8."""
    write(folder)
    tensors = load_file(folder / WEIGHTS)
    left_out = {name: None for name in tensors if "layers.1" in name and "v_proj" not in name}
    smaller = {
        name: array[:2] if "lora_A" in name else np.ascontiguousarray(array[:, :2])
        for name, array in tensors.items()
        if "v_proj" in name
    }
    change_tensors(folder / WEIGHTS, **left_out, **smaller)
    change_json(
        folder / CONFIG,
        target_modules=r".*\.0\..*|.*v_proj",
        exclude_modules=["k_proj", "o_proj", "gate_proj", "up_proj"],
        rank_pattern={"v_proj": 2},
        alpha_pattern={r"self_attn\.v_proj": 8},
    )
    return folder


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 2, 2)])
def test_modules_that_differ_are_read_at_one_rank_and_scale(tmp_path, sizes):
    mesh = mesh_of(*sizes)
    lora, loaded = load_adapters(uneven(tmp_path / "adapter"), config_of("llama"), mesh)
    assert lora == LoraConfig(3, 3.0, LORA.targets)  # whose scale is 1
    assert_placed(loaded, mesh)
    expected = {}
    for part, leaves in adapters()["layers"].items():
        down, up = np.array(leaves["A"]), np.array(leaves["B"])
        if part == "value":
            down[:, :, 2:], up[:, 2:] = 0, 0
            up *= np.float32(8 / 2)
        else:
            down[1], up[1] = 0, 0
            up *= np.float32(5 / 3)
        expected[part] = {"A": down, "B": up}
    assert_same_leaves(loaded, {"layers": expected})


def test_modules_that_the_config_leaves_out_may_have_no_tensors(tmp_path):
    folder = write(tmp_path / "adapter")
    change_json(folder / CONFIG, layers_to_transform=[0])
    refused(folder, "adapters of 3 modules", "model.layers.1.self_attn.q_proj first", "PEFT would ignore")
    # A module that is named in full is adapted whatever its layer.
    full = [f"model.layers.1.{name}" for name in ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")]
    change_json(folder / CONFIG, target_modules=["q_proj", "v_proj", "down_proj", *full])
    assert_same_leaves(load_adapters(folder, config_of("llama"))[1], adapters())


def test_one_of_two_tied_matrices_is_unclear_unless_it_is_listed(tmp_path):
    folder, config = write(tmp_path / "adapter"), config_of("llama", tied_head=True)
    head = np.zeros((50, 16), np.float32)
    change_tensors(folder / WEIGHTS, **{"base_model.model.lm_head.weight": head})
    assert "unclear whether it replaces both" in refusal(load_adapters, folder, config)
    change_json(folder / CONFIG, modules_to_save=["lm_head"])
    load_adapters(folder, config)
    change_json(folder / CONFIG, modules_to_save=["lm_head", "embed_tokens"])
    refusal(load_adapters, folder, config, says=["embed_tokens.weight (50, 16) is missing"])


def test_options_that_are_off_or_without_effect_are_accepted(tmp_path):
    folder = write(tmp_path / "adapter")
    change_json(
        folder / CONFIG,
        lora_dropout=0.1,
        init_lora_weights="gaussian",
        rank_pattern={},
        loftq_config={},
        eva_config={"rho": 2.0},
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
