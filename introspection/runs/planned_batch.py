"""A step's rows from shapes alone: as many of every kind as an arm's steps read, all of one length."""

import numpy as np
from jax.sharding import Mesh

from introspection.errors import InputError
from introspection.models.config import ModelConfig
from introspection.runs.arm_config import ArmConfig
from introspection.runs.config import RunConfig
from introspection.text.rows import Rows, build_row, stack_rows
from introspection.training.batches import OTHER_TEXT, by_item
from introspection.training.objectives import Answers, Batch, BehaviorBatch, TextBatch
from introspection.training.packing import in_packs
from introspection.training.policy_gradient import Groups
from introspection.training.preference import Pairs
from introspection.training.shifts import DPO, POLICY_GRADIENT, ShiftConfig

CANDIDATES, CANDIDATE_TOKENS = 4, 2  # of an item, as of a question with four letters: a token and an end


def planned_arm(config: RunConfig) -> str:
    """The arm whose steps have the most rows, the first of several: what fits it fits the others."""

    def more_rows(name: str) -> int:
        arm, sizes = config.chosen_arms[name], config.train.rows
        shift = sizes.shift_rows * (arm.shift.kind != "none")
        return shift + 2 * sizes.behavior_items * (arm.kl_prompts == OTHER_TEXT)

    return max(config.chosen_arms, key=more_rows)


def planned_batch(config: RunConfig, arm: ArmConfig, model: ModelConfig, mesh: Mesh, tokens: int) -> Batch:
    """A prompt and an explanation; a prompt and candidates, or a reply; if the arm has them, a shift's
    prompts with replies, and passages of other text. No two rows begin alike: a run's take no more packs.

    Raises:
      InputError: `tokens` are too few for what follows a prompt, or too many for a pack.
    """
    sizes, items, width = config.train.rows, config.train.rows.behavior_items, model.width
    scored = config.behavior.readout != "generate"
    reply = CANDIDATE_TOKENS if scored else config.behavior.reply_tokens
    passage = min(config.train.text_tokens, tokens)
    draw = np.random.default_rng(0)

    def rows(count: int, replies: list[int], length: int = tokens) -> Rows:
        if sum(replies) >= length:
            raise InputError(f"--tokens has {tokens}, but {sum(replies)} follow a prompt; give longer rows")
        made = build_row([0] * (length - sum(replies)), [[0] * one for one in replies])
        stacked = stack_rows([made] * count, tokens)
        return stacked._replace(tokens=draw.integers(2**31, size=stacked.tokens.shape).astype(np.int32))

    behavior = BehaviorBatch(
        by_item(rows(2 * items, [reply] * (CANDIDATES if scored else 1))),
        np.ones((items, 2), bool),
        np.zeros((items, 2, 1 if scored else reply, width), np.float32),
        _answers(items) if scored else None,
    )
    explanation = rows(sizes.explanation_rows, [config.evaluation.explanation_tokens])
    batch = Batch(explanation, behavior)
    if arm.shift.kind != "none":
        batch = batch._replace(shift=_shift(arm.shift, rows(sizes.shift_rows, [reply] * _replies(arm.shift))))
    if arm.kl_prompts == OTHER_TEXT:
        hidden = np.zeros((2 * items, passage - 1, width), np.float32)
        batch = batch._replace(text=TextBatch(rows(2 * items, [passage - 1], passage), hidden))
    if time := config.train.pack_tokens:
        batch = in_packs(lambda step, seed: batch, 1, (0,), time, mesh)(0, 0)
    return batch


def _answers(items: int) -> Answers:
    return Answers(
        candidates=np.full(items, CANDIDATES, np.int32),
        reference_logprobs=np.zeros((items, 2, CANDIDATES + 1), np.float32),
        labelled=np.ones(items, bool),
        label_changed=np.zeros((items, 2), bool),
        label_answer=np.zeros((items, 2), np.int32),
    )


def _replies(shift: ShiftConfig) -> int:
    """To one prompt."""
    return {DPO: 2, POLICY_GRADIENT: shift.group_size}.get(shift.objective, 1)


def _shift(shift: ShiftConfig, rows: Rows) -> Rows | Pairs | Groups:
    by_token = np.zeros(rows.targets.shape, np.float32)
    by_reply = by_token[:, 0]
    if shift.objective == DPO:
        return Pairs(rows, by_reply)
    return Groups(rows, by_reply, by_token, by_token) if shift.objective == POLICY_GRADIENT else rows
