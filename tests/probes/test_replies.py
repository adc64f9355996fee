"""Behaviour that is generated: replies, the decisions that follow, and the KL term along them."""

import dataclasses
import functools

import chat_templates
import jax
import numpy as np
import pytest
from chat_tokenizers import pretrained
from reference_decoder import log_softmax, reference_hidden, reference_logits
from scipy.special import rel_entr
from small_tokenizers import byte_level
from tiny import mesh_of, task_model, tiny_model, tiny_task, tiny_training_rows

from introspection.errors import InputError
from introspection.models.head import head_matrix
from introspection.probes.behavior import Readout, read_behavior
from introspection.probes.decoding import Decoded
from introspection.probes.hidden import reply_hidden, reply_rows
from introspection.probes.replies import Replies, Reply, cut_share, decide_replies, probe_replies
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.session import Session
from introspection.tasks.items import NONE, Decisions
from introspection.text.rows import pad_time
from introspection.training.batches import held_prompts, reply_batch
from introspection.training.loop import weights
from introspection.training.objectives import Batch, ObjectiveConfig, batch_loss

ITEMS = tiny_task().splits["train"][:5]
PROGRAMS = ProgramTable()


def session():
    return Session(mesh_of(), PROGRAMS)


@pytest.fixture(scope="module")
def reference():
    return task_model(1)


@pytest.fixture(scope="module")
def replies(reference):
    # Of unequal lengths, so that padding is there.
    said = probe_replies(reference, ITEMS, 4, session())
    return [
        Replies(*(Reply(r.tokens[: 1 + (i + j) % 4], r.text) for j, r in enumerate(both)))
        for i, both in enumerate(said)
    ]


def test_replies_without_an_end_are_counted():
    ended, cut, empty = Reply((5, 9), "a"), Reply((5, 6), "a"), Reply((), "")
    assert cut_share([Replies(ended, cut), Replies(ended, ended)], [8, 9]) == 0.25
    assert cut_share([Replies(ended, empty)], [9]) == 0
    assert cut_share([], [9]) == 0


def prompts_of(item):
    return item.prompt_with_cue, item.prompt_without_cue


def test_replies_are_what_the_model_says_greedily(reference):
    said = probe_replies(reference, ITEMS, 3, session())
    for item, both in zip(ITEMS, said, strict=True):
        for prompt, reply in zip(prompts_of(item), both, strict=True):
            tokens = reference.tokenizer.encode_prompt(prompt)
            for token in reply.tokens:
                assert token == np.argmax(reference_logits(reference.config, reference.variables, tokens)[-1])
                tokens.append(token)
            assert reply.text == reference.tokenizer.decode(reply.tokens)


def test_a_decision_is_the_candidate_that_a_reply_names():
    item = ITEMS[0]
    first, second = item.candidates[:2]
    replies = Replies(Reply((), f"I believe it is {second}."), Reply((), f"{first} or {second}"))
    assert decide_replies(replies, item) == Decisions(second, NONE)


def reasoner():
    tokenizer = pretrained(byte_level(), chat_templates.QWEN3_THINKING, {"eos_token": "<|im_end|>"})
    return dataclasses.replace(tiny_model(vocab_size=tokenizer.vocab_size), tokenizer=tokenizer)


def test_a_reply_decides_by_what_follows_its_thought_and_none_if_that_does_not_end(monkeypatch):
    model, item = reasoner(), ITEMS[0]
    first, second = item.candidates[:2]
    texts, asked = [f"{first}?\n</think>\n\n{second}<|im_end|>", f"{first}, {second}"], []

    def decode(model, prompts, *rest):
        asked.extend(prompts)
        said = [tuple(model.tokenizer.tokenizer.encode(text).ids) for text in texts]
        return [Decoded(tokens, (0.0,) * len(tokens)) for tokens in said]

    monkeypatch.setattr("introspection.probes.replies.decode", decode)
    (both,) = probe_replies(model, [item], 30, session())
    assert decide_replies(both, item) == Decisions(second, NONE)
    assert [reply.thought for reply in both] == [f"{first}?\n</think>\n\n", f"{first}, {second}"]
    # The KL term reads these tokens after the prompt that they followed.
    rows = reply_rows(model.tokenizer, [item], [both])
    prompts = [
        tokens[segments == 0].tolist() for tokens, segments in zip(rows.tokens, rows.segments, strict=True)
    ]
    assert prompts == asked
    opened = model.tokenizer.tokenizer.token_to_id("<think>")
    assert all(opened in prompt[-2:] for prompt in asked)


def test_the_readout_decides_which_behaviour_is_read(reference):
    scored = read_behavior(reference, ITEMS, Readout(), session())
    generated = read_behavior(reference, ITEMS, Readout("generate", 3), session())
    assert len(scored.decisions) == len(generated.decisions) == len(ITEMS)
    assert all(np.exp(b.with_cue).sum() == pytest.approx(1, abs=1e-4) for b in scored.behaviors)
    assert generated.decisions == [
        decide_replies(both, item) for both, item in zip(generated.behaviors, ITEMS, strict=True)
    ]
    with pytest.raises(InputError, match="score, likeliest, generate"):
        Readout("sample")
    with pytest.raises(InputError, match="at least 1"):
        Readout("generate", 0)


def test_hidden_states_are_those_that_say_the_reply(reference, replies):
    hidden = reply_hidden(reference, ITEMS, replies, session())
    for i, (item, both) in enumerate(zip(ITEMS, replies, strict=True)):
        for j, (prompt, reply) in enumerate(zip(prompts_of(item), both, strict=True)):
            start = reference.tokenizer.encode_prompt(prompt)
            plain = reference_hidden(reference.config, reference.variables, [*start, *reply.tokens[:-1]])
            expected = plain[len(start) - 1 :]
            np.testing.assert_allclose(hidden[i, j, : len(expected)], expected, atol=2e-4)


@functools.cache
def program(config, objective):
    return jax.jit(functools.partial(batch_loss, config, objective))


def metrics_of(model, reference, replies, direction="reference_to_current", shifted=(), prompts="both"):
    hidden = reply_hidden(reference, ITEMS, replies, session())
    held = held_prompts(ITEMS, prompts, set(shifted), {item.group for item in ITEMS})
    batch = reply_batch(reference.tokenizer, ITEMS, replies, hidden, held)
    rows = jax.tree.map(lambda leaf: leaf[:2], tiny_training_rows().explanation)
    time = max(rows.tokens.shape[-1], batch.rows.tokens.shape[-1])
    both = Batch(pad_time(rows, time), behavior=batch._replace(rows=pad_time(batch.rows, time)))
    objective = ObjectiveConfig(kl_direction=direction, head_chunk=5)
    head = head_matrix(reference.variables, reference.config)
    loss, metrics = program(model.config, objective)(model.variables, head, both, weights(2.0, 1.0))
    assert float(loss) == pytest.approx(
        float(metrics["explanation_loss"]) + 2.0 * float(metrics["kl"]), rel=1e-5
    )
    assert "agreement" not in metrics  # of generated behaviour it is measured between steps
    return metrics


def divergence_by_hand(model, reference, prompt, reply, direction):
    start = reference.tokenizer.encode_prompt(prompt)
    tokens = [*start, *reply.tokens[:-1]]
    q, p = (
        np.exp(log_softmax(reference_logits(m.config, m.variables, tokens)))[len(start) - 1 :]
        for m in (model, reference)
    )
    p, q = (p, q) if direction == "reference_to_current" else (q, p)
    return rel_entr(p, q).sum(-1).mean()


def test_a_part_of_the_items_is_held_at_its_own_replies_length(reference, replies):
    """Arms hold different items; the reference's hidden states are read once, of all of them."""
    hidden = reply_hidden(reference, ITEMS, replies, session())
    few = [i for i, both in enumerate(replies) if max(len(r.tokens) for r in both) < hidden.shape[2]][:2]
    short = [[Reply(r.tokens[:2], r.text) for r in replies[i]] for i in few]
    asked = [ITEMS[i] for i in few]
    held = held_prompts(asked, "both", set(), {item.group for item in asked})
    batch = reply_batch(reference.tokenizer, asked, [Replies(*both) for both in short], hidden[few], held)
    assert batch.rows.scored.shape[-1] == batch.reference_hidden.shape[2] == 2 < hidden.shape[2]


@pytest.mark.parametrize("direction", ["reference_to_current", "current_to_reference"])
def test_the_divergence_is_the_mean_over_a_replys_tokens(reference, replies, direction):
    model = task_model(2)
    by_hand = [
        divergence_by_hand(model, reference, prompt, reply, direction)
        for item, both in zip(ITEMS, replies, strict=True)
        for prompt, reply in zip(prompts_of(item), both, strict=True)
    ]
    metrics = metrics_of(model, reference, replies, direction)
    assert float(metrics["kl"]) == pytest.approx(np.mean(by_hand), rel=1e-3)


def test_a_model_has_no_divergence_from_itself(reference, replies):
    assert float(metrics_of(reference, reference, replies)["kl"]) == pytest.approx(0, abs=1e-5)


def test_shifted_prompts_and_those_not_asked_for_are_left_out(reference, replies):
    model, shifted = task_model(2), ITEMS[1].prompt_with_cue
    by_hand = [
        divergence_by_hand(model, reference, item.prompt_with_cue, both.with_cue, "reference_to_current")
        for item, both in zip(ITEMS, replies, strict=True)
        if item.prompt_with_cue != shifted
    ]
    metrics = metrics_of(model, reference, replies, shifted=[shifted], prompts="with_cue")
    assert float(metrics["kl"]) == pytest.approx(np.mean(by_hand), rel=1e-3)
