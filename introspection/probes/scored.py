"""B(M): a model's decisions on items with and without their cue, from scored candidates."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from introspection.errors import RunError, listed
from introspection.models.model import Model
from introspection.probes.scoring import ScoreRequest, score, single_best
from introspection.runtime.session import Session
from introspection.tasks.items import NONE, Decisions, Item
from introspection.text.tokenizer import ChatTokenizer

# A bucket of probability 0 has no log; this floor is far below the rounding error of a sum to 1.
_SMALLEST_PROBABILITY = 1e-12
# What float32 log-probabilities leave uncertain in a sum to 1: logits of up to 64 are rounded by as much.
_ROUNDED = np.log(4e-6)


class Behavior(NamedTuple):
    """Log-probabilities of the candidates and, last, of everything else (`none`), in nats."""

    with_cue: Float[np.ndarray, " candidates_and_none"]
    without_cue: Float[np.ndarray, " candidates_and_none"]


def add_none_bucket(logprobs: Float[np.ndarray, " candidates"]) -> Float[np.ndarray, " candidates_and_none"]:
    """Appends the log-probability of answering none of the candidates.

    A candidate is scored with the end of the answer, so candidates are disjoint even if one is a prefix of
    another, and the rest is 1 minus their probabilities.
    """
    rest = max(1.0 - float(np.exp(logprobs.astype(np.float64)).sum()), _SMALLEST_PROBABILITY)
    return np.append(logprobs, np.float32(np.log(rest)))


def decide(logprobs: Float[np.ndarray, " candidates_and_none"], candidates: Sequence[str]) -> str:
    """The most probable candidate; `NONE` where that is more probable, or where several are equally so.

    Raises:
      RunError: a log-probability is not finite.
    """
    if not np.isfinite(logprobs).all():
        raise RunError(f"log-probabilities of {listed(candidates)} are not finite, so they decide nothing")
    best = single_best(logprobs)
    return NONE if best is None else (*candidates, NONE)[best]


def behavior_requests(tokenizer: ChatTokenizer, items: Sequence[Item]) -> list[ScoreRequest]:
    """Two requests per item: with the cue, then without."""
    encode = functools.cache(lambda text: tuple(tokenizer.encode_reply(text)))
    both = [prompt for item in items for prompt in (item.prompt_with_cue, item.prompt_without_cue)]
    candidates = [tuple(map(encode, item.candidates)) for item in items for _ in range(2)]
    return list(map(ScoreRequest, tokenizer.encode_prompts(both), candidates))


def probe_behavior(
    model: Model,
    items: Sequence[Item],
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Behavior]:
    """Scores every item's candidates on both prompts; repeated requests are scored once.

    Raises:
      RunError: a log-probability is not finite; names the model and the item.
    """
    requests = behavior_requests(model.tokenizer, items)
    keys = [(tuple(request.prompt), request.continuations) for request in requests]
    unique = dict(zip(keys, requests, strict=True))
    names = dict(zip(keys, (f"item {item.id}" for item in items for _ in range(2)), strict=True))
    scores = score(model, list(unique.values()), session, progress, list(names.values()))
    by_key = {key: add_none_bucket(row) for key, row in zip(unique, scores, strict=True)}
    return [Behavior(by_key[keys[2 * i]], by_key[keys[2 * i + 1]]) for i in range(len(items))]


def decisions(
    behaviors: Sequence[Behavior], items: Sequence[Item], with_none: bool = True
) -> list[Decisions]:
    """Each item's decisions; without `none`, the likeliest candidate however unlikely it is."""
    end = None if with_none else -1
    return [
        Decisions(decide(b.with_cue[:end], item.candidates), decide(b.without_cue[:end], item.candidates))
        for b, item in zip(behaviors, items, strict=True)
    ]


def cue_effects(
    behaviors: Sequence[Any] | None,
    decided: Sequence[Decisions],
    items: Sequence[Item],
    with_none: bool = True,
) -> list[float | None]:
    """How far each item's cue moves the model away from its decision without it, in nats: the log-odds of
    that decision without the cue minus those with it.

    Args:
      behaviors: None, or others than `Behavior`, have no log-probabilities and so no effects.
      with_none: whether `none` is among the other decisions.
    """
    if behaviors is None:
        return [None] * len(items)
    return [
        _cue_effect(both, (*item.candidates, NONE).index(decision.without_cue), with_none)
        if isinstance(both, Behavior)
        else None
        for both, decision, item in zip(behaviors, decided, items, strict=True)
    ]


def _cue_effect(behavior: Behavior, place: int, with_none: bool) -> float:
    with_cue, without_cue = (
        _log_odds(logprobs.astype(np.float64), place, with_none) for logprobs in behavior
    )
    return without_cue - with_cue


def _log_odds(logprobs: Float[np.ndarray, " candidates_and_none"], place: int, with_none: bool) -> float:
    """Of one decision against all others, of which `none`, 1 minus a sum, is known to rounding alone."""
    known = np.append(logprobs[:-1], [max(logprobs[-1], _ROUNDED)] * with_none)
    return float(known[place] - np.logaddexp.reduce(np.delete(known, place)))
