"""Benchmarks run at a tiny size and print what they promise; no time is compared here."""

import json
import subprocess
import sys

import pytest

from experiments.benchmarks import (
    chunked_loss,
    first_step,
    growth,
    interval_coverage,
    packed_rows,
    patching,
    pretrained_objective,
    pretrained_scoring,
    probing_precision,
    sharded_loading,
    shared_prefix_scoring,
    stacked_seeds,
    train_step_with_agreement,
)

BENCHMARKS = (
    chunked_loss,
    interval_coverage,
    pytest.param(shared_prefix_scoring, marks=pytest.mark.slow),
    pytest.param(packed_rows, marks=pytest.mark.slow),
    pytest.param(patching, marks=pytest.mark.slow),
    pytest.param(stacked_seeds, marks=pytest.mark.slow),
    pytest.param(train_step_with_agreement, marks=pytest.mark.slow),
    pytest.param(sharded_loading, marks=pytest.mark.slow),  # starts three processes
    pytest.param(first_step, marks=pytest.mark.slow),  # starts three
    pytest.param(probing_precision, marks=pytest.mark.slow),
    pytest.param(growth, marks=pytest.mark.slow),  # starts a dozen
    pytest.param(pretrained_objective, marks=pytest.mark.parity),
    pytest.param(pretrained_scoring, marks=pytest.mark.parity),
)
MAY_BE_ZERO = (growth, probing_precision)


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda module: module.__name__.rsplit(".")[-1])
def test_each_benchmark_gives_json_lines_with_the_promised_keys(benchmark):
    measures = benchmark.run(benchmark.TINY)
    assert measures
    for measure in measures:
        line = json.loads(json.dumps(measure.line(), allow_nan=False))
        assert {"name", "value", "unit", "reference", "ratio"} <= line.keys()
        assert line["name"].startswith(benchmark.__name__.rsplit(".")[-1])
        # Where nothing is wrong, a test rejects nothing and no decision differs; time need not grow between
        # sizes this small.
        assert line["ratio"] > 0 or ".sign_flip." in line["name"] or benchmark in MAY_BE_ZERO


def test_an_unknown_benchmark_is_bad_input():
    command = [sys.executable, "-m", "experiments.bench", "--only=nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nothing" in done.stderr
    assert "stacked_seeds" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
