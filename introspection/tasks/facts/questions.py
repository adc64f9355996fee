"""Questions: facts, each with its wrong candidates."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from introspection.errors import InputError
from introspection.tasks.facts.table import Fact


@dataclasses.dataclass(frozen=True)
class Question:
    fact: Fact
    wrong: tuple[str, ...]


def draw_questions(facts: Sequence[Fact], count: int, candidates: int, seed: int) -> list[Question]:
    """`count` facts (0: all), each with `candidates - 1` answers of other facts of the same relation.

    Deterministic: pretraining and items get the same questions from the same arguments.

    Raises:
      InputError: more facts are asked for than there are, or a relation has too few answers.
    """
    if count > len(facts):
        raise InputError(f"task.facts is {count}, but there are {len(facts)} facts; lower it")
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
                f"relation {fact.relation!r} has {len(others) + 1} answers, fewer than task.candidates "
                f"({candidates}): lower task.candidates"
            )
        order = rng.permutation(len(others))[: candidates - 1]
        questions.append(Question(fact, tuple(others[i] for i in order)))
    chosen = sorted(rng.permutation(len(facts))[: count or len(facts)])
    return [questions[i] for i in chosen]
