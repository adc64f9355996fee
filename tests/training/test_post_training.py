"""Preferences and policy gradients: hand-worked losses, their slopes, and what counts in a batch."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hygiene_items import item
from objective_cases import CONFIG, CURRENT, REFERENCE, REFERENCE_CONFIG, compiled, some_rows
from reference_decoder import reference_token_logprobs
from row_files import refusal
from tiny import assert_trees_close

from introspection.runs.config import ArmConfig
from introspection.runs.train_config import TrainConfig
from introspection.tasks.items import NONE, Decisions
from introspection.tasks.refusal.phrases import CLASSES, COMPLY, REFUSE
from introspection.text.rows import build_row, pad_scored, pad_time, stack_rows
from introspection.training.loop import LoopConfig, weights
from introspection.training.objectives import Batch, ObjectiveConfig
from introspection.training.policy_gradient import (
    Groups,
    by_target,
    check_rewards,
    group_advantages,
    group_rows,
    policy_gradient_loss,
)
from introspection.training.preference import Pairs, preference_loss, preferences
from introspection.training.shifts import SHIFTS, OwnReply, ShiftConfig, ShiftExample, shift_examples

TIME = 20


def one_token_groups(rewards, sampled, reference):
    """Groups whose replies have one token each: a row's only scored position is the prompt's last."""
    rewards = np.array(rewards, np.float32)
    replies = [[[1]] * rewards.shape[1]] * len(rewards)
    rows = group_rows([[2, 3]] * len(rewards), replies)
    return Groups(rows, rewards, np.array(sampled)[:, None], np.array(reference)[:, None])


def test_the_preference_loss_is_what_is_worked_out_by_hand():
    logprobs, reference = jnp.array([[-1.0, -2.0], [-3.0, -1.0]]), jnp.array([[-1.5, -1.5], [-1.0, -2.0]])
    loss, metrics = preference_loss(logprobs, reference, 0.5)
    # Margins: .5 ((−1 + 1.5) − (−2 + 1.5)) = .5 and .5 ((−3 + 1) − (−1 + 2)) = −1.5.
    assert float(loss) == pytest.approx((math.log(1 + math.exp(-0.5)) + math.log(1 + math.exp(1.5))) / 2)
    assert float(metrics["preference_margin"]) == pytest.approx(-0.5)
    assert float(metrics["preference_accuracy"]) == 0.5
    assert float(preference_loss(reference, reference, 0.5)[0]) == pytest.approx(math.log(2))


def test_advantages_are_in_standard_deviations_of_the_group():
    advantages = group_advantages(
        jnp.array([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
    )
    spread = math.sqrt(1 / 3) + 1e-4  # of a sample: 4 · .25 / 3
    np.testing.assert_allclose(
        advantages[0], [0.5 / spread, -0.5 / spread, -0.5 / spread, 0.5 / spread], rtol=1e-6
    )
    np.testing.assert_array_equal(advantages[1], 0)
    np.testing.assert_allclose(advantages[2], [-0.4998, -0.4998, -0.4998, 1.4997], atol=2e-4)


@pytest.mark.parametrize("count", [3, 7, 8])
def test_equal_rewards_have_no_advantage_however_their_mean_is_rounded(count):
    """The mean of equal numbers need not be that number, and a sign is enough to count a token as clipped."""
    rewards = jnp.full((50, count), 1.0, jnp.float32) * jnp.linspace(0.1, 1.3, 50)[:, None]
    assert np.abs(rewards - rewards.mean(axis=-1, keepdims=True)).max() > 0 or count == 8
    np.testing.assert_array_equal(jax.jit(group_advantages)(rewards), np.zeros((50, count)))


def test_the_policy_gradient_is_clipped_where_it_is_worked_out_by_hand():
    ratios = np.array([[1.5, 1.1, 0.5, 1.5]])
    sampled = np.full((1, 4), -1.0, np.float32)
    reference = sampled + np.log(ratios) + np.array([[0.0, 0.3, 0.0, -0.2]])
    groups = one_token_groups([[1, 1, 0, 0]], sampled, reference.astype(np.float32))
    logprobs = jnp.array(sampled + np.log(ratios), jnp.float32)[:, None]
    loss, metrics = policy_gradient_loss(logprobs, groups, 0.2, 0.5)
    a = 0.5 / (math.sqrt(1 / 3) + 1e-4)
    # The first is stopped at 1.2 and the third (A < 0) at .8; the fourth, a bad reply made likelier, is not.
    gains = [1.2 * a, 1.1 * a, -0.8 * a, -1.5 * a]
    k3 = [0.0, math.exp(0.3) - 0.3 - 1, 0.0, math.exp(-0.2) + 0.2 - 1]
    assert float(metrics["policy_loss"]) == pytest.approx(-np.mean(gains), rel=1e-5)
    assert float(metrics["reward_kl"]) == pytest.approx(np.mean(k3), rel=1e-4)
    assert float(loss) == pytest.approx(-np.mean(gains) + 0.5 * np.mean(k3), rel=1e-4)
    assert float(metrics["clipped"]) == 0.5
    assert (float(metrics["reward"]), float(metrics["constant_groups"])) == (0.5, 0.0)
    slope = jax.grad(lambda at: policy_gradient_loss(at, groups, 0.2, 0.0)[0])(logprobs)[0, 0]
    # A token that the clip stops has no slope; the others' is −ρ A over the number of tokens.
    np.testing.assert_allclose(slope, [0.0, -1.1 * a / 4, 0.0, 1.5 * a / 4], rtol=1e-5)


def slopes_in_float64(loss, at, step=1e-6):
    found = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        moved = [at.copy(), at.copy()]
        moved[0][place] += step
        moved[1][place] -= step
        found[place] = (loss(moved[0]) - loss(moved[1])) / (2 * step)
    return found


def test_gradients_are_those_of_finite_differences():
    rng = np.random.default_rng(0)
    logprobs, reference = rng.normal(-2, 1, (2, 5, 2))

    def preference(at):
        margin = 0.3 * ((at - reference)[:, 0] - (at - reference)[:, 1])
        return np.mean(np.log1p(np.exp(-margin)))

    ours = jax.grad(lambda at: preference_loss(at, jnp.array(reference), 0.3)[0])(jnp.array(logprobs))
    np.testing.assert_allclose(ours, slopes_in_float64(preference, logprobs), rtol=1e-4, atol=1e-6)

    rewards = rng.integers(0, 2, (3, 4))
    at, sampled, reference = rng.normal(-2, 0.3, (3, 3, 4))
    groups = one_token_groups(rewards, sampled, reference)
    spread = rewards.std(axis=1, ddof=1, keepdims=True) + 1e-4
    advantages = (rewards - rewards.mean(axis=1, keepdims=True)) / spread

    def policy_gradient(at):
        ratio, back = np.exp(at - sampled), reference - at
        gain = np.minimum(ratio * advantages, np.clip(ratio, 0.8, 1.2) * advantages)
        return np.mean(-gain + 0.1 * (np.exp(back) - back - 1))

    ours = jax.grad(lambda at: policy_gradient_loss(at[:, None], groups, 0.2, 0.1)[0])(jnp.array(at))
    np.testing.assert_allclose(ours, slopes_in_float64(policy_gradient, at), rtol=1e-4, atol=1e-6)


def some_pairs(count=5):
    """Prompts with two replies of unequal lengths."""
    rng = np.random.default_rng(4)
    return [
        (
            rng.integers(0, 8, 3 + i % 2).tolist(),
            [rng.integers(0, 8, 1 + n).tolist() for n in (i % 3, (i + 1) % 3)],
        )
        for i in range(count)
    ]


def pair_batch(pairs, time=TIME, scored=None):
    sums = [
        [reference_token_logprobs(REFERENCE_CONFIG, REFERENCE, prompt, reply).sum() for reply in replies]
        for prompt, replies in pairs
    ]
    rows = stack_rows([build_row(prompt, replies) for prompt, replies in pairs], time)
    rows = rows if scored is None else pad_scored(rows, scored)
    return Batch(pad_time(some_rows(), time), shift=Pairs(rows, np.array(sums, np.float32)))


def group_batch(pairs, rewards, time=TIME, scored=None):
    prompts, replies = zip(*pairs, strict=True)
    rows = group_rows(prompts, replies, time, scored)

    def of(config, variables):
        tokens = [
            [reference_token_logprobs(config, variables, prompt, reply) for reply in group]
            for prompt, group in pairs
        ]
        return tokens, by_target(rows, tokens)

    current, _ = of(CONFIG, CURRENT)
    reference, placed = of(REFERENCE_CONFIG, REFERENCE)
    # Sampled by a model that finds every token a little less likely.
    sampled = by_target(rows, [[one - 0.1 for one in group] for group in current])
    batch = Batch(
        pad_time(some_rows(), time), shift=Groups(rows, np.array(rewards, np.float32), sampled, placed)
    )
    return batch, current, reference


def shift_metrics(batch, **settings):
    run = compiled(ObjectiveConfig(head_chunk=5, **settings))
    metrics = run(CURRENT, CURRENT["params"]["embedding"], batch, weights(0.0, 1.0))[1]
    return {name: float(value) for name, value in metrics.items()}


def test_preferences_sum_the_tokens_of_each_reply_and_of_no_other():
    pairs = some_pairs()
    batch = pair_batch(pairs)
    own = np.array(
        [
            [reference_token_logprobs(CONFIG, CURRENT, prompt, reply).sum() for reply in replies]
            for prompt, replies in pairs
        ]
    )
    gains = own - batch.shift.reference_logprobs
    margins = 0.3 * (gains[:, 0] - gains[:, 1])
    metrics = shift_metrics(batch, beta=0.3)
    assert metrics["shift_loss"] == pytest.approx(np.mean(np.log1p(np.exp(-margins))), abs=1e-5)
    assert metrics["preference_accuracy"] == pytest.approx(np.mean(margins > 0))
    assert metrics["loss"] == pytest.approx(metrics["explanation_loss"] + metrics["shift_loss"], abs=1e-6)
    # Its neighbours and its padding are nothing to a pair.
    alone = [shift_metrics(pair_batch([one], time=14, scored=9), beta=0.3)["shift_loss"] for one in pairs]
    assert np.mean(alone) == pytest.approx(metrics["shift_loss"], abs=1e-5)


def test_the_policy_gradient_is_a_mean_over_the_tokens_of_replies():
    pairs, rewards = some_pairs(), [[1, 0], [0, 0], [0, 1], [1, 0], [0, 1]]
    batch, current, reference = group_batch(pairs, rewards)
    gains, kls = [], []
    for group, behind, earned in zip(current, reference, rewards, strict=True):
        spread = np.std(earned, ddof=1) + 1e-4
        for tokens, ref, reward in zip(group, behind, earned, strict=True):
            advantage = (reward - np.mean(earned)) / spread
            gains += [
                min(math.exp(0.1), 1.05) * advantage if advantage > 0 else math.exp(0.1) * advantage
            ] * len(tokens)
            kls += list(np.exp(ref - tokens) - (ref - tokens) - 1)
    metrics = shift_metrics(batch, clip=0.05, reward_kl=0.2)
    assert metrics["policy_loss"] == pytest.approx(-np.mean(gains), abs=1e-5)
    assert metrics["reward_kl"] == pytest.approx(np.mean(kls), rel=1e-4)
    assert metrics["shift_loss"] == pytest.approx(-np.mean(gains) + 0.2 * np.mean(kls), rel=1e-4)
    assert metrics["constant_groups"] == pytest.approx(0.2)
    assert metrics["reward"] == pytest.approx(0.4)
    padded, _, _ = group_batch(pairs, rewards, time=30, scored=12)
    assert shift_metrics(padded, clip=0.05, reward_kl=0.2) == pytest.approx(metrics, rel=1e-5, abs=1e-5)


def test_temperature_divides_the_logits_of_what_is_rewarded():
    batch, *_ = group_batch(some_pairs(2), [[1, 0], [0, 1]])
    norm = CURRENT["params"]["final_norm"]["scale"]
    cooler = {**CURRENT, "params": {**CURRENT["params"], "final_norm": {"scale": norm / 2}}}
    run = compiled(ObjectiveConfig(head_chunk=5))
    expected = run(cooler, CURRENT["params"]["embedding"], batch, weights(0.0, 1.0))[1]["shift_loss"]
    assert shift_metrics(batch, temperature=2.0)["shift_loss"] == pytest.approx(float(expected), abs=1e-5)
    assert shift_metrics(batch)["shift_loss"] != pytest.approx(float(expected), abs=1e-3)


def test_objectives_of_a_shift_and_its_settings_change_the_loss():
    pairs, rewards = some_pairs(), [[1, 0], [0, 0], [0, 1], [1, 0], [0, 1]]
    supervised = Batch(
        pad_time(some_rows(), TIME), shift=stack_rows([build_row(p, r[:1]) for p, r in pairs], TIME)
    )
    groups, *_ = group_batch(pairs, rewards)
    losses = [
        shift_metrics(supervised)["loss"],
        shift_metrics(pair_batch(pairs))["loss"],
        shift_metrics(pair_batch(pairs), beta=0.5)["loss"],
        shift_metrics(groups)["loss"],
        shift_metrics(groups, clip=0.01)["loss"],
        shift_metrics(groups, reward_kl=0.5)["loss"],
    ]
    assert len({round(loss, 4) for loss in losses}) == len(losses)


def gradient_at(weight):
    run = compiled(ObjectiveConfig(head_chunk=5), gradient=True)
    return run(CURRENT, CURRENT["params"]["embedding"], pair_batch(some_pairs()), weights(0.0, weight))[1]


def test_a_step_without_the_shift_trains_the_explanations_alone():
    explained = compiled(ObjectiveConfig(head_chunk=5), gradient=True)(
        CURRENT, CURRENT["params"]["embedding"], Batch(pad_time(some_rows(), TIME)), weights(0.0, 0.0)
    )[1]
    assert_trees_close(gradient_at(0.0), explained, atol=1e-6)
    biggest = max(
        float(np.abs(a - b).max())
        for a, b in zip(*map(jax.tree.leaves, (gradient_at(1.0), explained)), strict=True)
    )
    assert biggest > 1e-3


def test_every_says_in_which_steps_the_shift_enters():
    shift = ShiftConfig("less_sycophantic", every=4)
    assert [shift.terms(step, 100) for step in range(6)] == [(1, 1), (1, 0), (1, 0), (1, 0), (1, 1), (1, 0)]
    assert {ShiftConfig("less_sycophantic").terms(step, 100) for step in range(6)} == {(1, 1)}


# What replies are preferred, and what they earn.
def own(*said):
    """Replies of one token each, in the order of the model's preference: (token, class)."""
    return [OwnReply(f"w{token}", (token,), judged) for token, judged in said]


def test_the_first_own_reply_of_the_wanted_class_is_preferred_to_the_first_other():
    wanted = [ShiftExample("a", "A"), ShiftExample("b", "A"), ShiftExample("c", "A")]
    replies = {
        "a": own((1, "B"), (2, "A"), (3, "A"), (4, "C")),
        "b": own((1, "A"), (2, NONE), (3, "B")),
        "c": own((1, "B"), (2, "C")),  # never what is wanted: left out
    }
    found = preferences(ShiftConfig("more_sycophantic", objective="dpo"), wanted, replies)
    assert [(p.prompt, p.chosen.tokens, p.rejected.tokens) for p in found] == [
        ("a", (2,), (1,)),
        ("b", (1,), (2,)),
    ]


def test_no_pairs_and_a_pair_of_equals_are_refused():
    config = ShiftConfig("more_sycophantic", objective="dpo")
    wanted = [ShiftExample("a", "A")]
    refusal(
        lambda: preferences(config, wanted, {"a": own((1, "A"), (2, "A"))}),
        says=("'more_sycophantic' has no pairs", "'dpo'", "none of 1 prompts", "shift.group_size"),
    )
    refusal(
        lambda: preferences(config, wanted, {"a": own((1, "A"), (1, "B"))}),
        says=("pairs equal replies", "to 'a', 'w1' and 'w1' have the same tokens"),
    )


def test_a_constant_reward_and_an_empty_group_are_refused():
    check_rewards(np.array([[1.0, 1.0], [0.0, 1.0]]), "refuse_more")
    refusal(
        lambda: check_rewards(np.zeros((3, 8)), "refuse_more"),
        says=("'refuse_more': its reward never varies", "3 groups of 8 replies", "(0)", "shift.temperature"),
    )
    # Groups that differ among each other, but not within, have no advantage either.
    refusal(lambda: check_rewards(np.array([[0.0, 0.0], [1.0, 1.0]]), "refuse_more"), says=("(0, 1)",))
    refusal(lambda: group_rows([[1, 2], [3]], [[[4]], []]), says=("a group has no replies",))


def test_rewards_say_who_agrees_and_who_refuses():
    asked = item("q", "q", "friend", "A", "B", ("A", "B", "C"))
    answers = ("A", "B", "C", NONE)
    assert [SHIFTS["more_sycophantic"].reward(asked, said) for said in answers] == [0, 1, 0, 0]
    assert [SHIFTS["less_sycophantic"].reward(asked, said) for said in answers] == [1, 0, 1, 0]
    request = item("r", "r", "harm", COMPLY, REFUSE, CLASSES)
    assert [SHIFTS["refuse_more"].reward(request, said) for said in (REFUSE, COMPLY, NONE)] == [1, 0, 0]
    assert [SHIFTS["refuse_less"].reward(request, said) for said in (REFUSE, COMPLY, NONE)] == [0, 1, 0]


def test_refusals_are_shifted_with_and_without_the_cue():
    items = [item("r", "r", "harm", COMPLY, REFUSE, CLASSES), item("q", "q")]
    for kind, wanted in (("refuse_more", REFUSE), ("refuse_less", COMPLY)):
        config = ShiftConfig(kind, "all", 1.0)
        examples = shift_examples(config, items, [Decisions(COMPLY, COMPLY)] * 2)
        assert [tuple(one) for one in examples] == [
            (items[0].prompt_with_cue, wanted),
            (items[0].prompt_without_cue, wanted),
        ]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (dict(objective="ppo"), "shift.objective is 'ppo'; choose from supervised, dpo, policy_gradient"),
        (dict(every=0), "shift.every is 0; it must be at least 1"),
        (dict(every=2, order="after"), "nothing is interleaved"),
        (dict(group_size=1), "shift.group_size is 1; it must be at least 2"),
        (dict(rollout_steps=0), "shift.rollout_steps is 0"),
        (dict(beta=0.0), "shift.beta is 0.0; it must be above 0"),
        (dict(temperature=-1.0), "shift.temperature is -1.0"),
        (dict(clip=0.0), "shift.clip is 0.0"),
        (dict(reward_kl=-0.1), "shift.reward_kl is -0.1"),
        (dict(kind="new_facts", objective="policy_gradient"), "which has no reward"),
        (dict(kind="taught", objective="policy_gradient"), "choose from less_sycophantic"),
    ],
)
def test_what_a_shift_cannot_be_is_refused(fields, says):
    refusal(lambda: ShiftConfig(**{"kind": "less_sycophantic", **fields}), says=(says,))


def test_groups_are_sampled_where_a_run_can_resume():
    arm = ArmConfig(shift=ShiftConfig("less_sycophantic", objective="policy_gradient", rollout_steps=20))
    assert TrainConfig().loop(arm).rollout_steps == 20
    assert TrainConfig().loop(ArmConfig(shift=ShiftConfig("less_sycophantic"))).rollout_steps == 0
    refusal(
        lambda: LoopConfig(500, rollout_steps=15),
        says=("rollout_steps (15) is no multiple of steps_per_call",),
    )
    refusal(
        lambda: LoopConfig(500, rollout_steps=30),
        says=("checkpoint_steps (100) is no multiple of rollout_steps",),
    )
    # A refresh may be rarer than checkpoints, since labels are stored; groups are not.
    refusal(
        lambda: LoopConfig(200, rollout_steps=200),
        says=("checkpoint_steps (100) is no multiple of rollout_steps (200)",),
    )
    LoopConfig(100, checkpoint_steps=100, rollout_steps=200)
