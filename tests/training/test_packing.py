"""Packed rows teach what the rows teach by themselves, whatever attention is like."""

import tracemalloc

import jax
import numpy as np
import pytest
from objective_cases import (
    REFERENCE,
    REFERENCE_CONFIG,
    REFERENCE_HEAD,
    TIME,
    behavior_of,
    questions,
    some_rows,
)
from reference_decoder import reference_hidden
from tiny import EVERYTHING, assert_trees_close, mesh_of, tiny_config, tiny_variables

from introspection.errors import InputError
from introspection.models.config import LoraConfig, RopeScaling
from introspection.text.packs import least_shape, texts_of
from introspection.text.rows import build_row, pad_time, stack_rows
from introspection.training.batches import text_rows
from introspection.training.loop import weights
from introspection.training.objectives import (
    Batch,
    ObjectiveConfig,
    TextBatch,
    batch_loss,
    batch_parts,
    scored_hidden,
)
from introspection.training.packing import check_fits, in_packs, packed
from introspection.training.preference import Pairs

FAMILIES = {
    "everything": dict(**EVERYTHING, lora=LoraConfig(2, 4.0)),
    "llama": {},
    "window": dict(window=3),
    "softcap": dict(attention_softcap=1.5),
    "linear": dict(rope_scaling=RopeScaling("linear", 4.0)),
    "remat": dict(remat="full"),
}


def rows_that_share(seed=0, count=5):
    """Explanation rows, half of which begin as one of the questions does."""
    rng = np.random.default_rng([seed, 11])
    asked = questions()
    starts = [asked[i % 6].with_cue if i % 2 else [] for i in range(count)]
    return stack_rows(
        [
            build_row([*start, *rng.integers(0, 8, 2).tolist()], [rng.integers(0, 8, 1 + i % 3).tolist()])
            for i, start in enumerate(starts)
        ],
        TIME,
    )


def whole_batch():
    """Every kind of rows at once: explanations, candidates, passages, pairs."""
    rng = np.random.default_rng(5)
    passages = [rng.integers(0, 8, n).tolist() for n in (2, 5, 4)]
    text = text_rows(passages)
    hidden = np.zeros((3, text.scored.shape[1], REFERENCE_CONFIG.width), np.float32)
    for i, passage in enumerate(passages):
        hidden[i, : len(passage) - 1] = reference_hidden(REFERENCE_CONFIG, REFERENCE, passage[:-1])
    pairs = stack_rows([build_row(a.with_cue, a.candidates[:2]) for a in questions()[:3]], TIME)
    return Batch(
        rows_that_share(),
        behavior_of(questions()),
        Pairs(pairs, np.array([[-2.0, -3.0]] * 3, np.float32)),
        TextBatch(pad_time(text, TIME), hidden),
    )


def gradient(config, batch):
    variables = tiny_variables(config)

    def loss(variables, batch):
        objective = ObjectiveConfig(head_chunk=64)
        return batch_loss(config, objective, variables, REFERENCE_HEAD, batch, weights(1.0, 0.5))

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables, batch)


def test_what_is_read_is_that_of_rows_by_themselves():
    config = tiny_config(vocab_size=8, **EVERYTHING)
    batch = Batch(rows_that_share(), behavior_of(questions()))
    parts, variables = batch_parts(batch), tiny_variables(config)

    @jax.jit
    def read(variables, parts, packs):
        scored = scored_hidden(config, variables, parts, packs)
        return {name: scored(name) for name in parts}

    in_two = packed(batch, 40).packs
    assert len(in_two.tokens) >= 2
    assert_trees_close(read(variables, parts, in_two), read(variables, parts, None), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_are_those_of_rows_by_themselves(family):
    config, batch = tiny_config(vocab_size=8, **FAMILIES[family]), whole_batch()
    in_two = packed(batch, 40)
    assert len(in_two.packs.tokens) >= 2
    assert (in_two.packs.ends > 0).sum() < 0.8 * sum(
        int((rows.segments >= 0).sum())
        for rows in (batch.explanation, batch.behavior.rows, batch.shift.rows, batch.text.rows)
    )
    assert_trees_close(gradient(config, in_two), gradient(config, batch), atol=2e-5, rtol=2e-4)


def test_every_step_has_one_shape_that_the_mesh_divides():
    def batch(step, seed):  # later steps have more rows of their own
        return Batch(some_rows(seed, 2 + step))

    made = in_packs(batch, 4, (0, 1), 40, mesh_of(2))
    shapes = {made(step, seed).packs.tokens.shape for step in range(4) for seed in (0, 1)}
    ((packs, time),) = shapes
    needed = max(len(packed(batch(3, seed), 40).packs.tokens) for seed in (0, 1))
    assert packs == needed + needed % 2
    assert time <= 40
    assert_trees_close(made(2, 1), made(2, 1))


def some_lengths(step, seed):
    """A batch of rows of random lengths, some of which begin alike."""
    rng = np.random.default_rng([step, seed, 7])
    start = rng.integers(0, 50_000, 9).tolist()
    texts = [
        ([*start[: rng.integers(10)], *rng.integers(0, 50_000, rng.integers(1, 20)).tolist()], [[1, 2, 3]])
        for _ in range(24)
    ]
    return Batch(stack_rows([build_row(*text) for text in texts], 40))


@pytest.mark.parametrize("time", [32, 50, 200])
def test_steps_drawn_one_at_a_time_are_packed_as_all_at_once(time):
    made = in_packs(some_lengths, 5, (0, 1), time, mesh_of(2))
    drawn = [texts_of(batch_parts(some_lengths(step, seed))) for step in range(5) for seed in (0, 1)]
    packs, longest = least_shape(drawn, time, multiple=2)
    for step, seed in ((0, 0), (4, 1)):
        jax.tree.map(
            np.testing.assert_array_equal,
            made(step, seed),
            packed(some_lengths(step, seed), longest, packs),
        )


def test_planning_packs_of_many_steps_takes_the_memory_of_a_few():
    def peak(steps):
        tracemalloc.start()
        in_packs(some_lengths, steps, (0,), 64, mesh_of())
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1)  # what is imported and cached
    assert peak(32) < 2 * peak(2)


def test_a_row_longer_than_a_pack_is_refused_by_what_it_is():
    rows = some_rows()
    longest = int((rows.segments >= 0).sum(axis=1).max())
    check_fits(rows, longest, "a reply")
    check_fits(None, 1, "nothing")
    with pytest.raises(InputError, match=rf"pack_tokens is {longest - 1}, but a reply has {longest} tokens"):
        check_fits(rows, longest - 1, "a reply")
