"""Two and four processes give one process's results; they stop together, and survive each other's deaths."""

import json
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from programs import Programs, new_cache, read_json, read_lines, stored_labels
from together import Together

pytestmark = pytest.mark.slow

TINY = ("--config=configs/quickstart.py:tiny", "--config.run_arms=kl", "--config.seeds=0")
LONG = (*TINY, *(f"--config.train.{name}=400" for name in ("steps", "checkpoint_steps", "evaluation_steps")))
# Rounding differs between meshes: sums over rows have another order.
LOSS, NATS = 1e-5, 1e-4
MOST_SECONDS = 30.0  # until survivors have ended


class Shared(NamedTuple):
    """What one process has made: an organism in the cache, a run, and commands about it."""

    servers: tuple[Programs, ...]  # as many as the largest command here has processes
    cache: Path
    run: Path

    def folder(self, name: str) -> Path:
        return self.cache.parent / name


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Iterator[Shared]:
    cache = new_cache(tmp_path_factory.mktemp("together") / "cache")
    shared = Shared(tuple(Programs(cache) for _ in range(4)), cache, cache.parent / "alone" / "run")
    Together(shared.servers, 1, "run", *TINY, f"--workdir={shared.run}").wait_well()
    yield shared
    for server in shared.servers:
        server.close()


@pytest.fixture(scope="module", params=[2, 4])
def together(request, alone) -> tuple[int, Path]:
    """A number of processes, and the run that they made from the same organism; every item is asked anew."""
    count = request.param
    workdir = alone.folder(f"of {count}") / "run"
    mesh = {2: "data=2", 4: "data=2,fsdp=2"}[count]
    flags = (f"--mesh={mesh}", f"--workdir={workdir}")
    ended = Together(alone.servers, count, "run", *TINY, *flags).wait_well()
    shown = [line for one in ended[1:] for line in one.stdout.splitlines() if not line.startswith("[Gloo]")]
    assert shown == []  # one process shows
    return count, workdir


def numbers(lines: list[dict[str, Any]]) -> dict[tuple, float]:
    return {
        (line["arm"], line["seed"], line["step"], name): value
        for line in lines
        for name, value in line.items()
        if name not in ("arm", "seed", "step")
    }


def without_rounding(record: dict[str, Any]) -> dict[str, Any]:
    """A record's decisions and texts."""
    said = {name: value for name, value in record["explanation"].items() if name != "logprobs"}
    return {**record, "explanation": said, "cue_effects": None}


def test_training_probing_and_labels_are_one_process_s(alone, together):
    _, workdir = together
    here, there = (numbers(read_lines(run / "metrics.jsonl")) for run in (workdir, alone.run))
    assert here.keys() == there.keys()  # each line once
    losses = [key for key in here if key[3] == "loss" and key[2] <= 20]
    assert losses
    for key in losses:
        assert here[key] == pytest.approx(there[key], rel=LOSS), key
    made, expected = (read_lines(run / "predictions.jsonl") for run in (workdir, alone.run))
    assert list(map(without_rounding, made)) == list(map(without_rounding, expected))
    for one, other in zip(made, expected, strict=True):
        said, told = one["explanation"]["logprobs"], other["explanation"]["logprobs"]
        np.testing.assert_allclose(said, told, atol=2 * NATS)
    for name in ("clean", "kl"):
        assert stored_labels(workdir, name) == stored_labels(alone.run, name)
    files = [sorted(path.name for path in run.iterdir()) for run in (workdir, alone.run)]
    assert files[0] == files[1]
    assert read_json(workdir / "config.json") == read_json(alone.run / "config.json")


def test_they_compare_probe_and_export_as_one(alone, together):
    count, _ = together
    commands = {
        "compare": (f"--models={alone.run}@0,{alone.run}", "--limit=40"),
        "probe": (f"--model={alone.run}", "--task=invented_world", "--limit=40"),
        "export": (f"--model={alone.run}",),
    }
    for name, flags in commands.items():
        target = "--to" if name == "export" else "--workdir"
        for processes in (1, count):
            folder = alone.folder(f"{name} of {processes}")
            if not folder.exists():
                flag = f"{target}={folder}"
                Together(alone.servers, processes, name, *flags, flag).wait_well()
    one, many = (alone.folder(f"compare of {number}") for number in (1, count))
    assert (one / "compared.jsonl").read_bytes() == (many / "compared.jsonl").read_bytes()
    matrices = [read_json(folder / "matrix.json") for folder in (one, many)]
    assert matrices[0]["fingerprints"] == matrices[1]["fingerprints"]  # the same on any sharding
    assert matrices[0]["exact_match"] == matrices[1]["exact_match"]
    one, many = (read_lines(alone.folder(f"probe of {number}") / "behaviors.jsonl") for number in (1, count))
    for here, there in zip(one, many, strict=True):
        assert here["decisions"] == there["decisions"]
        for side in ("with_cue", "without_cue"):
            np.testing.assert_allclose(here["logprobs"][side], there["logprobs"][side], atol=NATS)
    one, many = (alone.folder(f"export of {number}") / "model.safetensors" for number in (1, count))
    assert one.read_bytes() == many.read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_to_one_stops_all_at_one_step_and_another_number_goes_on(alone, number, code):
    workdir = alone.folder(f"stopped {code}") / "run"
    command = (*LONG, f"--workdir={workdir}")
    running = Together(alone.servers, 2, "run", *command, devices=2)
    running.when(lambda: has_step(workdir, 40))
    running.send(number, 1)
    ended = running.wait()
    assert [one.code for one in ended] == [code, code], ended
    (step,) = steps_of(workdir) - {0}
    (line,) = ended[0].said
    assert f"saved at step {step}; " in line
    assert "the same command resumes" in line
    assert step % 20 == 0  # between lines of metrics it could not go on as before
    assert ended[1].said == []
    finished(alone, command, 1, workdir)


def steps_of(workdir: Path) -> set[int]:
    names = (path.name for path in (workdir / "checkpoints" / "kl").iterdir())
    return {int(name) for name in names if name.isdigit()}


def logged_steps(workdir: Path) -> list[int]:
    path = workdir / "metrics.jsonl"
    return [0, *(line["step"] for line in read_lines(path))] if path.exists() else [0]


def has_step(workdir: Path, step: int) -> bool:
    path = workdir / "metrics.jsonl"
    return path.exists() and f'"step": {step},' in path.read_text()


def finished(alone: Shared, command: tuple[str, ...], count: int, workdir: Path) -> None:
    """The same command ends the run, whose lines are those of a run that nothing stopped."""
    whole = alone.folder("not stopped") / "run"
    if not whole.exists():
        Together(alone.servers, 1, "run", *LONG, f"--workdir={whole}").wait_well()
    Together(alone.servers, count, "run", *command).wait_well()
    here, there = (numbers(read_lines(run / "metrics.jsonl")) for run in (workdir, whole))
    assert here.keys() == there.keys()
    made, expected = (read_lines(run / "predictions.jsonl") for run in (workdir, whole))
    assert list(map(without_rounding, made)) == list(map(without_rounding, expected))


def test_a_killed_process_is_named_and_nothing_saved_is_lost(alone, request):
    """`--kills` says how often; which process of how many, and when, is drawn."""
    draw = random.Random(0)
    workdir = alone.folder("killed") / "run"
    command = (*TINY, "--config.train.steps=400", f"--workdir={workdir}")
    saved = 0
    for _ in range(request.config.getoption("--kills")):
        count = draw.choice((1, 2, 3, 4))
        # Beyond all lines there are, some of which the dead run has not saved: else it would be killed at its
        # start.
        who, later = draw.randrange(count), max(logged_steps(workdir)) + draw.choice((20, 40, 60))
        running = Together(alone.servers, count, "run", *command)
        running.when(lambda step=later: has_step(workdir, step))
        running.send(signal.SIGKILL, who)
        ended = running.wait()
        for i, one in enumerate(ended):
            if i != who:
                assert one.code == 1, one.stderr
                assert one.seconds < MOST_SECONDS
                assert any(f"process {who} of {count} " in line and "died" in line for line in one.said), one
        assert max(steps_of(workdir)) >= saved
        saved = max(steps_of(workdir))
    last = Together(alone.servers, 2, "run", *command).wait_well()[0]
    assert saved == 0 or f"continuing from step {saved}" in last.stdout
    lines = [(line["step"], "loss" in line) for line in read_lines(workdir / "metrics.jsonl")]
    assert len(set(lines)) == len(lines)  # no line twice, none of a step that was trained again
    assert json.loads((workdir / "results.json").read_text())["arms"].keys() == {"kl"}


def test_folders_that_are_not_shared_are_refused(alone):
    """Each process has a cache of its own, as hosts without shared storage would."""
    workdir = alone.folder("apart") / "run"
    other = alone.folder("another cache")
    running = Together(alone.servers, 2, "run", *TINY, f"--workdir={workdir}", caches={1: other})
    ended = running.wait()
    assert [one.code for one in ended] == [2, 2], ended
    assert "is not the same folder for all 2 processes (process 1 can't see" in ended[0].stderr
    assert not workdir.exists()
    shutil.rmtree(other, ignore_errors=True)


def test_a_workdir_in_a_bucket_needs_a_cache_that_all_share(alone, bucket_server):
    """Its local folder is in the cache: process 0 reads and stores, and all work there."""
    url, other = bucket_server.new_url(), alone.folder("another cache")
    command = ("run", *TINY, "--mesh=data=2", f"--workdir={url}")
    place = {"environment": bucket_server.environment}
    ended = Together(alone.servers, 2, *command, caches={1: other}, **place).wait()
    assert [one.code for one in ended] == [2, 2], ended
    assert "is not the same folder for all 2 processes (process 1 can't see" in ended[0].stderr
    assert f"--workdir={url} is kept there while the command runs: give the variable" in ended[0].stderr
    assert bucket_server.names(url) == set()
    shutil.rmtree(other, ignore_errors=True)
    Together(alone.servers, 2, *command, **place).wait_well()
    results = json.loads(bucket_server.read(f"{url}/results.json"))
    assert results["arms"].keys() == {"kl"}
    assert {"checkpoints/kl/40.whole", "report.html"} <= bucket_server.names(url)
    assert ".lock" not in bucket_server.names(url)
