"""Questions: facts, each with the wrong answers that stand beside the right one."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from introspection.errors import InputError
from introspection.tasks.facts.table import Fact


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
        raise InputError(f"task.facts: {count} facts are asked for, there are {len(facts)}")
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
