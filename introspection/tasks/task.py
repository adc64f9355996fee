"""A task: items in splits by group, and the grammar of its explanations."""

import dataclasses

from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.items import Item

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Task:
    """What is asked. No group is in two splits."""

    name: str
    template_version: str  # changes whenever a wording does; labels of another version are refused
    grammar: ExplanationGrammar
    splits: dict[str, tuple[Item, ...]]
    names: tuple[str, ...] = ()  # entities and answers, for a word-level vocabulary
    phrases: tuple[str, ...] = ()  # all other wordings, likewise
