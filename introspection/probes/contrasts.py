r"""Two runs of one item, with and without its cue, token by token: what a patch puts where.

Both runs end where one of two replies is decided: the decisions on x and on x\C for behaviour, the
explanation that says "changed" and the one that denies it for explanations. The logit difference is between
the two replies' first different tokens, positive for what fits x.

Positions are matched by the characters that both prompts share. A token of the cue has no counterpart: what
stands for it is the mean of the counterparts of the nearest tokens before and after it that have one. So what
the cue wrote is gone, and its place holds what surrounds it in a run that never had a cue. (Alternatives:
zeros or the mean over other items, which are no state of this item; cutting the cue out of attention, which
no replacement of activations can express.) Or the other run has a weaker cue, whose tokens stand for the
cue's one by one: then both runs are of the form that explanation training knows.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from introspection.errors import InputError
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.facts.language import WorldLanguage
from introspection.tasks.items import Decisions, Explanation, Item, Prompt, add_to_prompt
from introspection.tasks.matching import is_whole
from introspection.tasks.spans import Span, prompt_difference
from introspection.text.buckets import bucket
from introspection.text.tokenizer import ChatTokenizer

# What a token belongs to: the words that name the relation, the entity, the rest of the prompt, the cue, the
# answer in it, the question that asks for an explanation, and all after the user's words, where the reply is
# decided.
GROUPS = ("relation", "entity", "question", "cue", "cued_answer", "ask", "answer")


class Run(NamedTuple):
    """One prompt as tokens, up to where the reply is decided."""

    tokens: list[int]
    groups: list[int]  # of every token, indices of `GROUPS`
    # The other run's tokens that stand for each token, by weights that sum to 1.
    counterpart: Float[np.ndarray, "time other_time"]


@dataclasses.dataclass(frozen=True)
class Contrast:
    """Two runs, and two tokens that tell what each of them says."""

    with_cue: Run
    without_cue: Run
    says: int  # the token that fits x
    denies: int  # the token that fits x\C

    def swapped(self) -> "Contrast":
        """The same with the two runs exchanged; the tokens stay."""
        return dataclasses.replace(self, with_cue=self.without_cue, without_cue=self.with_cue)


class Side(NamedTuple):
    """One of the two prompts of a contrast."""

    prompt: Prompt
    beside: Prompt  # what the cue's characters are told by: the same without the cue, or with it
    cued: str  # the answer that its cue names; "" if none


def sides(item: Item, weaker: Item | None = None) -> tuple[Side, Side]:
    """An item with its cue, and without it or with the cue of another item of the same question."""
    own = Side(item.prompt_with_cue, item.prompt_without_cue, item.cued)
    if weaker is None:
        return own, Side(item.prompt_without_cue, item.prompt_with_cue, "")
    return own, Side(weaker.prompt_with_cue, weaker.prompt_without_cue, weaker.cued)


def behavior_contrast(
    item: Item,
    decided: Decisions,
    tokenizer: ChatTokenizer,
    language: WorldLanguage | None,
    weaker: Item | None = None,
) -> Contrast:
    """The decision on x against that on x\\C. Raises InputError as `contrast`."""
    replies = (decided.with_cue, decided.without_cue)
    return contrast(item, sides(item, weaker), "", replies, tokenizer, language)


def explanation_contrast(
    item: Item,
    decided: Decisions,
    tokenizer: ChatTokenizer,
    grammar: ExplanationGrammar,
    language: WorldLanguage | None,
    weaker: Item | None = None,
) -> Contrast:
    """The explanation of a changed answer against the one that keeps the answer on x, both asked for as in
    probes (`explanation_prompt`), also about x\\C. Raises InputError as `contrast`."""
    changed = grammar.render(Explanation(True, decided.without_cue))
    unchanged = grammar.render(Explanation(False, decided.with_cue))
    asked = item.explanation_question or grammar.question
    return contrast(item, sides(item, weaker), asked, (changed, unchanged), tokenizer, language)


def contrast(
    item: Item,
    both: tuple[Side, Side],
    asked: str,
    replies: tuple[str, str],
    tokenizer: ChatTokenizer,
    language: WorldLanguage | None,
) -> Contrast:
    """Two prompts, followed by the question `asked`, up to where two replies differ.

    Args:
      language: of questions about facts, whose relation and entity it knows.

    Raises:
      InputError: the cue is not in the user's last turn, or the replies don't differ.
    """
    first, second = (tokenizer.encode_reply(reply) for reply in replies)
    shared = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    if shared is None:
        raise InputError(f"item {item.id}: the replies {replies[0]!r} and {replies[1]!r} do not differ")
    prompts = [add_to_prompt(side.prompt, asked) if asked else side.prompt for side in both]
    texts = [_last_turn(prompt) for prompt in prompts]
    if texts[0] == texts[1]:
        raise InputError(f"item {item.id}: the cue is not in the user's last turn")
    question = _last_turn(item.prompt_without_cue)
    named = language.question_spans(question) if language is not None else {}
    runs, owned = [], []
    for side, prompt, text, numbers in zip(both, prompts, texts, _shared_places(*texts), strict=True):
        in_cue = [
            number is None for number in _shared_places(_last_turn(side.prompt), _last_turn(side.beside))[0]
        ]
        in_cue += [False] * (len(text) - len(in_cue))
        read = _read_tokens(
            tokenizer.prompt_spans(prompt), text, numbers, in_cue, len(asked), side.cued, named, shared
        )
        owned.append([own for own, _ in read])
        groups = [GROUPS.index(group) for _, group in read]
        runs.append((tokenizer.encode_prompt(prompt) + first[:shared], groups))
    counterparts = _counterparts(*owned), _counterparts(*reversed(owned))
    pair = [
        Run(tokens, groups, counterpart)
        for (tokens, groups), counterpart in zip(runs, counterparts, strict=True)
    ]
    return Contrast(*pair, says=first[shared], denies=second[shared])


def _read_tokens(
    spans: Sequence[tuple[int, int]],
    text: str,
    numbers: Sequence[int | None],
    in_cue: Sequence[bool],
    asked: int,
    cued: str,
    named: Mapping[str, Span],
    said: int,
) -> list[tuple[set, str]]:
    """For each token of a run what it shares with the other run, and its group.

    Args:
      spans: the characters behind each token of the prompt.
      numbers: of each character of the text, from `_shared_places`.
      in_cue: which characters are the cue's.
      asked: characters of the explanation question, at the text's end.
      said: tokens of the reply that follow.
    """
    written = [i for i, (start, stop) in enumerate(spans) if start < stop]
    found: list[tuple[set, str]] = []
    for i, (start, stop) in enumerate([*spans, *[(0, 0)] * said]):
        if i > written[-1]:
            found.append(({("after", i - written[-1])}, "answer"))
        elif start == stop:
            found.append(({("before", i)}, "question"))
        else:
            # A space belongs to the word after it.
            words = [c for c in range(start, stop) if not text[c].isspace()] or list(range(start, stop))
            shared = {("text", numbers[c]) for c in words if numbers[c] is not None}
            found.append((shared, _group(text, words, in_cue, len(text) - asked, cued, named)))
    return found


def _last_turn(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else prompt.turns[-1].content


def _shared_places(with_cue: str, without_cue: str) -> tuple[list[int | None], list[int | None]]:
    """A number for each character of both texts, the same for what they share; None for what only one has."""
    with_places: list[int | None] = []
    without_places: list[int | None] = []
    for kind, segment in prompt_difference(with_cue, without_cue):
        numbers = range(len(without_places), len(without_places) + len(segment))
        if kind == "=":
            with_places += numbers
            without_places += numbers
        elif kind == "+":
            with_places += [None] * len(segment)
        else:
            without_places += [None] * len(segment)
    return with_places, without_places


def _group(
    text: str,
    words: Sequence[int],
    in_cue: Sequence[bool],
    asked_from: int,
    cued: str,
    named: Mapping[str, Span],
) -> str:
    """What a token with these characters belongs to; one with a character of the cue belongs to the cue."""
    if any(in_cue[c] for c in words):
        named_at = last_word(text, cued, in_cue)
        return "cued_answer" if all(c in named_at for c in words) else "cue"
    if words[0] >= asked_from:
        return "ask"
    return next((name for name, span in named.items() if span.start <= words[0] < span.stop), "question")


def last_word(text: str, word: str, in_cue: Sequence[bool]) -> range:
    """Where the cue last mentions the word whole; an earlier mention may be an article."""
    first, end = in_cue.index(True), len(in_cue) - in_cue[::-1].index(True)
    starts = [one.start() for one in re.finditer(f"(?={re.escape(word)})", text[:end])] if word else []
    spans = [range(start, start + len(word)) for start in starts if first <= start]
    return next((one for one in reversed(spans) if is_whole(text, one.start, one.stop)), range(0))


def _counterparts(here: Sequence[set], there: Sequence[set]) -> Float[np.ndarray, "time other_time"]:
    """For each token the tokens that share characters with it, in equal parts.

    Tokens without any, between two that have some, stand for as many such tokens of the other run one by one;
    if that has more or fewer there, each is the mean of its two neighbours' counterparts.
    """
    overlap = np.array([[bool(one & other) for other in there] for one in here], np.float32)
    known: Any = overlap.any(axis=1)
    weights = overlap / np.maximum(overlap.sum(axis=1, keepdims=True), 1)
    for i in np.flatnonzero(~known):
        before, after = np.flatnonzero(known[:i])[-1:], i + np.flatnonzero(known[i:])[:1]
        weights[i] = weights[[*before, *after]].mean(axis=0)
        if len(before) and len(after):
            start, stop = np.flatnonzero(overlap[before[0]])[-1] + 1, np.flatnonzero(overlap[after[0]])[0]
            if stop - start == after[0] - before[0] - 1:
                weights[i] = np.arange(len(there)) == start + i - before[0] - 1
    return weights


class ContrastBatch(NamedTuple):
    """Contrasts as arrays, padded; runs into which activations are put are `base`, those they come from
    `source`."""

    base: Int[np.ndarray, "items time"]
    source: Int[np.ndarray, "items time"]
    base_length: Int[np.ndarray, " items"]
    source_length: Int[np.ndarray, " items"]
    groups: Bool[np.ndarray, "items time groups"]  # of the base's tokens; none of padding
    counterpart: Float[np.ndarray, "items time time"]  # base by source
    says: Int[np.ndarray, " items"]
    denies: Int[np.ndarray, " items"]


def contrast_batch(contrasts: Sequence[Contrast], time: int = 0, items: int = 0) -> ContrastBatch:
    """Activations of the runs without the cue go into those with it (after `Contrast.swapped`, the reverse).

    Args:
      time: room for tokens; 0: the bucket of the longest run.
      items: room for items; 0: as many as there are. Padding items are one token long.
    """
    longest = max(len(run.tokens) for one in contrasts for run in (one.with_cue, one.without_cue))
    time, items = time or bucket(longest, smallest=8), items or len(contrasts)
    batch = ContrastBatch(
        base=np.zeros((items, time), np.int32),
        source=np.zeros((items, time), np.int32),
        base_length=np.ones(items, np.int32),
        source_length=np.ones(items, np.int32),
        groups=np.zeros((items, time, len(GROUPS)), bool),
        counterpart=np.zeros((items, time, time), np.float32),
        says=np.zeros(items, np.int32),
        denies=np.zeros(items, np.int32),
    )
    for row, one in enumerate(contrasts):
        base, source = one.with_cue, one.without_cue
        length, other = len(base.tokens), len(source.tokens)
        batch.base[row, :length], batch.source[row, :other] = base.tokens, source.tokens
        batch.base_length[row], batch.source_length[row] = length, other
        batch.groups[row, np.arange(length), base.groups] = True
        batch.counterpart[row, :length, :other] = base.counterpart
        batch.says[row], batch.denies[row] = one.says, one.denies
    return batch


def open_groups(contrasts: Sequence[Contrast]) -> list[str]:
    """The groups with a position from the first difference of the runs on: by causality, the activations
    of all others are equal in both runs."""
    found = set()
    for one in contrasts:
        base, source = one.with_cue, one.without_cue
        pairs = zip(base.tokens, source.tokens, strict=False)
        first = next(
            (i for i, (a, b) in enumerate(pairs) if a != b), min(len(base.tokens), len(source.tokens))
        )
        found |= set(base.groups[first:])
    return [GROUPS[group] for group in sorted(found)]
