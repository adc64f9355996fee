"""Concurrent behaviour shifts: other post-training that runs at the same time, by behaviour alone.

A supervised shift names the answer to give on `x` (and, where it changes what is known, on `x\\C`) for some
groups. It never shows an explanation, so whether explanations follow is the question. The shift `taught`
teaches a part of a mixture that is never explained at all, such as an invented language.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from introspection.errors import InputError
from introspection.tasks.items import NONE, Decisions, Item, Prompt
from introspection.tasks.jabberwocky import behavior_examples

SHIFT_KINDS = ("none", "less_sycophantic", "more_sycophantic", "new_facts", "source_reliability", "taught")
SHIFT_GROUPS = ("held_out", "all")
SHIFT_ORDERS = ("concurrent", "after", "before", "alone")


@dataclasses.dataclass(frozen=True)
class ShiftConfig:
    """Which behaviour is trained, and on whom."""

    kind: str = "none"
    # The test groups, which explanation training never sees; or all groups. Whatever stands here, "taught" is
    # on the train and validation groups of parts that are never explained.
    groups: str = "held_out"
    fraction: float = 0.5  # of those groups that are shifted
    weight: float = 1.0  # μ
    # With explanation training; or by itself, as many steps "after" or "before" it, or "alone": without any.
    order: str = "concurrent"
    source: str = "friend"  # cue kind that becomes fully reliable, for kind "source_reliability"
    seed: int = 0  # draws the shifted groups and the new facts

    def __post_init__(self):
        for name, choices in (
            ("kind", SHIFT_KINDS),
            ("groups", SHIFT_GROUPS),
            ("order", SHIFT_ORDERS),
        ):
            if getattr(self, name) not in choices:
                raise InputError(f"shift.{name} is {getattr(self, name)!r}; choose from {', '.join(choices)}")
        if not 0 < self.fraction <= 1:
            raise InputError(f"shift.fraction is {self.fraction}; it must be above 0 and at most 1")
        if self.seed < 0:
            raise InputError(f"shift.seed is {self.seed}; it must be at least 0")

    def terms(self, step: int, steps: int) -> tuple[float, float]:
        """How much of (explanation loss, shift loss) step `step` trains, of phases of `steps` steps."""
        if self.kind == "none" or self.order == "concurrent":
            return 1.0, 1.0
        if self.order == "alone":
            return 0.0, 1.0
        shift_now = (step >= steps) == (self.order == "after")
        return float(not shift_now), float(shift_now)

    @property
    def phases(self) -> int:
        """How many times the steps of explanation training a run takes."""
        return 1 if self.kind == "none" or self.order in ("concurrent", "alone") else 2


class ShiftExample(NamedTuple):
    prompt: Prompt
    answer: str


def shifted_groups(config: ShiftConfig, items: Sequence[Item]) -> frozenset[str]:
    """The groups, of those that the items are of, whose behaviour the shift trains.

    Raises:
      InputError: none of the test groups would be left unshifted, to hold the shifted ones against.
    """
    if config.kind == "none":
        return frozenset()
    groups = sorted({item.group for item in items})
    count = max(round(config.fraction * len(groups)), 1)
    if config.groups == "held_out" and config.kind != "taught" and count == len(groups):
        raise InputError(
            f"shift.fraction is {config.fraction}: it leaves none of {len(groups)} test groups unshifted, to "
            "hold the shifted ones against; lower it, or take more test groups"
        )
    order = np.random.default_rng([config.seed, 5]).permutation(len(groups))
    return frozenset(groups[i] for i in order[:count])


def shift_examples(
    config: ShiftConfig, items: Sequence[Item], initial: Sequence[Decisions]
) -> list[ShiftExample]:
    """The prompts and answers that the shift trains.

    - less_sycophantic: on `x`, what the initial model decides on `x\\C`.
    - more_sycophantic: on `x`, the answer that the cue names.
    - new_facts: on `x\\C` and on `x`, a wrong candidate that becomes the group's new answer.
    - source_reliability: on `x` with one cue kind, the answer that the cue names.
    - taught: on `x`, what is right with the cue (`cued`), and on `x\\C`, what is right without it (`gold`).

    An item whose cue names no answer is left out where that answer would be trained. Raises InputError if
    nothing is left to train.
    """
    if config.kind == "none":
        return []
    chosen = shifted_groups(config, items)
    rng = np.random.default_rng([config.seed, 6])
    new_answer = {}
    examples = []
    for item, decided in zip(items, initial, strict=True):
        if item.group not in chosen:
            continue
        if config.kind == "less_sycophantic" and decided.without_cue != NONE:
            examples.append(ShiftExample(item.prompt_with_cue, decided.without_cue))
        elif item.cued and (
            config.kind == "more_sycophantic"
            or (config.kind == "source_reliability" and item.cue_kind == config.source)
        ):
            examples.append(ShiftExample(item.prompt_with_cue, item.cued))
        elif config.kind == "new_facts":
            wrong = sorted(set(item.candidates) - {item.gold})
            answer = new_answer.setdefault(item.group, wrong[int(rng.integers(len(wrong)))])
            examples.append(ShiftExample(item.prompt_without_cue, answer))
            examples.append(ShiftExample(item.prompt_with_cue, answer))
        elif config.kind == "taught":
            examples += [ShiftExample(*example) for example in behavior_examples([item])]
    if not examples:
        lacking = (
            "no part of the task has explained=False and answers that are known"
            if config.kind == "taught"
            else f"no item of the cue kind {config.source!r} names an answer (cued)"
            if config.kind == "source_reliability"
            else "no item has a cue that names an answer (cued)"
            if config.kind == "more_sycophantic"
            else "the initial model gives none of the candidates"
        )
        raise InputError(f"shift {config.kind!r} has no examples: {lacking}")
    return list(dict.fromkeys(examples))
