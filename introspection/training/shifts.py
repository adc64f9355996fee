"""Concurrent behaviour shifts: other post-training that runs at the same time, by behaviour alone.

A supervised shift names the answer to give on `x` (and, where it changes what is known, on `x\\C`) for some
groups. It never shows an explanation, so whether explanations follow is the question. The shift `taught`
teaches a part of a mixture that is never explained at all, such as an invented language.

Where a judge puts replies into classes, an answer is the name of a class, and to say that name would be no
reply of the class ("refuse" complies). There a shift trains a reply that the model which training starts from
gives itself, or a refusal from a template (`reply_examples`).
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from introspection.errors import InputError
from introspection.tasks.items import NONE, Decisions, Item, Prompt
from introspection.tasks.refusal.phrases import REFUSE
from introspection.tasks.splits import drawn_groups

# Items whose groups the shift trains, and what the model that training starts from decides on them.
Pairs = Sequence[tuple[Item, Decisions]]


class ShiftKind(NamedTuple):
    """One way to move behaviour."""

    # From the arm's `shift` and the shifted items: the prompts, each with the answer that is trained.
    examples: Callable[["ShiftConfig", Pairs], list[tuple[Prompt, str]]]
    lacking: str  # why there may be no example; `{source}` is the config's


def less_sycophantic(config: "ShiftConfig", pairs: Pairs) -> list[tuple[Prompt, str]]:
    """On `x`, what the initial model decides on `x\\C`."""
    known = [(item, decided.without_cue) for item, decided in pairs if decided.without_cue != NONE]
    return [(item.prompt_with_cue, answer) for item, answer in known]


def more_sycophantic(config: "ShiftConfig", pairs: Pairs) -> list[tuple[Prompt, str]]:
    """On `x`, the answer that the cue names; an item whose cue names none is left out."""
    return [(item.prompt_with_cue, item.cued) for item, _ in pairs if item.cued]


def source_reliability(config: "ShiftConfig", pairs: Pairs) -> list[tuple[Prompt, str]]:
    """The same of one cue kind alone."""
    return more_sycophantic(config, [pair for pair in pairs if pair[0].cue_kind == config.source])


def new_facts(config: "ShiftConfig", pairs: Pairs) -> list[tuple[Prompt, str]]:
    """On `x\\C` and on `x`, a wrong candidate that becomes the group's new answer."""
    rng = np.random.default_rng([config.seed, 6])
    new_answer: dict[str, str] = {}
    examples = []
    for item, _ in pairs:
        wrong = sorted(set(item.candidates) - {item.gold})
        answer = new_answer.setdefault(item.group, wrong[int(rng.integers(len(wrong)))])
        examples += [(item.prompt_without_cue, answer), (item.prompt_with_cue, answer)]
    return examples


def taught(config: "ShiftConfig", pairs: Pairs) -> list[tuple[Prompt, str]]:
    """On `x`, what is right with the cue (`cued`), and on `x\\C`, what is right without it (`gold`)."""
    return behavior_examples(item for item, _ in pairs)


def behavior_examples(items: Iterable[Item]) -> list[tuple[Prompt, str]]:
    """What teaches the rule: (prompt, right answer) with the cue and without it, each once; no explanation.

    An answer that is not known ("") teaches nothing.
    """
    examples = [
        example
        for item in items
        for example in ((item.prompt_with_cue, item.cued), (item.prompt_without_cue, item.gold))
    ]
    return [example for example in dict.fromkeys(examples) if example[1]]


SHIFTS: dict[str, ShiftKind] = {
    "less_sycophantic": ShiftKind(less_sycophantic, "the initial model gives none of the candidates"),
    "more_sycophantic": ShiftKind(more_sycophantic, "no item has a cue that names an answer (cued)"),
    "new_facts": ShiftKind(new_facts, "there is no item"),
    "source_reliability": ShiftKind(
        source_reliability, "no item of the cue kind {source} names an answer (cued)"
    ),
    "taught": ShiftKind(taught, "no part of the task has explained=False and answers that are known"),
}
SHIFT_GROUPS = ("held_out", "all")
SHIFT_ORDERS = ("concurrent", "after", "before", "alone")


@dataclasses.dataclass(frozen=True)
class ShiftConfig:
    """Which behaviour is trained, and on whom."""

    kind: str = "none"  # or one of SHIFTS
    # The test groups, which explanation training never sees; or all groups. Whatever stands here, "taught" is
    # on the train and validation groups of parts that are never explained.
    groups: str = "held_out"
    fraction: float = 0.5  # of those groups that are shifted
    weight: float = 1.0  # μ
    # With explanation training; or by itself, as many steps "after" or "before" it, or "alone": without any.
    order: str = "concurrent"
    source: str = "friend"  # cue kind that becomes fully reliable, for kind "source_reliability"
    # What is trained where a judge reads replies, the class "refuse" is wanted, and the model refuses neither
    # with the cue nor without. The judge must read it as a refusal.
    refusal: str = "I'm sorry, but I can't help with that."
    seed: int = 0  # draws the shifted groups and the new facts

    def __post_init__(self):
        for name, choices in (
            ("kind", ("none", *SHIFTS)),
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


class OwnReply(NamedTuple):
    """What the model that training starts from says to a prompt, and the class that a judge puts it into."""

    text: str
    tokens: tuple[int, ...]  # its end token among them, if it was reached
    judged: str


class ShiftExample(NamedTuple):
    """A prompt and the reply that a shift trains: a text, or what a model said itself, token by token.

    A reply that was cut must be trained without an end, and not every cut can be written as a text.
    """

    prompt: Prompt
    answer: str | OwnReply


def shifted_groups(config: ShiftConfig, items: Sequence[Item]) -> frozenset[str]:
    """The groups, of those that the items are of, whose behaviour the shift trains.

    Raises:
      InputError: none of the test groups would be left unshifted, to hold the shifted ones against.
    """
    if config.kind == "none":
        return frozenset()
    groups = {item.group for item in items}
    count = max(round(config.fraction * len(groups)), 1)
    if config.groups == "held_out" and config.kind != "taught" and count == len(groups):
        raise InputError(
            f"shift.fraction is {config.fraction}: it leaves none of {len(groups)} test groups unshifted, to "
            "hold the shifted ones against; lower it, or take more test groups"
        )
    return drawn_groups(groups, count, [config.seed, 5])


def shift_examples(
    config: ShiftConfig, items: Sequence[Item], initial: Sequence[Decisions]
) -> list[ShiftExample]:
    """The prompts and answers that the shift trains; where a judge reads replies, an answer is a class.

    Raises:
      InputError: nothing is left to train.
    """
    if config.kind == "none":
        return []
    chosen = shifted_groups(config, items)
    kind = SHIFTS[config.kind]
    pairs = [pair for pair in zip(items, initial, strict=True) if pair[0].group in chosen]
    examples = [ShiftExample(*example) for example in kind.examples(config, pairs)]
    if not examples:
        lacking = kind.lacking.format(source=repr(config.source))
        raise InputError(f"shift {config.kind!r} has no examples: {lacking}")
    return list(dict.fromkeys(examples))


def unsaid_refusals(wanted: Sequence[ShiftExample], own: Mapping[Prompt, Sequence[OwnReply]]) -> list[Prompt]:
    """The prompts that are to be refused although no own reply refuses: where the template must stand in."""
    prompts = [
        prompt
        for prompt, answer in wanted
        if prompt in own and answer == REFUSE and _reply_of_class(own[prompt], REFUSE) is None
    ]
    return list(dict.fromkeys(prompts))


def reply_examples(
    config: ShiftConfig,
    wanted: Sequence[ShiftExample],
    own: Mapping[Prompt, Sequence[OwnReply]],
    template_class: Mapping[Prompt, str],
    judge: str,
) -> list[ShiftExample]:
    """The same prompts with replies in place of classes, where a judge reads replies.

    A reply is the first own one of the wanted class; without one, `config.refusal` where the class is
    `refuse`, and else the prompt is left out.

    Args:
      own: by prompt, what the model that training starts from says to the prompt and, after that, to the same
        item with or without its cue. No judge reads replies to other prompts: their answers stay.
      template_class: the class of `config.refusal` as a reply to each of `unsaid_refusals`.
      judge: what the judge is called.

    Raises:
      InputError: the judge doesn't read `config.refusal` as a refusal, or nothing is left to train.
    """
    examples = []
    for example in wanted:
        prompt, answer = example
        if prompt not in own:
            examples.append(example)
        elif (reply := _reply_of_class(own[prompt], answer)) is not None:
            examples.append(ShiftExample(prompt, reply))
        elif answer == REFUSE:
            if template_class[prompt] != REFUSE:
                raise InputError(
                    f"shift.refusal is {config.refusal!r}, which the judge {judge!r} reads as "
                    f"{template_class[prompt]!r}, not {REFUSE!r}, in reply to {str(prompt)[:60]!r}; choose "
                    "another text, or another judge (config.behavior.judge)"
                )
            examples.append(ShiftExample(prompt, config.refusal))
    if wanted and not examples:
        classes = " or ".join(sorted({repr(answer) for _, answer in wanted}))
        raise InputError(
            f"shift {config.kind!r} has no examples: where {classes} is wanted, the model gives no such "
            "reply itself, with the cue or without, and only a refusal can come from a template"
        )
    return list(dict.fromkeys(examples))


def _reply_of_class(replies: Sequence[OwnReply], wanted: "str | OwnReply") -> OwnReply | None:
    return next((reply for reply in replies if reply.judged == wanted), None)
