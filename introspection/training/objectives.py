"""The objective: `CE(explanation) + λ KL(B(kl_reference) ‖ B(current)) + μ L_shift`, in one forward pass.

The decoder reads explanation, behaviour and shift rows as one token array. Each term is a sum over its tokens
or prompts, divided once by its count in the whole batch, so gradients are exact under any split of the batch.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from introspection.errors import InputError
from introspection.models.config import ModelConfig
from introspection.models.decoder import forward
from introspection.models.head import cross_entropy, head_matrix, target_logprobs, vocabulary_kl
from introspection.runtime.config import check_choice
from introspection.text.rows import Rows

HostOrDevice = Array | np.ndarray  # batches are made on the host
KL_SUPPORTS = ("vocabulary", "candidates")
KL_DIRECTIONS = ("reference_to_current", "current_to_reference")


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Compile-time settings of the step; the weights of its terms are arguments."""

    kl_support: str = "vocabulary"  # at the answer position; or "candidates": these and `none`
    kl_direction: str = "reference_to_current"  # KL(reference ‖ current), or the reverse
    head_chunk: int = 4096  # scored positions whose full-vocabulary logits exist at a time
    reference_softcap: float | None = None  # `final_softcap` of kl_reference
    with_none: bool = True  # whether a decision, for agreement, can be `none`

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


class Batch(NamedTuple):
    """One step's rows for one seed; parts that are None are not compiled."""

    explanation: Rows | None  # None: nothing is explained, as in distillation
    behavior: BehaviorBatch | None = None
    shift: Rows | None = None


class ObjectiveWeights(NamedTuple):
    explanation: Float[Array, ""]  # 1, or 0 while only a sequential shift is trained
    kl: Float[Array, ""]  # λ
    shift: Float[Array, ""]  # μ


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


def batch_loss(
    config: ModelConfig,
    objective: ObjectiveConfig,
    variables: dict,
    reference_head: Float[Array, "vocab reference_width"],
    batch: Batch,
    weights: ObjectiveWeights,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The whole objective and its parts (nats a token or prompt; agreement a share)."""
    behavior_rows = batch.behavior and jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:]), batch.behavior.rows
    )
    found = {"explanation": batch.explanation, "behavior": behavior_rows, "shift": batch.shift}
    rows: Any = {name: part for name, part in found.items() if part is not None}
    tokens, positions, segments = (
        jnp.concatenate([getattr(part, name) for part in rows.values()])
        for name in ("tokens", "positions", "segments")
    )
    with jax.named_scope("one_forward"):
        hidden = forward(config, variables, tokens, positions, segments).hidden
    head = head_matrix(variables["params"], config)

    ends = np.cumsum([part.tokens.shape[0] for part in rows.values()])
    own_hidden = dict(zip(rows, jnp.split(hidden, ends[:-1]), strict=True))

    def scored_hidden(name: str) -> Float[Array, "rows scored width"]:
        return jnp.take_along_axis(own_hidden[name], rows[name].scored[:, :, None], axis=1)

    def mean_loss(name: str) -> Float[Array, ""]:
        """Nats a counted token of rows with one continuation each."""
        targets, counted = rows[name].targets[..., 0], rows[name].continuation[..., 0] >= 0
        total: Array = cross_entropy(
            head,
            scored_hidden(name).reshape(-1, config.width),
            targets.reshape(-1),
            counted.reshape(-1).astype(jnp.float32),
            objective.head_chunk,
            config.final_softcap,
        )
        return total / jnp.sum(counted)

    metrics, loss = {}, jnp.float32(0)
    if batch.explanation is not None:
        metrics["explanation_loss"] = mean_loss("explanation")
        loss = weights.explanation * metrics["explanation_loss"]
    if batch.behavior is not None:
        behavior: Any = batch.behavior  # device arrays by now, as are the rows
        flat: Any = rows["behavior"]
        at = scored_hidden("behavior")
        items, _, said, _ = behavior.reference_hidden.shape
        reverse = objective.kl_direction == "current_to_reference"
        if behavior.answers is not None:
            answers, slots_each = behavior.answers, flat.targets.shape[-1]
            logprobs = target_logprobs(
                head,
                at.reshape(-1, config.width),
                flat.targets.reshape(-1, slots_each),
                objective.head_chunk,
                config.final_softcap,
            ).reshape(flat.targets.shape)
            by_candidate = sequence_logprobs(logprobs, flat.continuation, slots_each)
            slots = add_none(by_candidate, jnp.repeat(answers.candidates, 2)).reshape(items, 2, -1)
            metrics["agreement"], metrics["kept_behavior"] = agreement(slots, answers, objective.with_none)
        if objective.kl_support == "vocabulary":
            by_token = vocabulary_kl(
                head,
                at[:, :said].reshape(-1, config.width),
                reference_head,
                behavior.reference_hidden.reshape(2 * items * said, -1),
                objective.head_chunk,
                reverse,
                config.final_softcap,
                objective.reference_softcap,
            ).reshape(2 * items, said)
            is_said = flat.continuation[:, :said, 0] >= 0
            divergence = jnp.sum(by_token * is_said, axis=-1) / jnp.sum(is_said, axis=-1)
            divergence = divergence.reshape(items, 2)
        else:
            divergence = slot_kl(slots, answers.reference_logprobs, reverse)
        held = behavior.kl_mask
        metrics["kl"] = jnp.sum(divergence * held) / jnp.maximum(jnp.sum(held), 1)
        loss += weights.kl * metrics["kl"]
    if batch.shift is not None:
        metrics["shift_loss"] = mean_loss("shift")
        loss += weights.shift * metrics["shift_loss"]
    return loss, {"loss": loss, **metrics}


def slot_kl(
    current: Float[Array, "items 2 slots"], reference: Float[Array, "items 2 slots"], reverse: bool
) -> Float[Array, "items 2"]:
    """KL in nats over candidates and `none`."""
    if reverse:
        current, reference = reference, current
    return jnp.sum(jnp.exp(reference) * (reference - current), axis=-1)
