"""What a probe is asked for, without a model's answers: surveys, fields, samples, and bad input."""

import json

import pytest
from programs import one_error_line, snapshot
from tiny import tiny_task

from configs import jabberwocky
from introspection.checkpoints.names import StoredModel
from introspection.errors import InputError
from introspection.hygiene.probe import probed_readout
from introspection.hygiene.request import ProbeRequest, probed_section, with_every_cue
from introspection.hygiene.scan_cues import one_item_a_cue
from introspection.hygiene.survey import evenly_by_question, survey, word_lengths
from introspection.runs.inherited import readout_section
from introspection.runs.overrides import load_fitting
from introspection.tasks.items import Conversation, Item, Turn
from introspection.tasks.refusal.items import PREFIXES
from introspection.tasks.registry import default_section, load_task


def item(name, group, kind="hint", **fields):
    defaults = dict(prompt_with_cue="What? It is b.", prompt_without_cue="What?")
    defaults |= dict(candidates=("a", "b"), gold="a", cued="b")
    return Item(name, group, "s", kind, **(defaults | fields))


def test_the_scan_takes_one_item_a_group_and_cue_of_evenly_chosen_groups():
    items = [
        item(f"{group}/{kind}/{repeat}", group, kind)
        for group in "abcdef"
        for kind in ("x", "y")
        for repeat in range(3)
    ]
    assert [one.id for one in one_item_a_cue(items, 2)] == ["a/x/0", "a/y/0", "f/x/0", "f/y/0"]
    assert len(one_item_a_cue(items, 0)) == 12


def test_a_survey_counts_and_keeps_pairs_that_differ_otherwise():
    task = tiny_task()
    turns = (Turn("system", "Be brief."), Turn("user", "What? It is b."))
    told, asked = Conversation(turns), Conversation((turns[0], Turn("user", "What?")))
    items = [
        item("0", "g"),
        item("1", "g", prompt_with_cue="Well, what? It is b."),
        item("2", "h", kind="", prompt_with_cue=told, prompt_without_cue=asked),
    ]
    found = survey(items, word_lengths(task))
    assert found["differences"] == {
        "insertion": 2, "scattered": 1, "spacing": 0, "replacement": 0, "removal": 0, "none": 0
    }  # fmt: skip
    assert (found["items"], found["groups"]) == (3, 2)
    assert found["cue_kinds"] == {"hint": 2, "": 1}
    assert [one["id"] for one in found["odd"]] == ["1"]
    assert found["longest"]["id"] == "2"
    assert found["lengths"]["prompt_without_cue"]["min"] == 1


def test_a_limit_keeps_the_orders_of_a_question_together():
    words = dict(candidates=("aa", "bb"), gold="aa", cued="bb")
    items = [item(f"q{i}/x/order{k}", f"q{i}", **words) for i in range(10) for k in range(4)]
    some = evenly_by_question(items, 8)
    assert [one.id for one in some] == [f"q{i}/x/order{k}" for i in (0, 9) for k in range(4)]
    plain = [item(f"q{i}", f"q{i}") for i in range(10)]
    assert [one.id for one in evenly_by_question(plain, 3)] == ["q0", "q4", "q9"]
    assert evenly_by_question(plain, 0) == tuple(plain)


def test_a_scan_asks_all_kinds_of_cue_that_all_data_can_have():
    for task, expected, items in (
        ("world_facts", {"cue_kinds": []}, 1),
        ("hint_mmlu", {"cue_kinds": []}, 5),
        ("aita", {"cues_per_post": 0}, 4),
        ("refusal", {"cues_per_request": 0}, len(PREFIXES)),
    ):
        section = default_section(task)
        sizes = {name: items * size for name, size in section.items() if name.endswith("_items")}
        assert with_every_cue(section, ()) == section | expected | sizes
    chosen = default_section("aita") | {"cue_kinds": ["sympathy"], "cues_per_post": 1}
    assert with_every_cue(chosen, ("cue_kinds", "cues_per_post")) == chosen


@pytest.mark.parametrize(("task", "shift"), [("hint_mmlu", 2), ("aita", 0), ("refusal", 0)])
def test_a_scan_asks_nothing_that_tests_the_run(task, shift, tmp_path):
    sizes = {"train_items": 0, "validation_items": 3, "test_items": 4}
    run = default_section(task) | sizes | {"data": "sample"}
    if shift:
        run["permutations"] = shift
    built, scanned = (load_task(section, tmp_path)[0].splits for section in (run, with_every_cue(run, ())))
    for split in ("train", "validation", "test"):
        assert {item.group for item in scanned[split]} == {item.group for item in built[split]}
    assert len({item.cue_kind for item in scanned["train"]}) > 2


@pytest.mark.parametrize("task", ["hint_mmlu", "aita", "refusal", "jsonl"])
def test_a_sample_fills_the_splits_that_a_probe_asks(task, tmp_path):
    section = default_section(task) | {"data": "sample"}
    for one in (section, with_every_cue(section, ())):
        _, built = load_fitting(one, (), tmp_path)
        assert min(map(len, built.splits.values())) > 0
    assert len({item.cue_kind for item in built.splits["train"]}) > 1


def test_a_chosen_readout_leaves_the_rest_as_the_runs_have_it(tmp_path):
    def run(name, **behavior):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"behavior": behavior}))
        return StoredModel(tmp_path / name, "initial", 0, 0)

    judged = dict(readout="generate", reply_tokens=64, judge="model", judge_model="m")
    one, other = run("one", **judged), run("other", readout="score", reply_tokens=24)
    assert readout_section([one], "") == readout_section([one], "generate") == judged
    assert readout_section([one, other], "score") == dict(readout="score", reply_tokens=24)
    with pytest.raises(InputError, match="read behaviour differently"):
        readout_section([one, other], "")
    asked = ProbeRequest("refusal", reply_tokens=7, judge_model="n")
    assert probed_readout(asked, one, ()) == judged | dict(reply_tokens=7, judge_model="n")


def test_a_way_to_address_needs_a_model():
    with pytest.raises(InputError, match=r"--chat applies to external models: give --model=M"):
        ProbeRequest("jsonl", chat=("system=",))


def test_a_mixture_is_that_of_the_models_run(tmp_path):
    section = jabberwocky.get_config("tiny").task.to_dict()
    (tmp_path / "config.json").write_text(json.dumps({"task": section}))
    model = StoredModel(tmp_path, "initial", 0, 0)
    assert probed_section(ProbeRequest("mixture"), model) == json.loads(json.dumps(section))
    with pytest.raises(InputError, match="parts"):
        probed_section(ProbeRequest("mixture"), None)


# Bad input: one line, exit code 2, nothing written

BAD = {
    "no task": ([], ["--task"]),
    "unknown task": (["--task=mmlu"], ["'mmlu'", "world_facts"]),
    "data of no file": (["--task=world_facts", "--data=x.csv"], ["--data", "world_facts"]),
    "no such file": (["--task=jsonl", "--data=/nonexistent.jsonl"], ["/nonexistent.jsonl"]),
    "unknown field": (["--task=world_facts", "--set=nope=1"], ["--set=nope=1", "test_facts"]),
    "no value": (["--task=world_facts", "--set=repeats"], ["FIELD=VALUE"]),
    "wrong kind": (["--task=world_facts", "--set=repeats=many"], ["repeats", "int"]),
    "wrong value": (["--task=world_facts", "--set=repeats=0"], ["repeats", "at least 1"]),
    "below 0": (["--task=world_facts", "--limit=-1"], ["--limit is -1"]),
    "no model": (["--task=world_facts", "--scan-cues"], ["--scan-cues", "--model"]),
    "two ways": (["--task=world_facts", "--scan-cues", "--dry-run"], ["--dry-run", "--scan-cues"]),
    "spans of another task": (["--task=aita", "--find-spans", "--model=smollm2"], ["--task=refusal"]),
    "spans of no model": (["--task=refusal", "--find-spans"], ["--find-spans", "--model"]),
    "no such model": (["--task=world_facts", "--model=/nonexistent"], ["/nonexistent"]),
    "no reply": (["--task=world_facts", "--reply-tokens=-1"], ["--reply-tokens is -1"]),
    "no margin": (["--task=world_facts", "--model=/nonexistent", "--margin=0"], ["--margin is 0"]),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_probed_is_refused(programs, tmp_path, case):
    arguments, phrases = BAD[case]
    workdir = tmp_path / "none"
    outcome = programs.run("probe", *arguments, f"--workdir={workdir}")
    assert outcome.code == 2, outcome
    line = one_error_line(outcome)
    for phrase in phrases:
        assert phrase in line
    assert not workdir.exists()


@pytest.mark.slow
def test_a_stored_model_that_cannot_be_probed_is_refused(finished_run, programs, tmp_path):
    model = f"{finished_run.workdir}:kl:0@40"
    task, named, workdir = "--task=world_facts", f"--model={model}", tmp_path / "none"
    for arguments, phrase in (
        ([task, named, "--readout=sample"], "score, likeliest, generate"),
        (["--task=jabberwocky", named], "not in the model's vocabulary"),
        ([task, f"--model={finished_run.workdir}:kl:0@7"], "no checkpoint at that step"),
        ([task, f"--model={finished_run.workdir}:kl"], "means 2 models; name one of"),
        ([task, named, "--set=cue_kinds=nope"], "nope"),
    ):
        outcome = programs.run("probe", *arguments, f"--workdir={workdir}")
        assert outcome.code == 2, outcome
        assert phrase in one_error_line(outcome)
        assert not workdir.exists()
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("kept")
    before = snapshot(full)
    outcome = programs.run("probe", task, named, f"--workdir={full}")
    assert outcome.code == 2
    assert "is not empty" in one_error_line(outcome)
    assert snapshot(full) == before
