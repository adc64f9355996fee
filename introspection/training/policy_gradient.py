"""Group-relative policy gradient (GRPO, Shao et al. 2024) of replies that the current model samples."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from introspection.errors import InputError
from introspection.text.rows import Rows, build_row, pad_scored, pad_time, stack_rows

HostOrDevice = Array | np.ndarray  # batches are made on the host
SPREAD_FLOOR = 1e-4  # added to a group's standard deviation of rewards, as TRL does


class Groups(NamedTuple):
    """A group of replies to each of some prompts: the k-th continuation of a row is the k-th reply.

    Log-probabilities (nats) are of every reply's tokens, in the places of `rows.targets`, and 0 elsewhere.
    """

    rows: Rows
    rewards: Float[HostOrDevice, "rows group"]
    sampled_logprobs: Float[HostOrDevice, "rows scored group"]  # of the model that said them
    reference_logprobs: Float[HostOrDevice, "rows scored group"]  # of kl_reference


class Rollout(NamedTuple):
    """The groups of several steps, one step's rows after another's."""

    first_step: int
    groups: Groups


def group_rows(
    prompts: Sequence[Sequence[int]],
    groups: Sequence[Sequence[Sequence[int]]],
    time: int | None = None,
    scored: int | None = None,
) -> Rows:
    """A row for each prompt, with its replies side by side; padded to `time` tokens and `scored` positions.

    Raises:
      InputError: a group is empty.
    """
    for prompt, replies in zip(prompts, groups, strict=True):
        if not replies:
            raise InputError(f"a group has no replies (its prompt has {len(prompt)} tokens); sample some")
    rows = stack_rows([build_row(prompt, replies) for prompt, replies in zip(prompts, groups, strict=True)])
    rows = rows if time is None else pad_time(rows, time)
    return rows if scored is None else pad_scored(rows, scored)


def by_target(
    rows: Rows, logprobs: Sequence[Sequence[Sequence[float] | np.ndarray]]
) -> Float[np.ndarray, "rows scored group"]:
    """The log-probabilities of each row's replies, token by token, in the places of `rows.targets`."""
    placed = np.zeros(rows.targets.shape, np.float32)
    for row, owners, replies in zip(placed, rows.continuation, logprobs, strict=True):
        for k, values in enumerate(replies):
            row[owners == k] = values
    return placed


def check_rewards(rewards: Float[np.ndarray, "rows group"], kind: str) -> None:
    """Raises InputError if no group has two different rewards: such a reward teaches nothing."""
    if np.ptp(rewards, axis=-1).any():
        return
    earned = ", ".join(f"{value:g}" for value in np.unique(rewards)[:3])
    raise InputError(
        f"shift {kind!r}: its reward never varies within a group: in {len(rewards)} groups of "
        f"{rewards.shape[-1]} replies of the initial model all replies to a prompt earn the same ({earned}); "
        "raise shift.group_size or shift.temperature, or choose another shift or initial model"
    )


def group_advantages(rewards: Float[Array, "rows group"]) -> Float[Array, "rows group"]:
    """Each reward minus its group's mean, over the group's standard deviation (of a sample, n − 1) + 1e-4.

    A group of equal rewards has advantages of 0, whatever the mean is rounded to.
    """
    mean = jnp.mean(rewards, axis=-1, keepdims=True)
    spread = jnp.std(rewards, axis=-1, ddof=1, keepdims=True)
    varied = jnp.ptp(rewards, axis=-1, keepdims=True) > 0
    return jnp.where(varied, (rewards - mean) / (spread + SPREAD_FLOOR), 0.0)


def policy_gradient_loss(
    logprobs: Float[Array, "rows scored group"], groups: Groups, clip: float, reward_kl: float
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """−min(ρ A, clip(ρ, 1 ± ε) A) + β KL, the mean over all tokens of all replies.

    ρ is a token's probability over that under the sampling model, A its reply's advantage. KL(current ‖
    reference) is estimated at the sampled tokens by r − log r − 1 with r = π_ref / π (Schulman's k3, eq. 4 of
    GRPO). GRPO averages each reply's tokens first; the mean over all tokens is DAPO's (Yu et al. 2025),
    which does not favour short replies, and TRL's default.

    Args:
      logprobs: the current model's, in the places of `groups.rows.targets`.

    Returns:
      The loss, and its parts: the clipped term, the KL (nats a token), the mean reward, the share of tokens
      that the clip stops, and of groups whose rewards are all equal.
    """
    owners = groups.rows.continuation
    counted = owners >= 0
    advantages = group_advantages(jnp.asarray(groups.rewards, jnp.float32))
    everywhere = jnp.broadcast_to(advantages[:, None, :], owners.shape)
    advantage = jnp.take_along_axis(everywhere, jnp.maximum(owners, 0), axis=-1)

    def mean(values: Float[Array, "rows scored group"]) -> Float[Array, ""]:
        return jnp.sum(values * counted) / jnp.sum(counted)

    # Padding has no sampled token, and its ratio could overflow.
    ratio = jnp.exp(jnp.where(counted, logprobs - groups.sampled_logprobs, 0.0))
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - clip, 1.0 + clip) * advantage)
    to_reference = jnp.where(counted, groups.reference_logprobs - logprobs, 0.0)
    kl = mean(jnp.exp(to_reference) - to_reference - 1.0)
    policy_loss = -mean(gain)
    stopped = ((ratio < 1.0 - clip) & (advantage < 0)) | ((ratio > 1.0 + clip) & (advantage > 0))
    return policy_loss + reward_kl * kl, {
        "policy_loss": policy_loss,
        "reward_kl": kl,
        "reward": jnp.mean(groups.rewards),
        "clipped": mean(stopped.astype(jnp.float32)),
        "constant_groups": jnp.mean(jnp.ptp(groups.rewards, axis=-1) == 0),
    }
