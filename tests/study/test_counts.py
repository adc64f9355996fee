"""A point's controls are counted once, and anew as soon as what is kept is not theirs."""

import dataclasses

import numpy as np
import pytest
from row_files import write_lines
from study_workdirs import random_records

from introspection.study import counts as module
from introspection.study.counts import CONTROL_COUNTS, control_counts, count_records


def write_controls(folder, seed=0):
    """Two controls of one arm, one of another; gives each one's records."""
    rng = np.random.default_rng(seed)
    records = {
        ("majority", "kl"): random_records(rng, 0.5),
        ("initial", "kl"): random_records(rng, 0.2),
        ("majority", "no_kl"): random_records(
            rng, 0.5, arm="no_kl", subsets=("", "held out"), toward_shifted=0.9
        ),
    }
    write_lines(
        folder / "controls.jsonl",
        [{"control": control, **r.to_json()} for (control, _), own in records.items() for r in own],
    )
    return records


def assert_counts_of(found, records):
    assert [(control, arm) for control, arm, _ in found] == list(records)
    for (_, _, counts), own in zip(found, records.values(), strict=True):
        for name, value in dataclasses.asdict(count_records(own)).items():
            np.testing.assert_array_equal(getattr(counts, name), value)


@pytest.fixture
def counted(monkeypatch):
    """How often records were counted."""
    calls = []

    def count(records):
        calls.append(len(records))
        return count_records(records)

    monkeypatch.setattr(module, "count_records", count)
    return calls


def test_controls_are_counted_once(tmp_path, counted):
    records = write_controls(tmp_path)
    for _ in range(2):
        assert_counts_of(control_counts(tmp_path), records)
    assert len(counted) == 3


def test_other_controls_are_counted_anew(tmp_path, counted):
    before = write_controls(tmp_path)
    control_counts(tmp_path)
    after = write_controls(tmp_path, seed=1)
    assert before["majority", "kl"] != after["majority", "kl"]
    assert_counts_of(control_counts(tmp_path), after)
    assert len(counted) == 6


def test_what_another_version_counted_is_counted_anew(tmp_path, counted, monkeypatch):
    records = write_controls(tmp_path)
    with monkeypatch.context() as older:
        older.setattr(module, "VERSION", module.VERSION - 1)
        control_counts(tmp_path)
    assert_counts_of(control_counts(tmp_path), records)
    assert len(counted) == 6
    shifted = control_counts(tmp_path)[-1][2].shifted
    assert shifted.any()
    assert not shifted.all()


@pytest.mark.parametrize("left", [b"", b"PK\x03\x04", b"no archive", None])
def test_damaged_counts_are_made_again(tmp_path, counted, left):
    records = write_controls(tmp_path)
    control_counts(tmp_path)
    kept = (tmp_path / CONTROL_COUNTS).read_bytes()
    (tmp_path / CONTROL_COUNTS).write_bytes(kept[: len(kept) // 2] if left is None else left)
    assert_counts_of(control_counts(tmp_path), records)
    assert len(counted) == 6
    assert_counts_of(control_counts(tmp_path), records)
    assert len(counted) == 6


def test_a_point_without_controls_has_none(tmp_path):
    assert control_counts(tmp_path) == []
    (tmp_path / "controls.jsonl").touch()
    assert control_counts(tmp_path) == control_counts(tmp_path) == []
