"""Generated replies and their decisions, by matching or by a judge."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from introspection.models.model import Model
from introspection.probes.decoding import decode
from introspection.probes.judges import Judge, Said
from introspection.runtime.session import Session
from introspection.tasks.items import Decisions, Item, Prompt
from introspection.tasks.matching import match_candidate
from introspection.text.tokenizer import ChatTokenizer


class Reply(NamedTuple):
    tokens: tuple[int, ...]  # including its end token, if reached
    text: str  # what is matched and judged: all that follows a thought
    thought: str = ""  # the text before that

    @property
    def whole(self) -> str:
        return self.thought + self.text


def read_reply(tokenizer: ChatTokenizer, tokens: Sequence[int]) -> Reply:
    """A generated reply; if its thought does not end, it has no text."""
    whole = tokenizer.decode(tokens)
    text = tokenizer.answer(whole, through_thought=True)
    return Reply(tuple(tokens), text, whole.removesuffix(text))


class Replies(NamedTuple):
    with_cue: Reply
    without_cue: Reply


def probe_replies(
    model: Model,
    items: Sequence[Item],
    tokens: int,
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Replies]:
    """Greedy replies to both prompts of every item; repeated prompts are answered once.

    Raises:
      RunError: a token's log-probability is not finite; names the model and the item.
    """
    unique = {prompt: f"item {item.id}" for item in items for prompt in prompts_of(item)}
    encoded = model.tokenizer.encode_prompts(list(unique), through_thought=True)
    decoded = decode(model, encoded, tokens, session, progress, list(unique.values()))
    said = {
        prompt: read_reply(model.tokenizer, reply.tokens)
        for prompt, reply in zip(unique, decoded, strict=True)
    }
    return [Replies(said[item.prompt_with_cue], said[item.prompt_without_cue]) for item in items]


def cut_share(replies: Sequence[Replies], end_ids: Sequence[int]) -> float:
    """The share of replies without an end; 0 of none."""
    lasts = [one.tokens[-1:] for both in replies for one in both]
    return sum(bool(last) and last[0] not in end_ids for last in lasts) / max(len(lasts), 1)


def prompts_of(item: Item) -> tuple[Prompt, Prompt]:
    return item.prompt_with_cue, item.prompt_without_cue


def decide_replies(replies: Replies, item: Item) -> Decisions:
    """The decision of each reply: the one candidate that it names, or `none`."""
    return Decisions(*(match_candidate(reply.text, item.candidates, item.case_counts) for reply in replies))


def judge_replies(
    model: Model,
    replies: Sequence[Replies],
    items: Sequence[Item],
    judge: Judge,
    session: Session,
) -> list[Decisions]:
    """The decisions on each item: the judge's if its classes are the candidates, else by matching."""
    decided = [decide_replies(both, item) for both, item in zip(replies, items, strict=True)]
    judged = [i for i, item in enumerate(items) if item.candidates == judge.classes]
    said = [
        Said(prompt, reply.text)
        for i in judged
        for prompt, reply in zip(prompts_of(items[i]), replies[i], strict=True)
    ]
    classes = judge.judge(said, model, session) if said else []
    for i, with_cue, without_cue in zip(judged, classes[::2], classes[1::2], strict=True):
        decided[i] = Decisions(with_cue, without_cue)
    return decided
