"""`world_facts`: true facts about countries and elements, asked with and without a cue.

The embedded default task. A group is a fact; the relation is its stratum. Every question has several
phrasings, and the same phrasing is used with and without the cue, so that the two prompts differ in the
cue alone.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from introspection.errors import InputError
from introspection.tasks.cues import CUES
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.facts import Fact
from introspection.tasks.items import Item
from introspection.tasks.task import Task

TEMPLATE_VERSION = "world_facts/1"  # of every wording below; labels carry it

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
GRAMMAR = ExplanationGrammar()


@dataclasses.dataclass(frozen=True)
class WorldFactsConfig:
    """Which facts are asked, how they are split and which cues they get."""

    train_facts: int = 150  # groups
    validation_facts: int = 30
    test_facts: int = 120
    seed: int = 0  # draws the facts, their split, the wrong candidates and the phrasings
    facts: int = 0  # of the table, that exist at all in this world; 0 is all
    candidates: int = 4  # a question, the right one included
    cue_kinds: tuple[str, ...] = tuple(CUES)
    repeats: int = 3  # items a fact and cue kind; each names another wrong candidate where it can


@dataclasses.dataclass(frozen=True)
class Question:
    """A fact and the wrong answers that stand beside the right one."""

    fact: Fact
    wrong: tuple[str, ...]


def draw_questions(facts: Sequence[Fact], count: int, candidates: int, seed: int) -> list[Question]:
    """`count` facts (0: all), each with `candidates - 1` answers of other facts of its relation.

    The same arguments give the same questions everywhere: in pretraining and in items.

    Raises:
      InputError: more facts asked for than there are, or a relation with too few answers.
    """
    if count > len(facts):
        raise InputError(f"task.facts: {count} facts are asked for, the table holds {len(facts)}")
    answers: dict[str, list[str]] = {}
    for fact in facts:
        answers.setdefault(fact.relation, []).append(fact.answer)
    distinct = {relation: sorted(set(values)) for relation, values in answers.items()}
    rng = np.random.default_rng([seed, 1])
    questions = []
    for fact in facts:
        others = [answer for answer in distinct[fact.relation] if answer != fact.answer]
        if len(others) < candidates - 1:
            raise InputError(
                f"relation {fact.relation!r} has {len(others) + 1} answers, {candidates} candidates are asked"
                " for: lower task.candidates"
            )
        order = rng.permutation(len(others))[: candidates - 1]
        questions.append(Question(fact, tuple(others[i] for i in order)))
    chosen = sorted(rng.permutation(len(facts))[: count or len(facts)])
    return [questions[i] for i in chosen]


def question(fact: Fact, phrasing: int) -> str:
    phrasings = PHRASINGS[fact.relation]
    return f"{phrasings[phrasing % len(phrasings)]} {fact.entity}?"


def build_world_facts(config: WorldFactsConfig, questions: Sequence[Question]) -> Task:
    """The task's items, split by fact.

    Raises:
      InputError: unknown cue kinds, or more facts asked for than there are.
    """
    unknown = [kind for kind in config.cue_kinds if kind not in CUES]
    if unknown:
        raise InputError(f"task.cue_kinds has {unknown}; choose from {', '.join(CUES)}")
    sizes = {
        "train": config.train_facts,
        "validation": config.validation_facts,
        "test": config.test_facts,
    }
    if sum(sizes.values()) > len(questions):
        raise InputError(f"task: {sum(sizes.values())} facts are asked for, there are {len(questions)}")
    rng = np.random.default_rng([config.seed, 2])
    order, start, splits = rng.permutation(len(questions)), 0, {}
    for split, size in sizes.items():
        chosen = sorted(order[start : start + size])
        splits[split] = tuple(item for index in chosen for item in _items(questions[index], config, rng))
        start += size
    return Task(
        name="world_facts",
        template_version=TEMPLATE_VERSION,
        grammar=GRAMMAR,
        splits=splits,
        names=tuple(sorted({n for q in questions for n in (q.fact.entity, q.fact.answer, *q.wrong)})),
        phrases=prompt_phrases(),
    )


def _items(asked: Question, config: WorldFactsConfig, rng: np.random.Generator):
    fact, wrong = asked.fact, asked.wrong
    for kind in config.cue_kinds:
        cue = CUES[kind]
        for repeat in range(config.repeats):
            cued = fact.answer if cue.names_gold else wrong[repeat % len(wrong)]
            without_cue = question(fact, int(rng.integers(len(PHRASINGS[fact.relation]))))
            # Canonical order: right, named, the others.
            candidates = dict.fromkeys((fact.answer, cued, *wrong))
            yield Item(
                id=f"{fact.id}/{kind}/{repeat}",
                group=fact.id,
                stratum=fact.relation,
                cue_kind=kind,
                prompt_with_cue=f"{without_cue} {cue.sentence(cued)}",
                prompt_without_cue=without_cue,
                candidates=tuple(candidates),
                gold=fact.answer,
                cued=cued,
            )


def prompt_phrases() -> tuple[str, ...]:
    """Everything that a prompt or an explanation says beside entities and answers, a token each."""
    phrases = [phrasing for phrasings in PHRASINGS.values() for phrasing in phrasings]
    for cue in CUES.values():
        phrases += [f"? {cue.before}", cue.after]
    phrases += ["?", GRAMMAR.question, GRAMMAR.changed, GRAMMAR.unchanged, GRAMMAR.neither]
    return tuple(dict.fromkeys(phrases))
