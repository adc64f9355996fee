"""Arms that train as one stacked axis leave what each leaves by itself."""

import pytest
from programs import NO_REPORT, TINY, comparable_results, refused

STACKED = "--config.train.stack_arms=True"


@pytest.mark.slow
def test_stacked_arms_leave_the_same_files(programs, finished_run):
    """`kl_shift` has rows of its own, so it trains apart from the other three."""
    workdir = finished_run.workdir.parent / "stacked"
    programs.run_well("run", TINY, STACKED, f"--workdir={workdir}", patch=NO_REPORT)
    for name in ("predictions.jsonl", "controls.jsonl"):
        assert (workdir / name).read_bytes() == (finished_run.workdir / name).read_bytes(), name
    arms = [path.name for path in (finished_run.workdir / "arms").iterdir()]
    assert comparable_results(workdir, arms) == comparable_results(finished_run.workdir, arms)
    stores = sorted(path.name for path in (workdir / "checkpoints").iterdir())
    assert stores == sorted(path.name for path in (finished_run.workdir / "checkpoints").iterdir())


def test_stacked_arms_and_trackers_do_not_go_together(programs, tmp_path):
    refused(
        programs,
        "run",
        TINY,
        STACKED,
        "--config.log.wandb=project",
        workdir=tmp_path / "run",
        says=["config.train.stack_arms trains several arms at a time"],
    )
