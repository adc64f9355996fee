"""`world_facts`: true facts about countries and elements; the default task, shipped with the code."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from introspection.errors import InputError
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.facts.language import CUES, WorldLanguage
from introspection.tasks.facts.questions import Question
from introspection.tasks.facts.table import Fact
from introspection.tasks.facts.task import WorldTaskConfig, build_world_task
from introspection.tasks.items import Item
from introspection.tasks.task import Task

PHRASINGS: dict[str, tuple[str, ...]] = {
    "country_calling_code": ("What is the calling code of", "Which code dials", "The phone prefix of"),
    "country_capital": ("What is the capital of", "Which city is the seat of", "The capital city of"),
    "country_code": ("What is the ISO code of", "Which two letters stand for", "The country code of"),
    "country_continent": ("Which continent holds", "On which continent is", "The continent of"),
    "country_currency": ("What is the currency of", "With what do people pay in", "The money of"),
    "country_demonym": ("What are people called in", "Who lives in", "The demonym of"),
    "country_language": ("What is the language of", "Which language do people speak in", "The tongue of"),
    "country_subregion": ("Which region holds", "In which part of the world is", "The region of"),
    "element_block": ("Which block holds", "To which block belongs", "The block of"),
    "element_category": ("What kind of element is", "To which family belongs", "The category of"),
    "element_group": ("Which group holds", "To which group belongs", "The group of"),
    "element_number": ("What is the atomic number of", "How many protons has", "The number of"),
    "element_period": ("Which period holds", "To which period belongs", "The period of"),
    "element_symbol": ("What is the symbol of", "Which letters stand for", "The symbol of"),
}
WORLD_FACTS = WorldLanguage(
    name="world_facts",
    template_version="world_facts/1",
    phrasings=PHRASINGS,
    cues=CUES,
    grammar=ExplanationGrammar(),
    symbols=frozenset({"country_code", "element_symbol"}),
)


@dataclasses.dataclass(frozen=True)
class WorldFactsConfig(WorldTaskConfig):
    train_facts: int = 150  # groups
    validation_facts: int = 30
    test_facts: int = 120
    facts: int = 0  # of the table, in use at all; 0 is all
    held_out_entities: int = 0  # entities whose facts are all in the test split
    relations: tuple[str, ...] = ()  # of PHRASINGS; () is all
    # The explanation question lists the item's candidates, so that none must be recalled to be named. Prompts
    # about behaviour stay as they are.
    candidates_listed: bool = False


def facts_of_relations(facts: Sequence[Fact], relations: Sequence[str]) -> list[Fact]:
    """The facts of some relations, in order; all facts if no relation is named.

    Raises:
      InputError: an unknown relation.
    """
    unknown = [name for name in relations if name not in PHRASINGS]
    if unknown:
        raise InputError(f"config.task.relations has {unknown[0]!r}; choose from {', '.join(PHRASINGS)}")
    return [fact for fact in facts if not relations or fact.relation in relations]


def world_facts_task(config: WorldFactsConfig, questions: Sequence[Question]) -> Task:
    """Items about facts of the table; with held-out entities, test items are marked "seen" or "held_out".

    Raises:
      InputError: as `split_facts` and `build_world_task`.
    """
    splits = split_facts(config, questions)
    known = {questions[index].fact.entity for name in ("train", "validation") for index in splits[name]}
    # Checked against the splits, not the draw: with few facts, an entity that was not drawn may still have
    # none in train or validation.
    subsets = {
        index: "seen" if questions[index].fact.entity in known else "held_out" for index in splits["test"]
    }
    task = build_world_task(
        config, questions, splits, WORLD_FACTS, subsets if config.held_out_entities else None
    )
    return with_candidates_listed(task) if config.candidates_listed else task


def with_candidates_listed(task: Task) -> Task:
    """The task, where explanation questions list their item's candidates, in alphabetical order."""

    def asked(item: Item) -> Item:
        question = f"The choices are {', '.join(item.candidates)}. {task.grammar.question}"
        return dataclasses.replace(item, explanation_question=question)

    return dataclasses.replace(
        task,
        template_version=f"{task.template_version}/listed",
        splits={name: tuple(map(asked, items)) for name, items in task.splits.items()},
    )


def split_facts(config: WorldFactsConfig, questions: Sequence[Question]) -> dict[str, list[int]]:
    """Which questions each split asks, as sorted indices; no question is in two splits.

    Raises:
      InputError: more facts or entities are asked for than there are, or the held-out entities have more
        facts than the test split takes.
    """
    sizes = {
        "train": config.train_facts,
        "validation": config.validation_facts,
        "test": config.test_facts,
    }
    total = sum(sizes.values())
    if total > len(questions):
        raise InputError(f"task: the splits ask for {total} facts, but there are {len(questions)}")
    held_out = _held_out_facts(config, questions)
    rng = np.random.default_rng([config.seed, 2])
    # Held-out facts come last, which puts them in the test split.
    order = [index for index in rng.permutation(len(questions)) if index not in held_out]
    order = [*order[: total - len(held_out)], *held_out]
    splits, start = {}, 0
    for split, size in sizes.items():
        splits[split] = sorted(int(index) for index in order[start : start + size])
        start += size
    return splits


def _held_out_facts(config: WorldFactsConfig, questions: Sequence[Question]) -> set[int]:
    entities = sorted({asked.fact.entity for asked in questions})
    if config.held_out_entities > len(entities):
        raise InputError(
            f"task.held_out_entities is {config.held_out_entities}, but there are {len(entities)} entities"
        )
    order = np.random.default_rng([config.seed, 9]).permutation(len(entities))
    drawn = {entities[i] for i in order[: config.held_out_entities]}
    held_out = {index for index, asked in enumerate(questions) if asked.fact.entity in drawn}
    if len(held_out) > config.test_facts:
        raise InputError(
            f"task.held_out_entities: the {len(drawn)} drawn entities have {len(held_out)} facts, more than "
            f"task.test_facts ({config.test_facts}); lower the former or raise the latter"
        )
    return held_out
