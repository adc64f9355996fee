"""The objective and its parts equal what is worked out by hand from plain forwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from objective_cases import (
    CONFIG,
    CURRENT,
    TIME,
    behavior_of,
    compiled,
    gradient_of,
    metrics_of,
    questions,
    scores_with_none,
    some_rows,
)
from reference_decoder import reference_token_logprobs
from tiny import (
    mesh_of,
    random_tokens,
    task_model,
    tiny_task,
)

from introspection.errors import InputError
from introspection.probes.explanation import explanation_prompt
from introspection.probes.scored import add_none_bucket, decide, probe_behavior
from introspection.runtime.session import Session
from introspection.tasks.items import NONE, Decisions, Explanation
from introspection.text.rows import build_row, stack_rows
from introspection.training.batches import behavior_batch, held_prompts
from introspection.training.loop import weights
from introspection.training.objectives import (
    Batch,
    ObjectiveConfig,
    add_none,
)


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
