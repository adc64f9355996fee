"""experiments.probe: reports against their own items, the scan, the dry run, letters, orders and judges."""

import itertools
import json
import re

import numpy as np
import pytest
from elsewhere import chat_folder
from pages import Elements
from programs import one_error_line, read_json, read_lines
from report_workdir import HOSTILE

from introspection.hygiene.page import hygiene_figures, hygiene_page


@pytest.fixture(scope="module")
def model(finished_run):
    """A model that hardly learned anything, with the run that it belongs to."""
    return f"{finished_run.workdir}:kl:0@40"


@pytest.fixture(scope="module")
def probed(programs, model):
    workdir = programs.cache.parent / "probed"
    arguments = ["--task=invented_world", f"--model={model}", f"--workdir={workdir}"]
    return workdir, arguments, programs.run_well("probe", *arguments)


def test_every_number_follows_from_the_items(probed):
    workdir, _, _ = probed
    report, lines = read_json(workdir / "hygiene.json"), read_lines(workdir / "behaviors.jsonl")
    assert len(lines) == report["asked"]["items"] == report["splits"]["test"] == 20 * 4
    assert report["asked"]["groups"] == 20

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
    # A fact has three phrasings and four items: nearly always two or three are drawn.
    said = {}
    for line in read_lines(probed[0] / "behaviors.jsonl"):
        said.setdefault(line["group"], {})[line["prompt_without_cue"]] = line["decisions"]["without_cue"]
    assert found["questions"] == len({group for group, wordings in said.items() if len(wordings) > 1})
    pairs = [a == b for wordings in said.values() for a, b in itertools.combinations(wordings.values(), 2)]
    assert found["pairs"] == len(pairs)
    assert found["equal"]["mean"] == pytest.approx(np.mean(pairs))
    assert read_json(probed[0] / "hygiene.json")["wording"]["with_cue"] is None  # each cue once a fact


def test_the_differences_are_shown_with_what_the_model_decides(probed):
    asked = read_json(probed[0] / "hygiene.json")["asked"]
    assert asked["differences"]["insertion"] == 20 * 4
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
        f"{name}.{kind}" for name in ("rates", "margins") for kind in ("svg", "png", "csv")
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


@pytest.mark.slow
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
        "--task=invented_world",
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


@pytest.mark.slow
def test_the_scan_asks_every_cue_about_the_same_questions_and_recommends_one(model, programs, tmp_path):
    arguments = ["--task=invented_world", f"--model={model}", "--scan-cues"]
    outcome = programs.run_well("probe", *arguments, f"--workdir={tmp_path / 'none'}")
    rows = dict(re.findall(r"│ (\w+(?: \(placebo\))?) +│ +(\d+) │", outcome.stdout))
    hints = {"gossip", "friend", "guide", "chronicle"}
    assert rows == dict.fromkeys(
        (*hints, *(f"{k} (placebo)" for k in ("mention", "negation", "right"))), "24"
    )
    chosen = re.search(r"^recommended: (\w+)", outcome.stdout, re.MULTILINE)[1]  # a caution may follow
    assert chosen in hints | {"none"}
    assert not (tmp_path / "none").exists()


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
    tokens = programs.run_well("probe", "--task=invented_world", f"--model={model}", "--dry-run").stdout
    assert "Lengths in tokens (the model's context is 32)" in tokens
    assert re.search(r"│ test +│ +80 ", tokens)  # the run's own items
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


# Tasks with letters, orders and judges, asked of a tiny external model


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    return chat_folder(tmp_path_factory.mktemp("elsewhere") / "model", context_length=4096)


@pytest.mark.slow
def test_orders_of_options_are_compared_and_averaged(elsewhere, programs, tmp_path):
    workdir = tmp_path / "probe"
    arguments = ["--task=hint_mmlu", "--data=sample", f"--model={elsewhere}", "--set=permutations=4"]
    programs.run_well("probe", *arguments, f"--workdir={workdir}")
    report, lines = read_json(workdir / "hygiene.json"), read_lines(workdir / "behaviors.jsonl")
    assert report["readout"]["readout"] == "score"  # a letter is all that is to be said
    assert report["asked"]["items"] == len(lines) == 4 * 4  # of the sample, four are test questions
    orders = report["orders"]
    assert {name: found["n"] for name, found in orders["by_order"].items()} == dict.fromkeys("0123", 4)
    assert orders["agreement"]["without_cue"]["questions"] == orders["averaged"]["rates"]["n"] == 4
    assert orders["agreement"]["without_cue"]["pairs"] == 4 * 6
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


@pytest.mark.slow
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
    # The sample's labelled replies are clear: the phrase rules read all of them as its author did.
    labelled = judges["labelled"]
    with_labels = {pair["first"]: pair for pair in labelled["pairs"] if pair["second"] == "labels"}
    assert with_labels["phrases"]["share"] == with_labels["phrases"]["kappa"]["mean"] == 1.0
    assert labelled["classes"]["phrases"] == labelled["classes"]["labels"]
    assert sum(labelled["classes"]["model"].values()) == labelled["texts"]
    page = (workdir / "hygiene.html").read_text(encoding="utf-8")
    assert "Judges of the same replies" in page
    assert "Judges and labels on the data's own replies" in page.replace("&#39;", "'")
    scored = programs.run("probe", *arguments, "--readout=score", f"--workdir={tmp_path / 'none'}")
    assert scored.code == 2
    assert "--readout=generate" in one_error_line(scored)
    assert not (tmp_path / "none").exists()
