"""Sampled replies are drawn from the model's own distribution, each by a key of its own."""

import jax
import numpy as np
import pytest
from reference_decoder import log_softmax, reference_logits
from test_decoding import ending_model, some_prompts
from tiny import mesh_of, task_model, tiny_task

from introspection.probes.behavior import Readout, decide_each
from introspection.probes.decoding import decode, end_tokens, sample
from introspection.probes.hidden import row_logprobs
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.session import Session
from introspection.tasks.items import NONE
from introspection.text.rows import build_row, stack_rows

PROGRAMS = ProgramTable()
KEY = jax.random.key(5)


def sample_here(prompts, key=KEY, group=3, temperature=1.0, mesh=None, model=None):
    session = Session(mesh or mesh_of(), PROGRAMS)
    return sample(model or ending_model(), prompts, group, 4, temperature, key, session)


def test_a_samples_logprobs_are_those_of_a_full_forward_at_its_temperature():
    model, prompts = ending_model(), some_prompts(5)
    lengths = set()
    for prompt, group in zip(prompts, sample_here(prompts, temperature=1.5), strict=True):
        assert len(group) == 3
        for reply in group:
            lengths.add(len(reply.tokens))
            rows = reference_logits(model.config, model.variables, [*prompt, *reply.tokens])
            scaled = log_softmax(rows[len(prompt) - 1 : -1] / 1.5)
            expected = scaled[np.arange(len(reply.tokens)), list(reply.tokens)]
            np.testing.assert_allclose(reply.logprobs, expected, atol=1e-4)
            ended = {*end_tokens(model.tokenizer)} & {*reply.tokens}
            assert len(reply.tokens) == 4 or ended
    assert len(lengths) > 1


def test_tokens_come_as_often_as_they_are_likely():
    prompts = some_prompts(1)
    (group,) = sample_here(prompts, group=2000)
    model = ending_model()
    shares = np.exp(log_softmax(reference_logits(model.config, model.variables, prompts[0])[-1]))
    counts = np.bincount([reply.tokens[0] for reply in group], minlength=len(shares))
    likely = shares > 0.02
    assert likely.sum() > 3
    spread = np.sqrt(shares * (1 - shares) / 2000)
    np.testing.assert_array_less(np.abs(counts / 2000 - shares)[likely], 4 * spread[likely])


def test_a_sample_is_the_same_in_any_batch_and_another_by_another_key_place_or_reply():
    prompts = some_prompts(9)
    together = sample_here(prompts)
    assert sample_here(prompts) == together
    assert [[r.tokens for r in g] for g in sample_here(prompts[:4])] == [
        [r.tokens for r in g] for g in together[:4]
    ]
    assert sample_here(prompts, jax.random.key(6)) != together
    same = sample_here([prompts[0]] * 8)
    assert len({reply.tokens for group in same for reply in group}) > 4


@pytest.mark.parametrize("sizes", [(4, 1, 1), pytest.param((1, 2, 2), marks=pytest.mark.slow)], ids=str)
def test_samples_are_the_same_on_every_mesh(sizes):
    prompts = some_prompts(6)
    alone, spread = sample_here(prompts), sample_here(prompts, mesh=mesh_of(*sizes))
    for one, other in zip(alone, spread, strict=True):
        assert [reply.tokens for reply in one] == [reply.tokens for reply in other]


def test_cold_samples_are_greedy():
    prompts = some_prompts(6)
    greedy = decode(ending_model(), prompts, 4, Session(mesh_of(), PROGRAMS))
    for reply, group in zip(greedy, sample_here(prompts, temperature=1e-4), strict=True):
        assert {sampled.tokens for sampled in group} == {reply.tokens}


def test_a_rows_logprobs_are_those_of_each_reply_after_its_prompt():
    model = ending_model()
    pairs = [([5, 6, 7], [[8, 9], [10]]), ([11], [[12], [13, 14, 15]])]
    rows = stack_rows([build_row(prompt, replies) for prompt, replies in pairs])
    found = row_logprobs(model, rows, 2.0, Session(mesh_of(), PROGRAMS))
    for (prompt, replies), values, owners in zip(pairs, found, rows.continuation, strict=True):
        for k, reply in enumerate(replies):
            logits = reference_logits(model.config, model.variables, [*prompt, *reply])[len(prompt) - 1 : -1]
            expected = log_softmax(logits / 2.0)[np.arange(len(reply)), reply]
            np.testing.assert_allclose(values[owners == k], expected, atol=1e-4)
        np.testing.assert_array_equal(values[owners < 0], 0)


def test_a_scored_reply_decides_for_the_candidate_that_it_is():
    model, item = task_model(), tiny_task().splits["test"][0]
    encode = model.tokenizer.encode_reply
    first, second = item.candidates[:2]
    replies = [encode(second), encode(first)[:-1], [*encode(first)[:-1], *encode(second)], encode(first)]
    decided = decide_each(
        model, [item] * 4, [item.prompt_with_cue] * 4, replies, Readout(), Session(mesh_of())
    )
    # Without its end, or with more behind it, a candidate is not what was said.
    assert decided == [second, NONE, NONE, first]
    generated = decide_each(
        model, [item] * 2, [item.prompt_with_cue] * 2, replies[:2], Readout("generate"), Session(mesh_of())
    )
    assert generated == [second, first]
