"""Foreign explainers, refreshed labels, sequential shifts: what sets each apart from the arms beside it."""

import json
import shutil

import numpy as np
import pytest
from array_record.python import array_record_module
from programs import NO_REPORT, Programs, read_json, read_lines

from introspection.checkpoints.names import find_models, load_model, model_fingerprint
from introspection.coupling.labels import RECORDS
from introspection.coupling.records import read_records
from introspection.coupling.results import paired_results
from introspection.errors import InputError
from introspection.runtime.mesh import MeshConfig, make_mesh
from introspection.training.shifts import ShiftConfig

ARMS = ("kl", "foreign_kl", "sequential", "refreshed")
CONFIG = "--config=configs/organism.py:tiny"
FIELDS = [f"--config.run_arms={ARMS}", "--config.seeds=(0,1)", "--config.arms.refreshed.learning_rate=4e-3"]


@pytest.fixture(scope="module")
def workdir(programs: Programs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("baselines") / "run"
    programs.run_well("run", CONFIG, *FIELDS, f"--workdir={folder}", patch=NO_REPORT)
    return folder


def metrics_of(workdir, arm, name):
    """Values by step of seed 0."""
    lines = read_lines(workdir / "metrics.jsonl")
    return {
        line["step"]: line[name] for line in lines if (line["arm"], line["seed"]) == (arm, 0) and name in line
    }


def stored_labels(workdir, name):
    reader = array_record_module.ArrayRecordReader(str(workdir / "labels" / name / RECORDS))
    lines = reader.read_all()
    reader.close()
    return [json.loads(line) for line in lines]


def fingerprint_at(workdir, name):
    (found,) = find_models(f"{workdir}:{name}")
    return model_fingerprint(load_model(found, make_mesh(MeshConfig())))


@pytest.mark.slow
def test_a_foreign_explainer_starts_elsewhere_learns_the_same_labels_and_holds_on_to_itself(workdir):
    prints = read_json(workdir / "results.json")["fingerprints"]
    assert prints["foreign"] != prints["initial"] == prints["label_teacher"]
    assert fingerprint_at(workdir, "foreign_kl:0@0") == prints["foreign"]
    assert fingerprint_at(workdir, "foreign@0") == prints["foreign"]
    assert fingerprint_at(workdir, "kl:0@0") == prints["initial"]
    labels = {name: stored_labels(workdir, name) for name in ("kl", "foreign_kl")}
    metadata = [read_json(workdir / "labels" / name / "metadata.json") for name in labels]
    assert len(labels["kl"]) > 10
    assert labels["kl"] == labels["foreign_kl"]
    assert metadata[0] == metadata[1]
    # At the first step the model is what it started from: a divergence of 0 says that KL is to itself.
    for arm in ("kl", "foreign_kl"):
        assert abs(metrics_of(workdir, arm, "kl")[1]) < 1e-5
        assert metrics_of(workdir, arm, "kl")[40] > 1e-4
    # Step 1's labels are the same rows: both seeds' data orders are those of the arm that it repeats.
    own = {(r.seed, r.id): r for r in read_records(workdir / "arms" / "kl" / "records.jsonl")}
    foreign = read_records(workdir / "arms" / "foreign_kl" / "records.jsonl")
    assert {(r.seed, r.id) for r in foreign} == set(own)
    assert all(r.teacher == own[r.seed, r.id].teacher for r in foreign)
    assert any(r.initial != own[r.seed, r.id].initial for r in foreign)


@pytest.mark.slow
def test_the_foreign_control_is_the_foreign_arms_explanations_on_the_arms_own_teachers(workdir):
    results = read_json(workdir / "results.json")
    assert list(results["controls"]["foreign"]) == ["kl"]
    entry = results["controls"]["foreign"]["kl"]
    own = read_records(workdir / "arms" / "kl" / "records.jsonl")
    said = {
        (r.seed, r.id): (r.explanation_text, r.explanation)
        for r in read_records(workdir / "arms" / "foreign_kl" / "records.jsonl")
    }
    matches = {
        target: np.mean([said[r.seed, r.id][1] == getattr(r, target).explanation for r in own])
        for target in ("current", "teacher")
    }
    assert entry["self"]["exact_match"]["mean"] == pytest.approx(matches["current"])
    assert entry["orig"]["exact_match"]["mean"] == pytest.approx(matches["teacher"])
    paired = entry["paired"]["gap"]["exact_match"]
    gap = results["arms"]["kl"]["gap"]["exact_match"]["mean"]
    assert paired["mean"] == pytest.approx(gap - (matches["current"] - matches["teacher"]))
    assert paired["ci95"][0] <= paired["mean"] <= paired["ci95"][1]
    lines = [line for line in read_lines(workdir / "controls.jsonl") if line["control"] == "foreign"]
    assert [(line["seed"], line["id"]) for line in lines] == [(r.seed, r.id) for r in own]
    assert all(line["explanation"]["text"] == said[line["seed"], line["id"]][0] for line in lines)
    assert paired_results(own, own, np.random.default_rng(0)).gap.exact_match.mean == 0


@pytest.mark.slow
def test_a_sequential_shift_trains_alone_after_the_explanations(workdir):
    explanation = metrics_of(workdir, "sequential", "explanation_loss")
    shift = metrics_of(workdir, "sequential", "shift_loss")
    assert max(explanation) == 80  # twice the steps of the others
    assert explanation[40] < explanation[1]
    # No longer trained: what is left of Adam's momentum moves it for a few steps (trained, it would halve).
    assert explanation[80] > 0.8 * explanation[60]
    # The first phase is the arm without a shift, step by step: λ and the batches are the same.
    assert metrics_of(workdir, "kl", "explanation_loss")[40] == pytest.approx(explanation[40], rel=1e-4)
    assert shift[80] < 0.8 * shift[40]


@pytest.mark.slow
def test_refreshed_labels_are_what_the_model_did_at_the_checkpoint(workdir):
    folders = {path.name for path in (workdir / "labels").iterdir() if path.name.startswith("refreshed-")}
    assert folders == {"refreshed-seed0-step20", "refreshed-seed1-step20"}
    assert read_json(workdir / "labels" / "refreshed-seed1-step20" / "metadata.json")[
        "teacher_fingerprint"
    ] == fingerprint_at(workdir, "refreshed:1@20")
    first, later = (stored_labels(workdir, name) for name in ("refreshed", "refreshed-seed0-step20"))
    assert [label["id"] for label in first] == [label["id"] for label in later]
    said = [[(label["changed"], label["answer"]) for label in labels] for labels in (first, later)]
    assert said[0] != said[1]
    assert all(label["changed"] == (len(set(label["teacher"].values())) == 2) for label in later)


@pytest.mark.slow
def test_a_resumed_run_refreshes_and_shifts_as_the_uninterrupted_one(programs, workdir, tmp_path):
    resumed = tmp_path / "run"
    shutil.copytree(workdir, resumed)
    for arm in ("sequential", "refreshed"):
        shutil.rmtree(resumed / "arms" / arm)
    shutil.rmtree(resumed / "checkpoints" / "refreshed" / "40")  # as if it had been killed after step 20
    for step in (60, 80):  # and this one between its phases
        shutil.rmtree(resumed / "checkpoints" / "sequential" / str(step))
    for step_folder in (resumed / "labels").glob("refreshed-*"):
        shutil.rmtree(step_folder)
    (resumed / "results.json").unlink()
    programs.run_well("run", CONFIG, *FIELDS, f"--workdir={resumed}", patch=NO_REPORT)
    for arm in ARMS:
        one, other = (folder / "arms" / arm / "records.jsonl" for folder in (workdir, resumed))
        assert one.read_text() == other.read_text(), arm


@pytest.mark.parametrize(
    ("order", "terms"),
    [
        ("concurrent", [(1, 1)] * 4),
        ("after", [(1, 0), (1, 0), (0, 1), (0, 1)]),
        ("before", [(0, 1), (0, 1), (1, 0), (1, 0)]),
    ],
)
def test_which_terms_a_step_trains(order, terms):
    shift = ShiftConfig("more_sycophantic", order=order)
    assert [shift.terms(step, 2) for step in range(4)] == terms
    assert shift.phases == (1 if order == "concurrent" else 2)
    assert ShiftConfig("none", order=order).terms(0, 2) == (1, 1)
    assert ShiftConfig("none", order=order).phases == 1


def test_a_replay_trains_explanations_in_both_phases_and_the_shift_in_its_own():
    shift = ShiftConfig("distill", order="after", replay=True)
    assert [shift.terms(step, 2) for step in range(4)] == [(1, 0), (1, 0), (1, 1), (1, 1)]
    for order, groups in (("before", "held_out"), ("concurrent", "held_out"), ("after", "all")):
        with pytest.raises(InputError, match=r"shift\.replay goes on with explanations of groups"):
            ShiftConfig("distill", order=order, groups=groups, replay=True)


REFUSED = {
    "no foreign model": (["--config.foreign=none"], ["foreign_kl", "config.foreign"]),
    "its arm does not run": (["--config.run_arms=('foreign_kl',)"], ["foreign_kl", "'kl'", "run_arms"]),
    "another recipe": (["--config.arms.foreign_kl.kl_weight=0.5"], ["foreign_kl", "kl_weight is 1.0", "0.5"]),
    "the same base": (["--config.neighbor.seed=0"], ["config.foreign", "same model"]),
    "architecture": (["--config.neighbor.architecture=mamba"], ["'mamba'", "llama, gemma"]),
    "no such step": (["--config.label_teacher=pretrain@1200"], ["label_teacher", "'1200'", "500"]),
    "shift order": (["--config.arms.kl.shift.order=never"], ["shift.order", "concurrent"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
def test_a_foreign_explainer_that_is_none_is_refused(programs, tmp_path, case):
    overrides, phrases = REFUSED[case]
    chosen = [] if "run_arms" in overrides[0] else ["--config.run_arms=('kl','foreign_kl')"]
    outcome = programs.run("run", CONFIG, *chosen, *overrides, f"--workdir={tmp_path / 'run'}")
    assert outcome.code == 2, outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    for phrase in phrases:
        assert phrase in outcome.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_labels_of_an_earlier_checkpoint_of_the_same_base(programs, tmp_path):
    fields = ["--config.label_teacher=pretrain@400", "--config.pretrain.checkpoint_steps=100"]
    fields += ["--config.run_arms=('kl',)", "--config.seeds=(0,)", f"--workdir={tmp_path / 'run'}"]
    programs.run_well("run", CONFIG, *fields, patch=NO_REPORT)
    prints = read_json(tmp_path / "run" / "results.json")["fingerprints"]
    assert prints["label_teacher"] != prints["initial"] == prints["kl_reference"]
    metadata = json.loads((tmp_path / "run" / "labels" / "kl" / "metadata.json").read_text())
    assert metadata["teacher_fingerprint"] == prints["label_teacher"]
