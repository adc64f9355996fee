"""Files of a workdir, changed at random: whoever reads them raises one line, or reads them as they are."""

import copy
import json
import random
import shutil
import traceback
from pathlib import Path

import pytest
from report_workdir import ARMS, write_workdir

from introspection.checkpoints.names import ModelCard
from introspection.coupling.records import read_records
from introspection.coupling.training_log import read_training_logs
from introspection.errors import InputError
from introspection.models.config import LoraConfig, ModelConfig
from introspection.reports.figure_style import FigureFiles
from introspection.reports.page import build_page, write_report
from introspection.reports.page_figures import page_figures
from introspection.reports.run_files import read_run
from introspection.runs.config import RunConfig
from introspection.runs.identity import completed
from introspection.runtime.config import plain
from introspection.runtime.metrics_writer import MetricsWriter
from introspection.runtime.workdir import check_workdir, write_json
from introspection.sweeps.grid import collect_points
from introspection.sweeps.plan import check_plan, write_plan

DEEP: list = []
for _ in range(500):
    DEEP = [DEEP]
VALUES = (
    *(None, True, -1, 0, 1.5, 10**400, -(10**400), 2**63, 1e308, -1e308, float("nan"), float("inf")),
    *("", "²", "x" * 5_000, "\x1b]0;x\x07\u202e\ud800 $\\frac{", [], {}, [[]], {"": []}, DEEP),
)
POINTS = collect_points(lambda add: [add({"arms.kl.learning_rate": rate}) for rate in (0.1, 0.2)], "")


def changed_value(value, rng: random.Random):
    """A copy of a JSON value with one of its parts, anywhere, replaced, left out or given twice."""
    value = copy.deepcopy(value)
    inner, places = value, []
    while isinstance(inner, dict | list) and inner and (not places or rng.random() < 0.8):
        places.append((inner, rng.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))))
        inner = places[-1][0][places[-1][1]]
    if not places:
        return rng.choice(VALUES)
    parent, key = places[-1]
    if rng.random() < 0.15:
        del parent[key]
    elif rng.random() < 0.1 and isinstance(parent, list):
        parent.append(parent[key])
    else:
        parent[key] = rng.choice(VALUES)
    return value


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data))
    return rng.choice(
        (
            data[:place],
            data[:place] + bytes(rng.randrange(256) for _ in range(4)) + data[place + 4 :],
            data[:place] + b"\xff\xfe" + data[place:],
            b"[" * 100_000,
            b"9" * 5_000,
            b"",
            b"{}",
            data + b"{}",
        )
    )


def change(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    if rng.random() < 0.2:
        path.write_bytes(changed_bytes(data, rng))
    elif path.suffix == ".jsonl":
        lines = data.decode().splitlines()
        place = rng.randrange(len(lines))
        lines[place] = json.dumps(changed_value(json.loads(lines[place]), rng))
        path.write_text("\n".join(lines) + "\n")
    else:
        path.write_text(json.dumps(changed_value(json.loads(data), rng)))


def read_page(workdir: Path) -> None:
    """All that is on the page but the figures' drawings."""
    run, undrawn = read_run(workdir), FigureFiles(b"<svg/>", b"", 10)
    build_page(run, {figure.file_name: (figure, undrawn) for figure in page_figures(run)})


def make_run(workdir: Path) -> None:
    write_workdir(workdir, items=4, steps=24)


def make_config(workdir: Path) -> None:
    workdir.mkdir()
    write_json(workdir / "config.json", plain(RunConfig()))


def make_card(workdir: Path) -> None:
    config = ModelConfig(50, 16, 2, 4, 2, 8, 24, 64, lora=LoraConfig(3, 5.0))
    ModelCard(config, (0, 1), base="initial").write(workdir)


def keep_metrics(workdir: Path) -> None:
    MetricsWriter(workdir).keep(lambda line: line["arm"] == "kl" and line["step"] <= 4)


def read_curves(workdir: Path) -> None:
    read_training_logs(workdir / "metrics.jsonl", list(ARMS))


def read_config(workdir: Path) -> None:
    check_workdir(workdir, plain(RunConfig()), completed)


PAGE = ("results.json", "matrix.json", "config.json", "organism.json")
PAGE_LINES = ("predictions.jsonl", "controls.jsonl", "metrics.jsonl")
# What makes the files; the file that is changed; who reads it.
READERS = {
    **{f"page, {name}": (make_run, name, read_page) for name in (*PAGE, *PAGE_LINES)},
    "records": (make_run, "predictions.jsonl", lambda workdir: read_records(workdir / "predictions.jsonl")),
    "curves": (make_run, "metrics.jsonl", read_curves),
    "resumed metrics": (make_run, "metrics.jsonl", keep_metrics),
    "config": (make_config, "config.json", read_config),
    "card": (make_card, "model.json", ModelCard.read),
    "plan": (
        lambda workdir: write_plan(workdir, POINTS),
        "sweep.json",
        lambda workdir: check_plan(workdir, POINTS),
    ),
}


def refused_or_read(whole: Path, workdir: Path, case: str, seed: int) -> None:
    """`whole` is the undamaged workdir, which the first call makes."""
    make, name, read = READERS[case]
    if not whole.exists():
        make(whole)
    shutil.copytree(whole, workdir)
    change(workdir / name, random.Random(seed))
    said = str(workdir)
    try:
        read(workdir)
    except InputError as error:
        said = str(error)
    except Exception:
        said = traceback.format_exc()
    assert str(workdir) in said.splitlines()[0], f"seed {seed}: {said}"


@pytest.mark.parametrize("case", READERS)
def test_a_changed_file_is_refused_in_one_line_or_read(case, tmp_path):
    for seed in range(8):
        refused_or_read(tmp_path / "whole", tmp_path / str(seed), case, seed)


@pytest.mark.parametrize("name", PAGE_LINES)
@pytest.mark.parametrize("left", [b"{}", b"\x00", b'{"arm": "k'])
def test_only_metrics_may_end_in_a_torn_line(left, name, tmp_path):
    make_run(tmp_path / "run")
    whole, path = read_run(tmp_path / "run"), tmp_path / "run" / name
    path.write_bytes(path.read_bytes() + left)
    if name == "metrics.jsonl":
        assert read_run(tmp_path / "run") == whole
    else:
        with pytest.raises(InputError, match=f"{path}:"):
            read_run(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("case", READERS)
def test_many_changed_files(case, tmp_path):
    for seed in range(1_000, 1_060):
        refused_or_read(tmp_path / "whole", tmp_path / str(seed), case, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["results.json", "matrix.json", "metrics.jsonl"])
def test_whatever_is_read_can_be_drawn(name, tmp_path, monkeypatch):
    monkeypatch.setitem(READERS, "drawn", (make_run, name, write_report))
    for seed in range(10):
        refused_or_read(tmp_path / "whole", tmp_path / str(seed), "drawn", seed)
