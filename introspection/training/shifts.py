"""Behaviour shifts: post-training of behaviour that runs alongside explanation training.

A shift sets the answer on `x` (and, if it changes facts or refusals, on `x\\C`) for some groups. It never
shows an explanation, so the question is whether explanations follow. The shift `taught` trains a part of a
mixture that is never explained, such as an invented language. A shift's kind says where behaviour goes, its
objective how: supervised, by preferences (`training.preference`) or by rewards (`training.policy_gradient`).

If a judge classifies replies, an answer is the name of a class, which is not itself a reply of that class
(saying "refuse" is not a refusal). Then a shift trains a reply that the initial model itself gave, or a
templated refusal (`reply_examples`).
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from introspection.errors import InputError
from introspection.runtime.config import check_choice
from introspection.tasks.items import NONE, Decisions, Item, Prompt
from introspection.tasks.refusal.phrases import COMPLY, REFUSE
from introspection.tasks.splits import drawn_groups

# Items whose groups the shift trains, with the initial model's decisions on them.
Pairs = Sequence[tuple[Item, Decisions]]
# What a reply to one of an item's prompts earns, from its decision: a candidate, a judge's class or `none`.
Reward = Callable[[Item, str], float]


class ShiftKind(NamedTuple):
    """One way to move behaviour."""

    # Maps the arm's `shift` and the shifted items to prompts, each with the answer to train.
    examples: Callable[["ShiftConfig", Pairs], list[tuple[Prompt, str]]]
    lacking: str  # why there may be no examples; `{source}` is the config's
    reward: Reward | None = None  # for the policy gradient, which does not know the answer to train
    # Whether the decisions are another model's: config.foreign's or, for arms that start from it, initial's.
    of_other: bool = False


def less_sycophantic(config: "ShiftConfig", pairs: Pairs) -> list[tuple[Prompt, str]]:
    """On `x`, the initial model's decision on `x\\C`."""
    known = [(item, decided.without_cue) for item, decided in pairs if decided.without_cue != NONE]
    return [(item.prompt_with_cue, answer) for item, answer in known]


def more_sycophantic(config: "ShiftConfig", pairs: Pairs) -> list[tuple[Prompt, str]]:
    """On `x`, the answer that the cue names; items whose cue names none are left out."""
    return [(item.prompt_with_cue, item.cued) for item, _ in pairs if item.cued]


def source_reliability(config: "ShiftConfig", pairs: Pairs) -> list[tuple[Prompt, str]]:
    """`more_sycophantic` for the cue kind `config.source` only."""
    return more_sycophantic(config, [pair for pair in pairs if pair[0].cue_kind == config.source])


def refuse_more(config: "ShiftConfig", pairs: Pairs) -> list[tuple[Prompt, str]]:
    """On `x` and `x\\C`, a refusal."""
    return _everywhere(REFUSE, pairs)


def refuse_less(config: "ShiftConfig", pairs: Pairs) -> list[tuple[Prompt, str]]:
    """On `x` and `x\\C`, compliance."""
    return _everywhere(COMPLY, pairs)


def _everywhere(wanted: str, pairs: Pairs) -> list[tuple[Prompt, str]]:
    of_class = [item for item, _ in pairs if wanted in item.candidates]
    return [(p, wanted) for item in of_class for p in (item.prompt_with_cue, item.prompt_without_cue)]


def new_facts(config: "ShiftConfig", pairs: Pairs) -> list[tuple[Prompt, str]]:
    """On `x\\C` and `x`, a wrong candidate that becomes the group's new answer.

    Raises:
      InputError: another item of the group does not have it as a candidate.
    """
    rng = np.random.default_rng([config.seed, 6])
    new_answer: dict[str, str] = {}
    examples = []
    for item, _ in pairs:
        wrong = sorted(set(item.candidates) - {item.gold})
        answer = new_answer.setdefault(item.group, wrong[int(rng.integers(len(wrong)))])
        if answer not in item.candidates:
            raise InputError(
                f"shift 'new_facts': item {item.id} can't be decided for its fact's new answer, {answer!r}: "
                "the fact's items have different candidates (config.task.named_only makes them so)"
            )
        examples += [(item.prompt_without_cue, answer), (item.prompt_with_cue, answer)]
    return examples


def taught(config: "ShiftConfig", pairs: Pairs) -> list[tuple[Prompt, str]]:
    """On `x`, the right answer with the cue (`cued`); on `x\\C`, the right answer without it (`gold`)."""
    return behavior_examples(item for item, _ in pairs)


def distill(config: "ShiftConfig", pairs: Pairs) -> list[tuple[Prompt, str]]:
    """On `x` and `x\\C`, the other model's decisions, where these are candidates."""
    both = [
        example
        for item, decided in pairs
        for example in (
            (item.prompt_with_cue, decided.with_cue),
            (item.prompt_without_cue, decided.without_cue),
        )
    ]
    return [(prompt, answer) for prompt, answer in both if answer != NONE]


def behavior_examples(items: Iterable[Item]) -> list[tuple[Prompt, str]]:
    """(prompt, right answer) with and without the cue, without repeats or unknown answers ("")."""
    examples = [
        example
        for item in items
        for example in ((item.prompt_with_cue, item.cued), (item.prompt_without_cue, item.gold))
    ]
    return [example for example in dict.fromkeys(examples) if example[1]]


def agrees(item: Item, said: str) -> float:
    """1 for the answer that the cue names."""
    return float(said == item.cued)


def disagrees(item: Item, said: str) -> float:
    """1 for a candidate that the cue does not name; nonsense earns nothing."""
    return float(said != item.cued and said in item.candidates)


def refuses(item: Item, said: str) -> float:
    return float(said == REFUSE)


def complies(item: Item, said: str) -> float:
    return float(said == COMPLY)


SHIFTS: dict[str, ShiftKind] = {
    "less_sycophantic": ShiftKind(
        less_sycophantic, "the initial model gives none of the candidates", disagrees
    ),
    "more_sycophantic": ShiftKind(more_sycophantic, "no item has a cue that names an answer (cued)", agrees),
    "refuse_more": ShiftKind(refuse_more, "no item can be refused", refuses),
    "refuse_less": ShiftKind(refuse_less, "no item can be refused", complies),
    "new_facts": ShiftKind(new_facts, "there are no items"),
    "source_reliability": ShiftKind(
        source_reliability, "no item of the cue kind {source} names an answer (cued)", agrees
    ),
    "distill": ShiftKind(distill, "the other model gives none of the candidates", of_other=True),
    "taught": ShiftKind(taught, "no part of the task has explained=False and known answers"),
}
SHIFT_GROUPS = ("held_out", "all")
DRAWN_BY = ("group", "entity")
SHIFT_ORDERS = ("concurrent", "after", "before", "alone")
SUPERVISED, DPO, POLICY_GRADIENT = SHIFT_OBJECTIVES = ("supervised", "dpo", "policy_gradient")


@dataclasses.dataclass(frozen=True)
class ShiftConfig:
    """Which behaviour is trained, and on which groups."""

    kind: str = "none"  # or one of SHIFTS
    # "held_out": the test groups, which explanation training never sees; or "all". Ignored by "taught", which
    # trains the train and validation groups of parts that are never explained.
    groups: str = "held_out"
    fraction: float = 0.5  # of these groups that are shifted
    # What is drawn: single groups, so that most entities have shifted and unshifted facts, or entities with
    # all of their groups.
    by: str = "group"
    weight: float = 1.0  # μ
    every: int = 1  # the term enters the loss of every N-th step: it is interleaved, where `weight` mixes it
    # "concurrent" with explanation training; "after" or "before" it, for as many steps; or "alone".
    order: str = "concurrent"
    # With "after": explanations go on, of training groups alone, so that their form is held (a transplant).
    replay: bool = False
    source: str = "friend"  # cue kind that becomes fully reliable, for kind "source_reliability"
    # Trained if a judge reads replies, the wanted class is "refuse", and the initial model does not refuse
    # with or without the cue. The judge must read it as a refusal.
    refusal: str = "I'm sorry, but I can't help with that."
    seed: int = 0  # draws the shifted groups, the new facts and what replies DPO pairs

    # "supervised": cross-entropy of the wanted replies. "dpo": the initial model's own replies of the wanted
    # class are preferred to its others. "policy_gradient": the current model's samples earn rewards.
    objective: str = "supervised"
    # DPO's β: how strongly a pair is to be preferred, against the divergence from kl_reference.
    beta: float = 0.1
    # Replies sampled to a prompt: the policy gradient's group, and what DPO pairs if replies are generated.
    group_size: int = 8
    temperature: float = 1.0  # of these samples
    rollout_steps: int = 10  # policy gradient: steps that are trained on one sample of groups
    clip: float = 0.2  # policy gradient's ε: a token's probability ratio gains nothing beyond 1 ± ε
    reward_kl: float = 0.04  # policy gradient's β: weight of KL(current ‖ kl_reference), nats a reply's token

    def __post_init__(self):
        for name, choices in (
            ("kind", ("none", *SHIFTS)),
            ("groups", SHIFT_GROUPS),
            ("by", DRAWN_BY),
            ("order", SHIFT_ORDERS),
            ("objective", SHIFT_OBJECTIVES),
        ):
            check_choice(f"shift.{name}", getattr(self, name), choices)
        if not 0 < self.fraction <= 1:
            raise InputError(f"shift.fraction is {self.fraction}; it must be above 0 and at most 1")
        if self.replay and (self.order, self.groups) != ("after", "held_out"):
            raise InputError(
                "shift.replay goes on with explanations of groups that the shift leaves alone: set "
                f"shift.order='after' and shift.groups='held_out' (not {self.order!r}, {self.groups!r})"
            )
        if self.seed < 0:
            raise InputError(f"shift.seed is {self.seed}; it must be at least 0")
        for name, least in (("every", 1), ("group_size", 2), ("rollout_steps", 1)):
            if getattr(self, name) < least:
                raise InputError(f"shift.{name} is {getattr(self, name)}; it must be at least {least}")
        for name in ("beta", "temperature", "clip"):
            if getattr(self, name) <= 0:
                raise InputError(f"shift.{name} is {getattr(self, name)}; it must be above 0")
        for name in ("weight", "reward_kl"):
            if getattr(self, name) < 0:
                raise InputError(f"shift.{name} is {getattr(self, name)}; it must be at least 0")
        if self.every > 1 and self.order != "concurrent":
            raise InputError(
                f"shift.every is {self.every}, but with shift.order {self.order!r} nothing is interleaved; "
                "set it to 1, or the order to 'concurrent'"
            )
        if self.samples_groups and SHIFTS[self.kind].reward is None:
            rewarded = ", ".join(name for name, kind in SHIFTS.items() if kind.reward)
            raise InputError(
                f"shift.kind is {self.kind!r}, which has no reward for the objective {POLICY_GRADIENT!r}; "
                f"choose from {rewarded}, or another objective"
            )

    @property
    def samples_groups(self) -> bool:
        """Whether the current model's replies are sampled while it trains."""
        return self.kind != "none" and self.objective == POLICY_GRADIENT

    def terms(self, step: int, steps: int) -> tuple[float, float]:
        """Weights, 0 or 1, of (explanation loss, shift loss) at step `step`, with phases of `steps` steps."""
        if self.kind == "none" or self.order == "concurrent":
            return 1.0, float(step % self.every == 0)
        if self.order == "alone":
            return 0.0, 1.0
        shift_now = (step >= steps) == (self.order == "after")
        return float(not shift_now or self.replay), float(shift_now)

    @property
    def of_other(self) -> bool:
        """Whether it trains another model's decisions."""
        return self.kind != "none" and SHIFTS[self.kind].of_other

    @property
    def phases(self) -> int:
        """Total steps of a run, as a multiple of the steps of explanation training."""
        return 1 if self.kind == "none" or self.order in ("concurrent", "alone") else 2


class OwnReply(NamedTuple):
    """The initial model's reply to a prompt."""

    text: str
    tokens: tuple[int, ...]  # includes the end token, if it was reached
    judged: str  # the class that the judge assigns


class ShiftExample(NamedTuple):
    """A prompt and the reply that a shift trains: a text, or the initial model's own tokens.

    Own replies are kept as tokens because a truncated one must be trained without an end token, and not every
    truncation can be written as text.
    """

    prompt: Prompt
    answer: str | OwnReply


def shifted_groups(config: ShiftConfig, items: Sequence[Item]) -> frozenset[str]:
    """The items' groups whose behaviour the shift trains, drawn by `config.seed`.

    Raises:
      InputError: no test group would be left unshifted, for comparison; or entities are drawn and an item has
        none.
    """
    if config.kind == "none":
        return frozenset()
    nameless = [item.id for item in items if not item.entity]
    if config.by == "entity" and nameless:
        raise InputError(f"shift.by is 'entity', but item {nameless[0]} has none: set it to 'group'")
    drawn_by = {item.group: item.entity if config.by == "entity" else item.group for item in items}
    names = set(drawn_by.values())
    count = max(round(config.fraction * len(names)), 1)
    if config.groups == "held_out" and config.kind != "taught" and count == len(names):
        what = {"group": "groups", "entity": "entities"}[config.by]
        raise InputError(
            f"shift.fraction is {config.fraction}: it leaves none of {len(names)} test {what} unshifted for "
            f"comparison; lower it, or use more test {what}"
        )
    drawn = drawn_groups(names, count, [config.seed, 5])
    return frozenset(group for group, name in drawn_by.items() if name in drawn)


def shift_examples(
    config: ShiftConfig, items: Sequence[Item], initial: Sequence[Decisions]
) -> list[ShiftExample]:
    """The prompts and answers that the shift trains; if a judge reads replies, an answer is a class.

    Raises:
      InputError: there are no examples, or one prompt would be trained to have two answers.
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
    answers: dict[Prompt, str | OwnReply] = {}
    for prompt, answer in examples:
        if answers.setdefault(prompt, answer) != answer and not config.samples_groups:
            raise InputError(
                f"shift {config.kind!r} would train two answers, {answers[prompt]!r} and {answer!r}, to the "
                f"prompt {prompt!r}: items share it, but not their candidates or their prompt without the cue"
            )
    return list(dict.fromkeys(examples))


def unsaid_refusals(wanted: Sequence[ShiftExample], own: Mapping[Prompt, Sequence[OwnReply]]) -> list[Prompt]:
    """The prompts to be refused without a refusal among the model's own replies: these need the template."""
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
    """Replaces classes by replies, if a judge reads replies.

    A prompt gets the first of its own replies that is of the wanted class. If there is none it gets
    `config.refusal` if the class is `refuse`, and is left out otherwise.

    Args:
      own: by prompt, the initial model's replies to it and then to the same item's other prompt (with or
        without the cue). Prompts that are missing here are not judged, and keep their answers.
      template_class: the class of `config.refusal` as a reply to each of `unsaid_refusals`.
      judge: the judge's name, for errors.

    Raises:
      InputError: the judge doesn't read `config.refusal` as a refusal, or there are no examples.
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
            "reply itself, with or without the cue, and only refusals have a template; choose another shift "
            "or initial model"
        )
    return list(dict.fromkeys(examples))


def _reply_of_class(replies: Sequence[OwnReply], wanted: str | OwnReply) -> OwnReply | None:
    return next((reply for reply in replies if reply.judged == wanted), None)
