"""Every family computes what transformers computes, from the checkpoint that transformers saved."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers_environment import run_peer
from tiny import mesh_of

from introspection.models.decoder import Decoder
from introspection.models.head import head_matrix, token_logits
from introspection.probes.decoding import greedy_decode
from introspection.probes.scoring import continuation_logprobs, read_prompts
from introspection.weights.load import load_folder

FAMILIES = (
    "llama2",
    "llama3",
    "llama31",
    "llama32",
    "llama_linear",
    "smollm2",
    "mistral",
    "mistral_v03",
    "qwen2",
    "qwen2_windows",
    "qwen3",
    "gemma2",
    "gemma3",
    "gemma3_vision",
)
pytestmark = [pytest.mark.parity, pytest.mark.parametrize("family", FAMILIES)]
TOLERANCE = 1e-4  # of float32 logits
NEVER = -1  # no token ends a reply


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    return run_peer("families.py", tmp_path_factory.mktemp("families"))


@pytest.fixture
def case(checkpoints, family):
    """A family's config and variables, and what transformers computes with them."""
    config, params = load_folder(checkpoints / family, mesh_of())
    with np.load(checkpoints / f"{family}.npz") as stored:
        reference = {name: np.asarray(array) for name, array in stored.items()}
    return config, {"params": params}, reference


def logits_of(config, variables, hidden):
    head = head_matrix(variables, config)
    logits = token_logits(head, hidden.reshape(-1, config.width), config.final_softcap)
    return logits.reshape(*hidden.shape[:-1], -1)


def test_logits_of_a_padded_batch_are_those_of_transformers(case):
    config, variables, reference = case
    tokens, lengths = jnp.array(reference["tokens"], jnp.int32), reference["lengths"]
    inside = np.arange(tokens.shape[1]) < lengths[:, None]

    @jax.jit
    def run(variables, tokens, inside):
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        out = Decoder(config).apply(variables, tokens, positions, jnp.where(inside, 0, -1))
        return logits_of(config, variables, out.hidden)

    logits, expected = np.asarray(run(variables, tokens, inside)), reference["logits"]
    assert np.ptp(expected[inside]) > 5
    np.testing.assert_allclose(logits[inside], expected[inside], atol=TOLERANCE, rtol=0)


def test_logits_after_a_shared_prompt_are_those_of_the_whole_sequence(case):
    config, variables, reference = case
    prompts, continuations = (jnp.array(reference[name], jnp.int32) for name in ("prompts", "continuations"))
    lengths = jnp.array(reference["prompt_lengths"], jnp.int32)
    count, each, time = continuations.shape

    @jax.jit
    def run(variables, prompts, lengths, continuations):
        state = read_prompts(config, variables, prompts, lengths)
        inputs = continuations[:, :, :-1].reshape(count * each, time - 1)
        positions = jnp.repeat(lengths, each)[:, None] + jnp.arange(time - 1)
        hidden = (
            Decoder(config)
            .apply(variables, inputs, positions, jnp.zeros_like(inputs), (state.block,))
            .hidden.reshape(count, each, time - 1, config.width)
        )
        first = jnp.broadcast_to(state.last_hidden[:, None, None], (count, each, 1, config.width))
        return logits_of(config, variables, jnp.concatenate([first, hidden], axis=2))

    logits, expected = (
        np.asarray(run(variables, prompts, lengths, continuations)),
        reference["continued_logits"],
    )
    np.testing.assert_allclose(logits, expected, atol=TOLERANCE, rtol=0)
    scored = jax.jit(functools.partial(continuation_logprobs, config))(
        variables, prompts, lengths, continuations, jnp.full((count, each), time, jnp.int32)
    )
    logprobs = jax.nn.log_softmax(jnp.array(expected))
    chosen = jnp.take_along_axis(logprobs, continuations[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(scored, chosen.sum(axis=-1), atol=1e-3, rtol=0)


def test_greedy_replies_are_those_of_transformers(case):
    config, variables, reference = case
    count, steps = reference["replies"].shape
    tokens, _, lengths = jax.jit(
        functools.partial(greedy_decode, config, end_ids=(NEVER,), max_tokens=steps)
    )(
        variables,
        jnp.array(reference["prompts"], jnp.int32),
        jnp.array(reference["prompt_lengths"], jnp.int32),
        jnp.ones(count, bool),
    )
    assert steps == 64
    assert max(len(set(reply.tolist())) for reply in reference["replies"]) > 4  # not one token for ever
    assert np.asarray(lengths).tolist() == [steps] * count
    np.testing.assert_array_equal(tokens, reference["replies"])
