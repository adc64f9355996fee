"""What is exported computes the same in transformers and peft, and adapters train there as they do here."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers_environment import run_peer
from tiny import mesh_of, tiny_tokenizer, tiny_variables
from weights_cases import FAMILIES, LORA, SHARDED, assert_same_leaves, config_of, params_of, write_model

from introspection.models.decoder import Decoder, initialize
from introspection.models.head import head_matrix, token_logits
from introspection.models.model import Model, merge_adapters, merged_parameters
from introspection.text.rows import Rows, build_row, stack_rows
from introspection.training.batches import stack_batches
from introspection.training.loop import weights
from introspection.training.objectives import Batch, ObjectiveConfig
from introspection.training.step import Frozen, OptimizerConfig, RunValues, initial_state, train_steps
from introspection.weights.adapters import export_adapters, load_adapters, with_adapters
from introspection.weights.export import export_model

pytestmark = pytest.mark.parity
TOLERANCE = 1e-4  # of float32 logits
STEPS, ROWS, TIME = 20, 4, 32
OPTIMIZER = OptimizerConfig(steps=STEPS, weight_decay=0.01)
LEARNING_RATE = 2e-2
# Adapters that PEFT makes (`peers/export.py`): the base's family and their name.
UNEVEN = [
    "llama/rslora",
    "llama/patterns",
    "qwen3/rslora_patterns",
    "llama/last_layer",
    "mistral/named_layer",
    "llama/expression",
    "llama/head",
    "qwen3/tied_head",
    "qwen3/tied_embedding",
    "qwen2/both",
    "qwen3/kept_tied",
]


def tokens() -> np.ndarray:
    return np.random.default_rng(0).integers(4, 50, (3, 40))


def batches() -> list[Rows]:
    """Rows of random prompts of different lengths with one of two replies, which is soon learnt."""
    rng = np.random.default_rng(1)
    replies = ([5, 6, 7], [8, 9, 10, 11])
    prompts = [rng.integers(4, 50, rng.integers(3, 12)).tolist() for _ in range(STEPS * ROWS)]
    rows = [build_row(prompt, [replies[i % 2]]) for i, prompt in enumerate(prompts)]
    return [stack_rows(rows[step * ROWS : (step + 1) * ROWS], TIME) for step in range(STEPS)]


def adapters_of(family):
    return tiny_variables(config_of(family, lora=LORA))["lora"]


def small_params(family):
    """Parameters whose logits are small enough for float32 to give log-probabilities to 1e-6."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf if path[-1].key == "scale" else 0.2 * leaf, params_of(family)
    )


def starting_adapters(family):
    """As training starts: A random, B zero."""
    return initialize(config_of(family, lora=LORA), jax.random.key(3))["lora"]


@pytest.fixture(scope="session")
def answers(tmp_path_factory):
    """A folder with our exports and the peers' answers to them."""
    folder = tmp_path_factory.mktemp("export")
    np.save(folder / "tokens.npy", tokens())
    for family in FAMILIES:
        write_model(folder / "models" / family, family, SHARDED if family == "qwen3" else 1 << 30)
    for family in {name.split("/")[0] for name in UNEVEN}:
        export_model(folder / "small" / family, config_of(family), small_params(family), {}, {})
    for family in ("llama", "gemma3_text"):
        lora = adapters_of(family)
        export_adapters(folder / "adapters" / family, LORA, lora, base=family)
        merged = merged_parameters(params_of(family), lora, LORA)
        export_model(folder / "models" / f"{family}_merged", config_of(family), merged, {}, {})
    for family in FAMILIES:
        export_adapters(folder / "training" / family, LORA, starting_adapters(family), base=family)
    (folder / "training" / "settings.json").write_text(
        json.dumps({**dataclasses.asdict(OPTIMIZER), "learning_rate": LEARNING_RATE})
    )
    stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *batches())
    np.savez(
        folder / "training" / "rows.npz",
        tokens=stacked.tokens,
        segments=stacked.segments,
        scored=stacked.scored,
        targets=stacked.targets[..., 0],
        counted=stacked.continuation[..., 0] >= 0,
    )
    return run_peer("export.py", folder)


@functools.partial(jax.jit, static_argnums=0)
def hidden_states(config, variables, array):
    positions = jnp.broadcast_to(jnp.arange(array.shape[1]), array.shape)
    return Decoder(config).apply(variables, array, positions, jnp.zeros_like(array)).hidden


def our_logits(config, variables) -> np.ndarray:
    array = jnp.asarray(tokens())
    hidden = hidden_states(config, variables, array)
    head = head_matrix(variables, config)
    logits = token_logits(head, hidden.reshape(-1, config.width), config.final_softcap)
    return np.asarray(logits).reshape(*array.shape, -1)


def logprobs(config, variables) -> np.ndarray:
    return np.asarray(jax.nn.log_softmax(our_logits(config, variables)))


def assert_close(ours, theirs) -> None:
    assert theirs.std() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_loads_an_exported_model_and_agrees(answers, family):
    theirs = np.load(answers / "models" / f"{family}.npy")
    assert_close(our_logits(config_of(family), {"params": params_of(family)}), theirs)


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_peft_loads_exported_adapters_and_agrees(answers, family):
    config = config_of(family, lora=LORA)
    variables = {"params": params_of(family), "lora": adapters_of(family)}
    ours, base = our_logits(config, variables), np.load(answers / "models" / f"{family}.npy")
    assert np.abs(ours - base).max() > 0.1
    assert_close(ours, np.load(answers / "adapters" / f"{family}.npy"))
    assert_close(ours, np.load(answers / "models" / f"{family}_merged.npy"))
    lora, adapters = load_adapters(answers / "again" / family, config_of(family))
    assert lora == LORA
    assert_same_leaves(adapters, adapters_of(family))


@pytest.mark.parametrize("name", ["some", "all"])
def test_adapters_that_peft_made_compute_the_same_here(answers, name):
    lora, adapters = load_adapters(answers / "peft" / name, config_of("llama"))
    assert (
        lora.targets
        == {
            "some": ("query", "output", "up"),
            "all": ("query", "key", "value", "output", "gate", "up", "down"),
        }[name]
    )
    config = config_of("llama", lora=lora)
    ours = our_logits(config, {"params": params_of("llama"), "lora": adapters})
    assert_close(ours, np.load(answers / "peft" / f"{name}.npy"))


@pytest.mark.parametrize("name", UNEVEN)
def test_adapters_whose_modules_differ_compute_what_peft_does(answers, name):
    family, theirs = name.split("/")[0], np.load(answers / "uneven" / f"{name}.npy")
    params = small_params(family)
    config, variables = with_adapters(answers / "uneven" / name, config_of(family), params, mesh_of())
    merged = merge_adapters(Model(config, tiny_tokenizer(), variables))
    base = logprobs(config_of(family), {"params": params})
    assert np.abs(base - theirs).max() > 0.1
    np.testing.assert_allclose(logprobs(config, variables), theirs, atol=2e-6, rtol=0)
    np.testing.assert_allclose(logprobs(merged.config, merged.variables), theirs, atol=2e-6, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_twenty_steps_of_lora_have_pefts_losses(answers, family):
    config, params = config_of(family, lora=LORA), params_of(family)
    state = initial_state([{"lora": starting_adapters(family)}], OPTIMIZER)
    frozen = Frozen({"params": params}, head_matrix({"params": params}, config))
    step = jax.jit(functools.partial(train_steps, config, ObjectiveConfig(), OPTIMIZER, "loop"))
    stacked = stack_batches([[Batch(explanation=rows)] for rows in batches()])
    with jax.set_mesh(mesh_of()):
        _, metrics = step(state, frozen, stacked, RunValues(jnp.float32(LEARNING_RATE), weights(0.0, 0.0)))
    ours, theirs = np.asarray(metrics["loss"])[:, 0], np.load(answers / "training" / f"{family}.npy")
    assert theirs[-5:].mean() < 0.7 * theirs[:5].mean()
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)
