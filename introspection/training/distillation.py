"""Distillation: a model learns another's behaviour, and never sees an explanation.

The objective is the KL term by itself, KL(B(teacher) ‖ B(student)), as in Hinton et al. (arXiv:1503.02531) at
temperature 1, on every prompt of the task, with and without its cue, but those held out to measure agreement.
"""

import dataclasses
from collections.abc import Sequence, Set

import numpy as np

from introspection.errors import InputError
from introspection.tasks.items import Item, Prompt
from introspection.training.loop import LoopConfig
from introspection.training.step import OptimizerConfig

WARMUP_STEPS = 10


@dataclasses.dataclass(frozen=True)
class AlignConfig:
    """How config.foreign learns the behaviour of config.initial before arms with `aligned` start from it."""

    steps: int = 0  # at most; 0 aligns nothing
    # Share of items on which both decisions must be the same: of those distilled, and of those held out.
    agreement: float = 0.95
    check_steps: int = 500  # between measurements of agreement; the first that suffices ends distillation
    items: int = 64  # per step; each is two rows, with and without its cue
    # Peak of a cosine schedule over `steps`: at a constant rate, near ties stay undecided.
    learning_rate: float = 2e-3
    held_out: float = 0.1  # share of prompts that are not distilled; items with one are the held-out ones

    def __post_init__(self):
        if self.steps < 0 or self.check_steps < 1 or self.steps % self.check_steps:
            raise InputError(
                f"config.align.steps is {self.steps}; give a multiple of check_steps ({self.check_steps}), "
                "or 0 to align nothing"
            )
        if self.items < 1:
            raise InputError(f"config.align.items is {self.items}; it must be at least 1")
        for name in ("agreement", "held_out"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(
                    f"config.align.{name} is {getattr(self, name)}; it is a share, above 0 and below 1"
                )

    def check(self, foreign: str, steps_per_call: int) -> None:
        """Raises InputError if it is set without a model to align, or does not fit `steps_per_call`."""
        if self.steps and foreign == "none":
            raise InputError(
                "config.align.steps is set, but config.foreign is 'none': name the model to align"
            )
        if self.steps:
            _ = self.loop(self.steps, steps_per_call)  # checks the intervals

    @property
    def optimizer(self) -> OptimizerConfig:
        return OptimizerConfig(self.steps, "cosine", WARMUP_STEPS)

    def loop(self, steps: int, steps_per_call: int) -> LoopConfig:
        """The loop up to a measurement of agreement."""
        every = dict.fromkeys(("log_steps", "evaluation_steps", "checkpoint_steps"), self.check_steps)
        return LoopConfig(steps, steps_per_call, **every)


def held_out_prompts(items: Sequence[Item], share: float, seed: int) -> frozenset[Prompt]:
    """A share of the items' distinct prompts, with and without the cue, drawn by `seed`; at least one.

    Raises:
      InputError: no item is left of which both prompts are distilled.
    """
    prompts = list(
        dict.fromkeys(p for item in items for p in (item.prompt_with_cue, item.prompt_without_cue))
    )
    count = max(round(share * len(prompts)), 1)
    order = np.random.default_rng([seed, 15]).permutation(len(prompts))
    held_out = frozenset(prompts[place] for place in order[:count])
    if all(is_held_out(item, held_out) for item in items):
        raise InputError(
            f"config.align.held_out is {share:g}: of each of the {len(items)} items, a prompt would be "
            "held out; lower it"
        )
    return held_out


def is_held_out(item: Item, held_out: Set[Prompt]) -> bool:
    """Whether one of an item's prompts was not distilled."""
    return not held_out.isdisjoint((item.prompt_with_cue, item.prompt_without_cue))
