"""A task: items in splits by group, and the grammar of its explanations."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from introspection.errors import InputError
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.items import NONE, Item

SPLITS = ("train", "validation", "test")


class LabelledReply(NamedTuple):
    """A reply whose class of behaviour the data tell."""

    prompt: str
    reply: str
    judged: str


@dataclasses.dataclass(frozen=True)
class Task:
    """What is asked.

    Raises:
      InputError: a group in two splits, or an item whose candidates can't be told apart.
    """

    name: str
    template_version: str  # changes whenever a wording does; labels of another version are refused
    grammar: ExplanationGrammar
    splits: dict[str, Sequence[Item]]  # tuples; or read from a data set, which was checked when it was made
    placebos: frozenset[str] = frozenset()  # cue kinds that are there to change nothing
    # Given a tokenizer's `encode_reply`: raises InputError where candidates can't be scored with its tokens.
    check_scored: Callable[[Callable[[str], Sequence[int]]], None] = lambda encode_reply: None
    names: tuple[str, ...] = ()  # entities and answers, for a word-level vocabulary
    phrases: tuple[str, ...] = ()  # all other wordings, likewise

    def __post_init__(self):
        split_of: dict[str, str] = {}
        for split, items in self.splits.items():
            for item in items if isinstance(items, tuple) else ():
                if split_of.setdefault(item.group, split) != split:
                    raise InputError(
                        f"group {item.group} is in the splits {split_of[item.group]} and {split}"
                    )
                reserved = {NONE, self.grammar.neither} & set(item.candidates)
                if reserved:
                    raise InputError(f"item {item.id}: the candidate {reserved.pop()!r} is reserved")
                if len(set(item.candidates)) < max(len(item.candidates), 2):
                    raise InputError(f"item {item.id}: needs two or more different candidates")
                if not {item.gold, item.cued} <= {"", *item.candidates}:
                    raise InputError(f"item {item.id}: gold and cued answers must be candidates")
