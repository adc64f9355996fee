"""How behaviour is read: candidates are scored, or a reply is generated and matched to them.

Scoring gives every candidate a probability, but a model that copies any text of its prompt then looks swayed
by it. Everything else that the model may say is one more bucket, `none`: `score` decides for it where it is
likelier than every candidate, `likeliest` never does (as lm-evaluation-harness's multiple choice: arg max of
summed log-likelihoods, here with the end of the answer). A generated reply is what a user sees; its decision
is the one candidate that it names, or `none`. If the candidates are classes of behaviour (refuse, comply), a
judge decides.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from introspection.checkpoints.names import load_one
from introspection.errors import InputError
from introspection.models.model import Model
from introspection.probes.judges import Judge, ModelJudge, PhraseJudge, judge_of
from introspection.probes.readouts import READOUTS
from introspection.probes.replies import (
    Replies,
    decide_replies,
    judge_replies,
    judge_texts,
    probe_replies,
    prompts_of,
    read_reply,
)
from introspection.probes.scored import Behavior, decisions, probe_behavior
from introspection.runtime.config import check_choice
from introspection.runtime.session import Session
from introspection.tasks.items import NONE, Decisions, Item, Prompt
from introspection.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class Readout:
    kind: str = "score"  # one of `READOUTS`
    tokens: int = 24  # limit of a generated reply, including its end; a truncated reply is still matched
    judge: Judge | None = None  # of replies to items whose candidates are its classes; others are matched

    def __post_init__(self):
        check_choice("readout", self.kind, READOUTS)
        if self.tokens < 1:
            raise InputError(f"reply_tokens is {self.tokens}; it must be at least 1")
        if self.judge is not None and self.kind != "generate":
            raise InputError("a judge reads generated replies: set readout to 'generate'")

    @property
    def scored(self) -> bool:
        """Whether candidates are scored; else a reply is generated."""
        return self.kind != "generate"

    @property
    def with_none(self) -> bool:
        """Whether a decision may be for no candidate."""
        return self.kind != "likeliest"


@dataclasses.dataclass(frozen=True)
class BehaviorConfig:
    """How a run reads behaviour: candidates are scored, or a reply is generated and matched to them.

    With generated replies, the KL term covers all of their tokens, and agreement is measured between steps.
    """

    readout: str = "score"  # the likeliest candidate or `none`; "likeliest" is never `none`; or "generate"
    reply_tokens: int = 24  # limit of a generated reply
    # Who classifies replies, if the candidates are classes (refuse, comply): "phrases" (rules), "openings"
    # (log-odds of openings), "model"; "" is the rules, if the task needs a judge.
    judge: str = ""
    judge_model: str = ""  # the model that the judge "model" asks, named as in `initial`

    def __post_init__(self):
        Readout(self.readout, self.reply_tokens)  # checks them


def load_readout(behavior: BehaviorConfig, task: Task, session: Session) -> Readout:
    """The readout of a config for a task; unless another judge is named, phrase rules classify refusals.

    Raises:
      InputError: there is no such judge, its model is missing, or items that need a judge would be scored
        (which would treat class names as replies).
    """
    scored = behavior.readout != "generate"
    # Training scores items of every split; for generated replies, the test items show whether to judge.
    splits = task.splits.values() if scored else [task.splits["test"]]
    judged = any(item.candidates == PhraseJudge.classes for items in splits for item in items)
    if judged and scored:
        raise InputError(
            f"{task.name}: {' and '.join(PhraseJudge.classes)} are classes for a judge of replies, not texts "
            "to score: set config.behavior.readout to generate"
        )
    asked = None
    if behavior.judge == ModelJudge.name and behavior.judge_model:
        asked = load_one(behavior.judge_model, session.mesh, cache=session.cache)
    named = behavior.judge or (PhraseJudge.name if judged else "")
    return Readout(behavior.readout, behavior.reply_tokens, judge_of(named, asked))


class Probe(NamedTuple):
    behaviors: list[Behavior] | list[Replies]
    decisions: list[Decisions]


def read_behavior(
    model: Model,
    items: Sequence[Item],
    readout: Readout,
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
) -> Probe:
    """B(M) on every item, with and without its cue; `progress` is called with prompts done."""
    behaviors = probe_readout(model, items, readout, session, progress)
    return Probe(behaviors, decide_behavior(model, behaviors, items, readout, session))


def request_count(items: Sequence[Item], readout: Readout) -> int:
    """How many requests `read_behavior` makes: one of a prompt; where it scores, of one set of candidates."""
    scored = readout.scored
    return len({(p, item.candidates if scored else ()) for item in items for p in prompts_of(item)})


def probe_readout(
    model: Model,
    items: Sequence[Item],
    readout: Readout,
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Behavior] | list[Replies]:
    """The model's own output: log-probabilities of the candidates, or replies."""
    if readout.scored:
        return probe_behavior(model, items, session, progress)
    return probe_replies(model, items, readout.tokens, session, progress)


def decide_behavior(
    model: Model,
    behaviors: Any,
    items: Sequence[Item],
    readout: Readout,
    session: Session,
) -> list[Decisions]:
    """The likeliest candidates or `none`, the candidates that replies name, or a judge's classes.

    Args:
      behaviors: a list of `Behavior` for scored candidates, of `Replies` for generated replies.
    """
    if readout.scored:
        return decisions(behaviors, items, with_none=readout.with_none)
    if readout.judge is not None:
        return judge_replies(model, behaviors, items, readout.judge, session)
    return [decide_replies(both, item) for both, item in zip(behaviors, items, strict=True)]


def decide_each(
    model: Model,
    items: Sequence[Item],
    prompts: Sequence[Prompt],
    replies: Sequence[Sequence[int]],
    readout: Readout,
    session: Session,
) -> list[str]:
    """The decision of each tokenised reply to one of its item's prompts, as `decide_behavior` reads replies.

    Where candidates are scored, a reply decides for the candidate that it is, token by token to its end.
    """
    if readout.scored:
        encode = functools.cache(lambda text: tuple(model.tokenizer.encode_reply(text)))
        return [
            next((candidate for candidate in item.candidates if encode(candidate) == tuple(reply)), NONE)
            for item, reply in zip(items, replies, strict=True)
        ]
    texts = [read_reply(model.tokenizer, reply).text for reply in replies]
    return judge_texts(model, items, prompts, texts, readout.judge, session)
