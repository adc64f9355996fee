"""Matrices that stay bfloat16 in memory, as their files have them, are the same model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from elsewhere import adapter_folder, chat_folder
from tiny import mesh_of, random_tokens, tiny_task, tiny_variables
from weights_cases import halved

from introspection.checkpoints.names import abstract_variables, model_fingerprint
from introspection.errors import InputError
from introspection.models.config import LoraConfig
from introspection.models.decoder import forward
from introspection.models.model import Model, merge_adapters
from introspection.probes.behavior import Readout
from introspection.probes.behavior_cache import behavior_key
from introspection.runs.config import RunConfig
from introspection.runs.train_config import AdaptersConfig
from introspection.runs.trainable import trainable_parts
from introspection.weights.load import named_leaves
from introspection.weights.pretrained import find_pretrained, load_pretrained_model


def loaded(name, keep_bfloat16):
    return load_pretrained_model(find_pretrained(str(name)), mesh_of(), keep_bfloat16)


def test_they_are_half_as_large_and_compute_and_are_named_the_same(tmp_path):
    folder = halved(chat_folder(tmp_path / "model"))
    kept, wide = (loaded(folder, keep) for keep in (True, False))
    leaves = named_leaves(kept.variables["params"])
    assert {str(leaf.dtype) for name, leaf in leaves.items() if not name.endswith("scale")} == {"bfloat16"}
    assert {str(leaf.dtype) for name, leaf in leaves.items() if name.endswith("scale")} == {"float32"}
    shapes = [(leaf.shape, leaf.dtype) for leaf in leaves.values()]
    restored = named_leaves(abstract_variables(kept.config)["params"])
    assert shapes == [(leaf.shape, leaf.dtype) for leaf in restored.values()]
    assert model_fingerprint(kept) == model_fingerprint(wide)
    tokens = jnp.array([random_tokens(np.random.default_rng(0), 9)])
    places = jnp.arange(9)[None]
    read = [
        forward(model.config, model.variables, tokens, places, 0 * places).hidden for model in (kept, wide)
    ]
    np.testing.assert_array_equal(*read)


WIDER = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("wider", "asked", "dtype"),
    [((), False, "float32"), ((WIDER,), True, "float32"), (("model.norm.weight",), True, "bfloat16")],
)
def test_matrices_stay_so_if_one_asks_and_all_of_them_are(tmp_path, wider, asked, dtype):
    model = loaded(halved(chat_folder(tmp_path / "model"), keep=wider), keep_bfloat16=asked)
    assert model.config.parameter_dtype == dtype
    assert model.variables["params"]["layers"]["up"]["kernel"].dtype == dtype


def test_all_that_is_trained_is_float32(tmp_path):
    kept = loaded(halved(chat_folder(tmp_path / "model")), True)
    for lora in (AdaptersConfig(), AdaptersConfig(rank=2, base_dtype="bfloat16")):
        config, (trained,), frozen = trainable_parts(RunConfig(lora=lora), kept, seeds=(0,))
        assert {leaf.dtype for leaf in jax.tree.leaves(trained)} == {jnp.dtype("float32")}
        assert config.parameter_dtype == ("bfloat16" if frozen else "float32")


@pytest.mark.slow
def test_the_backward_pass_keeps_no_wider_copy_of_a_matrix(tmp_path):
    kept = loaded(halved(chat_folder(tmp_path / "model")), True)
    config = dataclasses.replace(kept.config, lora=LoraConfig(2, 2.0))
    tokens = jnp.zeros((1, 4), jnp.int32)

    def total(adapters):
        both = {"params": kept.variables["params"], "lora": adapters}
        return forward(config, both, tokens, tokens, tokens).hidden.sum()

    adapters = tiny_variables(config)["lora"]
    kept_arrays = jax.tree.leaves(jax.vjp(total, adapters)[1])
    shape = kept.variables["params"]["layers"]["up"]["kernel"].shape
    assert "float32" not in {str(array.dtype) for array in kept_arrays if array.shape == shape}


def test_a_behavior_that_was_read_before_is_found_by_the_same_key(tmp_path):
    folder, items = halved(chat_folder(tmp_path / "model")), tiny_task().splits["test"]
    scored = Readout("score")
    kept, wide = (behavior_key(loaded(folder, keep), "one", items, scored) for keep in (True, False))
    assert kept == wide


def test_what_adapters_are_merged_into_is_float32(tmp_path):
    folder = halved(chat_folder(tmp_path / "model"))
    kept, adapted = loaded(folder, True), loaded(adapter_folder(tmp_path / "adapters", folder), False)
    config = dataclasses.replace(kept.config, lora=adapted.config.lora)
    variables = {**kept.variables, "lora": adapted.variables["lora"]}
    merged = merge_adapters(Model(config, kept.tokenizer, variables))
    assert merged.config.parameter_dtype == "float32"
    expected = merge_adapters(adapted).variables
    jax.tree.map(np.testing.assert_array_equal, merged.variables, expected)


def test_a_dtype_of_frozen_matrices_needs_frozen_matrices():
    with pytest.raises(InputError, match="with rank 0 all parameters are trained"):
        AdaptersConfig(base_dtype="bfloat16")
    with pytest.raises(InputError, match="base_dtype"):
        AdaptersConfig(rank=2, base_dtype="float16")
