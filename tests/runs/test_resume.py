"""Runs that were killed, damaged or short of disk: the same command again ends as if nothing had happened."""

import json
import re
import shutil
from collections.abc import Collection
from pathlib import Path

import pytest
from programs import NO_REPORT, TINY, comparable_results, new_cache, one_error_line, read_lines

from introspection.checkpoints.names import find_models, load_model, model_fingerprint
from introspection.runtime.mesh import MeshConfig, make_mesh

ARMS = ("kl", "no_kl", "kl_shift", "shuffled")


def events(workdir: Path, arms: Collection[str]) -> list[str]:
    """The lines of metrics.jsonl, sorted: a resumed arm's come after those of arms that were finished."""
    lines = read_lines(workdir / "metrics.jsonl")
    return sorted(json.dumps(line, sort_keys=True) for line in lines if line["arm"] in arms)


def lines_of(path: Path, arms: Collection[str]) -> list[str]:
    lines = path.read_text(encoding="utf-8").split("\n")
    if "shuffled" not in arms:  # whose explanations are a reference of the other arms
        lines = [line for line in lines if '"control": "shuffled"' not in line]
    return [line for line in lines if any(f'"arm": "{arm}"' in line for arm in arms)]


def assert_same_as(workdir: Path, uninterrupted: Path, arms: Collection[str] = ARMS) -> None:
    assert comparable_results(workdir, arms) == comparable_results(uninterrupted, arms)
    for name in ("predictions.jsonl", "controls.jsonl"):
        assert lines_of(workdir / name, arms) == lines_of(uninterrupted / name, arms), name
    for name in ("organism.json", "tokenizer.json"):
        assert (workdir / name).read_bytes() == (uninterrupted / name).read_bytes(), name
    if arms == ARMS:
        for name in ("predictions.jsonl", "controls.jsonl", "config.json"):
            assert (workdir / name).read_bytes() == (uninterrupted / name).read_bytes(), name
    lines = read_lines(workdir / "metrics.jsonl")
    kinds = [(line["arm"], line["seed"], line["step"], "live_self" in line) for line in lines]
    assert len(set(kinds)) == len(kinds)  # each event once: a mean of steps, or live measures
    assert events(workdir, arms) == events(uninterrupted, arms)
    assert (workdir / "report.html").stat().st_size > 0
    assert not list(workdir.rglob("*orbax-checkpoint-tmp*"))
    assert not list(workdir.rglob("*.tmp"))


def unfinished_copy(finished: Path, workdir: Path, *arms: str) -> Path:
    """A copy of a finished run in which some arms were trained but not probed, and nothing was assembled."""
    shutil.copytree(finished, workdir)
    for arm in arms:
        shutil.rmtree(workdir / "arms" / arm)
    for name in ("results.json", "predictions.jsonl", "controls.jsonl", "report.html"):
        (workdir / name).unlink()
    shutil.rmtree(workdir / "figures")
    return workdir


def array_file(step: Path, part: str) -> Path:
    """The file that holds the numbers of a stored step's part."""
    return max((step / part).rglob("d/*"), key=lambda path: path.stat().st_size)


def said(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.slow
def test_a_run_killed_at_every_stage_ends_as_if_never_stopped(programs, finished_run, tmp_path):
    cache, workdir, arms = new_cache(tmp_path / "cache"), tmp_path / "run", ("kl", "no_kl")

    def start():
        return programs.start("run", TINY, f"--workdir={workdir}", f"--config.run_arms={arms}", cache=cache)

    start().kill_when(lambda: list(cache.glob("organisms/*/checkpoints/base/200")))
    assert [path.name for path in workdir.iterdir()] == [".lock"]  # not claimed before the base is there
    assert not list(cache.glob("organisms/*/organism.json"))

    in_first_arm = start().kill_when(lambda: (workdir / "checkpoints" / "kl" / "20").is_dir())
    assert re.search(r"continuing from step (2|3|4)00", said(in_first_arm.stdout))
    assert "training the base model" in in_first_arm.stdout
    assert not (workdir / "arms").exists()

    between_arms = start().kill_when(lambda: (workdir / "arms" / "kl" / "records.jsonl").exists())
    assert "training the base model" not in between_arms.stdout
    assert "initial: its behaviour is known from before" in said(between_arms.stdout)
    assert re.search(r"kl: continuing from step (20|40)", said(between_arms.stdout))

    assert not (workdir / "results.json").exists()

    start().kill_when(lambda: (workdir / "predictions.jsonl").exists())
    last = start().wait()
    assert "kl: finished before" in said(last.stdout)
    assert last.code == 0, last.stderr
    assert_same_as(workdir, finished_run.workdir, arms)


@pytest.mark.slow
def test_a_run_killed_before_its_report_gets_one(programs, finished_run, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished_run.workdir, workdir)
    (workdir / "report.html").unlink()
    programs.run_well("run", TINY, f"--workdir={workdir}")
    assert (workdir / "report.html").stat().st_size > 0


@pytest.mark.slow
def test_an_arm_with_changed_records_is_probed_again(programs, finished_run, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished_run.workdir, workdir)
    (workdir / "results.json").unlink()
    records = workdir / "arms" / "kl" / "records.jsonl"
    records.write_text("".join(records.read_text().splitlines(keepends=True)[1:]))
    (workdir / "arms" / "no_kl" / "arm.json").write_text('{"fingerprints": [], "runtime_s": "long"}')
    done = programs.run_well("run", TINY, f"--workdir={workdir}", patch=NO_REPORT)
    told = said(done.stdout)
    assert "kl/records.jsonl has changed since it was written" in told
    assert "no_kl/arm.json can't be read" in told
    assert told.count("the arm is probed again") == 2
    assert told.count("continuing from step 40") == 2
    assert "shuffled: finished before" in told
    assert_same_as(workdir, finished_run.workdir)


@pytest.mark.slow
def test_damaged_checkpoints_fall_back_to_the_ones_before(programs, finished_run, tmp_path):
    workdir = unfinished_copy(finished_run.workdir, tmp_path / "run", *ARMS)
    newest = {arm: workdir / "checkpoints" / arm / "40" for arm in ARMS}
    cut = array_file(newest["kl"], "trainable")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    changed = array_file(newest["no_kl"], "trainable")
    overwrite_middle(changed)
    array_file(newest["kl_shift"], "trainable").unlink()
    overwrite_middle(array_file(newest["shuffled"], "optimizer"))
    half_written = workdir / "checkpoints" / "kl" / "60.orbax-checkpoint-tmp"
    half_written.mkdir()
    (half_written / "some").write_text("bytes")

    done = programs.run_well("run", TINY, f"--workdir={workdir}", patch=NO_REPORT)
    for arm in ARMS:
        told = said(done.stdout)
        assert re.search(rf"{arm}: \S*/{arm}/40: [^;]+; falling back to the checkpoint before it", told), arm
        assert f"{arm}: continuing from step 20" in told
    assert_same_as(workdir, finished_run.workdir)


def overwrite_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(byte ^ 0xFF for byte in content[middle : middle + 8])
    path.write_bytes(bytes(content))


@pytest.mark.slow
def test_when_every_checkpoint_is_damaged_the_arm_starts_again(programs, finished_run, tmp_path):
    workdir = unfinished_copy(finished_run.workdir, tmp_path / "run", "kl")
    for step in (0, 20, 40):
        array_file(workdir / "checkpoints" / "kl" / str(step), "trainable").unlink()
    done = programs.run_well("run", TINY, f"--workdir={workdir}", patch=NO_REPORT)
    assert said(done.stdout).count("falling back") == 3
    assert_same_as(workdir, finished_run.workdir)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(programs, tmp_path):
    workdir = tmp_path / "run"
    outcome = programs.run(
        "run", TINY, f"--workdir={workdir}", "--config.run_arms=('kl',)", "--config.arms.kl.kl_weight=1e38"
    )
    assert outcome.code == 1
    line = one_error_line(outcome)
    told = re.search(r"kl: the loss is not finite at step (\d+) of seed 0; the last good .* step (\d+)", line)
    assert told, line
    assert 1 <= int(told[1]) <= 20
    assert told[2] == "0"
    assert not (workdir / "results.json").exists()
    assert readable_steps(workdir, "kl") == [0]


def readable_steps(workdir: Path, arm: str) -> list[int]:
    """The stored steps of an arm, each of which is read whole."""
    mesh = make_mesh(MeshConfig())
    folders = (workdir / "checkpoints" / arm).iterdir()
    steps = sorted(int(folder.name) for folder in folders if folder.name.isdigit())
    for step in steps:
        (model,) = (load_model(stored, mesh) for stored in find_models(f"{workdir}:{arm}:0@{step}"))
        assert len(model_fingerprint(model)) == 16
    return steps


FULL_DISK = """
import errno, os
from orbax.checkpoint import v1 as ocp
def full(self, step, *arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
ocp.training.Checkpointer.save_checkpointables_async = full
"""


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_keeps_earlier_checkpoints(programs, finished_run, tmp_path):
    workdir = unfinished_copy(finished_run.workdir, tmp_path / "run", "kl")
    shutil.rmtree(workdir / "checkpoints" / "kl" / "40")
    full = (
        ({"patch": FULL_DISK}, "the disk is full"),
        ({"largest_file": 200_000}, "File too large"),
        ({"patch": FULL_DISK.replace("ENOSPC", "EROFS")}, "Read-only file system"),
    )
    for broken, why in full:
        outcome = programs.run("run", TINY, f"--workdir={workdir}", **broken)
        assert outcome.code == 1
        line = one_error_line(outcome)
        assert "could not save" in line
        assert why in line
        assert "earlier steps are kept" in line
        assert not (workdir / "results.json").exists()
        assert readable_steps(workdir, "kl") == [0, 20]

    done = programs.run_well("run", TINY, f"--workdir={workdir}", patch=NO_REPORT)  # there is space again
    assert "kl: continuing from step 20" in said(done.stdout)
    assert_same_as(workdir, finished_run.workdir)
