"""What a run holds its arms against, and whether it can be asked: from the files that the tiny run leaves."""

import numpy as np
import pytest
from programs import read_json, read_lines

from introspection.coupling.records import PredictionRecord
from introspection.coupling.references import with_explanations_of
from introspection.coupling.results import control_results, paired_results

STATIC = ("initial", "majority", "input_only", "bayes_optimal")


def records_of(lines, arm):
    kept = [
        {key: value for key, value in line.items() if key != "control"}
        for line in lines
        if line["arm"] == arm
    ]
    return [PredictionRecord.from_json(line) for line in kept]


def test_every_other_arm_is_held_against_the_shuffled_one(finished_run):
    results = read_json(finished_run.workdir / "results.json")
    assert list(results["controls"]["shuffled"]) == ["kl", "no_kl", "kl_shift"]
    lines = read_lines(finished_run.workdir / "controls.jsonl")
    predicted = read_lines(finished_run.workdir / "predictions.jsonl")
    scored = records_of([line for line in lines if line["control"] == "shuffled"], "no_kl")
    own, shuffled = records_of(predicted, "no_kl"), records_of(predicted, "shuffled")
    assert scored == with_explanations_of(own, shuffled)
    entry = results["controls"]["shuffled"]["no_kl"]
    assert entry["self"]["exact_match"]["mean"] == control_results(scored).self.exact_match.mean
    difference = paired_results(own, scored, np.random.default_rng(0)).gap.exact_match.mean
    found = results["arms"]["no_kl"]["references"]["shuffled"]["gap_difference"]
    assert found["mean"] == entry["paired"]["gap"]["exact_match"]["mean"] == pytest.approx(difference)


def test_every_arm_names_its_references_and_whether_it_can_be_asked(finished_run):
    results = read_json(finished_run.workdir / "results.json")
    for name, arm in results["arms"].items():
        assert list(arm["references"]) == [*STATIC, *(["shuffled"] if name != "shuffled" else [])]
        levels = {reference: arm["references"][reference]["orig"] for reference in STATIC}
        assert levels[arm["best_static"]] == max(levels.values())
        for reference, entry in arm["references"].items():
            scored = results["controls"][reference][name]
            assert entry["orig"] == scored["orig"]["exact_match"]["mean"]
            gaps = arm["gap"]["exact_match"]["mean"], scored["gap"]["exact_match"]["mean"]
            assert entry["gap_difference"]["mean"] == pytest.approx(gaps[0] - gaps[1])
        assert set(arm["askable"]) == {"orig_above_shuffled", "orig_above_blind", "behavior_kept"}
        assert set(arm["agreement"]) == set(arm["kept_behavior"]) == {"start", "end", "min", "mean"}
        assert None not in arm["kept_behavior"].values()
        assert ("by_shifted" in arm) == (name == "kl_shift")
    assert (
        results["arms"]["shuffled"]["agreement"]["mean"]
        < results["arms"]["shuffled"]["kept_behavior"]["mean"]
    )
    askable = results["askable"]
    assert (askable["arm"], askable["criteria"]) == ("kl", results["arms"]["kl"]["askable"])


def test_the_output_says_first_whether_labels_teach(finished_run):
    askable = read_json(finished_run.workdir / "results.json")["askable"]
    said = finished_run.output.index(askable["words"])
    assert said < finished_run.output.index("Do explanations follow")
    assert "bayes_optimal*" in finished_run.output  # the table's first column is there, whatever the width
