"""Prediction records with few values, for the tests of results and of what they are held against."""

import numpy as np

from introspection.coupling.records import PredictionRecord
from introspection.coupling.results import arm_results
from introspection.runtime.json_values import to_json
from introspection.tasks.items import INVALID, NONE, Decisions, Explanation

E = Explanation
ANSWERS = ("Oslo", "Rome", "Bern", NONE)


def record(number, teacher, current, explanation, *, initial=None, **fields):
    """Decisions are (with cue, without cue); what is not given is that of an item in a group of its own."""
    defaults = dict(
        **dict(arm="kl", seed=0, id=str(number), group=str(number), cue_kind="guess"),
        **dict(candidates=ANSWERS[:3], gold="Oslo", cued="Rome"),
        **dict(prompt_with_cue="x", prompt_without_cue="x without", explanation_text=""),
        teacher=Decisions(*teacher),
        initial=Decisions(*(initial or teacher)),
        current=Decisions(*current),
    )
    return PredictionRecord(**(defaults | fields), explanation=explanation)


def eight_records() -> list[PredictionRecord]:
    """Two seeds of four items: (with cue, without cue) of the teacher and of current, and what is said."""
    moved, stays = ("Rome", "Oslo"), ("Oslo", "Oslo")
    return [
        record(1, moved, stays, E(False, "Oslo"), seed=0),  # drift to gold with the cue, says current
        record(2, moved, moved, E(True, "Oslo"), seed=0),  # no drift, right
        record(3, stays, moved, E(False, "Oslo"), seed=0),  # drift to cued, says the teacher
        record(4, stays, stays, INVALID, seed=0, cue_kind="placebo"),
        record(1, moved, stays, E(False, "Oslo"), seed=1),  # drift, says current
        record(2, moved, (NONE, "Bern"), E(True, "Bern"), seed=1),  # drift to other, says current
        record(3, stays, stays, E(False, "Rome"), seed=1),  # no drift, the answer is wrong
        record(4, stays, stays, E(False, "Oslo"), seed=1, cue_kind="placebo"),  # no drift, right
    ]


SERIES = {0: [(0, 1.0), (10, 0.8), (20, 0.9)], 1: [(0, 0.9), (10, 0.6), (20, 0.8)]}


def results_of(records, series=SERIES, seed=0):
    """As the file holds them."""
    return to_json(arm_results(records, series, 12.5, np.random.default_rng(seed)))


def random_records(seed, n=60, coupling=0.5, seeds=2):
    """Explanations say current's behaviour with probability `coupling`, else the teacher's, or nonsense."""
    rng = np.random.default_rng(seed)

    def decisions():
        return tuple(ANSWERS[index] for index in rng.integers(4, size=2))

    records = []
    for run in range(seeds):
        for number in range(n):
            teacher = decisions()
            current = teacher if rng.random() < 0.3 else decisions()
            says = Decisions(*(current if rng.random() < coupling else teacher)).explanation
            said = [says, INVALID, E(True, "Bern")][rng.choice(3, p=[0.8, 0.1, 0.1])]
            records.append(record(number, teacher, current, said, seed=run, group=str(number // 2)))
    return records
