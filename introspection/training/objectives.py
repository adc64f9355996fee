"""The objective: `CE(explanation) + λ KL(B(kl_reference) ‖ B(current)) + μ L_shift`, in one forward pass.

The decoder reads explanation, behaviour and shift rows as one token array. Each term is a sum over its tokens
or prompts, divided once by its count in the whole batch, so gradients are exact under any split of the batch.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from introspection.errors import InputError
from introspection.models.config import ModelConfig
from introspection.models.frozen_layers import trained_hidden
from introspection.models.head import (
    KL_DIRECTIONS,
    cross_entropy,
    divergence,
    head_matrix,
    target_logprobs,
    vocabulary_kl,
)
from introspection.runtime.config import check_choice
from introspection.text.packs import Packs
from introspection.text.rows import Rows
from introspection.training.policy_gradient import Groups, HostOrDevice, policy_gradient_loss
from introspection.training.preference import Pairs, preference_loss

KL_SUPPORTS = ("vocabulary", "candidates")


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Compile-time settings of the step; the weights of its terms are arguments."""

    kl_support: str = "vocabulary"  # at the answer position; or "candidates": these and `none`
    kl_direction: str = "reference_to_current"  # of `head.KL_DIRECTIONS`
    head_chunk: int = 4096  # scored positions whose full-vocabulary logits exist at a time
    reference_softcap: float | None = None  # `final_softcap` of kl_reference
    with_none: bool = True  # whether a decision, for agreement, can be `none`
    # Of a shift by DPO or policy gradient; `training.shifts.ShiftConfig` explains them.
    beta: float = 0.1
    clip: float = 0.2
    reward_kl: float = 0.04
    temperature: float = 1.0

    def __post_init__(self):
        for name, choices in (("kl_support", KL_SUPPORTS), ("kl_direction", KL_DIRECTIONS)):
            check_choice(name, getattr(self, name), choices)
        if self.head_chunk < 1:
            raise InputError(f"head_chunk is {self.head_chunk}; it must be at least 1")


class Answers(NamedTuple):
    """Scored candidates, and the labels for agreement; dimension 1 of labels is trained, clean."""

    candidates: Int[HostOrDevice, " items"]  # number of candidates among the targets' slots
    reference_logprobs: Float[HostOrDevice, "items 2 slots"]  # kl_reference's, of candidates and `none`
    labelled: Bool[HostOrDevice, " items"]  # items with labels: only these count for agreement
    label_changed: Bool[HostOrDevice, "items 2"]
    label_answer: Int[HostOrDevice, "items 2"]  # candidate index; the number of candidate slots for `none`


class BehaviorBatch(NamedTuple):
    """Items for the KL term and agreement; dimension 1 is with the cue, without the cue.

    The KL is taken at kl_reference's reply tokens or, if behaviour is scored, where the answer begins.
    """

    rows: Rows  # items 2 time
    kl_mask: Bool[HostOrDevice, "items 2"]  # prompts on which the KL term applies
    reference_hidden: Float[HostOrDevice, "items 2 said reference_width"]  # kl_reference's, at these
    answers: Answers | None = None  # None if behaviour is generated


class TextBatch(NamedTuple):
    """Passages of other text, on whose every next token the KL term applies in place of prompts."""

    rows: Rows
    reference_hidden: Float[HostOrDevice, "rows said reference_width"]  # kl_reference's, at these tokens


class Batch(NamedTuple):
    """One step's rows for one seed; parts that are None are not compiled."""

    explanation: Rows | None  # None: nothing is explained, as in distillation
    behavior: BehaviorBatch | None = None
    shift: Rows | Pairs | Groups | None = None  # supervised, DPO, policy gradient
    text: TextBatch | None = None
    packs: Packs | None = None  # the tokens of all rows above; None: each row is read by itself


class ObjectiveWeights(NamedTuple):
    """Of one step, or of several."""

    explanation: Float[HostOrDevice, "*steps"]  # 1, or 0 while only a sequential shift is trained
    kl: Float[HostOrDevice, "*steps"]  # λ
    shift: Float[HostOrDevice, "*steps"]  # μ, or 0 in steps that leave the shift out


def sequence_logprobs(
    logprobs: Float[Array, "rows scored targets"],
    continuation: Int[Array, "rows scored targets"],
    count: int,
) -> Float[Array, "rows count"]:
    """Sums target log-probabilities by continuation."""
    owners = jax.nn.one_hot(continuation, count, dtype=logprobs.dtype)  # -1 gives zeros
    return jnp.einsum("rut,rutk->rk", logprobs, owners)


def add_none(
    logprobs: Float[Array, "rows candidates"], counts: Int[Array, " rows"]
) -> Float[Array, "rows slots"]:
    """Appends the log-probability of saying no candidate; padding slots become -1e30.

    The differentiable version of `probes.behavior.add_none_bucket`, for padded arrays.
    """
    real = jnp.arange(logprobs.shape[-1]) < counts[:, None]
    masked = jnp.where(real, logprobs, -1e30)
    rest = jnp.maximum(1.0 - jnp.exp(masked).sum(axis=-1, keepdims=True), 1e-12)
    return jnp.concatenate([masked, jnp.log(rest)], axis=-1)


def agreement(
    slots: Float[Array, "items 2 slots"], answers: Answers, with_none: bool = True
) -> Float[Array, " 2"]:
    """Share of labelled items whose trained label, and whose clean label, matches the model's decisions.

    As in `probes.scored.decide`, several equally likely candidates decide for none, the last slot.
    """
    chosen = slots if with_none else slots[..., :-1]
    tied = jnp.sum(chosen == jnp.max(chosen, axis=-1, keepdims=True), axis=-1) > 1
    decision = jnp.where(tied, slots.shape[-1] - 1, jnp.argmax(chosen, axis=-1))
    changed = decision[:, :1] != decision[:, 1:]
    same = (changed == answers.label_changed) & (decision[:, 1:] == answers.label_answer)
    counted = answers.labelled[:, None]
    return jnp.sum(same & counted, axis=0) / jnp.maximum(jnp.sum(counted), 1)


def batch_parts(batch: Batch) -> dict[str, Rows]:
    """The rows of a batch by kind, each of shape `rows …`."""
    behavior, text, shift = batch.behavior, batch.text, batch.shift
    given = {
        "explanation": batch.explanation,
        "behavior": behavior and jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), behavior.rows),
        "text": text and text.rows,
        "shift": shift if isinstance(shift, Rows | None) else shift.rows,
    }
    return {name: rows for name, rows in given.items() if rows is not None}


def scored_hidden(
    config: ModelConfig, variables: dict, parts: dict[str, Any], packs: Any
) -> Callable[[str], Float[Array, "rows scored width"]]:
    """From a kind of rows to the final hidden states of their scored positions, after one forward pass."""
    if packs is not None:
        read = trained_hidden(config, variables, packs.tokens, packs.positions, None, packs.ends)
        in_turn = read.reshape(-1, config.width)
        return lambda name: in_turn[packs.places[name]]
    tokens, positions, segments = (
        jnp.concatenate([getattr(part, name) for part in parts.values()])
        for name in ("tokens", "positions", "segments")
    )
    # A scored position has as many targets as its row has continuations.
    branched = any(part.targets.shape[-1] > 1 for part in parts.values())
    hidden = trained_hidden(config, variables, tokens, positions, segments, branched=branched)
    ends = list(itertools.accumulate(part.tokens.shape[0] for part in parts.values()))
    spans = dict(zip(parts, map(slice, [0, *ends], ends), strict=False))
    return lambda name: jnp.take_along_axis(hidden[spans[name]], parts[name].scored[:, :, None], axis=1)


def batch_loss(
    config: ModelConfig,
    objective: ObjectiveConfig,
    variables: dict,
    reference_head: Float[Array, "vocab reference_width"],
    batch: Batch,
    weights: ObjectiveWeights,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The whole objective and its parts (nats a token, prompt or pair; agreement a share)."""
    behavior: Any = batch.behavior  # device arrays by now, as are the rows
    text: Any = batch.text
    parts: dict[str, Any] = batch_parts(batch)
    flat: Any = parts.get("behavior")
    with jax.named_scope("one_forward"):
        scored = scored_hidden(config, variables, parts, batch.packs)
    head = head_matrix(variables, config)

    def mean_loss(name: str) -> Float[Array, ""]:
        """Nats a counted token of rows with one continuation each."""
        targets, counted = parts[name].targets[..., 0], parts[name].continuation[..., 0] >= 0
        total: Array = cross_entropy(
            head,
            scored(name).reshape(-1, config.width),
            targets.reshape(-1),
            counted.reshape(-1).astype(jnp.float32),
            objective.head_chunk,
            config.final_softcap,
        )
        return total / jnp.sum(counted)

    def logprobs_of(name: str, temperature: float = 1.0) -> Float[Array, "rows scored targets"]:
        """Of the targets; padding has some, too."""
        targets: Any = parts[name].targets
        return target_logprobs(
            head,
            scored(name).reshape(-1, config.width),
            targets.reshape(-1, targets.shape[-1]),
            objective.head_chunk,
            config.final_softcap,
            temperature,
        ).reshape(targets.shape)

    def mean_kl(name: str, reference: Float[Array, "rows said reference_width"]) -> Float[Array, " rows"]:
        """Nats a position that predicts one of the row's first `said` tokens, over the vocabulary."""
        count, said, width = reference.shape
        by_token = vocabulary_kl(
            head,
            scored(name)[:, :said].reshape(-1, config.width),
            reference_head,
            reference.reshape(-1, width),
            objective.head_chunk,
            objective.kl_direction,
            config.final_softcap,
            objective.reference_softcap,
        ).reshape(count, said)
        is_said = parts[name].continuation[:, :said, 0] >= 0
        return jnp.sum(by_token * is_said, axis=-1) / jnp.sum(is_said, axis=-1)

    metrics: dict[str, Any] = {}
    loss: Any = jnp.float32(0)
    if batch.explanation is not None:
        metrics["explanation_loss"] = mean_loss("explanation")
        loss = weights.explanation * metrics["explanation_loss"]
    if behavior is not None:
        items = behavior.kl_mask.shape[0]
        slots: Any = None  # there are some where there are answers
        if behavior.answers is not None:
            answers = behavior.answers
            by_candidate = sequence_logprobs(
                logprobs_of("behavior"), flat.continuation, flat.targets.shape[-1]
            )
            slots = add_none(by_candidate, jnp.repeat(answers.candidates, 2)).reshape(items, 2, -1)
            metrics["agreement"], metrics["kept_behavior"] = agreement(slots, answers, objective.with_none)
        if text is not None:
            metrics["kl"] = jnp.mean(mean_kl("text", text.reference_hidden))
        else:
            if objective.kl_support == "vocabulary":
                reference = behavior.reference_hidden
                by_prompt = mean_kl("behavior", reference.reshape(2 * items, *reference.shape[2:]))
                by_prompt = by_prompt.reshape(items, 2)
            else:
                by_prompt = divergence(slots, answers.reference_logprobs, objective.kl_direction)
            held = behavior.kl_mask
            metrics["kl"] = jnp.sum(by_prompt * held) / jnp.maximum(jnp.sum(held), 1)
        loss += weights.kl * metrics["kl"]
    if batch.shift is not None:
        shift, of_shift = batch.shift, {}
        if isinstance(shift, Pairs):
            said: Any = sequence_logprobs(logprobs_of("shift"), jnp.asarray(shift.rows.continuation), 2)
            shift_loss, of_shift = preference_loss(
                said, jnp.asarray(shift.reference_logprobs), objective.beta
            )
        elif isinstance(shift, Groups):
            logprobs = logprobs_of("shift", objective.temperature)
            shift_loss, of_shift = policy_gradient_loss(logprobs, shift, objective.clip, objective.reward_kl)
        else:
            shift_loss = mean_loss("shift")
        metrics |= {"shift_loss": shift_loss, **of_shift}
        loss += weights.shift * shift_loss
    return loss, {"loss": loss, **metrics}
