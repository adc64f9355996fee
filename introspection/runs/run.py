"""The main job: probe, label, train every arm, measure, report. Resumable at any moment."""

import time
from collections.abc import Collection
from pathlib import Path

import jax
from rich.console import Console

from introspection.coupling.labels import read_labels
from introspection.organism.organism import explainable_facts
from introspection.reports.console import say
from introspection.reports.page import write_report
from introspection.reports.run_files import read_object
from introspection.runs.added_arms import arms_in_place, with_arms_added
from introspection.runs.arm import run_arms
from introspection.runs.arm_labels import expected_labels, given_labels, labels_folder
from introspection.runs.arm_rows import check_packs
from introspection.runs.arm_shift import arm_shift
from introspection.runs.assemble import assemble, is_stored
from introspection.runs.config import RunConfig
from introspection.runs.identity import identity
from introspection.runs.measure import control_explanations
from introspection.runs.models import PUBLISHED, check_same_inputs, data_digests, published_decisions
from introspection.runs.other_text import other_passages
from introspection.runs.setup import leave_shared, prepare
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.config import cache_dir
from introspection.runtime.lock import held
from introspection.runtime.mesh import check_rows, idle_devices
from introspection.runtime.mesh_flag import chosen_mesh
from introspection.runtime.processes import check_shared, first, first_before_others
from introspection.runtime.profiling import Profile
from introspection.runtime.session import Session
from introspection.runtime.trackers import check_trackers
from introspection.runtime.workdir import check_workdir, claim_workdir
from introspection.tasks.facts.questions import Question
from introspection.tasks.registry import load_task
from introspection.tasks.task import Task, print_task_notes
from introspection.training.batches import OTHER_TEXT
from introspection.training.shifts import shifted_groups

FINISHED = "results.json"


def check_run(config: RunConfig, workdir: Path) -> tuple[Task, list[Question]]:
    """The task, and the questions of its world, once nothing is left that can be refused before any model is
    trained or read; writes to the data cache alone.

    Raises:
      InputError: the data can't be used, a tracker is missing, or `workdir` belongs to another config.
    """
    check_workdir(workdir, identity(config), with_arms_added(config))
    check_trackers(config.log)
    task, questions = load_task(config.task, cache_dir(config.cache_dir))
    if questions and config.pretrain.mixture.explained:
        explainable_facts(config.task, questions)
    if config.label_teacher.startswith(PUBLISHED):
        published_decisions(config, task)
    for arm in config.chosen_arms.values():
        if arm.shift.groups == "held_out":
            shifted_groups(arm.shift, task.splits["test"])
        if arm.labels:  # whose they are is known once there is a teacher, what they are is known now
            read_labels(labels_folder(arm), expected_labels(task), ())
    return task, questions


def run(
    config: RunConfig, workdir: Path, console: Console, programs: ProgramTable | None = None, mesh: str = ""
) -> Path:
    """Runs every arm of a config in `workdir`, which it holds meanwhile, and returns the report's path.

    Runs of one process share `programs`, and so compile what they have in common once. If the workdir has
    results of some of the arms, only the others are trained.

    Args:
      mesh: the flag `--mesh`; "" is that of the config.

    Raises:
      InputError: as `check_run`, `held` and `prepare`.
    """
    placed = chosen_mesh(mesh, config.mesh)
    check_rows(config.train.rows.explanation_rows + 2 * config.train.rows.behavior_items, "a step", placed)
    session = Session(placed, programs or ProgramTable(), console, cache_dir(config.cache_dir))
    config = first(lambda: arms_in_place(config, workdir))
    if left_out := [name for name in config.arms if name not in config.run_arms]:
        say(console, f"not run, since config.run_arms leaves them out: {', '.join(left_out)}")
    if first(lambda: is_finished(workdir, config.run_arms)):
        first(lambda: check_workdir(workdir, identity(config), with_arms_added(config)))
        console.print(f"{workdir} is finished; its results stand (delete the folder to run again)")
        report = workdir / "report.html"
        if first(report.exists):
            return report
        with held(workdir):  # killed just before
            return first(lambda: write_report(workdir))
    for shared in (workdir.parent, session.cache):
        check_shared(shared)
    with held(workdir):
        return _run(config, workdir, session)


def _run(config: RunConfig, workdir: Path, session: Session) -> Path:
    started, console = time.perf_counter(), session.console
    if idle := idle_devices(session.mesh, "--mesh=data"):
        say(console, idle)
    arms = config.chosen_arms
    task, questions = first_before_others(lambda: check_run(config, workdir))
    print_task_notes(task, console, "tiny" if config.tiny else "")
    with jax.set_mesh(session.mesh):
        hold_others = any(arm.kl_groups != "explained" for arm in arms.values())
        setup = prepare(config, workdir, task, questions, session, hold_others)
        shifts = {}
        for name, arm in arms.items():
            if arm.labels:
                given_labels(arm, setup)
            shifts[name] = arm_shift(arm, setup)
            if arm.kl_prompts == OTHER_TEXT:
                other_passages(setup)
            check_packs(arm, shifts[name], setup)
        data = first(lambda: data_digests(config, setup.task))
        first(lambda: check_same_inputs(workdir, setup.models.fingerprints, data))
        # Nothing is refused from here on.
        first(lambda: claim_workdir(workdir, identity(config), with_arms_added(config)))
        leave_shared(setup, data)
        for other, alike in setup.models.similarity().items():
            console.print(
                f"initial and {other}: {alike.decisions:.1%} of decisions and {alike.explanations:.1%} of "
                f"explanations agree, over {alike.n} test items",
                highlight=False,
            )
        measured: dict[tuple, dict[str, float]] = {}
        profile = Profile(workdir / "profile", config.profile.steps)
        waiting = {}
        for name in arms:
            if first(lambda name=name: is_stored(workdir, name, console)):
                console.print(f"{name}: finished before", highlight=False)
            else:
                waiting[name] = arms[name]
        at_once = [waiting] if config.train.stack_arms else [{name: arm} for name, arm in waiting.items()]
        for chosen in at_once:
            run_arms(chosen, shifts, setup, measured, profile)
        controls = control_explanations(setup)
    return first(lambda: assemble(setup, arms, controls, time.perf_counter() - started))


def is_finished(workdir: Path, arms: Collection[str] = ()) -> bool:
    """Whether a run has left its results, with all of `arms`. Raises InputError if they can't be read."""
    path = workdir / FINISHED
    return path.exists() and (not arms or set(arms) <= set((read_object(path) or {}).get("arms", arms)))
