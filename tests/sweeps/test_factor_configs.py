"""The configs that vary one factor: what each arm changes, and that it changes what is trained."""

import importlib
import json

import numpy as np
import pytest
from programs import NO_REPORT, Programs, read_json, read_lines, stored_labels

from introspection.coupling.askable import shuffled_arm
from introspection.runs.config import ArmConfig, read_config
from introspection.runtime.config import plain
from introspection.sweeps.grid import collect_points
from introspection.sweeps.plan import plan_points
from introspection.tasks.registry import load_task

# What arms that are no reference emitters may change of `kl`, by config.
FACTORS = {
    "regularization": {"kl_weight", "kl_direction", "kl_support", "kl_prompts", "kl_groups"},
    "learning_rate": {"learning_rate"},
    "lora_rank": {"learning_rate"},
    "label_noise": {"label_noise", "noise_part", "noise_towards"},
    "supervision": {"foreign_labels"},
    "generalization": set(),
}


def module_of(name):
    return importlib.import_module(f"configs.{name}")


def changed(arm, other):
    return {field for field, value in plain(arm).items() if value != plain(other)[field]}


@pytest.mark.parametrize("name", FACTORS)
def test_an_arm_changes_its_factor_and_a_reference_repeats_its_recipe(name):
    arms = read_config(module_of(name).get_config()).arms
    factors = FACTORS[name]
    for arm, fields in arms.items():
        if fields.foreign_to:
            assert changed(fields, arms[fields.foreign_to]) == {"foreign_to"}
        elif fields.shuffle_labels:
            original = arms[arm.removeprefix("shuffled_") if arm != "shuffled" else "kl"]
            assert changed(fields, original) == {"shuffle_labels"}
        elif arm != "kl":
            assert changed(fields, arms["kl"]) <= factors
    assert {field for fields in arms.values() for field in changed(fields, arms["kl"])} >= factors
    assert changed(arms["kl"], ArmConfig(learning_rate=arms["kl"].learning_rate)) == set()


@pytest.mark.parametrize("name", FACTORS)
def test_every_point_can_be_used_and_a_part_has_an_arm_of_a_base_once(name, tmp_path):
    module = module_of(name)
    points = plan_points(module.get_config(), collect_points(module.sweep, "organism"), tmp_path)
    places = [(p.config.part, p.config.base, arm) for p in points for arm in p.config.chosen_arms]
    assert len(set(places)) == len(places)
    assert {base for _, base, _ in places} == {"llama-0", "llama-1", "llama-2"}
    assert {point.config.seeds for point in points} == {(10, 11)}
    labelled_by = {p.config.part for p in points if "shuffled" in p.config.chosen_arms}
    assert {part for part, _, _ in places} == labelled_by  # askable needs shuffled labels in every part
    for argument in ("tiny", "qwen3_8b"):
        plan_points(
            module.get_config(argument),
            [
                point
                for point in collect_points(module.sweep, argument)
                if argument == "tiny" or "labels_foreign25" not in point.overrides["run_arms"]
            ],
            tmp_path,
        )


def test_every_point_of_the_learning_curve_is_one_pass_over_its_items(tmp_path):
    module = module_of("learning_curve")
    points = plan_points(module.get_config(), collect_points(module.sweep, ""), tmp_path)
    grid = {(p.config.train.explained_items, p.config.arms["kl"].learning_rate) for p in points}
    assert grid == {(items, rate) for items in module.ITEMS for rate in module.RATES}
    assert len(points) == len(grid)
    for point in points:
        train = point.config.train
        assert train.steps * train.explanation_rows == train.explained_items
        assert train.evaluation_steps == train.checkpoint_steps == train.steps
        assert set(point.config.chosen_arms) == {"kl", "shuffled"}
        assert len({arm.learning_rate for arm in point.config.arms.values()}) == 1
        assert "shift_less" in point.config.arms  # for where labels teach


@pytest.mark.parametrize(
    ("argument", "count", "test_facts"), [("named", 1, 150), ("listed", 4, 150), ("listed_rates", 4, 2)]
)
def test_the_other_forms_of_the_learning_curve_are_what_they_say(argument, count, test_facts, tmp_path):
    module = module_of("learning_curve")
    points = plan_points(module.get_config(argument), collect_points(module.sweep, argument), tmp_path)
    assert len(points) == count
    listed = argument != "named"
    assert {point.config.lora.rank == 0 for point in points} == ({False, True} if listed else {False})
    assert {point.config.train.balanced for point in points} == {not listed}
    task, _ = load_task(points[0].config.task, tmp_path)
    assert len({item.group for item in task.splits["test"]}) == test_facts
    items = [item for split in task.splits.values() for item in split]
    assert {len(item.candidates) for item in items} == {2}
    assert {"The choices are" in item.explanation_question for item in items} == {listed}
    read, _ = load_task(module.get_config("named").task, tmp_path)
    tested = {item.group for item in read.splits["test"]}
    chosen_on = {item.group for split in ("train", "validation") for item in task.splits[split]}
    assert not tested & chosen_on


def test_a_shift_of_the_controls_is_held_against_its_own_recipe(tmp_path):
    module = module_of("concurrent")
    points = plan_points(module.get_config(), collect_points(module.sweep, ""), tmp_path)
    held = [p.config.chosen_arms for p in points if "controls" in p.name]
    assert len(held) == 6
    for arms in held:
        own = [name for name in arms if not name.startswith("shuffled")]
        assert {name: shuffled_arm(arms, name) for name in own} == {name: f"shuffled_{name}" for name in own}
        assert set(arms) == {*own, *(f"shuffled_{name}" for name in own)}


def test_labels_come_from_both_bases_of_every_pair(tmp_path):
    module = module_of("supervision")
    points = plan_points(module.get_config(), collect_points(module.sweep, "organism"), tmp_path)
    pairs = {
        (p.config.pretrain.seed, p.config.neighbor.seed)
        for p in points
        if "labels_foreign100" in p.config.chosen_arms
    }
    assert pairs == {(i, j) for i in range(3) for j in range(3) if i != j}


@pytest.fixture(scope="module", params=FACTORS)
def tiny_sweep(request, programs: Programs, tmp_path_factory):
    """A config's name and its finished `:tiny` points by their part."""
    folder = tmp_path_factory.mktemp("factor") / request.param
    flags = (f"--config=configs/{request.param}.py:tiny", "--config.seeds=(10,)", f"--workdir={folder}")
    programs.run_well("sweep", *flags, patch=NO_REPORT)
    points = {path.parent.name: path.parent for path in (folder / "points").glob("*/results.json")}
    return request.param, dict(sorted(points.items()))


def losses(folder, arm):
    lines = read_lines(folder / "metrics.jsonl")
    return [line["loss"] for line in lines if line["arm"] == arm and line["seed"] == 10 and "loss" in line]


@pytest.mark.slow
def test_every_tiny_sweep_runs_and_its_factor_changes_loss_labels_or_schedule(tiny_sweep):
    name, points = tiny_sweep
    assert points
    trained = {
        (point, arm): (losses(folder, arm), json.dumps(stored_labels(folder, arm)))
        for point, folder in points.items()
        for arm in read_json(folder / "results.json")["arms"]
    }
    assert all(len(logged) > 1 for logged, _ in trained.values())
    assert len({repr(one) for one in trained.values()}) == len(trained)
    moved = {
        place: read_json(points[place[0]] / "results.json")["arms"][place[1]]["update_norm"]
        for place in trained
    }
    assert min(moved.values()) > 0
    if name == "learning_rate":
        rates = [
            moved["learning_rate-llama-0", arm] for arm in ("lr_low", "lr_half", "kl", "lr_double", "lr_high")
        ]
        assert rates == sorted(rates)
    if name == "label_noise":
        labels = {arm: stored_labels(points["label_noise-llama-0"], arm) for arm in ("kl", "noise_changed60")}
        clean, noisy = ([(o["changed"], o["answer"]) for o in own] for own in labels.values())
        assert np.mean([a != b for a, b in zip(clean, noisy, strict=True)]) == pytest.approx(0.6, abs=0.05)
        assert [answer for _, answer in clean] == [answer for _, answer in noisy]
    if name == "supervision":
        results = read_json(points["supervision-llama-0"] / "results.json")
        assert 0 <= results["similarity"]["foreign"]["explanations"] < 1
    if name == "generalization":
        (folder,) = points.values()
        assert {label["id"].split("/")[-2] for label in stored_labels(folder, "kl")} == {
            "friend",
            "guide",
            "chronicle",
        }
        subsets = {line["subset"]: set() for line in read_lines(folder / "predictions.jsonl")}
        for line in read_lines(folder / "predictions.jsonl"):
            subsets[line["subset"]].add(line["cue_kind"])
        assert subsets == {
            "kinds explained": {"friend", "guide", "chronicle"},
            "kinds not explained": {"gossip"},
        }
