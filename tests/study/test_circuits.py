"""Which parts a study's bases use: measured from a point's workdir, kept, and shown in the study."""

import jax
import numpy as np
import pytest
import scipy.stats
from programs import read_json
from rich.console import Console
from study_workdirs import random_records, write_json, write_point
from tiny import mesh_of, tiny_config, tiny_variables

from introspection.checkpoints.names import CHECKPOINTS, TOKENIZER, ModelCard, model_fingerprint
from introspection.checkpoints.store import CheckpointStore
from introspection.models.model import Model
from introspection.probes.ablation import parts
from introspection.runtime.config import cache_dir
from introspection.runtime.mesh import put_parameters
from introspection.study import circuits
from introspection.study.circuits import CIRCUITS, SETTINGS, read_circuits, study_circuits
from introspection.study.study import write_study
from introspection.tasks.registry import load_task
from introspection.text.tokenizer import phrase_tokenizer

TASK = {
    "name": "world_facts",
    "train_facts": 6,
    "validation_facts": 2,
    "test_facts": 4,
    "facts": 12,
    "candidates": 3,
    "repeats": 1,
}


@pytest.fixture
def few_items(monkeypatch):
    monkeypatch.setitem(SETTINGS, "items", 8)


def write_base(folder, base, part="main", **config):
    write_point(folder, base, {"kl": random_records(np.random.default_rng(0), 0.5)}, part=part, **config)
    return folder.name, folder


def write_model(folder, context_length=64):
    """A run's initial model and tokenizer."""
    config = {"task": TASK, "cache_dir": str(folder / "cache")}
    task, _ = load_task(config["task"], cache_dir())
    tokenizer = phrase_tokenizer(task.names, task.phrases)
    model_config = tiny_config(vocab_size=tokenizer.vocab_size, context_length=context_length)
    variables = put_parameters(tiny_variables(model_config), mesh_of())
    store = folder / CHECKPOINTS / "initial"
    ModelCard(model_config, (5,)).write(store)
    with CheckpointStore(store) as opened:
        opened.save(0, jax.tree.map(lambda leaf: leaf[None], variables), None, {"kind": "initial"})
        opened.wait()
    tokenizer.save(folder / TOKENIZER)
    return Model(model_config, tokenizer, variables)


def circuits_of(points, console=None):
    configs = {name: read_json(folder / "config.json") for name, folder in points}
    return study_circuits(points, configs, console or Console(quiet=True))


@pytest.mark.slow
def test_a_base_is_measured_once_from_whichever_of_its_points_can_tell(tmp_path, few_items, monkeypatch):
    bare = write_base(tmp_path / "bare", "base0")
    whole = write_base(tmp_path / "whole", "base0", task=TASK, cache_dir=str(tmp_path / "cache"))
    lost = write_base(tmp_path / "lost", "base1", task=TASK, cache_dir=str(tmp_path / "cache"))
    model, points, console = write_model(whole[1]), [bare, whole, lost], Console(record=True, width=200)
    found = circuits_of(points, console)
    assert list(found) == ["main"]
    assert found["main"]["base1"] is None
    assert "study: no circuits of base1: " in console.export_text()
    entry = found["main"]["base0"]
    assert entry["fingerprint"] == model_fingerprint(model)
    assert entry["n"] == 8
    assert entry["parts"] == [part.name for part in parts(model.config)]
    own = np.mean([entry["effects"]["with_cue"], entry["effects"]["without_cue"]], axis=0)
    expected = scipy.stats.spearmanr(own, entry["effects"]["explanation"]).statistic
    assert entry["overlap"] == pytest.approx(expected)
    assert not (lost[1] / CHECKPOINTS).exists()
    assert read_json(whole[1] / CIRCUITS) == entry

    def refuse(*arguments):
        raise AssertionError("measured again")

    monkeypatch.setattr(circuits, "initial_model", refuse)
    assert circuits_of([bare, whole])["main"]["base0"] == entry


def test_what_was_kept_under_other_settings_or_is_damaged_is_not_used(tmp_path):
    write_json(tmp_path / CIRCUITS, {"settings": SETTINGS, "overlap": 0.5})
    assert read_circuits(tmp_path)["overlap"] == 0.5
    write_json(tmp_path / CIRCUITS, {"settings": SETTINGS | {"items": 3}, "overlap": 0.5})
    assert read_circuits(tmp_path) is None
    for damaged in ("{", "[]", ""):
        (tmp_path / CIRCUITS).write_text(damaged)
        assert read_circuits(tmp_path) is None


def test_a_model_of_too_many_parts_or_too_short_a_context_is_left_alone(tmp_path, few_items, monkeypatch):
    point = write_base(tmp_path / "a", "base0", task=TASK, cache_dir=str(tmp_path / "cache"))
    write_model(point[1], context_length=4)
    console = Console(record=True, width=300)
    assert circuits_of([point], console)["main"]["base0"] is None
    assert "no test item fits the model's context of 4 tokens" in console.export_text()
    monkeypatch.setattr(circuits, "MOST_PARTS", 9)
    assert circuits_of([point], console)["main"]["base0"] is None
    assert "has 10 parts, more than the limit of 9" in console.export_text()
    assert not (point[1] / CIRCUITS).exists()


def kept(index):
    """What a workdir keeps of an earlier `--summarize`."""
    return {
        "settings": SETTINGS,
        "n": 200,
        "overlap": 0.5 + index / 10,
        "blocks_alone": -0.25,
        "shared_effect": None if index == 0 else 0.25 + index / 100,
        "across_halves": None,
        "behavior_reliability": 0.875,
        "explanation_reliability": 0.75,
        "ceiling": 0.8101,
        "parts": ["layer 0 head 0", "layer 0 mlp"],
        "effects": {},
    }


def test_the_studys_tables_have_the_overlap_and_a_dash_without_it(tmp_path):
    points = [write_base(tmp_path / f"point{i}", f"base{i}") for i in range(6)]
    for index, (_, folder) in enumerate(points[:5]):
        write_json(folder / CIRCUITS, kept(index))
    write_study(tmp_path, points, Console(quiet=True))
    study = read_json(tmp_path / "study.json")
    assert study["parts"]["main"]["circuits"] == {f"base{i}": kept(i) for i in range(5)} | {"base5": None}
    found = {entry["name"]: entry["values"] for entry in study["predictors"]["main"]}
    overlaps = {f"base{i}": pytest.approx(0.5 + i / 10) for i in range(5)}
    assert found["overlap of the parts that behaviour and explanations use"] == overlaps
    shared = found["effect of its parts that behaviour and explanations share"]
    assert list(shared) == ["base1", "base2", "base3", "base4"]
    text = (tmp_path / "study.md").read_text(encoding="utf-8")
    assert "| overlap of the parts that behaviour and explanations use | 5 |" in text
    assert "| base1 | 2 | 200 | +0.60 | −0.25 | 26.0 | – | +0.81 | +0.88 | +0.75 |" in text
    assert "| base5 | – | – | – | – | – | – | – | – | – |" in text
    assert "do the untrained base&#39;s" in (tmp_path / "study.html").read_text(encoding="utf-8")
