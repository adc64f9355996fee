"""The main commands with workdirs and models in a bucket, as a user gives them."""

import shutil

import pytest
from programs import (
    NO_REPORT,
    ROOT,
    TINY,
    comparable_results,
    new_cache,
    one_error_line,
    read_json,
    read_lines,
)

from introspection.runs.setup import behaviors_folder
from introspection.runtime import storage, terminal
from introspection.runtime.storage import working_folder

ARMS = ("kl", "no_kl", "kl_shift", "shuffled")
QUICKLY = f"""{NO_REPORT}
import introspection.runtime.storage, introspection.runtime.lease
introspection.runtime.storage.STORE_S = 0.2
"""
COMMANDS = {
    "run": [f"--config={ROOT}/configs/quickstart.py:tiny"],
    "sweep": [f"--config={ROOT}/configs/quickstart.py:tiny", "--dry-run"],
    "probe": ["--task=world_facts", "--model=runs/x"],
    "compare": ["--models=runs/x"],
    "report": [],
}


@pytest.fixture(autouse=True)
def _forgets(monkeypatch, tmp_path):
    monkeypatch.setattr(storage, "_fetched", {})
    monkeypatch.setattr(terminal, "_names", {})
    monkeypatch.setenv("INTROSPECTION_CACHE", str(tmp_path / "this process"))


def host(programs, name: str):
    """The cache of another host, which has the organism already."""
    cache = new_cache(programs.cache.parent / name)
    shutil.copytree(programs.cache / "organisms", cache / "organisms")
    return cache


def local_copy(bucket_server, url: str, folder):
    bucket_server.files.get(url, str(folder), recursive=True)
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_a_scheme_that_nobody_knows_is_refused_and_makes_no_folder(name, programs, tmp_path):
    outcome = programs.run(name, *COMMANDS[name], "--workdir=foo://bucket/x", folder=tmp_path)
    assert outcome.code == 2
    assert "--workdir: 'foo://bucket/x': nothing reads foo://" in one_error_line(outcome)
    assert list(tmp_path.iterdir()) == []


def test_runs_in_a_bucket_share_what_models_did_as_those_beside_each_other_do(bucket_server, tmp_path):
    cache, urls = tmp_path / "cache", [bucket_server.new_url(name) for name in ("one", "other")]
    with working_folder(urls[0]) as one, working_folder(urls[1]) as other:
        assert behaviors_folder(one, cache) == behaviors_folder(other, cache) == cache / "behaviors"
    assert behaviors_folder(tmp_path / "runs" / "one", cache) == tmp_path / "runs" / "behaviors"


@pytest.mark.slow
def test_a_run_killed_on_one_host_ends_on_another_as_if_nothing_had_happened(
    programs, finished_run, bucket_server, tmp_path
):
    url = bucket_server.new_url()
    command = ("run", TINY, f"--workdir={url}")
    options = {"environment": bucket_server.environment, "patch": QUICKLY}
    running = programs.start(*command, cache=host(programs, "first"), **options)
    running.kill_when(lambda: "checkpoints/no_kl/20.whole" in bucket_server.names(url))
    stored = bucket_server.names(url)
    assert "results.json" not in stored
    second = host(programs, "second")
    outcome = programs.run(*command, cache=second, **options)
    assert outcome.code == 2
    assert f"{url} is in use by process {running.pid} on " in one_error_line(outcome)
    options["patch"] += "introspection.runtime.lease.STALE_S = 1\n"
    outcome = programs.run_well(*command, cache=second, **options)
    # It may have been killed while it stored the step after.
    assert all(f"warning: {url}: not stored whole" in line for line in outcome.stderr.splitlines())
    assert f"report: {url}/report.html" in outcome.stdout
    assert str(second) not in outcome.stdout
    assert ".lock" not in bucket_server.names(url)
    workdir = local_copy(bucket_server, url, tmp_path / "copy")
    assert comparable_results(workdir, ARMS) == comparable_results(finished_run.workdir, ARMS)
    for name in ("predictions.jsonl", "controls.jsonl", "config.json", "organism.json", "tokenizer.json"):
        assert (workdir / name).read_bytes() == (finished_run.workdir / name).read_bytes(), name
    events = [sorted(map(str, read_lines(one / "metrics.jsonl"))) for one in (workdir, finished_run.workdir)]
    assert events[0] == events[1]


@pytest.mark.slow
def test_what_lies_in_a_bucket_is_reported_compared_and_exported(
    programs, finished_run, bucket_server, tmp_path
):
    url, compared = bucket_server.new_url(), bucket_server.new_url("compared")
    with working_folder(url) as folder:
        shutil.copytree(finished_run.workdir, folder, dirs_exist_ok=True)
    bucket_server.files.rm_file(f"{url}/report.html")
    options = {
        "environment": bucket_server.environment,
        "patch": QUICKLY,
        "cache": new_cache(tmp_path / "cache"),
    }
    done = programs.run_well("report", f"--workdir={url}", **options)
    assert f"report: {url}/report.html" in done.stdout
    assert bucket_server.read(f"{url}/report.html") == b"no figures in this test"
    models = [f"{url}:kl:0@0", f"{url}:kl:0", f"{finished_run.workdir}:kl:1"]
    done = programs.run_well(
        "compare", f"--models={','.join(models)}", "--limit=8", f"--workdir={compared}", **options
    )
    assert str(options["cache"]) not in done.stdout
    matrix = read_json(local_copy(bucket_server, compared, tmp_path / "compared") / "matrix.json")
    assert matrix["emitters"] == ["run:kl:0@0", "run:kl:0@40", "quickstart:kl:1@40"]
    done = programs.run_well("export", f"--model={url}:kl:0", f"--to={tmp_path / 'exported'}", **options)
    assert (tmp_path / "exported" / "model.safetensors").exists()
    assert f"{url}:kl:0" in done.stdout
    # Any tool's copy is a workdir, markers and all.
    copy = local_copy(bucket_server, url, tmp_path / "copy")
    done = programs.run_well("run", TINY, f"--workdir={copy}", **options)
    assert "is finished; its results stand" in done.stdout
    outcome = programs.run("compare", f"--models={url}/none", f"--workdir={tmp_path / 'w'}", **options)
    assert outcome.code == 2
    assert f"{url}/none: there is nothing of that name" in one_error_line(outcome)
