"""Arms of a published `summary.csv` are those of the points that it was written from."""

import dataclasses

import pytest
from sweep_cases import FOUR, FOUR_MORE, FakeRun, check_arms_and_workdir

from configs import quickstart
from introspection.errors import InputError
from introspection.reports.figure_numbers import csv_text
from introspection.sweeps.arms import arms_of, distinct, read_arms
from introspection.sweeps.summary import read_beside, summarize
from introspection.sweeps.sweep import run_sweep


@pytest.fixture
def finished(tmp_path, monkeypatch, console):
    """A workdir of four points with its summary; `no_kl` has shuffled labels."""
    monkeypatch.setattr("introspection.sweeps.sweep.run", FakeRun())
    monkeypatch.setattr("introspection.sweeps.sweep.check_run", check_arms_and_workdir)
    config = quickstart.get_config("")
    config.name, config.arms.no_kl.shuffle_labels = "first", True
    run_sweep(config, FOUR_MORE, tmp_path / "first", None, console)
    summarize(config, FOUR_MORE, tmp_path / "first", console)
    return tmp_path / "first"


def test_a_summary_holds_the_arms_of_its_points(finished):
    from_points, from_file = arms_of(read_beside(finished)), read_arms(finished / "summary.csv")
    assert from_file == from_points
    assert {arm.arm for arm in from_file if arm.is_reference} == {"no_kl"}
    assert all(arm.gap_minus_static is not None for arm in from_file)


def test_a_summary_alone_stands_beside_another_sweep(finished, tmp_path, console):
    config = quickstart.get_config("")
    config.name = "second"
    run_sweep(config, FOUR, tmp_path / "second", None, console)
    written = {}
    for beside in (finished, finished / "summary.csv"):
        summarize(config, FOUR, tmp_path / "second", console, [beside])
        figure = tmp_path / "second" / "figures" / "gap_on_agreement_static.csv"
        written[beside] = figure.read_text(encoding="utf-8")
    of_folder, of_file = written.values()
    assert of_file == of_folder
    assert "first" in of_file


def test_an_arm_that_two_sweeps_ran_counts_once(finished):
    arms = read_arms(finished / "summary.csv")
    again = [dataclasses.replace(arm, sweep="again") for arm in arms]
    new = dataclasses.replace(arms[0], sweep="again", gap=0.123)
    assert distinct([*arms, *again, new]) == [*arms, new]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.pop("gap_minus_static"), r"no column gap_minus_static"),
        (lambda row: row.update(gap="much"), r"line 2: gap must be a number or empty, not 'much'"),
        (lambda row: row.update(drift="nan"), r"line 2: drift must be a number"),
        (lambda row: row.update(tiny="maybe"), r"line 2: tiny must be True or False, not 'maybe'"),
    ],
)
def test_a_damaged_summary_is_one_line(finished, tmp_path, change, message):
    row = dataclasses.asdict(read_arms(finished / "summary.csv")[0])
    change(row)
    path = tmp_path / "published.csv"
    path.write_text(csv_text([row]), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_arms(path)


def test_a_summary_without_rows_or_text_is_one_line(tmp_path):
    (tmp_path / "empty.csv").write_text("sweep,arm\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"empty\.csv: no row"):
        read_arms(tmp_path / "empty.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"binary\.csv: can't be read as CSV"):
        read_arms(tmp_path / "binary.csv")
