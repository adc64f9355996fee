"""The KL term equals what is worked out by hand from plain forwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objective_cases import (
    CONFIG,
    CURRENT,
    REFERENCE,
    REFERENCE_CONFIG,
    REFERENCE_HEAD,
    TIME,
    behavior_of,
    compiled,
    gradient_of,
    metrics_of,
    questions,
    scores_with_none,
    some_rows,
)
from reference_decoder import log_softmax, reference_hidden, reference_logits
from tiny import (
    assert_trees_close,
    label_pairs,
    mesh_of,
    task_model,
    tiny_task,
    tiny_training_rows,
)

from introspection.models.head import KL_DIRECTIONS, divergence, head_matrix
from introspection.probes.hidden import answer_hidden
from introspection.probes.scored import decisions, probe_behavior
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.session import Session
from introspection.tasks.items import NONE
from introspection.text.rows import pad_time
from introspection.training.batches import behavior_batch, text_rows
from introspection.training.loop import weights
from introspection.training.objectives import (
    Batch,
    ObjectiveConfig,
    TextBatch,
)


def answer_logprobs(config, variables, prompt):
    """Log-probabilities of the next token after a prompt, over the whole vocabulary."""
    return log_softmax(reference_logits(config, variables, prompt)[-1])


@pytest.mark.parametrize("direction", ["reference_to_current", "current_to_reference"])
def test_kl_over_the_vocabulary_equals_that_of_plain_forwards(direction):
    asked = questions()
    mask = np.random.default_rng(0).random((len(asked), 2)) < 0.6
    assert 0 < mask.sum() < mask.size
    objective = ObjectiveConfig("vocabulary", direction, head_chunk=5)
    metrics = metrics_of(Batch(some_rows(), behavior_of(asked, mask)), objective)
    divergences = []
    for a, held in zip(asked, mask, strict=True):
        for prompt, counts in zip(a.prompts, held, strict=True):
            p = answer_logprobs(REFERENCE_CONFIG, REFERENCE, prompt)
            q = answer_logprobs(CONFIG, CURRENT, prompt)
            if direction == "current_to_reference":
                p, q = q, p
            if counts:
                divergences.append(np.sum(np.exp(p) * (p - q)))
    assert metrics["kl"] == pytest.approx(np.mean(divergences), abs=1e-5)


@pytest.mark.parametrize("direction", ["reference_to_current", "current_to_reference"])
def test_kl_over_candidates_ignores_padding_slots(direction):
    asked = questions()
    assert len({len(a.candidates) for a in asked}) == 3
    objective = ObjectiveConfig("candidates", direction, head_chunk=5)
    metrics = metrics_of(Batch(some_rows(), behavior_of(asked)), objective)
    divergences = []
    for a in asked:
        for prompt in a.prompts:
            p = scores_with_none(REFERENCE_CONFIG, REFERENCE, prompt, a.candidates)
            q = scores_with_none(CONFIG, CURRENT, prompt, a.candidates)
            if direction == "current_to_reference":
                p, q = q, p
            divergences.append(np.sum(np.exp(p) * (p - q)))
    assert metrics["kl"] == pytest.approx(np.mean(divergences), abs=1e-4)


@pytest.mark.parametrize("support", ["vocabulary", "candidates"])
def test_the_mask_leaves_prompts_out_of_the_kl(support):
    asked, objective = questions(), ObjectiveConfig(support, head_chunk=5)
    mask = np.ones((len(asked), 2), bool)
    mask[1, 0] = mask[4, 1] = False
    behavior = behavior_of(asked, mask)
    logprobs = np.where(mask[..., None], behavior.answers.reference_logprobs, np.float32(-1.5))
    changed = behavior._replace(
        reference_hidden=np.where(mask[..., None, None], behavior.reference_hidden, 3.0),
        answers=behavior.answers._replace(reference_logprobs=logprobs),
    )
    batch, same = (Batch(some_rows(), b) for b in (behavior, changed))
    metrics = metrics_of(batch, objective)
    assert metrics_of(same, objective)["kl"] == pytest.approx(metrics["kl"], abs=1e-6)
    everything = Batch(some_rows(), changed._replace(kl_mask=np.ones_like(mask)))
    assert abs(metrics_of(everything, objective)["kl"] - metrics["kl"]) > 1e-2
    nothing = Batch(some_rows(), behavior._replace(kl_mask=np.zeros_like(mask)))
    assert metrics_of(nothing, objective)["kl"] == 0
    gradients = [gradient_of(b._replace(shift=some_rows(1)), objective) for b in (batch, same)]
    assert_trees_close(*gradients, atol=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.slow
def test_a_model_agrees_with_itself_and_has_no_divergence_from_itself():
    items, programs = tiny_task().splits["train"][:8], ProgramTable()
    for dtype, with_none in (("float32", True), ("float32", False), ("bfloat16", True)):
        model = task_model(compute_dtype=dtype)
        behaviors = probe_behavior(model, items, Session(mesh_of(), programs))
        decided = decisions(behaviors, items, with_none)
        assert with_none == any(NONE in both for both in decided)
        clean = [both.explanation for both in decided]
        hidden = answer_hidden(model, items, Session(mesh_of(), programs))
        held = np.ones((len(items), 2), bool)
        batch = behavior_batch(model.tokenizer, items, label_pairs(items, clean), behaviors, hidden, held)
        rows = jax.tree.map(lambda leaf: leaf[:2], tiny_training_rows().explanation)
        time = max(rows.tokens.shape[-1], batch.rows.tokens.shape[-1])
        both = Batch(pad_time(rows, time), batch._replace(rows=pad_time(batch.rows, time)))
        head = head_matrix(model.variables, model.config)
        step = compiled(ObjectiveConfig(with_none=with_none), model.config)
        _, metrics = step(model.variables, head, both, weights(1.0, 1.0))
        assert float(metrics["agreement"]) == 1
        # Another shape rounds otherwise, in bfloat16 so that it shows.
        assert float(metrics["kl"]) == pytest.approx(0, abs=1e-6 if dtype == "float32" else 2e-3)


def test_divergence_over_slots_is_scipys():
    from scipy.special import rel_entr

    rng = np.random.default_rng(0)
    current, reference = np.log(rng.dirichlet(np.ones(4), (2, 3, 2))).astype(np.float32)
    both = [rel_entr(np.exp(p), np.exp(q)).sum(-1) for p, q in ((reference, current), (current, reference))]
    for direction, expected in zip(KL_DIRECTIONS, (*both, np.mean(both, axis=0)), strict=True):
        found = divergence(jnp.asarray(current), jnp.asarray(reference), direction)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_on_other_text_the_divergence_is_of_every_next_token():
    from scipy.special import rel_entr

    passages = [[3, 1, 4, 1], [5, 2], [6, 5, 3, 5, 0]]
    rows = pad_time(text_rows(passages), TIME)
    hidden = np.zeros((3, rows.scored.shape[1], REFERENCE_CONFIG.width), np.float32)
    by_hand = []
    for i, passage in enumerate(passages):
        hidden[i, : len(passage) - 1] = reference_hidden(REFERENCE_CONFIG, REFERENCE, passage[:-1])
        p, q = (
            np.exp(log_softmax(reference_logits(*model, passage[:-1])))
            for model in ((REFERENCE_CONFIG, REFERENCE), (CONFIG, CURRENT))
        )
        by_hand.append(rel_entr(p, q).sum(-1).mean())
    batch = Batch(some_rows(0), behavior_of(questions()), some_rows(1), TextBatch(rows, hidden))
    metrics, without = metrics_of(batch), metrics_of(batch._replace(text=None))
    assert metrics["kl"] == pytest.approx(np.mean(by_hand), rel=1e-3)
    assert metrics["kl"] != pytest.approx(without["kl"], rel=1e-2)  # the prompts are left out
    for name in ("explanation_loss", "shift_loss", "agreement"):
        assert metrics[name] == pytest.approx(without[name], abs=1e-6)


@pytest.mark.slow
def test_a_batch_without_explanations_has_the_kl_term_alone():
    objective = ObjectiveConfig("candidates", head_chunk=5)
    explained = Batch(some_rows(), behavior_of(questions()))
    behaving = Batch(None, behavior_of(questions()))
    metrics = metrics_of(behaving, objective)
    assert "explanation_loss" not in metrics
    assert metrics["loss"] == metrics["kl"] == pytest.approx(metrics_of(explained, objective)["kl"], abs=1e-6)
    with_kl, without = (gradient_of(explained, objective, kl) for kl in (1.0, 0.0))
    of_kl = jax.tree.map(lambda a, b: a - b, with_kl, without)
    assert_trees_close(gradient_of(behaving, objective), of_kl, atol=1e-5)


def test_without_weight_the_kl_is_measured_and_not_trained():
    explanation, shift, objective = some_rows(0), some_rows(1), ObjectiveConfig(head_chunk=5)
    batch = Batch(explanation, behavior_of(questions()), shift)
    assert metrics_of(batch, objective, kl=0.0)["kl"] > 0.01
    alone = compiled(objective, gradient=True)(CURRENT, REFERENCE_HEAD, Batch(explanation), weights(1.0, 1.0))
    assert_trees_close(gradient_of(batch, objective, 0.0, 0.0), alone[1], atol=1e-5)
