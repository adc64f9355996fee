"""experiments.sweep as a program."""

import csv

import pytest
from programs import NO_REPORT, TINY, one_error_line, read_json


@pytest.mark.parametrize(
    ("arguments", "phrases"),
    [
        (["--summarize", "--dry-run"], ["--summarize and --dry-run contradict"]),
        (["--summarize", "--index=0"], ["--summarize and --index contradict"]),
        (["--index=4"], ["points 0 to 3"]),
        (["--index=many"], ["many"]),
        (["--summarize"], ["none of the sweep's 4 points"]),
        (["--config.train.log_steps=7"], ["4 of 4 points", "point 000: ", "log_steps (7)"]),
    ],
)
def test_the_command_refuses_with_one_line(programs, tmp_path, arguments, phrases):
    outcome = programs.run("sweep", TINY, *arguments, f"--workdir={tmp_path}/sweep")
    assert outcome.code == 2, outcome
    for phrase in phrases:
        assert phrase in one_error_line(outcome)
    assert not (tmp_path / "sweep").exists()


SWEEP = """
from configs.quickstart import get_config as quickstart

def get_config(argument=""):
    config = quickstart("tiny")
    config.train.steps = 20
    config.seeds, config.run_arms = (0,), ("kl",)
    return config

def sweep(add, argument):
    add({"point": "lost", "label_teacher": "/nonexistent"})
    add({"point": argument, "arms.kl.learning_rate": 1e-3})
"""


@pytest.mark.slow
def test_the_command_runs_what_it_planned(programs, finished_run, tmp_path):  # the run that trains the base
    file, workdir = tmp_path / "config.py", tmp_path / "sweep"
    file.write_text(SWEEP)
    command = ("sweep", f"--config={file}:rate", f"--workdir={workdir}", "--config.train.weight_decay=0.5")
    planned = programs.run_well(*command, "--dry-run")
    assert [line.split()[1:3] for line in planned.stdout.splitlines()] == [["lost", "new"], ["rate", "new"]]
    assert not workdir.exists()
    outcome = programs.run(*command, patch=NO_REPORT)
    assert outcome.code == 1, outcome
    assert one_error_line(outcome).startswith("error: 1 of 2 points failed: lost; ")
    assert "/nonexistent" in (workdir / "errors" / "lost.txt").read_text()
    config = read_json(workdir / "points" / "rate" / "config.json")
    assert (config["arms"]["kl"]["learning_rate"], config["train"]["weight_decay"]) == (1e-3, 0.5)
    summary = programs.run_well(*command, "--summarize")
    assert "lost (new)" in summary.stdout
    with (workdir / "summary.csv").open(encoding="utf-8", newline="") as lines:
        (row,) = csv.DictReader(lines)
    results = read_json(workdir / "points" / "rate" / "results.json")
    assert float(row["self"]) == results["arms"]["kl"]["self"]["exact_match"]["mean"]
    assert "Tiny runs: 1 of 1 points." in (workdir / "summary.html").read_text(encoding="utf-8")
