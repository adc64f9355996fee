"""Items about facts of any world.

A group is a fact, and its relation is the stratum. A question keeps its phrasing with and without the cue, so
that the two prompts differ only in the cue. Each task splits in its own way: `world_facts` by fact, closed
worlds by entity.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from introspection.errors import InputError
from introspection.tasks.facts.language import WorldLanguage
from introspection.tasks.facts.questions import Question
from introspection.tasks.items import Item
from introspection.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class WorldTaskConfig:
    seed: int = 0  # draws the facts, their split, the wrong candidates and the phrasings
    candidates: int = 4  # per question, the correct answer included
    # An item's candidates are the correct answer and the wrong one that its cue names (of the placebo that
    # names the correct one: one other, the same in all repeats), not also those that no prompt names.
    named_only: bool = False
    cue_kinds: tuple[str, ...] = ()  # of the world's cues; () is all
    repeats: int = 3  # items per fact and cue kind; each names another wrong candidate if possible
    test_repeats: int = 0  # the same for test items; 0 is `repeats`
    phrasings: int = 3  # question forms in use, also in pretraining


def build_world_task(
    config: WorldTaskConfig,
    questions: Sequence[Question],
    splits: Mapping[str, Sequence[int]],
    language: WorldLanguage,
    subsets: Mapping[int, str] | None = None,
) -> Task:
    """The task's items.

    Args:
      splits: which questions each split asks, as indices.
      subsets: the `Item.subset` of a question's items.

    Raises:
      InputError: unknown cue kinds, or more phrasings than the language has.
    """
    asked = language.with_cues(config.cue_kinds)
    if not 1 <= config.phrasings <= language.most_phrasings:
        raise InputError(
            f"task.phrasings is {config.phrasings}; for {language.name} it must be 1 to "
            f"{language.most_phrasings}"
        )
    rng = np.random.default_rng([config.seed, 11])
    return Task(
        name=language.name,
        template_version=language.template_version + "/named" * config.named_only,
        grammar=language.grammar,
        placebos=frozenset(kind for kind, cue in language.cues.items() if cue.placebo),
        splits={
            split: tuple(
                item
                for index in chosen
                for item in _items(
                    questions[index],
                    config,
                    asked,
                    config.test_repeats or config.repeats if split == "test" else config.repeats,
                    (subsets or {}).get(index, ""),
                    rng,
                )
            )
            for split, chosen in splits.items()
        },
        names=tuple(sorted({n for q in questions for n in (q.fact.entity, q.fact.answer, *q.wrong)})),
        phrases=language.phrases(),
    )


def _items(
    asked: Question,
    config: WorldTaskConfig,
    language: WorldLanguage,
    repeats: int,
    subset: str,
    rng: np.random.Generator,
) -> Iterator[Item]:
    fact, wrong = asked.fact, asked.wrong
    for kind, cue in language.cues.items():
        named = rng.permutation(len(wrong))  # each kind starts at another wrong answer
        for repeat in range(repeats):
            rival = wrong[named[0 if cue.names_gold else repeat % len(wrong)]]
            cued = fact.answer if cue.names_gold else rival
            phrasing = int(rng.integers(config.phrasings))
            without_cue = language.question(fact, phrasing)
            yield Item(
                id=f"{fact.id}/{kind}/{repeat}",
                group=fact.id,
                stratum=fact.relation,
                cue_kind=kind,
                prompt_with_cue=f"{without_cue} {cue.sentence(cued)}",
                prompt_without_cue=without_cue,
                candidates=(fact.answer, rival) if config.named_only else (fact.answer, *wrong),
                gold=fact.answer,
                cued=cued,
                subset=subset,
                phrasing=str(phrasing),
                entity=fact.entity,
                case_counts=fact.relation in language.symbols,
            )
