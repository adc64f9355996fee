"""Losses and gradients of DPO and GRPO equal TRL's on the same logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers_environment import run_peer

from introspection.training.policy_gradient import Groups, by_target, group_rows, policy_gradient_loss
from introspection.training.preference import preference_loss

pytestmark = pytest.mark.parity

PROMPTS, GROUP, TOKENS, VOCABULARY = 6, 4, 5, 11
BETA, CLIP, REWARD_KL, TEMPERATURE = 0.3, 0.1, 0.25, 1.7


def log_probabilities(logits, tokens, temperature=1.0):
    logprobs = jax.nn.log_softmax(logits / temperature)
    return jnp.take_along_axis(logprobs, tokens[..., None], axis=-1)[..., 0]


@pytest.fixture(scope="module")
def numbers():
    rng = np.random.default_rng(3)

    def replies(count):
        lengths = rng.integers(1, TOKENS + 1, count)
        return (
            rng.normal(0, 1.5, (count, TOKENS, VOCABULARY)).astype(np.float32),
            rng.integers(0, VOCABULARY, (count, TOKENS)),
            np.arange(TOKENS) < lengths[:, None],
        )

    pair_logits, pair_tokens, pair_mask = replies(2 * PROMPTS)
    group_logits, group_tokens, group_mask = replies(PROMPTS * GROUP)
    now = np.asarray(log_probabilities(group_logits, group_tokens, TEMPERATURE))
    rewards = rng.integers(0, 2, (PROMPTS, GROUP)).astype(np.float32)
    rewards[0], rewards[1] = 1.0, [0, 1, 0, 0]
    return dict(
        pair_logits=pair_logits,
        pair_tokens=pair_tokens,
        pair_mask=pair_mask,
        pair_reference=rng.normal(-8, 2, 2 * PROMPTS).astype(np.float32),
        group_logits=group_logits,
        group_tokens=group_tokens,
        group_mask=group_mask,
        group_sampled=(now + rng.normal(0, 0.2, now.shape)).astype(np.float32),
        group_reference=(now + rng.normal(0, 0.5, now.shape)).astype(np.float32),
        rewards=rewards,
        settings=np.array([BETA, CLIP, REWARD_KL, TEMPERATURE]),
    )


@pytest.fixture(scope="module")
def theirs(numbers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("post_training")
    np.savez(folder / "numbers.npz", **numbers)
    return dict(np.load(run_peer("post_training.py", folder) / "answers.npz"))


def test_the_preference_loss_and_its_gradient_are_trls(numbers, theirs):
    chosen_first = np.stack(np.split(np.arange(2 * PROMPTS), 2), axis=-1)

    def loss(logits):
        sums = jnp.sum(log_probabilities(logits, numbers["pair_tokens"]) * numbers["pair_mask"], axis=-1)
        return preference_loss(sums[chosen_first], jnp.array(numbers["pair_reference"])[chosen_first], BETA)[
            0
        ]

    ours, slope = jax.value_and_grad(loss)(jnp.array(numbers["pair_logits"]))
    assert float(ours) == pytest.approx(float(theirs["dpo_loss"]), rel=1e-5)
    np.testing.assert_allclose(slope, theirs["dpo_slope"], atol=1e-6)
    assert np.abs(slope).max() > 1e-2


@pytest.mark.parametrize("kind", ["dapo", "bnpo"])  # both are the mean over all tokens where a batch is whole
def test_the_policy_gradient_loss_and_its_gradient_are_trls(kind, numbers, theirs):
    mask = numbers["group_mask"].reshape(PROMPTS, GROUP, TOKENS)
    tokens = numbers["group_tokens"].reshape(PROMPTS, GROUP, TOKENS)
    rows = group_rows(
        [[1]] * PROMPTS,
        [[t[m].tolist() for t, m in zip(*row, strict=True)] for row in zip(tokens, mask, strict=True)],
    )

    def placed(values):
        """The values of every reply's tokens, in the places of the rows' targets."""
        shaped = np.asarray(values).reshape(PROMPTS, GROUP, TOKENS)
        return by_target(
            rows, [[v[m] for v, m in zip(*row, strict=True)] for row in zip(shaped, mask, strict=True)]
        )

    # Where each target's log-probability stands among all replies' tokens; 0 for padding, which is masked.
    places = placed(np.arange(PROMPTS * GROUP * TOKENS)).astype(int)
    groups = Groups(
        rows, numbers["rewards"], placed(numbers["group_sampled"]), placed(numbers["group_reference"])
    )

    def loss(logits):
        flat = log_probabilities(logits, numbers["group_tokens"], TEMPERATURE).reshape(-1)
        return policy_gradient_loss(flat[places], groups, CLIP, REWARD_KL)

    (ours, metrics), slope = jax.value_and_grad(loss, has_aux=True)(jnp.array(numbers["group_logits"]))
    assert 0 < float(metrics["clipped"]) < 1
    assert 0 < float(metrics["constant_groups"]) < 1
    assert float(ours) == pytest.approx(float(theirs[f"{kind}_loss"]), rel=1e-5)
    np.testing.assert_allclose(slope, theirs[f"{kind}_slope"], atol=1e-6)
    assert np.abs(slope).max() > 1e-2
