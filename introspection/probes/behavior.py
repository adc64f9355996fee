"""How behaviour is read off a model: candidates are scored, or a reply is generated and matched to them.

Scoring gives a probability to every candidate, but a model that copies any text of its prompt looks as if
it were swayed by it. A generated reply is what a user would see; its decision is the one candidate that it
names, or `none`; where the candidates are classes of behaviour (refuse, comply), a judge reads it.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from introspection.checkpoints.names import load_one, model_path
from introspection.errors import InputError
from introspection.models.model import Model
from introspection.probes.judges import Judge, ModelJudge, PhraseJudge, judge_of
from introspection.probes.replies import Replies, decide_replies, judge_replies, probe_replies
from introspection.probes.scored import Behavior, decisions, probe_behavior
from introspection.runtime.session import Session
from introspection.tasks.items import Decisions, Item
from introspection.tasks.task import Task

READOUTS = ("score", "generate")


@dataclasses.dataclass(frozen=True)
class Readout:
    """Which way, and how long a generated reply may be."""

    kind: str = "score"  # or "generate"
    tokens: int = 24  # of a generated reply at most, its end included; a longer one is cut and still matched
    judge: Judge | None = None  # of the replies to items whose candidates are its classes; others are matched

    def __post_init__(self):
        if self.kind not in READOUTS:
            raise InputError(f"readout is {self.kind!r}; choose from {', '.join(READOUTS)}")
        if self.tokens < 1:
            raise InputError(f"reply_tokens is {self.tokens}; a reply has at least 1 token")
        if self.judge is not None and self.kind != "generate":
            raise InputError("a judge reads generated replies: set readout to 'generate'")


@dataclasses.dataclass(frozen=True)
class BehaviorConfig:
    """How a config has behaviour read: candidates are scored, or a reply is generated and matched to them.

    A generated reply is held by the KL term over all of its tokens, and agreement is then measured between
    steps.
    """

    readout: str = "score"  # or "generate"
    reply_tokens: int = 24  # of a generated reply, at most
    # Who puts replies into classes, where those are the candidates (refuse, comply): "phrases" (rules),
    # "openings" (log-odds of beginnings), "model"; "" is the rules, where the task needs a judge.
    judge: str = ""
    judge_model: str = ""  # whom the judge "model" asks: any model that `initial` can name

    def __post_init__(self):
        Readout(self.readout, self.reply_tokens)  # which checks them


def load_readout(behavior: BehaviorConfig, task: Task, session: Session) -> Readout:
    """How a config has a task's behaviour read. Without a named judge, refusals are read by the phrase rules.

    Raises:
      InputError: there is no such judge, the model that it asks is not there, or items to be judged are to be
        scored, which would take the classes for what is said.
    """
    scored = behavior.readout == "score"
    # Training scores items of every split; whether replies need a judge is seen on the test items.
    splits = task.splits.values() if scored else [task.splits["test"]]
    judged = any(item.candidates == PhraseJudge.classes for items in splits for item in items)
    if judged and scored:
        raise InputError(
            f"{task.name}: {' and '.join(PhraseJudge.classes)} are what a judge reads in a reply, no texts "
            "to score: set config.behavior.readout to generate"
        )
    asked = None
    if behavior.judge == ModelJudge.name and behavior.judge_model:
        asked = load_one(model_path(behavior.judge_model, session.cache), session.mesh)
    named = behavior.judge or (PhraseJudge.name if judged else "")
    return Readout(behavior.readout, behavior.reply_tokens, judge_of(named, asked))


class Probe(NamedTuple):
    """A model's behaviour on some items and the decisions that follow from it."""

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


def probe_readout(
    model: Model,
    items: Sequence[Item],
    readout: Readout,
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Behavior] | list[Replies]:
    """What the model itself gives: log-probabilities of the candidates, or replies."""
    if readout.kind == "score":
        return probe_behavior(model, items, session, progress)
    return probe_replies(model, items, readout.tokens, session, progress)


def decide_behavior(
    model: Model,
    behaviors: Any,
    items: Sequence[Item],
    readout: Readout,
    session: Session,
) -> list[Decisions]:
    """The decisions that follow: the likeliest candidates, those that replies name, or what a judge says.

    Args:
      behaviors: a list of `Behavior` where candidates are scored, of `Replies` where replies are generated.
    """
    if readout.kind == "score":
        return decisions(behaviors, items)
    if readout.judge is not None:
        return judge_replies(model, behaviors, items, readout.judge, session)
    return [decide_replies(both, item) for both, item in zip(behaviors, items, strict=True)]
