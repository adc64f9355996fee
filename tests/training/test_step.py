"""The train step gives the same run on any mesh, for any stacking of seeds and any number of steps a call."""

import contextlib
import dataclasses
import functools
import json
import math
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import assert_trees_close, mesh_of, task_model, tiny_training_rows

from introspection.checkpoints.store import CheckpointStore
from introspection.errors import InputError
from introspection.models.config import LoraConfig
from introspection.models.head import head_matrix
from introspection.runtime import stopping
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.mesh import put_parameters, put_rows
from introspection.runtime.metrics_writer import MetricsWriter
from introspection.runtime.session import Session
from introspection.training import stacking
from introspection.training.batches import (
    BatchSizes,
    epoch_indices,
    make_batch,
    rollout_places,
    stack_batches,
)
from introspection.training.loop import Job, LoopConfig, train, weights
from introspection.training.objectives import ObjectiveConfig, ObjectiveWeights
from introspection.training.policy_gradient import Groups, Rollout
from introspection.training.step import Frozen, OptimizerConfig, RunValues, initial_state, train_steps

PROGRAMS = ProgramTable()
STEPS = 20
SIZES = BatchSizes(explanation_rows=8, behavior_items=4, shift_rows=4)
OPTIMIZER = OptimizerConfig(steps=STEPS, schedule="cosine", warmup_steps=3)
VALUES = RunValues(jnp.float32(3e-3), weights(1.0, 0.5))


def batch(step, seed):
    return make_batch(tiny_training_rows(), SIZES, step, seed)


def start(model, seeds):
    """The state of seeds and what they share: adapters alone are trained where there are some."""
    trained = "lora" if "lora" in model.variables else "params"
    frozen = {name: tree for name, tree in model.variables.items() if name != trained}
    reference = head_matrix(task_model(1).variables["params"], model.config)
    state = initial_state([{trained: model.variables[trained]}] * seeds, OPTIMIZER)
    return state, Frozen(frozen, reference)


@functools.cache
def losses_of(seeds=(0,), stack_seeds="loop", sizes=(1, 1, 1), steps_per_call=STEPS):
    """Losses of 20 steps, `steps seeds`, and the final parameters."""
    model, mesh = task_model(), mesh_of(*sizes)
    state, frozen = put_parameters(start(model, len(seeds)), mesh)
    step = jax.jit(functools.partial(train_steps, model.config, ObjectiveConfig(), OPTIMIZER, stack_seeds))
    losses = []
    for first in range(0, STEPS, steps_per_call):
        batches = stack_batches([[batch(first + i, seed) for seed in seeds] for i in range(steps_per_call)])
        state, metrics = step(state, frozen, put_rows(batches, mesh, axis=2), VALUES)
        losses.append(np.asarray(metrics["loss"]))
    return np.concatenate(losses), jax.tree.map(np.asarray, state.trainable)


@pytest.mark.parametrize(
    ("sizes", "stack_seeds"),
    [
        pytest.param((4, 1, 1), "loop", marks=pytest.mark.slow),
        pytest.param((1, 4, 1), "vectorize", marks=pytest.mark.slow),
        pytest.param((2, 1, 2), "vectorize", marks=pytest.mark.slow),
        pytest.param((1, 2, 2), "loop", marks=pytest.mark.slow),
        ((2, 2, 1), "loop"),
    ],
    ids=str,
)
def test_twenty_steps_are_the_same_on_every_mesh(sizes, stack_seeds):
    alone, parameters = losses_of()
    losses, placed_parameters = losses_of(sizes=sizes, stack_seeds=stack_seeds)
    np.testing.assert_allclose(losses, alone, rtol=1e-5)
    assert_trees_close(placed_parameters, parameters, atol=2e-4)
    assert alone[-1] < alone[0] - 0.5  # it did learn


@pytest.mark.parametrize("stack_seeds", ["loop", pytest.param("vectorize", marks=pytest.mark.slow)])
def test_stacked_seeds_equal_each_seed_alone(stack_seeds):
    stacked, parameters = losses_of((0, 1), stack_seeds)
    for index, seed in enumerate((0, 1)):
        alone, parameters_alone = losses_of((seed,))
        np.testing.assert_allclose(stacked[:, index], alone[:, 0], rtol=1e-5)
        own = jax.tree.map(lambda leaf, index=index: leaf[index : index + 1], parameters)
        assert_trees_close(own, parameters_alone, atol=2e-4)
    assert np.abs(stacked[:, 0] - stacked[:, 1]).max() > 1e-2


@pytest.mark.parametrize("steps_per_call", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_losses_do_not_depend_on_the_steps_in_a_call(steps_per_call):
    np.testing.assert_allclose(losses_of(steps_per_call=steps_per_call)[0], losses_of()[0], rtol=1e-5)


def job_of(
    model,
    state,
    frozen,
    store,
    stack_seeds="loop",
    steps=STEPS,
    checkpoint_steps=10,
    values=VALUES,
    **changes,
):
    """Training of two seeds, five steps a call."""
    intervals = dict(steps_per_call=5, log_steps=5, evaluation_steps=10, checkpoint_steps=checkpoint_steps)
    return Job(
        name=changes.pop("name", "job"),
        seeds=(0, 1),
        model=model.config,
        objective=ObjectiveConfig(),
        optimizer=OPTIMIZER,
        loop=LoopConfig(steps, stack_seeds=stack_seeds, **intervals),
        values=lambda step: values,
        frozen=frozen,
        batch=batch,
        metadata={},
        state=state,
        store=store,
        **changes,
    )


@pytest.mark.slow
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


def test_adapters_of_layers_left_out_stay_as_they_were():
    model = task_model(lora=LoraConfig(2, 4.0, layers="1"))
    zero_b = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * (path[-1].key != "B"), model.variables["lora"]
    )
    state, frozen = start(model.with_variables({**model.variables, "lora": zero_b}), 1)
    step = jax.jit(functools.partial(train_steps, model.config, ObjectiveConfig(), OPTIMIZER, "loop"))
    before = jax.tree.map(np.asarray, state.trainable)
    batches = stack_batches([[batch(i, 0)] for i in range(5)])
    state, _ = step(state, frozen, batches, VALUES)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(state.trainable), strict=True):
        np.testing.assert_array_equal(old[:, 0], np.asarray(new)[:, 0])
        assert not np.array_equal(old[:, 1], np.asarray(new)[:, 1])


@pytest.mark.parametrize(
    ("layers", "trained"),
    [
        ("all", [True, True, True]),
        ("lower", [True, True, False]),
        ("upper", [False, False, True]),
        ("1", [False, True, False]),
        ("0, 2", [True, False, True]),
    ],
)
def test_layers_are_chosen_by_half_or_number(layers, trained):
    assert LoraConfig(2, 4.0, layers=layers).trained(3) == tuple(trained)


@pytest.mark.parametrize("layers", ["", "3", "middle", "0,0", "-1", "1,"])
def test_layers_that_there_are_not_are_refused(layers):
    with pytest.raises(InputError, match=r"lora.layers is .*from 0 to 2"):
        LoraConfig(2, 4.0, layers=layers).trained(3)


def test_a_batch_is_a_function_of_step_and_seed():
    first, again = batch(3, 0), batch(3, 0)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert first.explanation.tokens.shape[0] == SIZES.explanation_rows
    assert first.behavior.answers.candidates.shape == (SIZES.behavior_items,)
    assert first.shift.tokens.shape[0] == SIZES.shift_rows
    for other in (batch(3, 1), batch(4, 0)):
        for part in ("explanation", "shift"):
            assert (getattr(first, part).tokens != getattr(other, part).tokens).any()
        assert (first.behavior.rows.tokens != other.behavior.rows.tokens).any()


def test_a_batchs_parts_belong_together():
    rows = tiny_training_rows()
    drawn = batch(2, 1).behavior
    whole = [tuple(leaf[i].tobytes() for leaf in jax.tree.leaves(rows.behavior)) for i in range(42)]
    for i in range(SIZES.behavior_items):
        assert tuple(leaf[i].tobytes() for leaf in jax.tree.leaves(drawn)) in whole


def test_a_missing_part_leaves_the_others_order_alone():
    rows = tiny_training_rows()
    plain = make_batch(rows._replace(behavior=None, shift=None), SIZES, 5, 0)
    assert plain.behavior is None
    assert plain.shift is None
    jax.tree.map(np.testing.assert_array_equal, plain.explanation, batch(5, 0).explanation)


@settings(max_examples=50)
@given(size=st.integers(1, 30), count=st.integers(1, 40), seed=st.integers(0, 3), stream=st.integers(0, 3))
def test_every_row_comes_once_an_epoch(size, count, seed, stream):
    steps = math.lcm(size, count) // count
    drawn = [epoch_indices(size, count, step, seed, stream) for step in range(2 * steps)]
    epochs = np.concatenate(drawn).reshape(-1, size)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(size), (len(epochs), 1)))


def test_epochs_seeds_and_streams_have_their_own_order():
    orders = [
        tuple(epoch_indices(30, 30, step, seed, stream).tolist())
        for step in range(3)
        for seed in range(3)
        for stream in range(3)
    ]
    assert len(set(orders)) == 27


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


def test_a_steps_groups_are_those_sampled_for_it():
    rows, count, first = tiny_training_rows(), SIZES.shift_rows, 6
    places = rollout_places(rows.shift.tokens.shape[0], SIZES, range(first, first + 3), seed=1)
    sampled = jax.tree.map(lambda leaf: leaf[places], rows.shift)
    numbers = np.arange(3 * count, dtype=np.float32)
    groups = Groups(sampled, numbers[:, None], numbers[:, None, None], numbers[:, None, None])
    for step in range(first, first + 3):
        own = make_batch(rows._replace(shift=Rollout(first, groups)), SIZES, step, 1)
        drawn = make_batch(rows, SIZES, step, 1)  # supervised rows of the same prompts, in the same order
        np.testing.assert_array_equal(own.shift.rows.tokens, drawn.shift.tokens)
        assert own.shift.rewards[:, 0].tolist() == numbers[(step - first) * count :][:count].tolist()
        jax.tree.map(np.testing.assert_array_equal, own.explanation, drawn.explanation)


def test_each_step_of_a_call_has_its_own_weights():
    model = task_model()
    state, frozen = start(model, 1)
    batches = stack_batches([[batch(step, 0)] for step in range(3)])

    def losses(shift):
        step = jax.jit(functools.partial(train_steps, model.config, ObjectiveConfig(), OPTIMIZER, "loop"))
        of_steps = ObjectiveWeights(*(np.array(term, np.float32) for term in ([1, 1, 1], [1, 1, 1], shift)))
        values = RunValues(np.float32(3e-3), jax.tree.map(lambda term: term[:, None], of_steps))
        metrics = jax.tree.map(np.asarray, step(state, frozen, batches, values)[1])
        return metrics["loss"][:, 0], metrics["explanation_loss"] + metrics["kl"], metrics["shift_loss"][:, 0]

    loss, rest, of_shift = losses([1, 0, 0.5])
    np.testing.assert_allclose(loss, rest[:, 0] + np.array([1, 0, 0.5]) * of_shift, rtol=1e-5)
    np.testing.assert_allclose(loss[:1], losses([1, 1, 1])[0][:1], rtol=1e-5)
