"""Sweeps: planned, refused, run, resumed and summarized. A fake run leaves what a real one does."""

import base64
import csv
import errno
import json
import re
import sys
import types
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ml_collections import ConfigDict
from programs import NO_REPORT, TINY, one_error_line, read_json, snapshot
from report_workdir import ARMS, CONTROLS, HOSTILE, synthetic_results
from rich.console import Console
from test_report import Elements, open_page

from configs.quickstart import get_config
from introspection.errors import InputError, RunError
from introspection.jobs import sweep as sweep_job
from introspection.jobs.fields import chosen_arms
from introspection.jobs.grid import collect_points, vary
from introspection.jobs.settings import check_workdir, claim_workdir, plain, write_json
from introspection.jobs.summary import summarize
from introspection.jobs.sweep import dry_run, run_sweep, time_left
from introspection.jobs.sweep_plan import check_plan, write_plan

# A config has all that annotations ask of it when they say Mapping; tests check annotations.
Mapping.register(ConfigDict)


@pytest.fixture
def config(monkeypatch):
    # Without the task, whose items take most of a check's time; the command's tests below check all.
    monkeypatch.setattr(sweep_job, "check_run", check_arms_and_workdir)
    return get_config("tiny").lock()


def check_arms_and_workdir(config, workdir):
    chosen_arms(config)
    check_workdir(workdir, plain(config))


@pytest.fixture
def console():
    return Console(record=True, width=80)


class FakeRun:
    """Leaves a finished run's workdir, unless it is told to raise for a point."""

    def __init__(self):
        self.names, self.programs, self.raises = [], [], {}

    def __call__(self, config, workdir, console, programs):
        self.names.append(workdir.name)
        self.programs.append(programs)
        error = self.raises.get(workdir.name)
        if error is not None and not getattr(error, "late", False):
            raise error
        claim_workdir(workdir, plain(config))
        if error is not None:
            raise error
        write_json(workdir / "results.json", results_of(config))
        (workdir / "report.html").write_text("a page")


def results_of(config):
    """Numbers that differ between points: the arms' levels move with the learning rate."""
    results = synthetic_results()
    for arm in results["arms"].values():
        arm["self"]["exact_match"]["mean"] += config.arms.kl.learning_rate
        arm["drift"] = config.arms.kl.learning_rate / 3
    results["arms"]["no_kl"]["disagreement"]["current_share"] = None
    return results


@pytest.fixture
def fake_run(monkeypatch):
    fake = FakeRun()
    monkeypatch.setattr(sweep_job, "run", fake)
    return fake


def points_of(*mappings):
    return collect_points(lambda add: [add(mapping) for mapping in mappings], "")


FOUR = points_of(
    *(
        {"point": f"rate{i}", **p}
        for i, p in enumerate(vary("arms.kl.learning_rate", (0.01, 0.02, 0.03, 0.04)))
    )
)


def late(error):
    """Raised once the point has its workdir."""
    error.late = True
    return error


# Planning and refusing


def test_a_dry_run_has_a_line_a_point_and_writes_nothing(config, console, fake_run, tmp_path):
    workdir = tmp_path / "sweep"
    points = points_of({"point": "a", "pretrain.seed": 3}, {"run_arms": ("kl", "no_kl"), "seeds": (4,)})
    dry_run(config, points, workdir, None, console)
    assert not workdir.exists()
    lines = console.export_text().splitlines()
    assert [re.split(r"\s\s+", line.strip()) for line in lines] == [
        ["0", "a", "new", "seed 3", "arms kl,no_kl,kl_shift,shuffled", "seeds 0,1", "pretrain.seed=3"],
        ["1", "001", "new", "seed 0", "arms kl,no_kl", "seeds 4", "run_arms=('kl', 'no_kl') seeds=(4,)"],
    ]
    run_sweep(config, points, workdir, 0, console)
    claim_workdir(workdir / "points" / "001", plain(config) | {"run_arms": ["kl", "no_kl"], "seeds": [4]})
    before = snapshot(workdir)
    console.export_text()
    dry_run(config, points, workdir, None, console)
    assert [line.split()[2] for line in console.export_text().splitlines()] == ["finished", "started"]
    dry_run(config, points, workdir, 1, console)
    assert [line.split()[1] for line in console.export_text().splitlines()] == ["001"]
    assert snapshot(workdir) == before


def test_the_base_is_the_configs_own_word_for_it(config, console, tmp_path):
    config = config.unlock()
    config.base = "llama0"
    dry_run(config, points_of({}, {"base": "qwen1"}), tmp_path / "sweep", None, console)
    assert [line.split()[3] for line in console.export_text().splitlines()] == ["llama0", "qwen1"]


def test_all_bad_points_are_named_before_anything_runs(config, console, fake_run, tmp_path):
    workdir = tmp_path / "sweep"
    points = points_of(
        {"point": "good"},
        {"point": "typo", "train.stepz": 3},
        {"point": "arm", "run_arms": ("kk",)},  # found by `check_run`
        {"point": "word", "train.steps": "many"},
        {"point": "section", "task": {}},
    )
    for act in (run_sweep, dry_run):
        with pytest.raises(InputError) as refused:
            act(config, points, workdir, None, console)
        message = str(refused.value)
        assert message.startswith("4 of 5 points can't be used: point typo: train.stepz: ")
        for phrase in (
            "did you mean 'steps'",
            "point arm: config.run_arms has 'kk'",
            "point word: train.steps is 40",
        ):
            assert phrase in message
        assert "point section: task is a section" in message
        assert "good" not in message
        assert "\n" not in message
    assert fake_run.names == []
    assert not workdir.exists()


def test_of_many_bad_points_five_are_named(config, console, tmp_path):
    with pytest.raises(InputError, match=r"8 of 8 .*point 004.*; and 3 more$") as refused:
        run_sweep(config, points_of(*[{"x": 1}] * 8), tmp_path / "sweep", None, console)
    assert str(refused.value).count("point 0") == 5


def test_devices_are_asked_for_by_a_run_and_not_by_a_plan(config, console, fake_run, tmp_path):
    points = points_of({}, {"mesh.data": 64})
    with pytest.raises(InputError, match=r"1 of 2 points can't be used: point 001: .*64 devices"):
        run_sweep(config, points, tmp_path / "sweep", None, console)
    assert (fake_run.names, (tmp_path / "sweep").exists()) == ([], False)
    dry_run(config, points, tmp_path / "sweep", None, console)


def test_a_workdir_of_another_sweep_is_refused(config, console, fake_run, tmp_path):
    run_sweep(config, FOUR[:3], tmp_path, None, console)
    before = snapshot(tmp_path)
    changed = points_of({"point": "rate0", "arms.kl.learning_rate": 0.01}, {"point": "rate1", "lora.rank": 4})
    for act in (run_sweep, dry_run):
        with pytest.raises(
            InputError,
            match=r"point 1 is rate1 \(arms.kl.learning_rate=0.02\) there and rate1 \(lora.rank=4\) here",
        ):
            act(config, changed, tmp_path, None, console)
        with pytest.raises(InputError, match=r"point 2 is rate2 .* there and missing here"):
            act(config, FOUR[:2], tmp_path, None, console)
    with pytest.raises(InputError, match="another sweep"):
        summarize(config, changed, tmp_path, console)
    config.train.steps = 80
    with pytest.raises(
        InputError, match=r"point rate0: .*belongs to another config: train.steps is 40 there"
    ):
        run_sweep(config, FOUR[:3], tmp_path, None, console)
    assert snapshot(tmp_path) == before


def test_points_may_be_added_at_the_end(config, console, fake_run, tmp_path):
    run_sweep(config, FOUR[:2], tmp_path, None, console)
    run_sweep(config, FOUR, tmp_path, None, console)
    assert fake_run.names == ["rate0", "rate1", "rate2", "rate3"]
    assert read_json(tmp_path / "sweep.json") == [
        {"index": i, "name": f"rate{i}", "overrides": {"arms.kl.learning_rate": (i + 1) / 100}}
        for i in range(4)
    ]


def test_a_folder_of_other_files_is_no_workdir(config, console, fake_run, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for workdir in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(InputError, match=r"no sweep.json: give another --workdir"):
            run_sweep(config, FOUR, workdir, None, console)
    (tmp_path / "sweep.json").write_text("[{")
    with pytest.raises(InputError, match=r"sweep.json: not readable"):
        run_sweep(config, FOUR, tmp_path, None, console)
    assert fake_run.names == []


def test_a_plan_that_several_processes_write_is_always_whole(tmp_path):
    def write(number):
        write_plan(tmp_path, FOUR[: 1 + number % 4])  # none is there already, so each is written
        check_plan(tmp_path, FOUR)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(400)))
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]
    write_plan(tmp_path, FOUR)
    before = snapshot(tmp_path)
    write_plan(tmp_path, FOUR)
    assert snapshot(tmp_path) == before


# Running


def test_points_run_in_order_in_one_process_and_finished_ones_are_skipped(
    config, console, fake_run, tmp_path
):
    run_sweep(config, FOUR[:2], tmp_path, None, console)
    said = console.export_text()
    assert fake_run.names == ["rate0", "rate1"]
    assert "point 1 of 2: rate0\n" in said
    assert re.search(r"point 2 of 2: rate1 \(about 0:00:00 left\)\n", said)
    assert said.endswith("rate0: 0:00:00\nrate1: 0:00:00\n")
    assert len({id(programs) for programs in fake_run.programs}) == 1
    assert read_json(tmp_path / "points" / "rate1" / "config.json")["arms"]["kl"]["learning_rate"] == 0.02
    before = snapshot(tmp_path)
    run_sweep(config, FOUR[:2], tmp_path, None, console)
    assert fake_run.names == ["rate0", "rate1"]
    assert console.export_text().splitlines() == [
        "point 1 of 2: rate0: finished before, skipped",
        "point 2 of 2: rate1: finished before, skipped",
    ]
    assert snapshot(tmp_path) == before


def test_a_point_that_fails_does_not_stop_the_others(config, console, fake_run, tmp_path):
    fake_run.raises = {
        "rate0": InputError("no such teacher"),
        "rate1": late(RunError("loss is NaN")),
        "rate2": ZeroDivisionError("by zero"),
    }
    with pytest.raises(RunError, match=r"^3 of 4 points failed: rate0, rate1, rate2; ") as failed:
        run_sweep(config, FOUR, tmp_path, None, console)
    assert "\n" not in str(failed.value)
    assert fake_run.names == ["rate0", "rate1", "rate2", "rate3"]
    said = console.export_text()
    for line in ("rate0 failed: InputError: no such teacher", "rate1 failed: RunError: loss is NaN"):
        assert line in said
    kept = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.txt")}
    assert set(kept) == {"errors/rate0.txt", "points/rate1/error.txt", "errors/rate2.txt"}
    assert all(text.startswith("Traceback") for text in kept.values())
    assert "loss is NaN" in kept["points/rate1/error.txt"]

    fake_run.names, fake_run.raises = [], {}
    run_sweep(config, FOUR, tmp_path, None, console)
    assert fake_run.names == ["rate0", "rate1", "rate2"]
    assert list(tmp_path.rglob("*.txt")) == []


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space"),
        OSError(errno.EDQUOT, "quota"),
        caused(RunError("could not save step 20"), ValueError("RESOURCE_EXHAUSTED: No space left on device")),
        KeyboardInterrupt(),
    ],
)
def test_a_full_disk_and_an_interrupt_stop_the_sweep(config, console, fake_run, tmp_path, error):
    fake_run.raises = {"rate1": error}
    with pytest.raises(type(error)):
        run_sweep(config, FOUR, tmp_path, None, console)
    assert fake_run.names == ["rate0", "rate1"]
    assert list(tmp_path.rglob("*.txt")) == []


def test_another_error_of_the_file_system_does_not_stop_it(config, console, fake_run, tmp_path):
    fake_run.raises = {"rate1": PermissionError(errno.EACCES, "not yours")}
    with pytest.raises(RunError, match="1 of 4"):
        run_sweep(config, FOUR, tmp_path, None, console)
    assert fake_run.names[-1] == "rate3"


def test_an_index_runs_that_point_alone(config, console, fake_run, tmp_path):
    # Another process has just begun to write the plan, and then to make its point's folder.
    (tmp_path / "sweep.json.0123.tmp").write_text("[")
    run_sweep(config, FOUR, tmp_path, 0, console)
    half_made = tmp_path / "points" / "rate1"
    half_made.mkdir(parents=True)
    (half_made / "config.json.tmp").write_text("{")
    run_sweep(config, FOUR, tmp_path, 2, console)
    assert fake_run.names == ["rate0", "rate2"]
    assert "point 3 of 4: rate2" in console.export_text()
    assert len(read_json(tmp_path / "sweep.json")) == 4
    for index in (-1, 4):
        with pytest.raises(InputError, match=f"--index is {index}; the sweep has points 0 to 3"):
            run_sweep(config, FOUR, tmp_path, index, console)
    bad = (*FOUR, *(point for point in points_of(*[{}] * 4, {"run_arms": ()}) if point.index == 4))
    with pytest.raises(InputError, match=r"1 of 5 points can't be used: point 004: config.run_arms"):
        run_sweep(config, bad, tmp_path, 3, console)
    assert fake_run.names == ["rate0", "rate2"]


def test_time_left_is_that_of_the_points_that_finished():
    finished, failed = sweep_job.Outcome("a", 90.0), sweep_job.Outcome("b", 1.0, Path("error.txt"))
    assert time_left([], 4) == ""
    assert time_left([finished], 4) == " (about 0:04:30 left)"
    assert time_left([finished, failed], 4) == " (about 0:03:00 left)"


# Summary


@pytest.fixture
def finished_sweep(config, console, fake_run, tmp_path):
    fake_run.raises = {"rate1": RunError("loss is NaN")}
    with pytest.raises(RunError):
        run_sweep(config, FOUR, tmp_path, None, console)
    (tmp_path / "points" / "rate3" / "report.html").unlink()
    console.export_text()
    summarize(config, FOUR, tmp_path, console)
    return tmp_path


def test_the_summary_is_the_numbers_of_the_results(finished_sweep, console):
    said = console.export_text()
    assert "not finished, so not in the summary: rate1 (new)" in said
    with (finished_sweep / "summary.csv").open(encoding="utf-8", newline="") as lines:
        rows = {(row["point"], row["arm"]): row for row in csv.DictReader(lines)}
    assert list(rows) == [(f"rate{i}", arm) for i in (0, 2, 3) for arm in ARMS]
    for (point, arm), row in rows.items():
        results = read_json(finished_sweep / "points" / point / "results.json")
        entry = results["arms"][arm]
        expected = {
            "n": entry["n"],
            "self": entry["self"]["exact_match"]["mean"],
            "orig": entry["orig"]["exact_match"]["mean"],
            "gap": entry["gap"]["exact_match"]["mean"],
            "gap_lo": entry["gap"]["exact_match"]["ci95"][0],
            "gap_hi": entry["gap"]["exact_match"]["ci95"][1],
            "drift": entry["drift"],
            "current_share": entry["disagreement"]["current_share"],
            "agreement_end": entry["agreement"]["end"],
            "invalid_rate": entry["invalid_rate"],
            "accuracy_teacher": entry["behavior_accuracy"]["teacher"],
            "accuracy_current": entry["behavior_accuracy"]["current"],
            "config.arms.kl.learning_rate": 0.01 * (1 + int(point[-1])),
        }
        for name in CONTROLS:
            control = results["controls"][name][arm]
            for score in ("self", "orig"):
                expected[f"control.{name}.{score}"] = control[score]["exact_match"]["mean"]
            paired = control["paired"]["self"]["exact_match"]
            expected[f"control.{name}.paired_self"] = paired["mean"]
            expected[f"control.{name}.paired_self_lo"], expected[f"control.{name}.paired_self_hi"] = paired[
                "ci95"
            ]
        assert {name: row.pop(name) for name in ("point", "base", "arm", "seeds")} == {
            "point": point,
            "base": "seed 0",
            "arm": arm,
            "seeds": "0 1",
        }
        assert {name: float(value) if value else None for name, value in row.items()} == expected
    assert {row["current_share"] for (_, arm), row in rows.items() if arm == "no_kl"} == {""}
    assert {float(row["drift"]) for row in rows.values()} == {0.01 / 3, 0.03 / 3, 0.04 / 3}


def test_the_summary_for_people_has_the_same_rows(finished_sweep):
    text = (finished_sweep / "summary.md").read_text(encoding="utf-8")
    assert "Not finished: rate1 (new)." in text
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    ]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]
    assert [(row["point"], row["arm"]) for row in rows] == [
        (f"rate{i}", arm) for i in (0, 2, 3) for arm in ARMS
    ]
    first = rows[0]
    assert [first[name] for name in ("self", "orig", "gap", "gap_lo", "gap_hi", "n")] == [
        *("74.0", "62.0", "+11.0", "+7.0", "+15.0", "1200"),
    ]
    assert (first["config.arms.kl.learning_rate"], rows[1]["current_share"]) == ("0.01", "")


def test_the_page_has_every_point_and_needs_nothing_else(finished_sweep):
    page = (finished_sweep / "summary.html").read_text(encoding="utf-8")
    table = page[page.index('<table class="sortable">') : page.index("</table>")]
    body = table[table.index("<tbody>") :].replace("<wbr>", "")
    rows = [re.findall(r"<td.*?</td>", row) for row in re.findall("<tr>(.*?)</tr>", body)]
    shown = [
        (re.search("<bdi>(.*?)</bdi>", row[0])[1], re.search("<bdi>(.*?)</bdi>", row[2])[1]) for row in rows
    ]
    assert shown == [(f"rate{i}", arm) for i in (0, 2, 3) for arm in ARMS]
    assert (
        'data-order="0.11" class="number mean coupled">+11.0 <span class="interval">[+7.0, +15.0]'
        in rows[0][5]
    )
    elements = Elements(page)
    assert [link["href"] for link in elements.all("a") if not link["href"].startswith("#")] == [
        *["points/rate0/report.html"] * 3,
        *["points/rate2/report.html"] * 3,
    ]
    assert "rate1 (new)" in page
    (image,) = elements.all("img")
    drawing = base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,")).decode("utf-8")
    assert (finished_sweep / "figures" / "sweep_gap.svg").read_text(encoding="utf-8") == drawing
    for label in ("rate0", "rate2", "rate3", *ARMS):
        assert label.split("_")[0] in drawing
    assert drawing.count("[+7.0, +15.0]") == 3
    assert "url(" not in page
    assert not list(finished_sweep.rglob("*.tmp"))


def test_hostile_names_stay_text(config, console, fake_run, tmp_path, monkeypatch):
    config = config.unlock()
    # Of what a run can write: JSON files hold no lone surrogate.
    hostile = HOSTILE.replace("\ud800", "")
    config.base, config.name = f"{hostile} | a", "<b>|`sweep"
    renamed = json.loads(json.dumps(synthetic_results()).replace('"kl"', json.dumps(hostile)))
    renamed["controls"][hostile] = renamed["controls"].pop("majority")
    renamed["arms"][hostile]["seeds"] = [hostile]
    monkeypatch.setattr(sys.modules[__name__], "results_of", lambda config: renamed)
    points = points_of({"point": "a", "arms.kl.labels": ""}, {"arms.kl_shift.shift.source": hostile})
    run_sweep(config, points, tmp_path, None, console)
    summarize(config, points, tmp_path, console)
    page = (tmp_path / "summary.html").read_text(encoding="utf-8")
    elements = Elements(page)
    assert len(elements.all("script")) == 1
    assert [image["src"][:26] for image in elements.all("img")] == ["data:image/svg+xml;base64,"]
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    assert page.count("<title>") == page.count("</title>") == page.count("</style>") == 1
    assert "&lt;img src=x onerror=" in page
    assert "<b>" not in page
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "<" not in text
    rows = [line for line in text.split("\n") if line.startswith("| ")]
    assert len(rows) == 2 + 2 * len(ARMS)
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as lines:
        assert next(csv.DictReader(lines))["base"] == config.base


def test_without_a_finished_point_there_is_no_summary(config, console, tmp_path):
    with pytest.raises(InputError, match="none of the sweep's 4 points is finished"):
        summarize(config, FOUR, tmp_path / "sweep", console)
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("damage", ["{", "[]", "{}", '{"arms": {"kl": 3}}'])
def test_damaged_results_are_named(config, console, finished_sweep, damage):
    path = finished_sweep / "points" / "rate2" / "results.json"
    path.write_text(damage)
    before = snapshot(finished_sweep)
    with pytest.raises(InputError, match=str(path)):
        summarize(config, FOUR, finished_sweep, console)
    assert snapshot(finished_sweep) == before


def test_a_study_is_written_for_configs_that_are_part_of_one(config, console, finished_sweep, monkeypatch):
    calls = []
    study = types.ModuleType("introspection.jobs.study")
    study.write_study = lambda *arguments: calls.append(arguments)
    monkeypatch.setitem(sys.modules, study.__name__, study)
    summarize(config, FOUR, finished_sweep, console)
    assert calls == []
    config = config.unlock()
    config.part = "main"
    summarize(config, FOUR, finished_sweep, console)
    folders = [(f"rate{i}", finished_sweep / "points" / f"rate{i}") for i in (0, 2, 3)]
    assert calls == [(finished_sweep, folders, console)]


@pytest.mark.browser
def test_browser_sorts_by_the_fragment(finished_sweep):
    def column(fragment, index):
        document = open_page(finished_sweep / "summary.html", fragment)
        body = document[document.index("<tbody>") : document.index("</tbody>")]
        rows = [re.findall(r"<td.*?</td>", row) for row in re.findall("<tr>(.*?)</tr>", body)]
        return document, [re.sub("<.*?>", "", row[index]) for row in rows]

    document, gaps = column("sort=gap&order=descending", 5)
    assert [gap.split()[0] for gap in gaps] == ["+11.0"] * 3 + ["+2.0"] * 3 + ["−5.0"] * 3
    assert re.findall(r'<th [^>]*data-key="(\w+)"[^>]*aria-sort="descending"', document) == ["gap"]
    _, drifts = column("sort=drift&order=ascending", 6)
    assert drifts == ["0.3"] * 3 + ["1.0"] * 3 + ["1.3"] * 3
    for order in ("ascending", "descending"):
        _, shares = column(f"sort=current_share&order={order}", 7)
        assert shares[-3:] == ["–"] * 3
    _, planned = column("", 0)
    assert planned == [f"rate{i}" for i in (0, 0, 0, 2, 2, 2, 3, 3, 3)]


# The command


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


def test_the_command_runs_what_it_planned(programs, tmp_path):
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
