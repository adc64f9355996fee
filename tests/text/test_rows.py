"""Rows: every continuation token counts exactly once, at the token that predicts it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoder import reference_token_logprobs
from tiny import VOCABULARY, tiny_config, tiny_variables

from introspection.errors import InputError
from introspection.models.decoder import Decoder
from introspection.models.head import head_matrix, target_logprobs
from introspection.text.rows import build_row, pad_scored, pad_time, stack_rows
from introspection.training.objectives import sequence_logprobs

some_token = st.integers(0, VOCABULARY - 1)
prompts = st.lists(some_token, min_size=1, max_size=6)
several_continuations = st.lists(st.lists(some_token, min_size=1, max_size=4), min_size=1, max_size=4)


def unfold(row):
    """(continuation, offset, target, index of the predicting token) of everything that a row scores."""
    seen = {}
    for u, t in np.argwhere(row.continuation >= 0):
        owner = int(row.continuation[u, t])
        place = int(row.scored[u])
        yield owner, seen.setdefault(owner, 0), int(row.targets[u, t]), place
        seen[owner] += 1


@given(prompts, several_continuations)
def test_every_token_of_a_continuation_counts_exactly_once(prompt, continuations):
    row = build_row(prompt, continuations)
    found = sorted((owner, offset, target) for owner, offset, target, _ in unfold(row))
    assert found == [(k, i, token) for k, c in enumerate(continuations) for i, token in enumerate(c)]


@given(prompts, several_continuations)
def test_a_target_is_predicted_by_the_token_before_it(prompt, continuations):
    row = build_row(prompt, continuations)
    for owner, offset, _, place in unfold(row):
        assert row.positions[place] == len(prompt) - 1 + offset
        if offset == 0:
            assert place == len(prompt) - 1
        else:
            assert row.tokens[place] == continuations[owner][offset - 1]
            assert row.segments[place] == owner + 1


@given(prompts, several_continuations)
def test_tokens_positions_and_segments(prompt, continuations):
    row = build_row(prompt, continuations)
    start = len(prompt)
    assert row.tokens[:start].tolist() == list(prompt)
    assert row.positions[:start].tolist() == list(range(start))
    assert (row.segments[:start] == 0).all()
    for k, continuation in enumerate(continuations):
        own = row.segments == k + 1
        assert row.tokens[own].tolist() == continuation[:-1]  # the last token is never read
        assert row.positions[own].tolist() == [start + i for i in range(len(continuation) - 1)]
    assert len(row.tokens) == start + sum(len(c) - 1 for c in continuations)
    assert all(array.dtype == np.int32 for array in row)


def test_a_row_worked_by_hand():
    row = build_row([7, 8], [[1, 2, 3], [4]])
    assert row.tokens.tolist() == [7, 8, 1, 2]
    assert row.positions.tolist() == [0, 1, 2, 3]
    assert row.segments.tolist() == [0, 0, 1, 1]
    assert row.scored.tolist() == [1, 2, 3]
    assert row.targets.tolist() == [[1, 4], [2, 0], [3, 0]]
    assert row.continuation.tolist() == [[0, 1], [0, -1], [0, -1]]


@given(st.lists(st.tuples(prompts, several_continuations), min_size=1, max_size=4), st.integers(0, 5))
def test_stacking_and_padding_keep_every_row(pairs, extra):
    rows = [build_row(*pair) for pair in pairs]
    longest = max(len(row.tokens) for row in rows)
    by_stacking = stack_rows(rows, longest + extra)
    by_padding = pad_time(stack_rows(rows), longest + extra)
    for stacked in (by_stacking, by_padding):
        assert stacked.tokens.shape == (len(rows), longest + extra)
        for i, row in enumerate(rows):
            length = len(row.tokens)
            assert stacked.tokens[i, :length].tolist() == row.tokens.tolist()
            assert stacked.positions[i, :length].tolist() == row.positions.tolist()
            assert stacked.segments[i, :length].tolist() == row.segments.tolist()
            assert (stacked.segments[i, length:] == -1).all()
            own = type(row)(*(array[i] for array in stacked))
            assert sorted(unfold(own)) == sorted(unfold(row))


@given(st.lists(st.tuples(prompts, several_continuations), min_size=1, max_size=4), st.integers(0, 5))
def test_room_for_more_scored_positions_scores_nothing_more(pairs, extra):
    rows = stack_rows([build_row(*pair) for pair in pairs])
    scored = rows.scored.shape[-1] + extra
    padded = pad_scored(rows, scored)
    assert padded.scored.shape[-1] == padded.targets.shape[-2] == padded.continuation.shape[-2] == scored
    for before, after in zip(rows, padded, strict=True):
        assert (after[tuple(slice(n) for n in before.shape)] == before).all()
    assert (padded.continuation >= 0).sum() == (rows.continuation >= 0).sum()


def test_rows_that_do_not_fit_are_refused_and_never_cut():
    row = build_row([1, 2, 3], [[4, 5]])
    assert stack_rows([row], 4).tokens.shape == (1, 4)
    with pytest.raises(InputError, match="4 tokens, but the batch has room for 3"):
        stack_rows([row], 3)
    with pytest.raises(InputError, match="4 tokens do not fit into 3"):
        pad_time(stack_rows([row]), 3)
    with pytest.raises(InputError, match="do not fit into 1"):
        pad_scored(stack_rows([row]), 1)


@pytest.mark.parametrize(("prompt", "continuations"), [([], [[1]]), ([1], []), ([1], [[2], []]), ([1], [[]])])
def test_rows_without_a_loss_are_refused(prompt, continuations):
    with pytest.raises(InputError, match="at least one token"):
        build_row(prompt, continuations)


@functools.cache
def row_logprobs():
    config = tiny_config()
    variables = tiny_variables(config)

    @jax.jit
    def run(rows):
        hidden = Decoder(config).apply(variables, rows.tokens, rows.positions, rows.segments).hidden
        at = jnp.take_along_axis(hidden, rows.scored[:, :, None], axis=1)
        count, scored, targets = rows.targets.shape
        logprobs = target_logprobs(
            head_matrix(variables, config),
            at.reshape(-1, config.width),
            rows.targets.reshape(-1, targets),
            1024,
        ).reshape(count, scored, targets)
        return sequence_logprobs(logprobs, rows.continuation, targets)

    return config, variables, run


@settings(max_examples=20)
@given(st.lists(st.tuples(prompts, several_continuations), min_size=2, max_size=2))
def test_a_tree_row_scores_each_continuation_as_a_row_of_its_own(pairs):
    config, variables, run = row_logprobs()
    # A third row of the largest shape, so that one executable serves all examples.
    largest = build_row([1] * 6, [[2] * 4] * 4)
    rows = stack_rows([*(build_row(*pair) for pair in pairs), largest])
    for scores, (prompt, continuations) in zip(run(rows), pairs, strict=False):
        naive = [reference_token_logprobs(config, variables, prompt, c).sum() for c in continuations]
        np.testing.assert_allclose(scores[: len(continuations)], naive, atol=1e-4)
        np.testing.assert_array_equal(scores[len(continuations) :], 0)
