"""Post-training beside explanations, end to end: resumed as if uninterrupted, interleaved, and refused."""

import re
import shutil

import numpy as np
import pytest
from elsewhere import chat_folder
from programs import NO_REPORT, Programs, read_json, read_lines, refused

CONFIG = "--config=configs/concurrent.py:tiny"
VARIANTS = ("alone", "after", "light", "heavy", "refreshed", "every4")
ARMS = (
    "supervised_less",
    *(f"supervised_less_{variant}" for variant in VARIANTS),
    "dpo_less",
    "reward_less",
    "reward_less_before",
)
FIELDS = (f"--config.run_arms={ARMS}", "--config.seeds=(0,1)")


@pytest.fixture(scope="module")
def finished(programs: Programs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("concurrent") / "run"
    return folder, programs.run_well("run", CONFIG, *FIELDS, f"--workdir={folder}").stdout


def lines_of(workdir, arm, key="shift_loss"):
    """Values by step and seed."""
    lines = [line for line in read_lines(workdir / "metrics.jsonl") if line["arm"] == arm and key in line]
    return {(line["step"], line["seed"]): line[key] for line in lines}


@pytest.mark.slow
def test_each_objective_is_logged_and_behaviour_on_shifted_facts_is_drawn(finished):
    workdir, _ = finished
    first = {arm: lines_of(workdir, arm)[1, 0] for arm in ARMS}
    # Before the first step a model is its own reference, and what it samples it finds as likely as it did.
    assert first["dpo_less"] == pytest.approx(np.log(2), abs=1e-4)
    assert first["reward_less"] == pytest.approx(0, abs=1e-4)
    assert first["supervised_less"] > 0.01
    for key in ("reward", "reward_kl", "policy_loss", "clipped", "constant_groups"):
        assert lines_of(workdir, "reward_less", key)
        assert not lines_of(workdir, "dpo_less", key)
    assert lines_of(workdir, "dpo_less", "preference_margin")[40, 0] > 0
    assert min(lines_of(workdir, "reward_less", "clipped").values()) == 0
    assert max(lines_of(workdir, "reward_less", "clipped").values()) > 0  # in steps after a sample's first
    for part in ("shifted", "unshifted"):
        assert lines_of(workdir, "reward_less", f"{part}_drift")[0, 1] == 0
        own, teachers = (lines_of(workdir, "reward_less", f"{part}_{of}") for of in ("self", "orig"))
        assert own[0, 0] == teachers[0, 0]
        assert len(own) == 6
    assert {path.name for path in (workdir / "figures").glob("shift.*")} == {
        "shift.csv",
        "shift.png",
        "shift.svg",
    }


@pytest.mark.slow
def test_an_interleaved_shift_is_trained_in_one_step_of_four(finished):
    workdir, _ = finished
    steady, rare = lines_of(workdir, "supervised_less"), lines_of(workdir, "supervised_less_every4")
    assert steady[1, 0] == pytest.approx(rare[1, 0], rel=1e-5)
    assert steady[40, 0] < rare[40, 0]
    # The first step of each is the same, so the loss is: then it is without the shift, three times in four.
    loss, explained = (
        lines_of(workdir, "supervised_less_every4", key) for key in ("loss", "explanation_loss")
    )
    kl = lines_of(workdir, "supervised_less_every4", "kl")
    assert loss[1, 0] == pytest.approx(explained[1, 0] + kl[1, 0] + rare[1, 0], rel=1e-4)
    assert loss[40, 0] < explained[40, 0] + kl[40, 0] + rare[40, 0] - 1e-3


@pytest.mark.slow
def test_every_variant_of_a_shift_trains_something_else(finished):
    workdir, _ = finished
    arms = ["supervised_less", *(f"supervised_less_{variant}" for variant in VARIANTS)]
    logged = {arm: [lines_of(workdir, arm, key) for key in ("loss", "shift_loss")] for arm in arms}
    assert len({repr(one) for one in logged.values()}) == len(arms)
    explained = {arm: lines_of(workdir, arm, "explanation_loss") for arm in arms}
    assert explained["supervised_less_alone"][40, 0] > explained["supervised_less"][40, 0]  # not trained
    heavy, plain, light = (
        lines_of(workdir, f"supervised_less{name}")[40, 0] for name in ("_heavy", "", "_light")
    )
    assert heavy < plain < light
    assert max(step for step, _ in explained["supervised_less_after"]) == 80
    assert list((workdir / "labels").glob("supervised_less_refreshed-seed0-step*"))


@pytest.mark.slow
def test_a_resumed_run_samples_as_the_uninterrupted_one(programs, finished, tmp_path):
    workdir, _ = finished
    resumed = tmp_path / "run"
    shutil.copytree(workdir, resumed)
    # As if they had been killed after step 20, and the one with two phases after step 40.
    for arm, steps in (("reward_less", (40,)), ("reward_less_before", (60, 80))):
        shutil.rmtree(resumed / "arms" / arm)
        for step in steps:
            shutil.rmtree(resumed / "checkpoints" / arm / str(step))
    (resumed / "results.json").unlink()
    programs.run_well("run", CONFIG, *FIELDS, f"--workdir={resumed}", patch=NO_REPORT)
    for arm in ("reward_less", "reward_less_before"):
        one, other = (folder / "arms" / arm / "records.jsonl" for folder in (workdir, resumed))
        assert one.read_text() == other.read_text(), arm
        assert lines_of(workdir, arm) == lines_of(resumed, arm)
        assert lines_of(workdir, arm, "reward") == lines_of(resumed, arm, "reward")


@pytest.mark.slow
def test_each_objective_has_one_train_step(finished):
    _, output = finished
    rows = [line for line in output.splitlines() if re.match("│ train_steps +│ 10×", line)]  # not pretraining
    # The supervised arms share theirs, but for `after`, which like `before` has a longer schedule.
    assert len(rows) == 5


BAD = {
    "a reward that never varies": (
        ["--config.arms.reward_less.shift.temperature=1e-6", "--config.run_arms=('reward_less',)"],
        ["shift 'less_sycophantic': its reward never varies", "groups of 8 replies", "shift.temperature"],
    ),
    "groups sampled where no run resumes": (
        ["--config.arms.reward_less.shift.rollout_steps=30", "--config.run_arms=('reward_less',)"],
        ["config.arms.reward_less", "checkpoint_steps (20) is no multiple of rollout_steps (30)"],
    ),
    "a shift without a reward": (
        ["--config.arms.reward_less.shift.kind=new_facts", "--config.run_arms=('reward_less',)"],
        ["config.arms.reward_less", "'new_facts', which has no reward"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(name, programs, tmp_path):
    flags, says = BAD[name]
    refused(programs, "run", CONFIG, *flags, workdir=tmp_path / "run", says=says)


TINY_REFUSAL = (
    "--config.behavior.reply_tokens=12",
    "--config.evaluation.explanation_tokens=160",
    "--config.lora.rank=0",
    "--config.train.steps_per_call=10",
    "--config.train.log_steps=10",
)


@pytest.mark.slow
def test_a_model_is_taught_to_refuse_and_then_refuses_more_or_less(programs, tmp_path):
    initial = chat_folder(tmp_path / "model")

    def run(name, argument, start, *changes):
        workdir = tmp_path / name
        config, model = f"--config=configs/concurrent.py:{argument}", f"--config.initial={start}"
        # Most of it is decoding, which compiled in the quickest way takes twice as long in all.
        options = {"patch": NO_REPORT, "environment": {"XLA_FLAGS": ""}}
        programs.run_well("run", config, f"--workdir={workdir}", model, *TINY_REFUSAL, *changes, **options)
        return workdir

    taught = run(
        "taught",
        "tiny_taught",
        initial,
        "--config.train.steps=150",
        "--config.train.evaluation_steps=150",
        "--config.train.checkpoint_steps=150",
        "--config.arms.taught.learning_rate=1e-2",
        "--config.arms.taught.shift.refusal=I can't.",
    )
    refusing = [r["current"]["with_cue"] == "refuse" for r in read_lines(taught / "predictions.jsonl")]
    assert np.mean(refusing) > 0
    arms = ("reward_more", "reward_less", "dpo_more", "dpo_less")
    workdir = run(
        "refusal",
        "tiny_refusal",
        f"{taught}:taught",
        f"--config.run_arms={arms}",
        "--config.train.steps=20",
        "--config.train.evaluation_steps=20",
        "--config.train.checkpoint_steps=20",
        *(f"--config.arms.{arm}.shift.rollout_steps=10" for arm in arms),
    )
    assert set(read_json(workdir / "results.json")["arms"]) == set(arms)
    rewards = {arm: lines_of(workdir, arm, "reward") for arm in ("reward_more", "reward_less")}
    # What one earns for refusing, the other earns for complying, in the same samples of the same model.
    assert rewards["reward_more"][1, 0] + rewards["reward_less"][1, 0] <= 1
    assert 0 < rewards["reward_more"][1, 0] < 1
    assert lines_of(workdir, "dpo_more")[1, 0] == pytest.approx(np.log(2), abs=1e-3)
