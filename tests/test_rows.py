"""Rows and their loss masks: every token of every continuation is counted exactly once."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import VOCABULARY, tiny_config, tiny_variables

from introspection.errors import InputError
from introspection.models.decoder import Decoder
from introspection.models.head import head_matrix, target_logprobs
from introspection.text.rows import build_row, pad_time, stack_rows
from introspection.training.objectives import sequence_logprobs

tokens = st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=5)
requests = st.tuples(tokens, st.lists(tokens, min_size=1, max_size=4))


def counted_tokens(row, k):
    """Continuation k's tokens in the order of the positions that predict them."""
    places = np.argwhere(row.continuation == k)
    return [int(row.targets[u, t]) for u, t in places]


@given(requests)
def test_every_continuation_token_is_counted_exactly_once(request_):
    prompt, continuations = request_
    row = build_row(prompt, continuations)
    for k, continuation in enumerate(continuations):
        assert counted_tokens(row, k) == continuation  # the first and the last among them
    assert (row.continuation >= 0).sum() == sum(map(len, continuations))


@given(requests)
def test_the_predicting_token_is_the_one_before(request_):
    prompt, continuations = request_
    row = build_row(prompt, continuations)
    assert row.tokens[: len(prompt)].tolist() == prompt
    for k, continuation in enumerate(continuations):
        read = [prompt[-1], *continuation[:-1]]
        for (u, _), token, offset in zip(
            np.argwhere(row.continuation == k), read, range(len(read)), strict=True
        ):
            assert row.tokens[row.scored[u]] == token
            assert row.positions[row.scored[u]] == len(prompt) - 1 + offset
            assert row.segments[row.scored[u]] == (0 if offset == 0 else k + 1)


@given(st.lists(requests, min_size=1, max_size=4), st.integers(0, 5))
def test_stacking_and_padding_add_nothing_that_counts(many, extra):
    rows = [build_row(*request_) for request_ in many]
    stacked = stack_rows(rows)
    padded = pad_time(stacked, stacked.tokens.shape[1] + extra)
    assert padded.tokens.shape[1] == max(len(row.tokens) for row in rows) + extra
    for i, row in enumerate(rows):
        assert (padded.segments[i, len(row.tokens) :] == -1).all()
        for k, continuation in enumerate(many[i][1]):
            assert counted_tokens(type(row)(*(a[i] for a in padded)), k) == continuation
        assert (padded.continuation[i] >= 0).sum() == (row.continuation >= 0).sum()


def test_rows_are_never_cut():
    row = build_row([1, 2, 3], [[4, 5], [6, 7]])
    with pytest.raises(InputError, match="5 tokens, the batch has room for 4"):
        stack_rows([row], time=4)
    with pytest.raises(InputError, match="do not fit into 4"):
        pad_time(stack_rows([row]), 4)


@pytest.mark.parametrize(("prompt", "continuations"), [([], [[1]]), ([1], []), ([1], [[]]), ([1], [[2], []])])
def test_an_empty_mask_is_an_error(prompt, continuations):
    with pytest.raises(InputError, match="at least one token each"):
        build_row(prompt, continuations)


def test_a_tree_row_scores_as_plain_rows_do():
    config = tiny_config()
    variables = tiny_variables(config)
    head = head_matrix(variables["params"], config)
    rng = np.random.default_rng(0)
    requests_ = [
        (
            rng.integers(1, VOCABULARY, rng.integers(1, 7)).tolist(),
            [rng.integers(1, VOCABULARY, rng.integers(1, 5)).tolist() for _ in range(rng.integers(1, 5))],
        )
        for _ in range(6)
    ]
    rows = stack_rows([build_row(*request_) for request_ in requests_])
    hidden = Decoder(config).apply(variables, *map(jnp.array, rows[:3])).hidden
    at = jnp.take_along_axis(hidden, jnp.array(rows.scored)[:, :, None], axis=1)
    count, scored, targets = rows.targets.shape
    logprobs = target_logprobs(
        head, at.reshape(-1, config.width), jnp.array(rows.targets.reshape(-1, targets)), 64
    )
    got = sequence_logprobs(logprobs.reshape(count, scored, targets), jnp.array(rows.continuation), targets)
    for i, (prompt, continuations) in enumerate(requests_):
        for k, continuation in enumerate(continuations):
            text = jnp.array([prompt + continuation])
            place = jnp.arange(text.shape[1])[None]
            plain = Decoder(config).apply(variables, text, place, jnp.zeros_like(text)).hidden[0]
            read = plain[len(prompt) - 1 : -1]
            expected = target_logprobs(head, read, jnp.array(continuation)[:, None], 64).sum()
            np.testing.assert_allclose(got[i, k], expected, atol=1e-4)
