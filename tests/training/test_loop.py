"""The training loop: runs beside each other, stops and resumes, and what it measures of itself."""

import contextlib
import dataclasses
import json
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from as_processes import as_processes
from programs import read_lines
from tiny import assert_trees_close, mesh_of, task_model
from training_jobs import PROGRAMS, STEPS, VALUES, batch, job_of, start

from introspection.checkpoints.store import CheckpointStore
from introspection.models.config import LoraConfig
from introspection.runtime import stopping
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.mesh import put_parameters
from introspection.runtime.metrics_writer import SPEED, MetricsWriter
from introspection.runtime.profiling import Profile
from introspection.runtime.session import Session
from introspection.training import loop, stacking
from introspection.training.loop import restore_newest, train, weights
from introspection.training.speed import batch_tokens
from introspection.training.step import RunValues


@pytest.mark.parity  # to the bit
def test_small_models_seeds_apart_train_as_in_one_executable(tmp_path, monkeypatch):
    model = task_model()

    def trained(folder, largest, steps=STEPS):
        """All that training leaves, where models of at most so many parameters have their seeds apart."""
        monkeypatch.setattr(stacking, "SMALL_MODEL", largest)
        state, frozen = start(model, seeds=2)
        metrics, programs = MetricsWriter(tmp_path / folder), ProgramTable()
        with CheckpointStore(tmp_path / folder / "store") as store:
            job = job_of(model, state, frozen, store, steps=steps)
            (final,) = train([job], metrics, Session(programs=programs))
            restored = [store.restore(step, *final) for step in store.steps()]
        metrics.close()
        calls = [calls for _, _, calls, _ in programs.rows()]
        logged = (tmp_path / folder / "metrics.jsonl").read_text(encoding="utf-8")
        return calls, logged, jax.tree.map(np.asarray, (final, restored))

    calls, *one = trained("one", 0)
    assert calls == [STEPS // 5]
    calls, *apart = trained("apart", 10**7)
    assert calls == [2 * STEPS // 5]  # one executable, called once a seed
    trained("resumed", 0, steps=10)
    calls, *resumed = trained("resumed", 10**7)
    assert calls == [2 * 10 // 5]
    for logged, leaves in (apart, resumed):
        assert logged == one[0]
        jax.tree.map(np.testing.assert_array_equal, leaves, one[1])


@pytest.mark.slow
@pytest.mark.parametrize("stack_seeds", ["loop", "vectorize"])
def test_stacked_arms_train_as_each_arm_alone(stack_seeds, tmp_path, monkeypatch):
    """Also where one arm's last save was lost: each then goes on from its own step."""
    monkeypatch.setattr(stacking, "SMALL_MODEL", 0)
    model, values = task_model(), {"kl": VALUES, "fast": RunValues(jnp.float32(1e-2), weights(0.1, 0.0))}
    programs = ProgramTable()

    def trained(folder, names, steps=STEPS):
        (state, frozen), metrics = start(model, seeds=2), MetricsWriter(tmp_path / folder)
        with contextlib.ExitStack() as stack:
            jobs = [
                job_of(
                    model,
                    state,
                    frozen,
                    stack.enter_context(CheckpointStore(tmp_path / folder / name)),
                    stack_seeds,
                    steps,
                    values=values[name],
                    name=name,
                )
                for name in names
            ]
            final = train(jobs, metrics, Session(programs=programs))
        metrics.close()
        events = (tmp_path / folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses = {}
        for event in map(json.loads, events):
            losses[event["arm"], event["seed"], event["step"]] = event["loss"]
        return dict(zip(names, jax.tree.map(np.asarray, final), strict=True)), losses

    states, losses = trained("together", ("kl", "fast"))
    trained("killed", ("kl", "fast"), steps=10)
    shutil.rmtree(tmp_path / "killed" / "fast" / "10")
    for name in values:
        alone, losses_alone = trained(f"{name}-alone", (name,))
        for key, loss in losses_alone.items():
            np.testing.assert_allclose(losses[key], loss, rtol=1e-5)
        assert_trees_close(states[name].trainable, alone[name].trainable, atol=2e-4)
    resumed, losses_resumed = trained("killed", ("kl", "fast"))
    assert losses_resumed.keys() == losses.keys()
    for key, loss in losses.items():
        np.testing.assert_allclose(losses_resumed[key], loss, rtol=1e-5)
    for name in values:
        assert_trees_close(resumed[name].trainable, states[name].trainable, atol=2e-4)
    assert abs(losses["kl", 0, STEPS] - losses["fast", 0, STEPS]) > 1e-2


def test_seeds_share_an_executable_on_a_mesh_and_where_they_are_vectorized():
    state, frozen = start(task_model(), seeds=3)
    together = [slice(0, 3)]
    assert len(stacking.run_parts(3, "loop", state.trainable, frozen.variables, mesh_of())) == 3
    assert stacking.run_parts(3, "vectorize", state.trainable, frozen.variables, mesh_of()) == together
    assert stacking.run_parts(3, "loop", state.trainable, frozen.variables, mesh_of(2, 1, 1)) == together


@pytest.mark.parametrize("sizes", [(1, 1, 1), pytest.param((2, 2, 1), marks=pytest.mark.slow)], ids=str)
def test_training_adapters_frees_old_states_keeps_the_base_and_compiles_once(sizes, tmp_path):
    model = task_model(lora=LoraConfig(2, 4.0, ("query", "value", "down")))
    mesh, programs, seen = mesh_of(*sizes), ProgramTable(), []
    state, frozen = start(model, seeds=2)
    before = jax.tree.map(np.array, (state.trainable, frozen))
    frozen = put_parameters(frozen, mesh)

    def evaluate(step, state):
        seen.append(state)
        return [{"seen": 1.0}] * 2

    metrics = MetricsWriter(tmp_path)
    with CheckpointStore(tmp_path / "store") as store:
        job = job_of(model, state, frozen, store, "vectorize", checkpoint_steps=STEPS, evaluate=evaluate)
        (final,) = train([job], metrics, Session(mesh, programs))
        assert store.steps() == [0, STEPS]
    metrics.close()
    assert programs.count("train_steps") == 1
    assert [calls for _, _, calls, _ in programs.rows()] == [STEPS // 5]
    assert len(seen) == 3
    for old in seen[:2]:
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((final, frozen)))
    assert set(final.trainable) == {"lora"}
    assert set(frozen.variables) == {"params"}
    assert_trees_close(frozen, before[1], rtol=0)
    for leaf, old in zip(jax.tree.leaves(final.trainable), jax.tree.leaves(before[0]), strict=True):
        assert leaf.shape == old.shape
        for seed in range(2):
            assert np.abs(leaf[seed] - old[seed]).max() > 1e-4


def test_all_processes_go_on_from_the_step_that_the_first_finds(tmp_path, monkeypatch):
    """On shared storage one process may see a checkpoint, or that it is gone, later than another."""
    state, _ = start(task_model(), seeds=1)

    def newest(store):
        return lambda: restore_newest(state, store, lambda message: None)[1]

    with contextlib.ExitStack() as stack:
        early, late, writer = (stack.enter_context(CheckpointStore(tmp_path)) for _ in range(3))
        for step in (0, 10):
            writer.save(step, state.trainable, state.optimizer, {})
        writer.wait()
        early._checkpointer.reload()
        assert (early.steps(), late.steps()) == ([0, 10], [])
        assert as_processes(monkeypatch, newest(early), newest(late)) == [10, 10]
        shutil.rmtree(tmp_path / "10")
        early._checkpointer.reload()
        assert (early.steps(), late.steps()) == ([0], [0, 10])
        assert as_processes(monkeypatch, newest(early), newest(late)) == [0, 0]


def test_a_signal_saves_the_step_and_training_goes_on_from_it(tmp_path, monkeypatch):
    """The lines of metrics are those of a training that nothing stopped."""
    monkeypatch.setattr(stopping, "_arrived", [])
    model, lines, states = task_model(), {}, {}

    def train_in(name, evaluate=lambda step, state: ()):
        folder = tmp_path / name
        metrics = MetricsWriter(folder)
        with CheckpointStore(folder / "store") as store:
            job = job_of(model, *start(model, 2), store, checkpoint_steps=STEPS, evaluate=evaluate)
            try:
                (states[name],) = train([job], metrics, Session(mesh_of(), PROGRAMS))
            finally:
                metrics.close()
                lines[name] = (folder / "metrics.jsonl").read_text()
            return store.steps()

    def signalled(step, state):
        if step == STEPS // 2:
            stopping._handle(signal.SIGTERM, None)  # nothing is raised here
        return ()

    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    train_in("whole")
    with pytest.raises(KeyboardInterrupt, match=f"saved at step {STEPS // 2}"):
        train_in("stopped", signalled)
    stopping._arrived.clear()
    assert train_in("stopped") == [0, STEPS // 2, STEPS]
    assert lines["stopped"] == lines["whole"]
    assert_trees_close(states["stopped"], states["whole"], rtol=0)


def test_rows_are_drawn_while_the_call_before_them_runs(tmp_path, monkeypatch):
    (state, frozen), metrics, events = start(task_model(), seeds=2), MetricsWriter(tmp_path), []

    def drawn(step, seed):
        events.append(step)
        return batch(step, seed)

    def gathered(array):
        events.append("metrics")
        return np.asarray(array)

    monkeypatch.setattr(loop, "gather", gathered)
    with CheckpointStore(tmp_path / "store") as store:
        job = dataclasses.replace(job_of(task_model(), state, frozen, store), batch=drawn)
        train([job], metrics, Session(programs=PROGRAMS))
    metrics.close()
    second_call = job.loop.steps_per_call
    assert events.index(second_call) < events.index("metrics")


def test_the_first_and_the_last_step_have_a_line_whatever_the_intervals(tmp_path):
    (state, frozen), metrics = start(task_model(), seeds=2), MetricsWriter(tmp_path)
    with CheckpointStore(tmp_path / "store") as store:
        job = job_of(task_model(), state, frozen, store)
        ends = dict(steps=4, evaluation_steps=4, checkpoint_steps=4)
        every = dataclasses.replace(job.loop, steps_per_call=1, log_steps=3, **ends)
        train([dataclasses.replace(job, loop=every)], metrics, Session(programs=PROGRAMS))
    metrics.close()
    lines = [line for line in read_lines(tmp_path / "metrics.jsonl") if line["seed"] == 0]
    assert [line["step"] for line in lines if "loss" in line] == [1, 3, 4]


def test_groups_are_sampled_at_their_steps_from_the_same_state_after_a_resume(tmp_path):
    model = task_model()

    def trained(folder, steps):
        seen = {}

        def roll_out(step, state):
            seen[step] = jax.tree.map(np.array, state.trainable)

        state, frozen = start(model, seeds=2)
        metrics = MetricsWriter(tmp_path / folder)
        with CheckpointStore(tmp_path / folder / "store") as store:
            job = job_of(model, state, frozen, store, steps=steps, roll_out=roll_out)
            job = dataclasses.replace(job, loop=dataclasses.replace(job.loop, rollout_steps=5))
            train([job], metrics, Session(programs=PROGRAMS))
        metrics.close()
        return seen

    whole = trained("whole", STEPS)
    assert list(whole) == [0, 5, 10, 15]
    assert list(trained("stopped", 10)) == [0, 5]
    resumed = trained("stopped", STEPS)
    assert list(resumed) == [10, 15]
    for step, parameters in resumed.items():
        jax.tree.map(np.testing.assert_array_equal, parameters, whole[step])


def test_speed_is_measured_of_every_stretch_and_a_resumed_run_adds_to_it(tmp_path):
    """The step's one compilation is counted; a line that was cut short is dropped."""
    model, programs = task_model(), ProgramTable()
    path = tmp_path / SPEED

    def trained(steps):
        state, frozen = start(model, seeds=2)
        metrics = MetricsWriter(tmp_path)
        with CheckpointStore(tmp_path / "store") as store:
            train([job_of(model, state, frozen, store, steps=steps)], metrics, Session(programs=programs))
        metrics.close()
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    first = trained(10)
    path.write_text(path.read_text(encoding="utf-8") + '{"arms": ["job"], "st', encoding="utf-8")
    lines = trained(STEPS)
    assert lines[: len(first)] == first
    assert [(line["step"], line["steps"], line["compilations"]) for line in lines] == [
        (10, 10, 1),
        (20, 10, 0),
    ]
    for line in lines:
        assert line["tokens"] == sum(
            batch_tokens(batch(step, seed))[0]
            for step in range(line["step"] - 10, line["step"])
            for seed in (0, 1)
        )
    assert {event.parent.name for event in tmp_path.rglob("events.*")} >= {"job-speed"}


def test_a_trace_is_of_steps_after_the_compiling_one_and_is_made_once(tmp_path):
    profile, traced = Profile(tmp_path / "profile", steps=5), []
    for name in ("a", "b"):
        metrics = MetricsWriter(tmp_path)
        with CheckpointStore(tmp_path / name) as store:
            job = job_of(task_model(), *start(task_model(), seeds=2), store, name=name)
            train([job], metrics, Session(programs=PROGRAMS), profile=profile)
        metrics.close()
        traced.append(sorted(path.name for path in (tmp_path / "profile").rglob("*.xplane.pb")))
    assert len(traced[0]) == 1
    assert traced[1] == traced[0]
