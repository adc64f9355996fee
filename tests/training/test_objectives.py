"""The objective and its parts equal what is worked out by hand from plain forwards."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from reference_decoder import log_softmax, reference_hidden, reference_logits, reference_token_logprobs
from tiny import (
    assert_trees_close,
    label_pairs,
    mesh_of,
    random_tokens,
    task_model,
    tiny_config,
    tiny_task,
    tiny_training_rows,
    tiny_variables,
)

from introspection.errors import InputError
from introspection.models.head import head_matrix
from introspection.probes.explanation import explanation_prompt
from introspection.probes.hidden import answer_hidden
from introspection.probes.scored import add_none_bucket, decide, decisions, probe_behavior
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.session import Session
from introspection.tasks.items import NONE, Decisions, Explanation
from introspection.text.rows import Rows, build_row, pad_time, stack_rows
from introspection.training.batches import behavior_batch, held_prompts
from introspection.training.loop import weights
from introspection.training.objectives import (
    Answers,
    Batch,
    BehaviorBatch,
    ObjectiveConfig,
    add_none,
    batch_loss,
    slot_kl,
)

# Eight tokens, so that candidates, `none` and the whole vocabulary all carry weight.
CONFIG = tiny_config(vocab_size=8)
CURRENT = tiny_variables(CONFIG)
REFERENCE_CONFIG = tiny_config(vocab_size=8, width=24)
REFERENCE = tiny_variables(REFERENCE_CONFIG, seed=1)
REFERENCE_HEAD = head_matrix(REFERENCE["params"], REFERENCE_CONFIG)
TIME = 12


class Asked(NamedTuple):
    """Two prompts and their candidates, as token lists."""

    with_cue: list
    without_cue: list
    candidates: list

    @property
    def prompts(self):
        return self.with_cue, self.without_cue


def questions(seed=0, count=6):
    """Items with two to four candidates of one or two tokens, none a beginning of another."""
    rng = np.random.default_rng(seed)
    asked = []
    for i in range(count):
        first = rng.permutation(8)[: 2 + i % 3].tolist()
        candidates = [[token, int(rng.integers(8))] if rng.random() < 0.4 else [token] for token in first]
        without_cue = rng.integers(0, 8, int(rng.integers(1, 5))).tolist()
        asked.append(Asked([*without_cue, *rng.integers(0, 8, 2).tolist()], without_cue, candidates))
    return asked


def scores_with_none(config, variables, prompt, candidates):
    scores = [reference_token_logprobs(config, variables, prompt, c).sum() for c in candidates]
    return add_none_bucket(np.array(scores))


def answer_logprobs(config, variables, prompt):
    """Log-probabilities of the next token after a prompt, over the whole vocabulary."""
    return log_softmax(reference_logits(config, variables, prompt)[-1])


def behavior_of(asked, kl_mask=None, trained=None, clean=None, labelled=None):
    """A behaviour batch, put together here from its definition."""
    nothing = [(False, 0)] * len(asked)
    pairs = list(zip(trained or nothing, clean or trained or nothing, strict=True))
    slots = max(len(a.candidates) for a in asked)
    rows = stack_rows([build_row(p, a.candidates) for a in asked for p in a.prompts], TIME)
    logprobs = np.full((len(asked), 2, slots + 1), -1e30, np.float32)
    for i, a in enumerate(asked):
        for j, prompt in enumerate(a.prompts):
            *scores, none = scores_with_none(REFERENCE_CONFIG, REFERENCE, prompt, a.candidates)
            logprobs[i, j, : len(scores)] = scores
            logprobs[i, j, slots] = none
    hidden = [[reference_hidden(REFERENCE_CONFIG, REFERENCE, p)[-1:] for p in a.prompts] for a in asked]
    answers = Answers(
        candidates=np.array([len(a.candidates) for a in asked], np.int32),
        reference_logprobs=logprobs,
        labelled=np.ones(len(asked), bool) if labelled is None else labelled,
        label_changed=np.array([[changed for changed, _ in pair] for pair in pairs]),
        label_answer=np.array(
            [[slots if answer == NONE else answer for _, answer in pair] for pair in pairs], np.int32
        ),
    )
    return BehaviorBatch(
        rows=Rows(*(array.reshape(len(asked), 2, *array.shape[1:]) for array in rows)),
        kl_mask=np.ones((len(asked), 2), bool) if kl_mask is None else kl_mask,
        reference_hidden=np.array(hidden).astype(np.float32),
        answers=answers,
    )


def some_rows(seed=0, count=4):
    rng = np.random.default_rng([seed, 9])
    return stack_rows(
        [
            build_row(rng.integers(0, 8, 4 + i % 3).tolist(), [rng.integers(0, 8, 1 + i % 4).tolist()])
            for i in range(count)
        ],
        TIME,
    )


@functools.cache
def compiled(objective, config=CONFIG, gradient=False):
    def loss(variables, head, batch, both):
        return batch_loss(config, objective, variables, head, batch, both)

    return jax.jit(jax.value_and_grad(loss, has_aux=True) if gradient else loss)


def metrics_of(batch, objective=None, kl=1.0, shift=1.0):
    objective = objective or ObjectiveConfig(head_chunk=5)
    loss, metrics = compiled(objective)(CURRENT, REFERENCE_HEAD, batch, weights(kl, shift))
    assert float(loss) == float(metrics["loss"])
    return {name: float(value) for name, value in metrics.items()}


def gradient_of(batch, objective, kl=1.0, shift=1.0):
    run = compiled(objective, gradient=True)
    return run(CURRENT, REFERENCE_HEAD, batch, weights(kl, shift))[1]


def test_cross_entropy_is_the_mean_over_the_labels_tokens():
    model, task = task_model(), tiny_task()
    items, labels = task.splits["train"][:5], []
    for i, item in enumerate(items):
        labels.append(task.grammar.all_explanations(item.candidates)[i])
    logprobs, rows = [], []
    for item, label in zip(items, labels, strict=True):
        prompt = explanation_prompt(model.tokenizer, item, task.grammar)
        sentence = model.tokenizer.encode_reply(task.grammar.render(label))
        assert len(sentence) == 3  # verb phrase, answer, end
        logprobs.append(reference_token_logprobs(model.config, model.variables, prompt, sentence))
        rows.append(build_row(prompt, [sentence]))
    run = compiled(ObjectiveConfig(), model.config)
    head = model.variables["params"]["embedding"]
    loss, metrics = run(model.variables, head, Batch(stack_rows(rows)), weights(1.0, 1.0))
    assert float(loss) == pytest.approx(-np.concatenate(logprobs).mean(), abs=1e-5)
    assert set(metrics) == {"loss", "explanation_loss"}


def test_cross_entropy_counts_tokens_and_not_rows():
    rng = np.random.default_rng(3)
    pairs = [(rng.integers(0, 8, 3).tolist(), rng.integers(0, 8, n).tolist()) for n in (1, 2, 4, 1)]
    logprobs = [reference_token_logprobs(CONFIG, CURRENT, *pair) for pair in pairs]
    batch = Batch(stack_rows([build_row(prompt, [reply]) for prompt, reply in pairs], TIME))
    assert metrics_of(batch)["loss"] == pytest.approx(-np.concatenate(logprobs).mean(), abs=1e-5)


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


def test_agreement_is_the_share_of_items_whose_label_the_model_still_follows():
    asked = questions(seed=5)
    true, other = [], []
    for i, a in enumerate(asked):
        names = [str(k) for k in range(len(a.candidates))]
        decided = Decisions(
            *(decide(scores_with_none(CONFIG, CURRENT, p, a.candidates), names) for p in a.prompts)
        )
        changed, answer = decided.explanation
        answer = NONE if answer == NONE else int(answer)
        true.append((changed, answer))
        stale = (not changed, answer) if i % 2 else (changed, 0 if answer != 0 else 1)
        other.append(stale)
    # The items show every case: changed and not, a candidate and `none`.
    assert {changed for changed, _ in true} == {True, False}
    assert len({answer == NONE for _, answer in true}) == 2
    agreements = []
    for kept in range(len(asked) + 1):
        batch = Batch(some_rows(), behavior_of(asked, trained=true[:kept] + other[kept:], clean=true))
        metrics = metrics_of(batch, kl=0.0)
        agreements.append(metrics["agreement"])
        # Noise in the labels that are trained is no change of behaviour.
        assert metrics["kept_behavior"] == pytest.approx(1)
    np.testing.assert_allclose(agreements, np.arange(len(asked) + 1) / len(asked), atol=1e-6)


def test_items_without_labels_count_in_no_agreement():
    asked = questions(seed=5)
    labelled = np.arange(len(asked)) % 2 == 0

    def shares(clean_of_labelled, of_others):
        clean = [clean_of_labelled if one else of_others for one in labelled]
        batch = Batch(some_rows(), behavior_of(asked, trained=clean, labelled=labelled))
        metrics = metrics_of(batch, kl=0.0)
        return float(metrics["agreement"]), float(metrics["kept_behavior"])

    assert shares((True, 0), (False, 1)) == shares((True, 0), (True, 2))
    nobody = behavior_of(asked, labelled=np.zeros(len(asked), bool))
    assert float(metrics_of(Batch(some_rows(), nobody), kl=0.0)["agreement"]) == 0


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
        head = head_matrix(model.variables["params"], model.config)
        step = compiled(ObjectiveConfig(with_none=with_none), model.config)
        _, metrics = step(model.variables, head, both, weights(1.0, 1.0))
        assert float(metrics["agreement"]) == 1
        # Another shape rounds otherwise, in bfloat16 so that it shows.
        assert float(metrics["kl"]) == pytest.approx(0, abs=1e-6 if dtype == "float32" else 2e-3)


@settings(max_examples=30)
@given(
    hnp.arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32)),
    st.randoms(use_true_random=False),
)
def test_the_none_bucket_is_the_same_in_training_and_in_probes(shares, random):
    counts = [random.randint(1, shares.shape[1]) for _ in shares]
    total = random.choice([0.3, 0.999, 1.0, 1.000001])  # rounding may leave less than nothing
    logprobs = np.log(shares / max(float(shares.sum(axis=1).max()), 1e-3) * total + 1e-9).astype(np.float32)
    slots = np.asarray(add_none(jnp.asarray(logprobs), jnp.asarray(counts)))
    for row, expected, count in zip(slots, logprobs, counts, strict=True):
        bucket = add_none_bucket(expected[:count])
        np.testing.assert_allclose(row[:count], bucket[:-1])
        # Near 1 the rest is a difference of float32 numbers; what is left has an absolute error.
        np.testing.assert_allclose(np.exp(row[-1]), np.exp(bucket[-1]), atol=1e-6)
        assert (row[count:-1] < -1e29).all()


def test_divergence_over_slots_is_scipys():
    from scipy.special import rel_entr

    rng = np.random.default_rng(0)
    current, reference = np.log(rng.dirichlet(np.ones(4), (2, 3, 2))).astype(np.float32)
    for reverse in (False, True):
        p, q = (current, reference) if reverse else (reference, current)
        expected = rel_entr(np.exp(p), np.exp(q)).sum(-1)
        np.testing.assert_allclose(
            slot_kl(jnp.asarray(current), jnp.asarray(reference), reverse), expected, atol=1e-5
        )


@pytest.mark.parametrize("support", ["vocabulary", "candidates"])
def test_the_gradient_is_the_weighted_sum_of_its_parts(support):
    objective = ObjectiveConfig(support, head_chunk=5)
    explanation, shift, behavior = some_rows(0), some_rows(1), behavior_of(questions())
    batch = Batch(explanation, behavior, shift)
    metrics = metrics_of(batch, objective, kl=0.7, shift=0.3)
    assert metrics["explanation_loss"] == pytest.approx(metrics_of(Batch(explanation))["loss"], abs=1e-6)
    assert metrics["shift_loss"] == pytest.approx(metrics_of(Batch(shift))["loss"], abs=1e-6)
    without_shift = metrics_of(Batch(explanation, behavior), objective)
    assert metrics["kl"] == pytest.approx(without_shift["kl"], abs=1e-6)
    parts = metrics["explanation_loss"] + 0.7 * metrics["kl"] + 0.3 * metrics["shift_loss"]
    assert metrics["loss"] == pytest.approx(parts, abs=1e-6)
    at = {
        both: gradient_of(batch, objective, *both)
        for both in ((0.7, 0.3), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    }
    jax.tree.map(
        lambda whole, base, kl, shift: np.testing.assert_allclose(
            whole, base + 0.7 * (kl - base) + 0.3 * (shift - base), atol=1e-5
        ),
        *at.values(),
    )
    for both in ((1, 0), (0, 1)):
        difference = jax.tree.map(lambda a, b: a - b, at[both], at[0, 0])
        assert max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(difference)) > 1e-2


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


def test_rows_without_a_scored_token_cannot_be_built():
    with pytest.raises(InputError):
        build_row([1, 2], [[]])
    with pytest.raises(InputError):
        build_row([1, 2], [])
    with pytest.raises(ValueError, match="empty"):
        stack_rows([])
    rows = stack_rows([build_row(random_tokens(np.random.default_rng(0), 3), [[1]])] * 3, TIME)
    assert ((rows.continuation >= 0).sum(axis=(1, 2)) >= 1).all()


def test_label_decisions_and_slots_share_their_order():
    items = tiny_task().splits["train"][:3]
    clean = [
        Explanation(True, items[0].candidates[2]),
        Explanation(False, NONE),
        Explanation(False, items[2].gold),
    ]
    behaviors = probe_behavior(task_model(), items, Session(mesh_of()))
    hidden = np.zeros((3, 2, 1, task_model().config.width))
    groups = {item.group for item in items}
    held = held_prompts(items, "with_cue", {items[1].prompt_with_cue}, groups)
    noisy = [Explanation(False, items[0].candidates[1]), *clean[1:]]
    labels = {item.id: both for item, both in zip(items[:2], zip(noisy, clean, strict=False), strict=False)}
    batch = behavior_batch(task_model().tokenizer, items, labels, behaviors, hidden, held)
    assert batch.answers.label_answer[:2].tolist() == [[1, 2], [3, 3]]
    assert batch.answers.label_changed[:2].tolist() == [[False, True], [False, False]]
    assert batch.answers.labelled.tolist() == [True, True, False]
    assert batch.kl_mask.tolist() == [[True, False], [False, False], [True, False]]
    assert not held_prompts(items, "both", set(), set()).any()
    assert held_prompts(items, "both", set(), groups).all()
    np.testing.assert_allclose(
        batch.answers.reference_logprobs[:, 0], [b.with_cue for b in behaviors], atol=1e-6
    )
    np.testing.assert_allclose(
        batch.answers.reference_logprobs[:, 1], [b.without_cue for b in behaviors], atol=1e-6
    )
