"""A task: items in splits by group, and the grammar of its explanations."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from introspection.errors import InputError
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.items import NONE, Decisions, Item

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
    # What a user must hear about their data, one line each: rows that were skipped or left out.
    notes: tuple[str, ...] = ()
    # The decisions of another model that the data bring, by item id; None if they bring none.
    published: Callable[[], Mapping[str, Decisions]] | None = None

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


def left_out(drawn: Mapping[str, int], available: int, what: str) -> tuple[str, ...]:
    """The note on sizes that leave out some of a user's data; nothing if they don't.

    Args:
      drawn: how many each split has.
      what: the plural of what is counted.
    """
    used = sum(drawn.values())
    if used >= available:
        return ()
    splits = ", ".join(f"{split} {count:,}" for split, count in drawn.items())
    return (
        f"uses {used:,} of {available:,} {what} ({splits}; config.task.train_items and the like; 0: all)",
    )


def print_task_notes(task: Task, console: Console, why: str = "") -> None:
    """Prints a task's notes on its data; `why` is what set its sizes, if not the user."""
    for note in task.notes:
        console.print(Text(f"{task.name}{f', {why}' if why else ''}: {note}"), soft_wrap=True)
