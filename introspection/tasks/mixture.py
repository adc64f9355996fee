"""Mixtures of tasks, for training and evaluation, reported by part and in total.

- Ids, groups, strata and cue kinds get the part's name as a prefix, so that they can't collide (the hint of a
  friend in one task is another cue kind than in another). `subset` is the part's name, for reports.
- Each item asks for its explanation in the words of its task; all parts answer in the same sentence.
- Training items are drawn by weight, by seed and without replacement; `train_items=0` takes as many as the
  weights allow. (Balancing labels between changed and unchanged comes later and shifts the shares.) Test
  items are all, or drawn by weight too. Validation items are all.
- A part with `explained=False` is never in explanation training: all of its training and validation items
  are for training by behaviour (the shift `taught`), regardless of its weight. Its test items are tested.
- Validation items of explained parts come first, in drawn order.

Items are relabelled when read, so a mixture takes no memory of its own.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from introspection.errors import InputError
from introspection.runtime.config import check_choice
from introspection.tasks.items import Item
from introspection.tasks.sequences import ItemSequence, permuted
from introspection.tasks.splits import words_of
from introspection.tasks.task import Task

NAME = "mixture"
TEST_DRAWS = ("all", "weighted")
PART_FIELDS: dict[str, tuple[type, ...]] = {"weight": (float, int), "explained": (bool,)}


@dataclasses.dataclass(frozen=True)
class Part:
    task: Task
    weight: float | int = 1.0  # relative number of its training items, if explained, and of its test items
    explained: bool = True  # else trained only by behaviour, if at all
    name: str = ""  # prefix of its items; "" is the task's name

    @property
    def title(self) -> str:
        return self.name or self.task.name


@dataclasses.dataclass(frozen=True)
class Mixture(Task):
    unexplained: tuple[str, ...] = ()  # subsets that are never in explanation training


@dataclasses.dataclass(frozen=True)
class MixtureConfig:
    """The parts, and how many items of each.

    A part's section has the fields of its task, plus `weight` and `explained` as in `Part`. Its `name` is
    the task's; the default is the part's title.
    """

    parts: Mapping[str, Mapping[str, Any]]  # section by title; titles appear in ids and results
    seed: int = 0  # draws items; the parts have their own seeds
    train_items: int = 0  # of all explained parts; 0 is as many as the weights allow
    test: str = "all"  # test items of every part; or "weighted"
    test_items: int = 0  # of all parts, if "weighted"; 0 is as many as the weights allow


def is_explained(task: Task, item: Item) -> bool:
    """Whether an item of a task may be in explanation training."""
    return not (isinstance(task, Mixture) and item.subset in task.unexplained)


def unmixed(task: Task, item: Item) -> Item:
    """The item as in its own task, except for its subset; unchanged if the task is not a mixture."""
    if not isinstance(task, Mixture):
        return item
    names = ("id", "group", "stratum", "cue_kind")
    own = {name: getattr(item, name).removeprefix(f"{item.subset}/") for name in names}
    return dataclasses.replace(item, **own)


def check_apart(mixture: Mixture) -> None:
    """Raises InputError if two parts ask the same question in different splits.

    A part keeps its own splits apart, but two parts of one source with other sizes or seeds may overlap.
    """
    first: dict[str, tuple[str, Item]] = {}
    for split, items in mixture.splits.items():
        for item in items:
            there, other = first.setdefault(words_of(str(item.prompt_without_cue)), (split, item))
            if there != split and other.subset != item.subset:
                raise InputError(
                    f"config.task.parts: {other.subset} asks in {there} ({other.id}) what {item.subset} asks "
                    f"in {split} ({item.id}); give both the same seed and sizes, or different data"
                )


def part_sections(section: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The `task` section of each part, by title.

    Raises:
      InputError: there are no parts, or a part is a mixture.
    """
    parts = section.get("parts") or {}
    if not isinstance(parts, Mapping) or not parts:
        raise InputError("config.task.parts has no parts: name some tasks with their fields")
    sections = {}
    for title, fields in parts.items():
        own = {"name": title} | {name: value for name, value in fields.items() if name not in PART_FIELDS}
        if own["name"] == NAME:
            raise InputError(f"config.task.parts.{title} is a mixture; list its parts here instead")
        sections[title] = own
    return sections


def build_mixture(config: MixtureConfig, load: Callable[[Mapping[str, Any]], Task]) -> Mixture:
    """The mixture of a config; `load` builds a part from its section.

    Raises:
      InputError: as `part_sections`, `load` and `mix`.
    """
    parts = []
    for title, section in part_sections({"parts": config.parts}).items():
        own = {name: config.parts[title][name] for name in PART_FIELDS if name in config.parts[title]}
        for name, value in own.items():
            if type(value) not in PART_FIELDS[name]:
                wanted = PART_FIELDS[name][0].__name__
                raise InputError(
                    f"config.task.parts.{title}.{name} is {value!r}; give a value of type {wanted}"
                )
        try:
            parts.append(Part(load(section), name=title, **own))
        except InputError as error:
            raise InputError(f"config.task.parts.{title}: {error}") from error
    return mix(
        parts,
        seed=config.seed,
        train_items=config.train_items,
        test=config.test,
        test_items=config.test_items,
    )


def mix(
    parts: Sequence[Part], *, seed: int = 0, train_items: int = 0, test: str = "all", test_items: int = 0
) -> Mixture:
    """Combines tasks; the module's docstring and `MixtureConfig` describe the arguments.

    Raises:
      InputError: no part is explained, two share a name, parts explain in different sentences, a weight is
        not positive and finite, or a part has too few items for its weight.
    """
    _check_parts(parts, test)
    explained = [part for part in parts if part.explained]
    taught = [part for part in parts if not part.explained]

    def some(split: str, chosen: Sequence[Part], total: int) -> list["PartItems"]:
        sizes = [len(part.task.splits[split]) for part in chosen]
        counts = _counts_by_weight(split, chosen, sizes, total)
        return [PartItems(part, split, count, seed) for part, count in zip(chosen, counts, strict=True)]

    def every(split: str, chosen: Sequence[Part]) -> list["PartItems"]:
        return [PartItems(part, split, len(part.task.splits[split]), seed) for part in chosen]

    validation = every("validation", explained)
    return Mixture(
        name=NAME,
        template_version="+".join((f"{NAME}/1", *(f"{p.title}:{p.task.template_version}" for p in parts))),
        grammar=explained[0].task.grammar,
        splits={
            "train": MixedItems((*some("train", explained, train_items), *every("train", taught))),
            "validation": MixedItems(
                (*validation, *every("validation", taught)), drawn=sum(map(len, validation)), seed=seed
            ),
            "test": MixedItems(
                tuple(every("test", parts) if test == "all" else some("test", parts, test_items))
            ),
        },
        placebos=frozenset(f"{part.title}/{kind}" for part in parts for kind in part.task.placebos),
        check_scored=functools.partial(_check_scored, tuple(part.task for part in parts)),
        names=tuple(dict.fromkeys(name for part in parts for name in part.task.names)),
        phrases=tuple(dict.fromkeys(phrase for part in parts for phrase in part.task.phrases)),
        notes=tuple(f"{part.title}: {note}" for part in parts for note in part.task.notes),
        unexplained=tuple(part.title for part in taught),
    )


def _check_scored(tasks: Sequence[Task], encode_reply: Callable[[str], Sequence[int]]) -> None:
    for task in tasks:
        task.check_scored(encode_reply)


@dataclasses.dataclass(frozen=True)
class PartItems(ItemSequence):
    """`size` items of a part's split, relabelled; drawn if they are not all."""

    part: Part
    split: str
    size: int
    seed: int

    def __len__(self) -> int:
        return self.size

    def item(self, place: int) -> Item:
        items, title = self.part.task.splits[self.split], self.part.title
        if self.size < len(items):
            place = permuted(place, len(items), self.seed)
        item = items[place]
        return dataclasses.replace(
            item,
            id=f"{title}/{item.id}",
            group=f"{title}/{item.group}",
            stratum=f"{title}/{item.stratum}",
            cue_kind=f"{title}/{item.cue_kind}",
            subset=title,
            explanation_question=item.explanation_question or self.part.task.grammar.question,
        )


@dataclasses.dataclass(frozen=True)
class MixedItems(ItemSequence):
    """Concatenated parts, with the first `drawn` items in an order drawn by `seed`."""

    parts: tuple[PartItems, ...]
    drawn: int = 0
    seed: int = 0

    @functools.cached_property
    def ends(self) -> list[int]:
        return list(itertools.accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self.ends[-1]

    def item(self, place: int) -> Item:
        if place < self.drawn:
            place = permuted(place, self.drawn, self.seed)
        part = int(np.searchsorted(self.ends, place, side="right"))
        return self.parts[part].item(place - (self.ends[part] - len(self.parts[part])))


def _counts_by_weight(split: str, parts: Sequence[Part], sizes: Sequence[int], total: int) -> list[int]:
    """How many items of each part make a `total` in proportion to the weights; 0 is as many as possible."""
    weights = np.array([part.weight for part in parts]) / sum(part.weight for part in parts)
    if not total:
        # Rounded down: the scarcest part sets the total and is used up, and no part is overdrawn.
        total = int(np.floor(np.min(np.array(sizes) / weights) + 1e-6))
    exact = total * weights
    counts = np.floor(exact + 1e-6).astype(int)
    for place in np.argsort(counts - exact, kind="stable")[: total - counts.sum()]:
        counts[place] += 1
    for part, size, count in zip(parts, sizes, counts, strict=True):
        if not 0 < count <= size:
            raise InputError(
                f"config.task.parts.{part.title} has {size} {split} items, but its weight asks for {count} "
                f"of {total}: change config.task.{split}_items or the weights"
            )
    return [int(count) for count in counts]


def _check_parts(parts: Sequence[Part], test: str) -> None:
    check_choice("config.task.test", test, TEST_DRAWS)
    titles = [part.title for part in parts]
    if len(set(titles)) < len(titles):
        raise InputError(
            f"config.task.parts: two parts are called {max(titles, key=titles.count)!r}; rename one"
        )
    explained = [part for part in parts if part.explained]
    if not explained:
        raise InputError(
            "config.task.parts: no part is explained, so explanations have no training items; explain one"
        )
    sentence = dataclasses.replace(explained[0].task.grammar, question="")
    for part in parts:
        if not 0 < part.weight < math.inf:
            raise InputError(
                f"config.task.parts.{part.title}.weight is {part.weight}; it must be above 0 and finite"
            )
        if dataclasses.replace(part.task.grammar, question="") != sentence:
            raise InputError(
                f"config.task.parts: {explained[0].title} and {part.title} explain in different sentences "
                f"({sentence.changed!r} and {part.task.grammar.changed!r}); a mixture needs a single one"
            )
