"""Groups of replies that an arm's policy gradient samples from the current model, and what they earn."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from introspection.models.model import Model
from introspection.probes.behavior import decide_each
from introspection.probes.decoding import sample
from introspection.probes.hidden import row_logprobs
from introspection.runs.arm_labels import start_of
from introspection.runs.config import ArmConfig
from introspection.runs.setup import Setup
from introspection.tasks.items import Item, Prompt
from introspection.training.batches import rollout_places
from introspection.training.policy_gradient import Groups, Rollout, by_target, check_rewards, group_rows
from introspection.training.shifts import SHIFTS

_SAMPLES = 16  # the stream of the task's seed that draws replies


class RewardedPrompts(NamedTuple):
    """What a policy gradient samples replies to."""

    prompts: tuple[Prompt, ...]
    items: tuple[Item, ...]  # each prompt's, which its replies are rewarded by
    tokens: tuple[list[int], ...]  # of each prompt
    reply_tokens: int  # limit
    group_size: int

    @property
    def reply_room(self) -> int:
        """The most tokens of a group that are inputs; the last token of a reply is none."""
        return self.group_size * (self.reply_tokens - 1)

    @property
    def time(self) -> int:
        """Tokens of the longest row."""
        return max(map(len, self.tokens)) + self.reply_room


def rewarded_prompts(
    arm: ArmConfig, prompts: Sequence[Prompt], items: Mapping[Prompt, Item], setup: Setup
) -> RewardedPrompts:
    """The prompts of an arm's policy gradient, as the start reads them."""
    of_prompts = tuple(items[prompt] for prompt in prompts)
    tokenizer, scored = start_of(arm, setup).model.tokenizer, setup.readout.scored
    candidates = {candidate for item in of_prompts for candidate in item.candidates}
    longest = (
        max(len(tokenizer.encode_reply(text)) for text in candidates) if scored else setup.readout.tokens
    )
    tokens = tuple(tokenizer.encode_prompt(prompt, through_thought=not scored) for prompt in prompts)
    return RewardedPrompts(tuple(prompts), of_prompts, tokens, longest, arm.shift.group_size)


def first_groups(arm: ArmConfig, rewarded: RewardedPrompts, setup: Setup) -> Rollout:
    """The groups of the first seed's first steps, sampled from the start.

    Raises:
      InputError: their rewards never vary within a group.
    """
    model, seed = start_of(arm, setup).model, setup.config.seeds[0]
    first = roll_out(arm, rewarded, model, seed, 0, rewarded.time, setup)
    check_rewards(np.asarray(first.groups.rewards), arm.shift.kind)
    return first


def roll_out(
    arm: ArmConfig, rewarded: RewardedPrompts, model: Model, seed: int, step: int, time: int, setup: Setup
) -> Rollout:
    """The groups of the `shift.rollout_steps` steps from `step` on, sampled from `model`, the current one.

    What is sampled depends on the model, the seed and the step alone, so a resumed run samples the same.

    Args:
      time: tokens of a row, which all parts of a batch share.
    """
    shift, session = arm.shift, setup.session
    steps = range(step, step + shift.rollout_steps)
    places = rollout_places(len(rewarded.prompts), setup.config.train.rows, steps, seed)
    prompts, items = [rewarded.prompts[i] for i in places], [rewarded.items[i] for i in places]
    tokens = [rewarded.tokens[i] for i in places]
    key = jax.random.key(setup.config.task_seed)
    for data in (_SAMPLES, seed, step):
        key = jax.random.fold_in(key, data)
    said = sample(
        model, tokens, shift.group_size, rewarded.reply_tokens, shift.temperature, key, session,
        names=[f"item {item.id}" for item in items],
    )  # fmt: skip
    replies = [[reply.tokens for reply in group] for group in said]
    decided = decide_each(
        model,
        [item for item in items for _ in range(shift.group_size)],
        [prompt for prompt in prompts for _ in range(shift.group_size)],
        [reply for group in replies for reply in group],
        setup.readout,
        session,
    )
    reward = SHIFTS[shift.kind].reward
    assert reward is not None  # `ShiftConfig` checks
    grouped = zip(items, np.reshape(np.array(decided, object), (len(items), -1)), strict=True)
    rewards = [[reward(item, one) for one in group] for item, group in grouped]
    rows = group_rows(tokens, replies, time, 1 + rewarded.reply_room)
    groups = Groups(
        rows=rows,
        rewards=np.array(rewards, np.float32),
        sampled_logprobs=by_target(rows, [[reply.logprobs for reply in group] for group in said]),
        reference_logprobs=row_logprobs(start_of(arm, setup).reference, rows, shift.temperature, session),
    )
    return Rollout(step, groups)
