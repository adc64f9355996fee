"""What is privileged: aligned foreign explainers, shown answers and transplants, from config to page."""

import pytest
from programs import read_json, read_lines

from introspection.checkpoints.names import find_models, load_model, model_fingerprint
from introspection.coupling.records import read_records
from introspection.runtime.mesh import MeshConfig, make_mesh

ARMS = ("kl", "aligned_kl", "foreign_kl", "transplant", "distill_alone", "replay_alone", "aligned_shown")
CONFIG = "--config=configs/privileged.py:tiny"
# Gemma's norms, so that the neighbour's model is another; an agreement that a tiny alignment reaches.
FIELDS = ["--config.neighbor.architecture=gemma", "--config.align.agreement=0.5", f"--config.run_arms={ARMS}"]
FIELDS.append("--config.seeds=(0,)")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(programs, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("privileged") / "run"
    return workdir, programs.run_well("run", CONFIG, *FIELDS, f"--workdir={workdir}").stdout


def records_of(workdir, arm):
    return read_records(workdir / "arms" / arm / "records.jsonl")


def test_the_aligned_explainer_starts_from_a_model_of_its_own_and_is_held_against_its_arm(finished):
    workdir, printed = finished
    results = read_json(workdir / "results.json")
    prints = results["fingerprints"]
    assert len({prints["initial"], prints["foreign"], prints["aligned"]}) == 3
    (start,) = find_models(f"{workdir}:aligned_kl:0@0")
    assert model_fingerprint(load_model(start, make_mesh(MeshConfig()))) == prints["aligned"]
    found = results["alignment"]
    assert found["reached"]
    assert found["trained"] >= 0.5
    assert "aligned: after" in printed
    assert "aligned foreign explainer" in (workdir / "report.html").read_text(encoding="utf-8")

    own, theirs = ({(r.seed, r.id): r for r in records_of(workdir, arm)} for arm in ("kl", "aligned_kl"))

    def share(emitter, teacher, field):
        same = [emitter[key].explanation == getattr(teacher[key], field).explanation for key in own]
        return pytest.approx(sum(same) / len(same))

    reference = results["arms"]["kl"]["references"]["aligned"]
    assert (reference["self"], reference["orig"]) == (
        share(theirs, own, "current"),
        share(theirs, own, "teacher"),
    )
    matrix = results["explained_both"]["kl"]
    assert (matrix["emitters"], matrix["teachers"]) == (["kl", "aligned_kl"], ["kl", "aligned_kl", "initial"])
    assert matrix["exact_match"] == [
        [share(said, own, "current"), share(said, theirs, "current"), share(said, own, "initial")]
        for said in (own, theirs)
    ]


def test_what_is_shown_the_answer_is_no_reference(finished):
    workdir, _ = finished
    reference = read_json(workdir / "results.json")["arms"]["kl"]["references"]["shown"]
    assert not reference["usable"]
    assert "upper bound" in reference["no_verdict"]
    assert "Not held against" in (workdir / "report.html").read_text(encoding="utf-8")


def test_every_phase_trains_the_terms_that_its_arm_names(finished):
    workdir, _ = finished
    lines = read_lines(workdir / "metrics.jsonl")

    def terms(arm, step):
        (line,) = [
            one for one in lines if (one["arm"], one["seed"], one["step"]) == (arm, 0, step) and "loss" in one
        ]
        return line["loss"] - line["kl"], line["explanation_loss"], line["shift_loss"]

    for arm, replays, shifts in (
        ("transplant", 1, 1),
        ("distill_alone", 0, 1),
        ("replay_alone", 1, 0),
    ):
        rest, explanation, _ = terms(arm, 40)  # the last of the first phase
        assert rest == pytest.approx(explanation, abs=1e-4)
        rest, explanation, shift = terms(arm, 80)
        assert rest == pytest.approx(replays * explanation + shifts * shift, abs=1e-4)
        assert min(explanation, shift) > 1e-3


def test_a_transplanted_explainer_takes_on_the_other_behavior_on_the_shifted_facts_alone(finished):
    workdir, _ = finished
    alone, moved = records_of(workdir, "replay_alone"), records_of(workdir, "transplant")
    shifted = {record.group for record in moved if record.shifted}
    assert shifted == {record.group for record in alone if record.shifted}
    other = {record.id: record.initial for record in records_of(workdir, "foreign_kl")}

    def agreement(records):
        same = [record.current == other[record.id] for record in records if record.shifted]
        return sum(same) / len(same)

    assert agreement(moved) > agreement(alone)
