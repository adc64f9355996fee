"""Pairs of a model's own replies, and groups that it samples, as an arm trains them."""

import functools
from types import SimpleNamespace
from unittest.mock import Mock

import jax
import numpy as np
import pytest
from hygiene_items import item
from reference_decoder import reference_hidden, reference_token_logprobs
from row_files import refusal
from test_shifts import ANSWER, OTHER, OWN, model, request, setup_of  # noqa: F401 (a fixture)
from tiny import mesh_of, task_model, tiny_task

from introspection.probes.behavior import Readout
from introspection.probes.decoding import Decoded
from introspection.probes.scored import decisions, probe_behavior
from introspection.runs import arm_shift as arm_shift_module
from introspection.runs.arm_shift import ArmShift, arm_shift
from introspection.runs.config import ArmConfig
from introspection.runs.rollouts import roll_out
from introspection.runs.setup import Probed, Setup, Start
from introspection.runs.train_config import TrainConfig
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.session import Session
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.refusal.phrases import COMPLY, REFUSE
from introspection.tasks.task import Task
from introspection.training.shifts import ShiftConfig, shifted_groups

PROGRAMS = ProgramTable()


@functools.cache
def answering_model(seed=0):
    """A random model that often answers with a candidate and then often ends."""
    base, items = task_model(seed, tied_head=False), tiny_task().splits["test"]
    encode, end = base.tokenizer.encode_prompt, base.tokenizer.end_id
    said = sorted({base.tokenizer.encode_reply(text)[0] for item in items for text in item.candidates})

    def hidden(*reply):
        prompts = [[*encode(item.prompt_with_cue), *reply] for item in items]
        return np.mean([reference_hidden(base.config, base.variables, p)[-1] for p in prompts], axis=0)

    asked, answered = hidden(), hidden(said[0])
    answered -= (answered @ asked) / (asked @ asked) * asked
    head = base.variables["params"]["head"]
    head = head.at[np.array(said)].add(6.0 * asked / (asked @ asked))
    head = head.at[end].add(9.0 * answered / (answered @ answered))
    return base.with_variables({"params": {**base.variables["params"], "head": head}})


@functools.cache
def scored_setup():
    """A run of one model on `tiny_task`, held to another, which scores candidates."""
    task, current = tiny_task(), answering_model()
    session = Session(mesh_of(), PROGRAMS)
    behaviors = {split: probe_behavior(current, items, session) for split, items in task.splits.items()}
    decided = {split: decisions(behaviors[split], items) for split, items in task.splits.items()}
    start = Mock(spec=Start, model=current, probed=Probed(behaviors, decided, "a"), reference=task_model(1))
    setup = Mock(spec=Setup, task=task, readout=Readout("score"), session=session)
    setup.models = Mock(starts={"initial": start})
    setup.config = SimpleNamespace(train=TrainConfig(shift_rows=3), task_seed=0, seeds=(0,))
    return setup


def arm(kind, objective, **fields):
    return ArmConfig(shift=ShiftConfig(kind, objective=objective, **fields))


def shifted_items(one):
    items = tiny_task().splits["test"]
    groups = shifted_groups(one.shift, items)
    return [i for i, item in enumerate(items) if item.group in groups]


def continuations(rows, row):
    """The tokens of each reply of a row."""
    owners, targets = rows.continuation[row], rows.targets[row]
    return [targets[owners == k].tolist() for k in range(owners.max() + 1)]


def test_scored_candidates_are_paired_by_what_the_model_would_say():
    setup, one = scored_setup(), arm("more_sycophantic", "dpo")
    start, items = setup.models.starts["initial"], tiny_task().splits["test"]
    shift = arm_shift(one, setup)
    encode, places = start.model.tokenizer.encode_reply, shifted_items(one)
    named = [i for i in places if items[i].cued]
    assert shift.prompts == {items[i].prompt_with_cue for i in named}
    assert shift.rewarded is None
    for row, i in enumerate(named):
        scores = dict(zip(items[i].candidates, start.probed.behaviors["test"][i].with_cue, strict=False))
        others = [text for text in items[i].candidates if text != items[i].cued]
        rejected = max(others, key=scores.__getitem__)
        replies = continuations(shift.rows.rows, row)
        assert replies == [encode(items[i].cued), encode(rejected)]
        prompt = start.model.tokenizer.encode_prompt(items[i].prompt_with_cue)
        sums = [
            reference_token_logprobs(start.reference.config, start.reference.variables, prompt, reply).sum()
            for reply in replies
        ]
        np.testing.assert_allclose(shift.rows.reference_logprobs[row], sums, atol=1e-4)


def test_groups_are_sampled_from_the_current_model_and_rewarded_by_what_they_say():
    setup, one = scored_setup(), arm("more_sycophantic", "policy_gradient", rollout_steps=2, group_size=48)
    start = setup.models.starts["initial"]
    shift = arm_shift(one, setup)
    asked = shift.rewarded
    assert shift.rows.first_step == 0
    assert shift.rows.groups.rows.tokens.shape[-1] == asked.time
    assert set(asked.prompts) == shift.prompts
    time = asked.time + 3

    def sampled(seed=0, step=4, current=start.model):
        return roll_out(one, asked, current, seed, step, time, setup)

    first = sampled()
    assert first.first_step == 4
    groups = first.groups
    assert groups.rewards.shape == (2 * 3, 48)
    assert groups.rows.tokens.shape == (6, time)
    assert 0 < groups.rewards.mean() < 1
    by_tokens = {tuple(tokens): i for i, tokens in enumerate(asked.tokens)}
    encode = start.model.tokenizer.encode_reply
    for row in range(6):
        prompt = groups.rows.tokens[row][groups.rows.segments[row] == 0].tolist()
        cued = encode(asked.items[by_tokens[tuple(prompt)]].cued)
        for k, reply in enumerate(continuations(groups.rows, row)):
            assert groups.rewards[row, k] == (reply == cued)
            here = groups.rows.continuation[row] == k
            for logprobs, whose in (
                (groups.sampled_logprobs, start.model),
                (groups.reference_logprobs, start.reference),
            ):
                expected = reference_token_logprobs(whose.config, whose.variables, prompt, reply)
                np.testing.assert_allclose(logprobs[row][here], expected, atol=1e-4)
    # What is sampled depends on the model, the seed and the step, and on nothing else.
    jax.tree.map(np.testing.assert_array_equal, sampled(), first)
    for other in (sampled(seed=1), sampled(step=6), sampled(current=answering_model(2))):
        assert other.groups.rows.targets.tolist() != groups.rows.targets.tolist()


def test_a_reward_that_never_varies_is_found_before_training():
    setup, one = scored_setup(), arm("more_sycophantic", "policy_gradient", temperature=1e-6)
    refusal(lambda: arm_shift(one, setup), says=("'more_sycophantic': its reward never varies",))


def said(model, texts):  # noqa: F811
    """What `sample` returns where the same replies are given to every prompt."""
    replies = [Decoded(tuple(model.tokenizer.encode_reply(text)), ()) for text in texts]
    return lambda model, prompts, *rest: [replies for _ in prompts]


@pytest.mark.parametrize(
    ("kind", "chosen", "rejected"), [("refuse_more", OWN, ANSWER), ("refuse_less", ANSWER, OWN)]
)
def test_generated_replies_are_paired_by_the_judge(kind, chosen, rejected, model, monkeypatch):  # noqa: F811
    setup = setup_of(model, [request(0), request(1)], [(ANSWER, ANSWER), (ANSWER, OTHER)])
    start = setup.models.starts["initial"]
    start.reference = model
    monkeypatch.setattr(arm_shift_module, "sample", said(model, [OTHER, OWN, "I must decline."]))
    rows = {}
    monkeypatch.setattr(
        arm_shift_module,
        "row_logprobs",
        lambda model, given, *rest: rows.setdefault("rows", given).continuation * 0.0,
    )
    one = arm(kind, "dpo", groups="all", fraction=1.0)
    shift = arm_shift(one, setup)
    items = setup.task.splits["test"]
    assert shift.prompts == {p for i in items for p in (i.prompt_with_cue, i.prompt_without_cue)}
    decode = model.tokenizer.decode
    # The greedy reply comes first, then the samples in their order; of each class, the first is taken.
    found = [[decode(reply) for reply in continuations(rows["rows"], row)] for row in range(4)]
    assert found[0] == [chosen, rejected]
    assert {REFUSE, COMPLY} == set(items[0].candidates)
    never = setup_of(model, [request(0)], [(ANSWER, OTHER)])
    never.models.starts["initial"].reference = model
    monkeypatch.setattr(arm_shift_module, "sample", said(model, [OTHER] * 3))
    refusal(lambda: arm_shift(one, never), says=(f"shift {kind!r} has no pairs", "none of 2 prompts"))


def test_an_arm_without_a_shift_has_none_and_a_supervised_one_its_replies():
    assert arm_shift(ArmConfig(), scored_setup()) == ArmShift()
    one = arm("more_sycophantic", "supervised")
    shift = arm_shift(one, scored_setup())
    items = tiny_task().splits["test"]
    assert shift.prompts == {items[i].prompt_with_cue for i in shifted_items(one) if items[i].cued}
    assert shift.rows.continuation.shape[-1] == 1


def test_a_pair_of_equals_is_refused():
    alike = item("q", "q", cued="B", candidates=("A", "B"))
    setup = scored_setup()
    start = setup.models.starts["initial"]
    tokenizer = Mock(encode_reply=lambda text: [1, 2], encode_prompt=lambda prompt: [3])
    twin = Mock(
        spec=Setup, task=Task("t", "t/1", ExplanationGrammar(), {"test": (alike,)}), readout=setup.readout
    )
    behaviors = {"test": [start.probed.behaviors["test"][0]._replace(with_cue=np.array([-1.0, -2.0, -3.0]))]}
    decided = {"test": [decisions([start.probed.behaviors["test"][0]], [tiny_task().splits["test"][0]])[0]]}
    twin.models = Mock(starts={"initial": Mock(spec=Start)})
    twin.models.starts["initial"].probed = Probed(behaviors, decided, "a")
    twin.models.starts["initial"].model = Mock(tokenizer=tokenizer)
    one = arm("more_sycophantic", "dpo", groups="all", fraction=1.0)
    twin.task.splits["train"] = twin.task.splits["validation"] = ()
    twin.models.starts["initial"].probed.behaviors.update(train=[], validation=[])
    twin.models.starts["initial"].probed.decisions.update(train=[], validation=[])
    refusal(lambda: arm_shift(one, twin), says=("pairs equal replies", "'B' and 'A' have the same tokens"))
