"""Direct preference optimisation (DPO, Rafailov et al. 2023) of a model's own replies."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from introspection.errors import InputError
from introspection.tasks.items import Prompt
from introspection.text.rows import Rows
from introspection.training.policy_gradient import HostOrDevice
from introspection.training.shifts import OwnReply, ShiftConfig, ShiftExample


class Pairs(NamedTuple):
    """Preference pairs: continuation 0 of a row is the chosen reply to its prompt, 1 the rejected one."""

    rows: Rows
    reference_logprobs: Float[HostOrDevice, "rows 2"]  # kl_reference's, summed over a reply's tokens


class Preference(NamedTuple):
    """Two replies of the initial model to one prompt."""

    prompt: Prompt
    chosen: OwnReply
    rejected: OwnReply


def preferences(
    config: ShiftConfig, wanted: Sequence[ShiftExample], own: Mapping[Prompt, Sequence[OwnReply]]
) -> list[Preference]:
    """For each prompt, its first reply of the wanted class before its first reply of another.

    A prompt without both is left out.

    Args:
      wanted: prompts, each with the answer or class that the shift trains.
      own: the initial model's replies to each prompt, those to prefer or reject before others first.

    Raises:
      InputError: no prompt has both, or the two replies have the same tokens.
    """
    pairs = []
    for prompt, answer in wanted:
        chosen = next((reply for reply in own[prompt] if reply.judged == answer), None)
        rejected = next((reply for reply in own[prompt] if reply.judged != answer), None)
        if chosen is None or rejected is None:
            continue
        if chosen.tokens == rejected.tokens:
            raise InputError(
                f"shift {config.kind!r} pairs equal replies: to {str(prompt)[:60]!r}, {chosen.text!r} and "
                f"{rejected.text!r} have the same tokens, so neither can be preferred; change the candidates"
            )
        pairs.append(Preference(prompt, chosen, rejected))
    if not pairs:
        raise InputError(
            f"shift {config.kind!r} has no pairs for the objective {config.objective!r}: to none of "
            f"{len(wanted)} prompts does the initial model give both a wanted reply and another; raise "
            "shift.group_size or shift.temperature, or choose another objective or initial model"
        )
    return pairs


def preference_loss(
    logprobs: Float[Array, "pairs 2"], reference_logprobs: Float[Array, "pairs 2"], beta: float
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """−log σ(β [(log π_c − log π_ref,c) − (log π_r − log π_ref,r)]), the mean over pairs (the paper's eq. 7).

    Args:
      logprobs: of the chosen and of the rejected reply, summed over its tokens (nats).

    Returns:
      The loss in nats a pair, and the pairs' mean margin (the logit above) and share with a margin above 0.
    """
    gains = logprobs - reference_logprobs
    margins = beta * (gains[:, 0] - gains[:, 1])
    loss = -jnp.mean(jax.nn.log_sigmoid(margins))
    return loss, {"preference_margin": jnp.mean(margins), "preference_accuracy": jnp.mean(margins > 0)}
