"""Sweeps: planned, refused, run and resumed. A fake run leaves what a real one does."""

import errno
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from programs import read_json, snapshot
from sweep_cases import FOUR, late, points_of

from introspection.errors import InputError, RunError
from introspection.runtime.config import plain
from introspection.runtime.lock import HeldError
from introspection.runtime.workdir import claim_workdir
from introspection.sweeps import sweep as sweep_job
from introspection.sweeps.plan import check_plan, write_plan
from introspection.sweeps.summary import summarize
from introspection.sweeps.sweep import dry_run, run_sweep, time_left

# Planning and refusing


def test_a_dry_run_has_a_line_a_point_and_writes_nothing(config, console, fake_run, tmp_path):
    workdir = tmp_path / "sweep"
    points = points_of({"point": "a", "pretrain.seed": 3}, {"run_arms": ("no_kl",), "seeds": (4,)})
    dry_run(config, points, workdir, None, console)
    assert not workdir.exists()
    lines = console.export_text().splitlines()
    assert [re.split(r"\s\s+", line.strip()) for line in lines] == [
        ["0", "a", "new", "seed 3", "arms kl,no_kl", "seeds 0,1", "pretrain.seed=3"],
        ["1", "001", "new", "seed 0", "arms no_kl", "seeds 4", "run_arms=('no_kl',) seeds=(4,)"],
    ]
    run_sweep(config, points, workdir, 0, console)
    claim_workdir(workdir / "points" / "001", plain(config) | {"run_arms": ["no_kl"], "seeds": [4]})
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
    with pytest.raises(InputError, match=r"sweep.json can't be read"):
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


def test_a_point_that_another_process_runs_is_left_alone(config, console, fake_run, tmp_path):
    fake_run.raises = {"rate1": HeldError("in use by process 7")}
    with pytest.raises(HeldError, match="process 7"):
        run_sweep(config, FOUR, tmp_path, None, console)
    assert list(tmp_path.rglob("*.txt")) == []


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
    bad = (*FOUR, *(point for point in points_of(*[{}] * 4, {"run_arms": ("kk",)}) if point.index == 4))
    with pytest.raises(InputError, match=r"1 of 5 points can't be used: point 004: config.run_arms"):
        run_sweep(config, bad, tmp_path, 3, console)
    assert fake_run.names == ["rate0", "rate2"]


def test_time_left_is_that_of_the_points_that_finished():
    finished, failed = sweep_job.Outcome("a", 90.0), sweep_job.Outcome("b", 1.0, Path("error.txt"))
    assert time_left([], 4) == ""
    assert time_left([finished], 4) == " (about 0:04:30 left)"
    assert time_left([finished, failed], 4) == " (about 0:03:00 left)"
