"""experiments.probe: a stored model's report against its own items, the scan, the dry run, and bad input."""

import itertools
import json
import re

import numpy as np
import pytest
from elsewhere import chat_folder
from programs import one_error_line, read_json, read_lines, snapshot
from report_workdir import HOSTILE
from test_report import Elements
from tiny import tiny_task

from introspection.jobs.items import default_section, load_task
from introspection.jobs.probe_task import field_value, named_groups, with_every_cue, with_sample_sizes
from introspection.jobs.scan_cues import one_item_a_cue
from introspection.jobs.survey import evenly_by_question, survey, word_lengths
from introspection.reports.hygiene_page import hygiene_figures, hygiene_page
from introspection.tasks.items import Conversation, Item, Turn


@pytest.fixture(scope="module")
def model(finished_run):
    """A model that hardly learned anything, with the run that it belongs to."""
    return f"{finished_run.workdir}:kl:0@40"


@pytest.fixture(scope="module")
def probed(programs, model):
    workdir = programs.cache.parent / "probed"
    arguments = ["--task=world_facts", f"--model={model}", f"--workdir={workdir}"]
    return workdir, arguments, programs.run_well("probe", *arguments)


def test_every_number_follows_from_the_items(probed):
    workdir, _, _ = probed
    report, lines = read_json(workdir / "hygiene.json"), read_lines(workdir / "behaviors.jsonl")
    assert len(lines) == report["asked"]["items"] == report["splits"]["test"] == 16 * 7
    assert report["asked"]["groups"] == 16

    def changed(line):
        return line["decisions"]["with_cue"] != line["decisions"]["without_cue"]

    parts = {"all": lines} | {
        kind: [line for line in lines if line["cue_kind"] == kind] for kind in report["asked"]["cue_kinds"]
    }
    rates = report["rates"]["by_cue_kind"] | {"all": report["rates"]["all"]}
    assert parts.keys() == rates.keys()
    for name, part in parts.items():
        right = [line["decisions"]["without_cue"] == line["gold"] for line in part]
        assert rates[name]["n"] == len(part)
        assert rates[name]["changed_rate"]["mean"] == pytest.approx(np.mean([changed(one) for one in part]))
        assert rates[name]["right_without_cue"]["mean"] == pytest.approx(np.mean(right))
    low, high = rates["all"]["changed_rate"]["ci95"]
    assert low < rates["all"]["changed_rate"]["mean"] < high
    for line in lines:
        for side, logprobs in line["logprobs"].items():
            assert np.exp(logprobs).sum() == pytest.approx(1, abs=1e-3)
            assert line["decisions"][side] == [*line["candidates"], "none"][int(np.argmax(logprobs))]
    margins = [min(np.diff(np.sort(side)[-2:])[0] for side in line["logprobs"].values()) for line in lines]
    assert report["margins"]["close"]["mean"] == pytest.approx(np.mean(np.array(margins) < 0.1))
    assert report["replies"] is None


def test_questions_in_several_wordings_are_retested(probed):
    found = read_json(probed[0] / "hygiene.json")["wording"]["without_cue"]
    # A fact has three phrasings and seven items: nearly surely two or three are drawn.
    assert found["questions"] == 16
    said = {}
    for line in read_lines(probed[0] / "behaviors.jsonl"):
        said.setdefault(line["group"], {})[line["prompt_without_cue"]] = line["decisions"]["without_cue"]
    pairs = [a == b for wordings in said.values() for a, b in itertools.combinations(wordings.values(), 2)]
    assert found["pairs"] == len(pairs)
    assert found["equal"]["mean"] == pytest.approx(np.mean(pairs))
    assert read_json(probed[0] / "hygiene.json")["wording"]["with_cue"] is None  # each cue once a fact


def test_the_differences_are_shown_with_what_the_model_decides(probed):
    asked = read_json(probed[0] / "hygiene.json")["asked"]
    assert asked["differences"]["insertion"] == 16 * 7
    assert asked["odd"] == []
    lines = {line["id"]: line for line in read_lines(probed[0] / "behaviors.jsonl")}
    assert {example["cue_kind"] for example in asked["examples"]} == set(asked["cue_kinds"])
    for example in asked["examples"]:
        assert [kind for kind, _ in example["segments"]] == ["=", "+"]
        assert example["decisions"] == lines[example["id"]]["decisions"]
    assert asked["lengths"]["whole"]["max"] == asked["longest"]["length"] <= 32
    assert asked["lengths"]["prompt_without_cue"]["max"] < asked["lengths"]["prompt_with_cue"]["max"]


def test_the_page_needs_nothing_else_and_shows_the_numbers(probed):
    workdir, _, outcome = probed
    page = (workdir / "hygiene.html").read_text(encoding="utf-8")
    assert_inert(page)
    report = read_json(workdir / "hygiene.json")
    shown = page.replace("<wbr>", "")
    for found in report["rates"]["by_cue_kind"].values():
        assert f"{100 * found['changed_rate']['mean']:.1f}" in shown
    assert shown.count("<mark>") == len(report["asked"]["examples"])
    assert {path.name for path in (workdir / "figures").iterdir()} == {
        f"{name}.{kind}" for name in ("rates", "margins") for kind in ("svg", "png")
    }
    for caution in report["cautions"]:
        assert f"caution: {caution}" in outcome.stdout.replace("\n", " ")
    assert f"report: {workdir / 'hygiene.html'}" in outcome.stdout


def assert_inert(page):
    """Nothing runs, nothing is loaded from elsewhere, and every element that is opened is closed."""
    elements = Elements(page)
    assert elements.all("script") == []
    for _, attributes in elements.found:
        for name in ("src", "href", "srcset", "data", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), attributes
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    for tag in ("section", "table", "tr", "td", "th", "div", "details", "figure", "mark"):
        assert page.count(f"<{tag}>") + page.count(f"<{tag} ") == page.count(f"</{tag}>"), tag


def test_nothing_that_the_data_say_becomes_part_of_the_page(probed):
    report = read_json(probed[0] / "hygiene.json")
    hostile = json.loads(json.dumps(report).replace("encyclopedia", "@@"))

    def poison(value):
        if isinstance(value, dict):
            return {poison(key) if "@@" in key else key: poison(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [poison(inner) for inner in value]
        return value.replace("@@", HOSTILE) if isinstance(value, str) else value

    hostile = poison(hostile)
    hostile["model"]["name"] = hostile["asked"]["longest"]["id"] = HOSTILE
    hostile["asked"]["odd"] = hostile["asked"]["examples"]
    hostile["cautions"] = [HOSTILE]
    page = hygiene_page(hostile, hygiene_figures(report))
    assert_inert(page)
    assert "pwned" in page  # else this test tells nothing


def test_a_finished_probe_is_left_alone_and_another_is_refused(probed, programs):
    workdir, arguments, _ = probed
    before = (workdir / "hygiene.json").read_bytes()
    again = programs.run_well("probe", *arguments)
    assert "is finished" in again.stdout
    assert (workdir / "hygiene.json").read_bytes() == before
    other = programs.run("probe", *arguments, "--limit=5")
    assert other.code == 2
    assert "limit is 0 there and 5 here" in one_error_line(other)


def test_generated_replies_are_counted_and_shown(model, programs, tmp_path):
    workdir = tmp_path / "probe"
    programs.run_well(
        "probe",
        "--task=world_facts",
        f"--model={model}",
        "--readout=generate",
        "--limit=14",
        f"--workdir={workdir}",
    )
    report, lines = read_json(workdir / "hygiene.json"), read_lines(workdir / "behaviors.jsonl")
    assert report["asked"]["items"] == 14
    assert report["margins"] is None
    for side in ("with_cue", "without_cue"):
        none = np.mean([line["decisions"][side] == "none" for line in lines])
        assert report["replies"][f"none_{side}"]["mean"] == pytest.approx(none)
    said = {line["id"]: line["replies"] for line in lines}
    assert len(report["replies"]["unnamed"]) == min(
        8, sum(line["decisions"][side] == "none" for line in lines for side in ("with_cue", "without_cue"))
    )
    for one in report["replies"]["unnamed"]:
        assert said[one["id"]][one["side"]] == one["text"]
    assert_inert((workdir / "hygiene.html").read_text(encoding="utf-8"))


# The scan and the dry run


def test_the_scan_asks_every_cue_about_the_same_questions_and_recommends_one(model, programs, tmp_path):
    arguments = ["--task=world_facts", f"--model={model}", "--scan-cues"]
    outcome = programs.run_well("probe", *arguments, f"--workdir={tmp_path / 'none'}")
    rows = dict(re.findall(r"│ (\w+(?: \(placebo\))?) +│ +(\d+) │", outcome.stdout))
    hints = {"unsure", "friend", "teacher", "encyclopedia"}
    assert rows == dict.fromkeys(
        (*hints, *(f"{k} (placebo)" for k in ("mention", "negation", "right"))), "24"
    )
    last = outcome.stdout.strip().splitlines()[-1]
    chosen = re.match(r"recommended: (\w+)", last)[1]
    assert chosen in hints | {"none"}
    assert not (tmp_path / "none").exists()


def test_the_scan_takes_one_item_a_group_and_cue_of_evenly_chosen_groups():
    items = [
        item(f"{group}/{kind}/{repeat}", group, kind)
        for group in "abcdef"
        for kind in ("x", "y")
        for repeat in range(3)
    ]
    assert [one.id for one in one_item_a_cue(items, 2)] == ["a/x/0", "a/y/0", "d/x/0", "d/y/0"]
    assert len(one_item_a_cue(items, 0)) == 12
    assert named_groups("aabbcc", 0) == ["a", "b", "c"]


def test_the_dry_run_prints_what_the_data_hold(model, programs, tmp_path):
    workdir, sizes = tmp_path / "none", dict(facts=24, train_facts=8, validation_facts=2, test_facts=12)
    fields = [f"--set={name}={value}" for name, value in sizes.items()]
    fields += ["--set=repeats=2", "--set=cue_kinds=friend,right"]
    plain = programs.run_well("probe", "--task=world_facts", *fields, f"--workdir={workdir}").stdout
    assert re.search(r"│ test +│ +48 │ +48 │ +12 │ +4 │ +48 │ +48 │", plain)
    assert re.search(r"│ friend +│ +16 │ +4 │ +24 │", plain)
    assert re.search(r"│ one stretch added +│ +32 │ +8 │ +48 │", plain)
    assert "{+ A friend told me it is " in plain
    assert "Lengths in words" in plain
    tokens = programs.run_well("probe", "--task=world_facts", f"--model={model}", "--dry-run").stdout
    assert "Lengths in tokens (the model's context is 32)" in tokens
    assert re.search(r"│ test +│ +112 ", tokens)  # the run's own items
    assert not workdir.exists()


def test_bad_rows_of_a_users_file_are_listed_all(programs, tmp_path):
    path = tmp_path / "mine.jsonl"
    good = {"prompt_with_cue": "a? I say x.", "prompt_without_cue": "a?", "candidates": ["x", "y"]}
    rows = [good | {"group": f"g{i}", "prompt_without_cue": f"a{i}?"} for i in range(30)]
    for row in rows[:25]:
        del row["candidates"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    arguments = ["--task=jsonl", f"--data={path}", "--dry-run", f"--workdir={tmp_path / 'none'}"]
    outcome = programs.run("probe", *arguments)
    assert outcome.code == 2
    assert f"{path}: 25 problems in 25 rows" in one_error_line(outcome)
    lines = outcome.stdout.splitlines()
    listed = [line for line in lines if re.search(r"mine\.jsonl: line \d+: candidates: ", line)]
    assert len(listed) == 20
    assert "and 5 more" in lines
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[25:]), encoding="utf-8")
    assert "one stretch added" in programs.run_well("probe", *arguments).stdout
    assert not (tmp_path / "none").exists()


# Tasks with letters, orders and judges, asked of a tiny model made elsewhere


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    return chat_folder(tmp_path_factory.mktemp("elsewhere") / "model", context_length=4096)


def test_orders_of_options_are_compared_and_averaged(elsewhere, programs, tmp_path):
    workdir = tmp_path / "probe"
    arguments = ["--task=hint_mmlu", "--data=sample", f"--model={elsewhere}", "--set=permutations=4"]
    programs.run_well("probe", *arguments, f"--workdir={workdir}")
    report, lines = read_json(workdir / "hygiene.json"), read_lines(workdir / "behaviors.jsonl")
    assert report["readout"]["readout"] == "score"  # a letter is all that is to be said
    assert report["asked"]["items"] == len(lines) == 6 * 4
    orders = report["orders"]
    assert {name: found["n"] for name, found in orders["by_order"].items()} == dict.fromkeys("0123", 6)
    assert orders["agreement"]["without_cue"]["questions"] == orders["averaged"]["rates"]["n"] == 6
    assert orders["agreement"]["without_cue"]["pairs"] == 6 * 6
    assert report["answers"].keys() == {*"ABCD", "none"}
    right = {letter: np.mean([line["gold"] == letter for line in lines]) for letter in "ABCD"}
    assert {letter: report["answers"][letter]["right"] for letter in "ABCD"} == pytest.approx(right)
    assert report["wording"] == dict.fromkeys(
        ("without_cue", "with_cue", "changed")
    )  # orders are no wordings
    page = (workdir / "hygiene.html").read_text(encoding="utf-8")
    assert_inert(page)
    assert "Another order of the options" in page
    assert "mean over orders" in page


def test_judges_read_the_same_replies_and_their_agreement_is_reported(elsewhere, programs, tmp_path):
    workdir = tmp_path / "probe"
    arguments = ["--task=refusal", "--data=sample", f"--model={elsewhere}", "--limit=4"]
    programs.run_well("probe", *arguments, f"--workdir={workdir}")
    report = read_json(workdir / "hygiene.json")
    judges = report["judges"]
    assert judges["texts"] == 2 * report["asked"]["items"] == 8
    assert [(pair["first"], pair["second"]) for pair in judges["pairs"]] == [
        ("phrases", "openings"),
        ("phrases", "model"),
        ("openings", "model"),
    ]
    for classes in judges["classes"].values():
        assert sum(classes.values()) == 8
        assert set(classes) <= {"refuse", "comply", "none"}
    assert "Judges of the same replies" in (workdir / "hygiene.html").read_text(encoding="utf-8")
    scored = programs.run("probe", *arguments, "--readout=score", f"--workdir={tmp_path / 'none'}")
    assert scored.code == 2
    assert "--readout=generate" in one_error_line(scored)
    assert not (tmp_path / "none").exists()


# Without a program


def item(name, group, kind="hint", **fields):
    defaults = dict(prompt_with_cue="What? It is b.", prompt_without_cue="What?")
    defaults |= dict(candidates=("a", "b"), gold="a", cued="b")
    return Item(name, group, "s", kind, **(defaults | fields))


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


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("count=7", 7),
        ("share=1", 1.0),
        ("share=0.25", 0.25),
        ("flag=False", False),
        ("label=1", "1"),
        ("label=a=b", "a=b"),
        ("kinds=a,b", ["a", "b"]),
        ("kinds=('a','b')", ["a", "b"]),
        ("kinds=()", []),
        ("kinds=1,2", [1, 2]),
    ],
)
def test_a_field_takes_a_value_of_its_own_kind(assignment, expected):
    section = {"count": 3, "share": 0.5, "flag": True, "kinds": ["a"], "label": ""}
    field, value = field_value(assignment, section)
    assert field == assignment.partition("=")[0]
    assert value == expected
    assert type(value) is type(expected)


def test_a_scan_asks_all_kinds_of_cue_that_all_data_can_have():
    for task, expected in (
        ("world_facts", {"cue_kinds": []}),
        ("hint_mmlu", {"cue_kinds": []}),
        ("aita", {"cues_per_post": 0}),
        ("refusal", {"cues_per_request": 0}),
    ):
        section = default_section(task)
        assert with_every_cue(section, ()) == section | expected
    chosen = default_section("aita") | {"cue_kinds": ["sympathy"], "cues_per_post": 1}
    assert with_every_cue(chosen, ("cue_kinds", "cues_per_post")) == chosen


@pytest.mark.parametrize("task", ["hint_mmlu", "aita", "refusal", "jsonl"])
def test_a_sample_fills_the_splits_that_a_probe_asks(task, tmp_path):
    section = default_section(task) | {"data": "sample"}
    for one in (section, with_every_cue(section, ())):
        built, _ = load_task({"task": with_sample_sizes(one), "cache_dir": str(tmp_path)})
        assert min(map(len, built.splits.values())) > 0
    assert len({item.cue_kind for item in built.splits["train"]}) > 1


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
    "no such model": (["--task=world_facts", "--model=/nonexistent"], ["/nonexistent"]),
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


def test_a_stored_model_that_cannot_be_probed_is_refused(finished_run, model, programs, tmp_path):
    task, named, workdir = "--task=world_facts", f"--model={model}", tmp_path / "none"
    for arguments, phrase in (
        ([task, named, "--readout=sample"], "score, generate"),
        (["--task=jabberwocky", named], "not in the model's vocabulary"),
        ([task, f"--model={finished_run.workdir}:kl:0@7"], "no checkpoint of that step"),
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
