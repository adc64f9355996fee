"""Any stored checkpoints against each other, and checkpoints as the models that a run names."""

import html
import itertools
import json
import re
from collections import defaultdict
from pathlib import Path

import jax
import pytest
from array_record.python import array_record_module
from programs import NO_REPORT, TINY, read_json, read_lines
from rich.console import Console
from tiny import tiny_task

from introspection.checkpoints.names import find_models, load_model, model_fingerprint
from introspection.probes.context import within_context
from introspection.probes.scored import decisions, probe_behavior
from introspection.runs import compare_probes
from introspection.runs.compare import CompareRequest, compare
from introspection.runtime.config import cache_dir
from introspection.runtime.mesh import MeshConfig, make_mesh
from introspection.runtime.session import Session
from introspection.tasks.registry import load_task


def by_model(workdir: Path) -> dict[str, dict[str, dict]]:
    """compared.jsonl as {model: {item id: line}}."""
    models = defaultdict(dict)
    for line in read_lines(workdir / "compared.jsonl"):
        assert line["id"] not in models[line["model"]]
        models[line["model"]][line["id"]] = line
    return dict(models)


def does(line: dict) -> tuple[bool, str]:
    """E(model) from its two decisions."""
    decided = line["decisions"]
    return decided["with_cue"] != decided["without_cue"], decided["without_cue"]


def says(line: dict) -> tuple[bool | None, str | None]:
    return line["explanation"]["changed"], line["explanation"]["answer"]


@pytest.fixture(scope="module")
def compared(programs, finished_run) -> tuple[Path, str]:
    workdir, run = programs.cache.parent / "compared", finished_run.workdir
    models = f"--models={run}@0,{run}:kl@20,{run}:kl:0@40,{run}:kl:1@40"
    outcome = programs.run_well("compare", models, f"--workdir={workdir}")
    return workdir, outcome.stdout


def test_the_matrix_is_what_its_items_say(compared, finished_run):
    workdir, _ = compared
    matrix, models = read_json(workdir / "matrix.json"), by_model(workdir)
    assert {"emitters", "teachers", "exact_match", "n", "ci95", "diagonal", "fingerprints"} <= set(matrix)
    run = finished_run.workdir.name
    members = {f"{run}:kl@0": [0], f"{run}:kl@20": [0, 1], f"{run}:kl:0@40": [0], f"{run}:kl:1@40": [1]}
    names = list(members)
    assert matrix["emitters"] == matrix["teachers"] == names
    assert matrix["seeds"] == {f"{run}:kl@0": [0, 1], f"{run}:kl@20": [0, 1]}

    def seeds(name: str) -> list[str]:
        return [re.sub(r":kl(:\d)?@", f":kl:{seed}@", name) for seed in members[name]]

    assert set(models) == {one for name in names for one in seeds(name)}
    ids = list(models[f"{run}:kl:0@0"])
    assert matrix["n"] == len(ids) == 20 * 4  # test facts, cue kinds
    for row, emitter in enumerate(names):
        for column, teacher in enumerate(names):
            both = [*itertools.product(seeds(emitter), seeds(teacher))]
            if emitter == teacher:  # each seed with itself
                both = [(one, one) for one in seeds(emitter)]
            matches = [says(models[a][i]) == does(models[b][i]) for a, b in both for i in ids]
            share = sum(matches) / len(matches)
            assert matrix["exact_match"][row][column] == pytest.approx(share, abs=1e-12)
            low, high = matrix["ci95"][row][column]
            assert low <= share <= high
    diagonal = [matrix["exact_match"][i][i] for i in range(4)]
    assert matrix["diagonal"]["own"] == pytest.approx(sum(diagonal) / 4)
    assert len(set(matrix["fingerprints"].values())) == 5
    assert (workdir / "report.html").stat().st_size > 0


def test_step_0_of_all_arms_and_seeds_is_one_model(compared, finished_run):
    workdir, output = compared
    assert len(re.findall(r"is the same model as \S+:kl@0: shown once", output)) == 3  # of 4 arms
    initial = read_json(finished_run.workdir / "results.json")["fingerprints"]["initial"]
    name = f"{finished_run.workdir.name}:kl:0@0"
    assert read_json(workdir / "matrix.json")["fingerprints"][name] == initial


def test_a_stored_model_does_what_the_run_that_trained_it_recorded(compared, finished_run):
    models, run = by_model(compared[0]), finished_run.workdir
    for line in read_lines(run / "predictions.jsonl"):
        if line["arm"] == "kl":
            stored = models[f"{run.name}:kl:{line['seed']}@40"][line["id"]]
            assert stored["decisions"] == line["current"]
            assert stored["explanation"]["text"] == line["explanation"]["text"]
            assert models[f"{run.name}:kl:0@0"][line["id"]]["decisions"] == line["initial"]


def test_one_scoring_and_one_decoding_executable_serve_all_models(compared):
    rows = re.findall(r"│ (\w+) +│ ([^│]+?) +│ +(\d+) │", compared[1])
    assert {(name, int(calls)) for name, _, calls in rows} == {
        ("score_continuations", 5),
        ("greedy_decode", 5),
    }


def test_controls_are_rows_and_the_conclusion_is_one_sentence(programs, finished_run, tmp_path):
    run, workdir = finished_run.workdir, tmp_path / "held"
    controls = "--controls=initial,few_shot,majority,input_only,shuffled"
    models = f"--models={run}:kl,{run}:no_kl,{run}:shuffled"
    outcome = programs.run_well("compare", models, controls, f"--workdir={workdir}")
    matrix, name = read_json(workdir / "matrix.json"), run.name
    assert matrix["teachers"] == [f"{name}:kl@40", f"{name}:no_kl@40", f"{name}:initial:0@0"]
    expected = {
        f"{name}:shuffled@40": "shuffled",
        f"{name}:initial:0@0": "initial",
        f"{name}: majority": "majority",
        f"{name}: input_only": "input_only",
    }
    assert matrix["controls"] == expected
    assert set(matrix["emitters"]) == {*matrix["teachers"], *expected}
    assert [lead["model"] for lead in matrix["leads"]] == [f"{name}:kl@40", f"{name}:no_kl@40"]
    (note,) = matrix["notes"]
    assert "not asked, its format has no room for examples: an organism reads one user turn" in note
    # What is computed from the labels is what the run itself computed.
    said = defaultdict(dict)
    for line in read_lines(run / "controls.jsonl"):
        if line["arm"] == "kl" and line["seed"] == 0:
            said[line["control"]][line["id"]] = line["explanation"]
    here = by_model(workdir)
    for recipe in ("majority", "input_only"):
        for item, line in here[f"{name}: {recipe}"].items():
            assert line["decisions"] is None
            assert says(line) == (said[recipe][item]["changed"], said[recipe][item]["answer"])
    excess = {one["control"]: one["gap_difference"] for one in matrix["excess"]}
    assert set(excess) == {"initial", "majority", "input_only", "shuffled"}
    sentence = matrix["conclusion"]["sentence"]
    assert sentence in " ".join(outcome.stdout.split())
    assert sentence in html.unescape((workdir / "report.html").read_text(encoding="utf-8"))
    assert "few_shot" in matrix["conclusion"]["not_asked"]


def labels_of(folder: Path) -> dict[str, tuple[bool, str]]:
    reader = array_record_module.ArrayRecordReader(str(folder / "labels.array_record"))
    lines = [json.loads(line) for line in reader.read_all()]
    reader.close()
    return {line["id"]: (line["changed"], line["answer"]) for line in lines}


@pytest.mark.slow
def test_a_checkpoint_of_another_run_gives_the_labels(programs, finished_run, compared, tmp_path):
    run, workdir = finished_run.workdir, tmp_path / "run"
    teacher = f"{run}:kl:0@20"
    overrides = [f"--config.label_teacher={teacher}", "--config.run_arms=('kl',)"]
    programs.run_well("run", TINY, *overrides, f"--workdir={workdir}", patch=NO_REPORT)

    mesh = make_mesh(MeshConfig())
    (stored,) = find_models(teacher)
    with jax.set_mesh(mesh):
        model = load_model(stored, mesh)
        task, _ = load_task(read_json(workdir / "config.json")["task"], cache_dir())
        items = task.splits["train"]
        decided = decisions(probe_behavior(model, items, Session(mesh)), items)
    expected = {item.id: tuple(pair.explanation) for item, pair in zip(items, decided, strict=True)}
    labels = labels_of(workdir / "labels" / "clean")
    assert labels == expected
    assert labels != labels_of(run / "labels" / "clean")  # else this test tells nothing
    assert labels_of(workdir / "labels" / "kl").items() <= labels.items()

    fingerprint = model_fingerprint(model)
    for name in ("clean", "kl"):
        assert read_json(workdir / "labels" / name / "metadata.json")["teacher_fingerprint"] == fingerprint
    fingerprints = read_json(workdir / "results.json")["fingerprints"]
    initial = read_json(run / "results.json")["fingerprints"]["initial"]
    assert fingerprints["label_teacher"] == fingerprint != initial
    assert fingerprints["initial"] == fingerprints["kl_reference"] == initial
    by_id = by_model(compared[0])[f"{run.name}:kl:0@20"]
    for line in read_lines(workdir / "predictions.jsonl"):
        assert line["teacher"] == by_id[line["id"]]["decisions"]


@pytest.mark.slow
def test_items_that_the_runs_did_not_hold_out_are_told(programs, finished_run, tmp_path):
    models = f"--models={finished_run.workdir}@0"
    flags = (models, "--set=test_entities=3", f"--workdir={tmp_path / 'compared'}")
    outcome = programs.run_well("compare", *flags, patch=NO_REPORT)
    assert "warning: these are not the items that the models' runs held out" in outcome.stdout
    assert read_json(tmp_path / "compared" / "matrix.json")["n"] == 3 * 2 * 4  # entities, relations, cues


@pytest.mark.slow
def test_adapters_on_a_checkpoint_held_to_another_one(programs, finished_run, tmp_path):
    run, workdir = finished_run.workdir, tmp_path / "run"
    initial, reference = f"{run}:kl:0@20", f"{run}:kl:0@40"
    overrides = [f"--config.initial={initial}", f"--config.kl_reference={reference}", "--config.lora.rank=4"]
    overrides.append("--config.run_arms=('kl',)")
    programs.run_well("run", TINY, *overrides, f"--workdir={workdir}", patch=NO_REPORT)

    mesh = make_mesh(MeshConfig())
    prints = {}
    for name in (initial, reference, f"{workdir}:kl:0@0", f"{workdir}:kl:0@40", f"{workdir}:initial"):
        (stored,) = find_models(name)
        model = load_model(stored, mesh)
        prints[name] = model_fingerprint(model)
        assert ("lora" in model.variables) == (name.startswith(f"{workdir}:kl"))
    results = read_json(workdir / "results.json")
    assert prints[f"{workdir}:kl:0@0"] == prints[initial] == prints[f"{workdir}:initial"]
    assert results["fingerprints"]["initial"] == results["fingerprints"]["label_teacher"] == prints[initial]
    assert results["fingerprints"]["kl_reference"] == prints[reference]
    assert results["fingerprints"]["kl"]["0"] == prints[f"{workdir}:kl:0@40"]
    assert len({prints[initial], prints[reference], prints[f"{workdir}:kl:0@40"]}) == 3

    # Held to another model than it starts from, an arm's first KL is not 0.
    def first_kl(folder: Path) -> float:
        lines = read_lines(folder / "metrics.jsonl")
        return next(line["kl"] for line in lines if line["arm"] == "kl" and line["step"] == 1)

    assert abs(first_kl(run)) < 1e-5
    assert first_kl(workdir) > 1e-3

    compared = tmp_path / "compared"
    models = f"--models={workdir}:kl@0,{workdir}:kl@40,{initial}"
    programs.run_well("compare", models, "--limit=28", f"--workdir={compared}", patch=NO_REPORT)
    matrix = read_json(compared / "matrix.json")
    assert matrix["emitters"] == ["run:kl@0", "run:kl@40"]  # the initial model comes once
    assert matrix["n"] == 28
    by_id = by_model(compared)["run:kl:0@40"]
    recorded = {line["id"]: line for line in read_lines(workdir / "predictions.jsonl") if line["seed"] == 0}
    for name, line in by_id.items():
        assert line["decisions"] == recorded[name]["current"]
        assert line["explanation"]["text"] == recorded[name]["explanation"]["text"]

    # A model with adapters starts another run with them merged into it.
    again = tmp_path / "again"
    flags = (TINY, f"--config.initial={workdir}:kl:0@40", "--config.run_arms=kl", "--config.seeds=0")
    programs.run_well("run", *flags, f"--workdir={again}", patch=NO_REPORT)
    (stored,) = find_models(f"{again}:initial")
    merged = load_model(stored, mesh)
    assert "lora" not in merged.variables
    starts = {line["id"]: line["initial"] for line in read_lines(again / "predictions.jsonl")}
    ended = {
        line["id"]: line["current"] for line in read_lines(workdir / "predictions.jsonl") if line["seed"] == 0
    }
    assert starts == ended


def test_lengths_are_counted_once_a_tokenizer_against_its_shortest_context(finished_run, monkeypatch):
    steps = {0: 64, 20: 60, 40: 99}  # and the context of the model stored there
    stored = [one for step in steps for one in find_models(f"{finished_run.workdir}:kl:0@{step}")]
    seen = []
    monkeypatch.setattr(compare_probes, "context_length", lambda one: steps[one.step])
    monkeypatch.setattr(
        compare_probes, "within_context", lambda task, _, limit, *rest: seen.append(limit) or task
    )
    task, reading = tiny_task(), {"readout": "generate", "reply_tokens": 8}
    monkeypatch.setattr(compare_probes, "check_candidates", lambda tokenizer, items: None)
    assert compare_probes.readable_items(stored, task, reading, Console(quiet=True)) == task
    assert len(stored) == 3
    assert seen == [60]


def test_a_limit_bounds_what_is_counted(programs, finished_run, tmp_path, monkeypatch):
    counted = []

    def counting(task, *rest):
        counted.extend(len(items) for items in task.splits.values())
        return within_context(task, *rest)

    monkeypatch.setattr(compare_probes, "within_context", counting)
    request = CompareRequest((f"{finished_run.workdir}:kl:0@40",), task="", limit=7)
    monkeypatch.setenv("INTROSPECTION_CACHE", str(programs.cache))
    compare(request, tmp_path / "limited", Console(quiet=True))
    assert counted == [7]
    assert read_json(tmp_path / "limited" / "matrix.json")["n"] == 7
