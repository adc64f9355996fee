"""Nothing is decided from scores that are not numbers, and no decision depends on the order of candidates."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import mesh_of, task_model, tiny_task

from introspection.errors import RunError
from introspection.probes.behavior import Readout, read_behavior
from introspection.probes.behavior_cache import read_kept
from introspection.probes.explanation import decode_explanations, score_explanations
from introspection.probes.judges import ModelJudge, OpeningsJudge, Said
from introspection.probes.scored import add_none_bucket, decide
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.session import Session
from introspection.tasks.items import INVALID, NONE
from introspection.training.objectives import Answers, agreement

TASK = tiny_task()
ITEMS = TASK.splits["test"][:2]
PROGRAMS = ProgramTable()
NAMES = ("a", "b", "c")


def session():
    return Session(mesh_of(), PROGRAMS)


def overflowing():
    """A model of finite weights whose logits are not."""
    model = task_model(tied_head=False)
    params = {**model.variables["params"]}
    params["head"] = params["head"] * np.float32(1e38)
    assert np.isfinite(params["head"]).all()
    return dataclasses.replace(model, variables={"params": params}, name="runs/broken")


def not_a_number():
    model = task_model()
    spoiled = jax.tree.map(lambda leaf: leaf, model.variables)
    spoiled["params"]["final_norm"]["scale"] = (
        model.variables["params"]["final_norm"]["scale"].at[3].set(np.nan)
    )
    return dataclasses.replace(model, variables=spoiled, name="runs/broken")


def labels():
    return [TASK.grammar.all_explanations(item.candidates)[0] for item in ITEMS]


ASKED = {
    "candidates": lambda model: read_behavior(model, ITEMS, Readout(), session()),
    "replies": lambda model: read_behavior(model, ITEMS, Readout("generate", 4), session()),
    "explanations": lambda model: decode_explanations(model, ITEMS, TASK.grammar, 4, session()),
    "scored explanations": lambda model: score_explanations(model, ITEMS, TASK.grammar, labels(), session()),
}


@pytest.mark.parametrize("spoil", [overflowing, not_a_number], ids=["overflow", "nan"])
@pytest.mark.parametrize("asked", ASKED)
def test_a_model_without_finite_scores_decides_nothing(asked, spoil):
    with pytest.raises(RunError, match=rf"^runs/broken: on item {ITEMS[0].id}.* are not finite") as raised:
        ASKED[asked](spoil())
    assert "\n" not in str(raised.value)


def test_judges_decide_nothing_from_such_scores():
    candidate = ITEMS[0].candidates[0]
    said = [Said(ITEMS[0].prompt_with_cue, candidate)]
    with pytest.raises(RunError, match=r"^runs/broken: on the judge's question about"):
        OpeningsJudge((candidate,), (ITEMS[0].candidates[1],)).judge(said, not_a_number(), session())


def test_a_judge_is_undecided_where_both_sides_are_equal(monkeypatch):
    judge = OpeningsJudge()
    odds = np.array([0.0, 0.1, -0.1])
    monkeypatch.setattr(OpeningsJudge, "logprobs", lambda *_: np.stack([odds - 1, np.full(3, -1.0)], axis=1))
    said = [Said(f"prompt {number}", "a reply") for number in range(3)]
    assert judge.judge(said, task_model(), session()) == [NONE, "refuse", "comply"]
    monkeypatch.setattr(ModelJudge, "log_odds", lambda *_: np.array([0.0, 0.1, -0.1]))
    assert ModelJudge(task_model()).judge(said, task_model(), session()) == [NONE, "refuse", "comply"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(4))
def test_a_decision_needs_finite_scores(place, value):
    scores = np.log(np.array([0.2, 0.1, 0.3, 0.4], np.float32))
    scores[place] = value
    with pytest.raises(RunError, match="a, b, c are not finite"):
        decide(scores, NAMES)


@given(st.lists(st.sampled_from([-3.0, -2.0, -1.5, -4.0]), min_size=3, max_size=3), st.permutations(range(3)))
def test_the_order_of_candidates_decides_nothing(scores, order):
    rows = [add_none_bucket(np.array([scores[i] for i in order], np.float32)) for order in (range(3), order)]
    decided = [decide(rows[0], NAMES), decide(rows[1], [NAMES[i] for i in order])]
    assert decided[0] == decided[1]
    if sorted(scores)[-1] == sorted(scores)[-2]:
        assert decided[0] == NONE


def test_equal_scores_decide_for_none_everywhere():
    tied = np.log(np.array([0.4, 0.4, 0.1, 0.1], np.float32))
    clear = np.log(np.array([0.1, 0.6, 0.2, 0.1], np.float32))
    assert (decide(tied, NAMES), decide(clear, NAMES)) == (NONE, "b")
    assert (decide(tied[:-1], NAMES), decide(clear[:-1], NAMES)) == (NONE, "b")
    # In training: "changed, b" is right where the cue leaves two candidates equal.
    slots = jax.numpy.stack([tied, clear])[None]
    answers = Answers(
        candidates=np.array([3]),
        reference_logprobs=slots,
        label_changed=np.array([[True, False]]),
        label_answer=np.array([[1, 1]]),
        labelled=np.array([True]),
    )
    np.testing.assert_array_equal(agreement(slots, answers), [1, 0])
    straight = slots[:, ::-1]  # without the cue they are equal: none, the last slot
    answers = answers._replace(label_answer=np.array([[3, 0]]), label_changed=np.array([[True, True]]))
    np.testing.assert_array_equal(agreement(straight, answers), [1, 0])


def test_equally_probable_explanations_are_no_explanation(monkeypatch):
    def equal(model, requests, *_):
        return [np.full(len(request.continuations), -2.0, np.float32) for request in requests]

    monkeypatch.setattr("introspection.probes.explanation.score", equal)
    said, logprobs = score_explanations(task_model(), ITEMS, TASK.grammar, labels(), session())
    assert said == [INVALID] * 2
    assert logprobs == [-2.0] * 2


def test_kept_scores_that_are_not_finite_are_asked_again(tmp_path):
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps([[[-1.0, -2.0], [-1.0, float("nan")]]]))
    assert read_kept(kept, task_model(), Readout(), 1) is None
