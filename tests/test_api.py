"""The public API: that it says what the commands wrote, and that importing it loads nothing."""

import subprocess
import sys

import numpy as np
import pytest
from programs import read_json

import introspection
from introspection.errors import InputError
from introspection.runtime.json_values import to_json


def test_importing_the_package_loads_nothing():
    code = (
        "import introspection, sys; print('jax' in sys.modules, introspection.__all__ == dir(introspection))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        introspection.nothing  # noqa: B018


def test_a_run_is_what_it_wrote(finished_run):
    run = introspection.load_run(finished_run.workdir)
    results = read_json(finished_run.workdir / "results.json")
    assert to_json(run.results) == results
    rows = {row["arm"]: row for row in run.table()}
    assert list(rows) == list(results["arms"])
    for name, row in rows.items():
        records = run.records(name)
        assert len(records) == row["n"]
        for score in ("self", "orig"):
            assert np.mean([record[score] for record in records]) == pytest.approx(row[score])
        assert row["gap"] == pytest.approx(row["self"] - row["orig"])
        assert row["gap_low"] <= row["gap"] <= row["gap_high"]
    assert len(run.records()) == len(run.predictions)
    with pytest.raises(InputError, match="has no arm 'klx'; it has kl, no_kl"):
        run.records("klx")


def test_no_run_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"no finished run: .*results\.json: can't be read"):
        introspection.load_run(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(InputError, match=r"no finished run: .*results\.json can't be read"):
        introspection.load_run(tmp_path)


def test_models_are_asked_as_the_run_asked_them(finished_run):
    run = introspection.load_run(finished_run.workdir)
    config = read_json(finished_run.workdir / "config.json")
    fields = {name: value for name, value in config["task"].items() if name != "name"}
    task = introspection.load_task(config["task"]["name"], **fields)
    items = task.splits["test"][:12]
    models = {
        name: introspection.load_model(f"{finished_run.workdir}{name}")
        for name in ("@0", f":kl:{config['seeds'][0]}")
    }
    initial, trained = models
    by_id = {one.id: one for one in run.predictions if (one.arm, one.seed) == ("kl", config["seeds"][0])}
    assert introspection.probe(models[initial], items) == [by_id[item.id].teacher for item in items]
    assert introspection.probe(models[trained], items) == [by_id[item.id].current for item in items]
    said = introspection.explain(models[trained], items, task)
    assert said == [(by_id[item.id].explanation_text, by_id[item.id].explanation) for item in items]
    matrix = introspection.compare(models, items, task)
    assert matrix.emitters == matrix.teachers == tuple(models)
    own = np.mean([by_id[item.id].explanation == by_id[item.id].current.explanation for item in items])
    assert matrix.exact_match[1][1] == pytest.approx(own)
    with pytest.raises(InputError, match="a model and an item"):
        introspection.compare(models, [], task)
