"""A task: items in splits by group, and the grammar of its explanations."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from introspection.errors import InputError
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.items import NONE, Item

SPLITS = ("train", "validation", "test")


class LabelledReply(NamedTuple):
    """A reply whose class of behaviour the data give."""

    prompt: str
    reply: str
    judged: str


@dataclasses.dataclass(frozen=True)
class Task:
    """Items in splits, and how their explanations are asked for.

    Raises:
      InputError: a group is in two splits, or an item's candidates are ambiguous.
    """

    name: str
    template_version: str  # changes with any wording; labels of other versions are refused
    grammar: ExplanationGrammar
    splits: dict[str, Sequence[Item]]  # tuples; or lazy, from a data set that was checked when it was made
    placebos: frozenset[str] = frozenset()  # cue kinds that should change nothing
    # Takes a tokenizer's `encode_reply`; raises InputError if its tokens can't score the candidates.
    check_scored: Callable[[Callable[[str], Sequence[int]]], None] = lambda encode_reply: None
    names: tuple[str, ...] = ()  # entities and answers, for a word-level vocabulary
    phrases: tuple[str, ...] = ()  # all other wordings, likewise

    def __post_init__(self):
        split_of: dict[str, str] = {}
        for split, items in self.splits.items():
            for item in items if isinstance(items, tuple) else ():
                if split_of.setdefault(item.group, split) != split:
                    raise InputError(
                        f"group {item.group} is in both {split_of[item.group]} and {split}; give it one split"
                    )
                reserved = {NONE, self.grammar.neither} & set(item.candidates)
                if reserved:
                    raise InputError(
                        f"item {item.id}: the candidate {reserved.pop()!r} is reserved; reword it"
                    )
                if len(set(item.candidates)) < max(len(item.candidates), 2):
                    raise InputError(f"item {item.id}: needs two or more distinct candidates")
                if not {item.gold, item.cued} <= {"", *item.candidates}:
                    raise InputError(f"item {item.id}: the gold and cued answers must be candidates")
