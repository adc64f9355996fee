"""Which arms of a study an arm is held against: foreign explainers by kind, and shuffled labels."""

import json

import numpy as np
from programs import read_json
from study_workdirs import random_records, write_point

from introspection.study import study as study_job
from introspection.study.counts import EXACT
from introspection.study.parts import part_results
from introspection.study.study import read_part


def test_foreign_explainers_are_told_apart_and_one_that_is_not_aligned_is_left_out(tmp_path):
    rng = np.random.default_rng(1)
    names = ("kl", "foreign_kl", "aligned_kl", "shown_kl")
    kinds = {"foreign_kl": {}, "aligned_kl": {"aligned": True}, "shown_kl": {"aligned": True, "shown": True}}
    arms = {arm: random_records(rng, 0.5, arm=arm, groups=20) for arm in names}
    points, configs = [], {}
    for base, reached in (("one", True), ("two", False)):
        folder = write_point(tmp_path / base, base, arms, foreign_to=dict.fromkeys(kinds, "kl"))
        config = read_json(folder / "config.json")
        for arm, fields in kinds.items():
            config["arms"][arm] |= fields
        (folder / "results.json").write_text(
            json.dumps({"arms": {arm: {} for arm in names}, "alignment": {"reached": reached}})
        )
        (folder / "controls.jsonl").touch()
        points.append((base, folder))
        configs[base] = config
    part = read_part("main", points, configs)
    found = part.references["kl"]
    assert {kind: set(found[kind]) for kind in found} == {
        "foreign": {"one", "two"},
        "aligned": {"one"},
        "shown": {"one"},
    }
    # What is shown the answer is an upper bound: it stands in the table and decides nothing.
    used = {kind: part_results(part)["controls"][kind]["kl"]["used"] for kind in found}
    assert used == {"foreign": True, "aligned": True, "shown": False}


def test_a_reference_may_be_held_against_another(tmp_path):
    """A foreign explainer of the arm with shuffled labels, which has shuffled labels itself."""
    rng = np.random.default_rng(1)
    arms = {arm: random_records(rng, 0.5, arm=arm) for arm in ("kl", "shuffled", "foreign_shuffled")}
    folder = write_point(tmp_path / "a", "a", arms, foreign_to={"foreign_shuffled": "shuffled"})
    (folder / "controls.jsonl").touch()
    config = read_json(folder / "config.json")
    for arm in ("shuffled", "foreign_shuffled"):
        config["arms"][arm]["shuffle_labels"] = True
    part = read_part("main", [("a", folder)], {"a": config})
    assert set(part.references["shuffled"]) == {"foreign"}
    assert set(part.references["kl"]) == {"shuffled"}


def test_an_arm_is_held_against_shuffled_labels_of_its_own_recipe(tmp_path):
    rng = np.random.default_rng(0)
    # The plain arm with shuffled labels is always wrong, that of the other recipe never.
    right = {"kl": 1.0, "no_kl": 1.0, "noise30": 1.0, "shuffled": 0.0, "shuffled_no_kl": 1.0}
    arms = {arm: random_records(rng, 0.5, arm=arm, right=share) for arm, share in right.items()}
    fields = {
        arm: {"kl_weight": 0.0 if "no_kl" in arm else 1.0, "shuffle_labels": "shuffled" in arm}
        for arm in arms
    }
    fields["noise30"]["label_noise"] = 0.3
    folder = write_point(tmp_path / "a", "base0", arms)
    config = read_json(folder / "config.json") | {"arms": fields}
    part = study_job.read_part("main", [("a", folder)], {"a": config})
    matches = {
        arm: emitters["shuffled"]["base0"].counts.sum(0)[EXACT[1]]
        for arm, emitters in part.references.items()
        if emitters
    }
    assert {arm: count > 0 for arm, count in matches.items()} == {
        "kl": False,
        "no_kl": True,
        "noise30": False,
    }
