"""Items about facts, whatever world they are of: questions, cues, and splits by fact.

A group is a fact; the relation is its stratum. Every question has several phrasings, and the same phrasing
is used with and without the cue, so that the two prompts differ in the cue alone.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from introspection.errors import InputError
from introspection.tasks.items import Item
from introspection.tasks.language import WorldLanguage
from introspection.tasks.questions import Question
from introspection.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class WorldTaskConfig:
    """Which facts are asked, how they are split and which cues they get."""

    train_facts: int = 150  # groups
    validation_facts: int = 30
    test_facts: int = 120
    seed: int = 0  # draws the facts, their split, the wrong candidates and the phrasings
    facts: int = 0  # of the source, that exist at all in this world; 0 is all
    candidates: int = 4  # a question, the right one included
    cue_kinds: tuple[str, ...] = ()  # of the world's cues; () is all
    repeats: int = 3  # items a fact and cue kind; each names another wrong candidate where it can
    held_out_entities: int = 0  # of them no fact is in train or validation: all are test facts
    phrasings: int = 3  # question forms in use, of pretraining too


def build_world_task(config: WorldTaskConfig, questions: Sequence[Question], language: WorldLanguage) -> Task:
    """The task's items, split by fact.

    Raises:
      InputError: unknown cue kinds, or more facts, entities or question forms asked for than there are.
    """
    unknown = [kind for kind in config.cue_kinds if kind not in language.cues]
    if unknown:
        raise InputError(f"task.cue_kinds has {unknown}; choose from {', '.join(language.cues)}")
    if not 1 <= config.phrasings <= language.most_phrasings:
        raise InputError(
            f"task.phrasings is {config.phrasings}; {language.name} has 1 to {language.most_phrasings}"
        )
    rng = np.random.default_rng([config.seed, 2])
    indices = split_facts(config, questions, rng)
    known = {questions[index].fact.entity for name in ("train", "validation") for index in indices[name]}

    def subset(split: str, entity: str) -> str:
        if split != "test" or not config.held_out_entities:
            return ""
        # By what is there, not by what was drawn: where few facts are in use, an entity that was not drawn
        # may have none in train or validation either.
        return "seen" if entity in known else "held_out"

    return Task(
        name=language.name,
        template_version=language.template_version,
        grammar=language.grammar,
        splits={
            split: tuple(
                item
                for index in chosen
                for item in _items(
                    questions[index], config, language, subset(split, questions[index].fact.entity), rng
                )
            )
            for split, chosen in indices.items()
        },
        names=tuple(sorted({n for q in questions for n in (q.fact.entity, q.fact.answer, *q.wrong)})),
        phrases=language.phrases(),
    )


def split_facts(
    config: WorldTaskConfig, questions: Sequence[Question], rng: np.random.Generator
) -> dict[str, list[int]]:
    """Which questions each split asks, as sorted indices; no question is in two.

    Raises:
      InputError: more facts or entities asked for than there are, or held-out entities with more facts than
        the test split has.
    """
    sizes = {
        "train": config.train_facts,
        "validation": config.validation_facts,
        "test": config.test_facts,
    }
    total = sum(sizes.values())
    if total > len(questions):
        raise InputError(f"task: {total} facts are asked for, there are {len(questions)}")
    held_out = _held_out_facts(config, questions)
    # Held-out facts come last, in the test split.
    order = [index for index in rng.permutation(len(questions)) if index not in held_out]
    order = [*order[: total - len(held_out)], *held_out]
    splits, start = {}, 0
    for split, size in sizes.items():
        splits[split] = sorted(int(index) for index in order[start : start + size])
        start += size
    return splits


def _held_out_facts(config: WorldTaskConfig, questions: Sequence[Question]) -> set[int]:
    """Indices of all questions about `held_out_entities` drawn entities."""
    entities = sorted({asked.fact.entity for asked in questions})
    if config.held_out_entities > len(entities):
        raise InputError(f"task.held_out_entities is {config.held_out_entities}; there are {len(entities)}")
    order = np.random.default_rng([config.seed, 9]).permutation(len(entities))
    drawn = {entities[i] for i in order[: config.held_out_entities]}
    held_out = {index for index, asked in enumerate(questions) if asked.fact.entity in drawn}
    if len(held_out) > config.test_facts:
        raise InputError(
            f"task.held_out_entities: these {len(drawn)} entities have {len(held_out)} facts, more than "
            f"task.test_facts ({config.test_facts})"
        )
    return held_out


def _items(
    asked: Question,
    config: WorldTaskConfig,
    language: WorldLanguage,
    subset: str,
    rng: np.random.Generator,
) -> Iterator[Item]:
    fact, wrong = asked.fact, asked.wrong
    for kind in config.cue_kinds or language.cues:
        cue = language.cues[kind]
        for repeat in range(config.repeats):
            cued = fact.answer if cue.names_gold else wrong[repeat % len(wrong)]
            without_cue = language.question(fact, int(rng.integers(config.phrasings)))
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
                subset=subset,
            )
