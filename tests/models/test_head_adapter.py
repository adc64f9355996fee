"""An adapter of the head: it starts at nothing, and is trained, merged and split like any other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import mesh_of, task_model, tiny_config, tiny_variables
from training_jobs import OPTIMIZER, VALUES, batch, start, with_new_adapters

from configs import quickstart
from introspection.checkpoints.names import model_fingerprint
from introspection.errors import InputError
from introspection.models.config import PROJECTIONS, LoraConfig
from introspection.models.decoder import forward
from introspection.models.head import HEAD_ADAPTER, head_matrix
from introspection.models.model import merge_adapters
from introspection.runs.config import read_config
from introspection.runtime.mesh import parameter_shardings
from introspection.training.batches import stack_batches
from introspection.training.objectives import ObjectiveConfig
from introspection.training.step import train_steps

LORA = LoraConfig(2, 4.0, targets=(*PROJECTIONS, "head"))


def adapted_model():
    """A model with random adapters."""
    return task_model(lora=LORA, tied_head=False)


def logits(model):
    tokens = jnp.arange(4, 10)[None]
    places, segments = jnp.arange(6)[None], jnp.zeros((1, 6), jnp.int32)
    hidden = forward(model.config, model.variables, tokens, places, segments).hidden[0]
    return np.asarray(hidden @ head_matrix(model.variables, model.config).T)


def trained(model, lora=LORA, steps=3):
    config = dataclasses.replace(model.config, lora=lora)
    state, frozen = start(model, 1)
    batches = stack_batches([[batch(i, 0)] for i in range(steps)])
    step = jax.jit(train_steps, static_argnums=(0, 1, 2, 3))
    state, _ = step(config, ObjectiveConfig(), OPTIMIZER, "loop", state, frozen, batches, VALUES)
    adapters = jax.tree.map(lambda leaf: leaf[0], state.trainable["lora"])
    return model.with_variables({**model.variables, "lora": adapters})


def test_it_starts_at_nothing_and_is_trained_and_merged():
    model = adapted_model()
    down, up = (model.variables["lora"][HEAD_ADAPTER][side] for side in "AB")
    assert (down.shape, up.shape) == ((model.config.width, 2), (2, model.config.vocab_size))
    fresh = with_new_adapters(model)
    np.testing.assert_array_equal(
        head_matrix(fresh.variables, fresh.config), model.variables["params"]["head"]
    )
    after = trained(fresh)
    assert float(jnp.abs(after.variables["lora"][HEAD_ADAPTER]["B"]).max()) > 0
    merged = merge_adapters(after)
    assert merged.config.lora is None
    np.testing.assert_allclose(logits(merged), logits(after), atol=1e-4)
    assert np.abs(logits(after) - logits(fresh)).max() > 1e-3
    by_head_alone = fresh.with_variables(
        {
            **fresh.variables,
            "lora": {**fresh.variables["lora"], HEAD_ADAPTER: after.variables["lora"][HEAD_ADAPTER]},
        }
    )
    assert model_fingerprint(by_head_alone) != model_fingerprint(fresh)


@pytest.mark.parametrize("layers", [{"layers": "1"}, {"from_layer": 1}])
def test_it_is_trained_whatever_layers_are(layers):
    lora = dataclasses.replace(LORA, **layers)
    model = task_model(lora=lora, tied_head=False)
    before, after = model.variables["lora"], trained(model, lora).variables["lora"]
    assert not np.array_equal(before[HEAD_ADAPTER]["B"], after[HEAD_ADAPTER]["B"])
    for name in ("query", "down"):
        moved = np.abs(np.asarray(after["layers"][name]["B"]) - np.asarray(before["layers"][name]["B"])).max(
            (1, 2)
        )
        assert moved[0] == 0 < moved[1]


def test_no_device_of_a_mesh_has_all_of_it():
    mesh, adapters = mesh_of(fsdp=2, tensor=2), adapted_model().variables["lora"][HEAD_ADAPTER]
    placed = parameter_shardings({HEAD_ADAPTER: adapters}, mesh)[HEAD_ADAPTER]
    width, vocab = adapters["A"].shape[0], adapters["B"].shape[1]
    assert placed["A"].shard_shape((width, 2)) == (width // 2, 2)
    assert placed["B"].shard_shape((2, vocab)) == (2, vocab // 4)


def test_a_tied_head_or_the_head_alone_is_refused():
    with pytest.raises(InputError, match="head is its embedding"):
        tiny_config(lora=LORA, tied_head=True)
    config = quickstart.get_config("tiny")
    config.lora.rank, config.lora.targets, config.model.tied_head = 2, LORA.targets, True
    with pytest.raises(InputError, match="has the head, but with"):
        read_config(config)
    with pytest.raises(InputError, match="beside the head, name a projection"):
        LoraConfig(2, 4.0, targets=("head",))
    assert "head_adapter" in tiny_variables(tiny_config(lora=LORA, tied_head=False))["lora"]
