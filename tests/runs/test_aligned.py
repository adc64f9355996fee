"""A model learns another's behaviour from its behaviour alone, to the same end after an interruption."""

import dataclasses

import jax
import numpy as np
import pytest
from programs import read_lines
from tiny import mesh_of, task_model, tiny_task

from introspection.checkpoints.names import model_fingerprint
from introspection.errors import InputError, RunError
from introspection.probes.behavior import Readout, read_behavior
from introspection.runs import aligned
from introspection.runs.aligned import Behaving, aligned_model, distillation_rows
from introspection.runs.config import read_config
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.session import Session
from introspection.tasks.task import SPLITS
from introspection.training.batches import BatchSizes, make_batch
from introspection.training.distillation import held_out_prompts

TASK = tiny_task()
ITEMS = [item for split in SPLITS for item in TASK.splits[split]]
PROGRAMS = ProgramTable()
READOUT = Readout("likeliest")  # candidates whose order means something; random models say none of them
CONFIG = read_config(
    {
        "foreign": "neighbor",
        "align": {"steps": 60, "check_steps": 20, "items": 16, "learning_rate": 3e-3, "agreement": 0.99},
    }
)


def session_in(cache):
    return Session(mesh_of(), PROGRAMS, cache=cache)


def behaving(model):
    found = read_behavior(model, ITEMS, READOUT, Session(mesh_of(), PROGRAMS))
    return Behaving(model, model_fingerprint(model), found.behaviors, found.decisions)


@pytest.fixture(scope="module")
def pair():
    """Two models that behave differently: the student and its teacher."""
    return behaving(task_model(0)), behaving(task_model(1))


def align(pair, cache, config=CONFIG):
    return aligned_model(config, *pair, ITEMS, READOUT, session_in(cache))


def test_no_row_explains_and_no_held_out_prompt_is_learned(pair, tmp_path):
    student, teacher = pair
    held_out = held_out_prompts(ITEMS, 0.1, 0)
    rows = distillation_rows(student.model, teacher, ITEMS, held_out, READOUT, session_in(tmp_path))
    assert (rows.explanation, rows.shift) == (None, None)
    prompts = [(item.prompt_with_cue, item.prompt_without_cue) for item in ITEMS]
    expected = [[prompt not in held_out for prompt in both] for both in prompts]
    np.testing.assert_array_equal(rows.behavior.kl_mask, expected)
    assert not rows.behavior.kl_mask.all()
    # What a step reads beside the prompt are the candidates, each with its end: nothing else.
    batch = make_batch(rows, BatchSizes(1, 8, 1), 0, 0)
    assert batch.explanation is None
    encode = student.model.tokenizer.encode_reply
    answers = {token for item in ITEMS for candidate in item.candidates for token in encode(candidate)}
    said = batch.behavior.rows
    assert set(said.targets[said.continuation >= 0].tolist()) <= answers


def test_the_share_of_prompts_is_held_out_whatever_their_number():
    prompts = {p for item in ITEMS for p in (item.prompt_with_cue, item.prompt_without_cue)}
    drawn = held_out_prompts(ITEMS, 0.25, 0)
    assert drawn < prompts
    assert len(drawn) == round(0.25 * len(prompts))
    assert drawn == held_out_prompts(ITEMS, 0.25, 0) != held_out_prompts(ITEMS, 0.25, 1)
    assert len(held_out_prompts(ITEMS[:2], 0.01, 0)) == 1
    with pytest.raises(InputError, match=r"align\.held_out is 0\.99: .* lower it"):
        held_out_prompts(ITEMS, 0.99, 0)


@pytest.mark.slow
def test_distillation_raises_agreement_and_its_interruption_changes_nothing(pair, tmp_path, monkeypatch):
    model, found = align(pair, tmp_path / "whole")
    assert (found.steps, found.reached) == (60, False)  # it falls short, which is reported
    assert found.before < 0.6
    assert found.trained > found.before + 0.2
    decided = read_behavior(model, ITEMS, READOUT, session_in(tmp_path)).decisions
    held_out = held_out_prompts(ITEMS, CONFIG.align.held_out, CONFIG.task_seed)
    same = [
        now == true
        for item, now, true in zip(ITEMS, decided, pair[1].decisions, strict=True)
        if {item.prompt_with_cue, item.prompt_without_cue} & held_out
    ]
    assert found.held_out == pytest.approx(np.mean(same))

    measured = aligned.read_behavior
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise RunError("the machine went away")
        return measured(*arguments)

    monkeypatch.setattr(aligned, "read_behavior", interrupted)
    with pytest.raises(RunError, match="went away"):
        align(pair, tmp_path / "parts")
    resumed, again = align(pair, tmp_path / "parts")
    assert len(calls) == 4  # 20, 40, 40 again, 60
    assert again == found
    (folder,) = (tmp_path / "parts" / "aligned").glob("*/")
    assert [line["step"] for line in read_lines(folder / "metrics.jsonl")] == [1, 20, 40, 60]
    jax.tree.map(np.testing.assert_array_equal, resumed.variables, model.variables)
    # A finished one is read, not measured again; another config is another model.
    known, same = align(pair, tmp_path / "parts")
    assert (model_fingerprint(known), same, len(calls)) == (model_fingerprint(model), found, 4)
    easier = dataclasses.replace(CONFIG, align=dataclasses.replace(CONFIG.align, agreement=0.15))
    _, early = align(pair, tmp_path / "parts", easier)
    assert early.reached
    assert early.steps < 60
