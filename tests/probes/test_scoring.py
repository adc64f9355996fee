"""The shared-prefix scorer gives what scoring each prompt and continuation by itself gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoder import reference_token_logprobs
from tiny import (
    VOCABULARY,
    mesh_of,
    random_tokens,
    task_model,
    tiny_config,
    tiny_model,
    tiny_task,
    tiny_tokenizer,
    tiny_variables,
)

from introspection.errors import InputError
from introspection.models.config import LoraConfig
from introspection.models.model import Model
from introspection.probes.explanation import explanation_logprobs, explanation_prompt, score_explanations
from introspection.probes.scored import Behavior, add_none_bucket, cue_effects, probe_behavior
from introspection.probes.scoring import ScoreRequest, exact_products, score
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.mesh import put_parameters
from introspection.runtime.session import Session
from introspection.tasks.items import NONE, Decisions, Explanation
from introspection.text import buckets

PROGRAMS = ProgramTable()
MESHES = [(1, 1, 1), (4, 1, 1), (1, 4, 1), (1, 1, 4), (2, 1, 2), (1, 2, 2)]


@pytest.fixture(autouse=True, scope="module")
def small_batches():
    """Eight prompts a batch: several batches of one shape without many requests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "BATCH_TOKENS", 64)
        yield


def naive_scores(model, request):
    return [
        reference_token_logprobs(model.config, model.variables, request.prompt, c).sum()
        for c in request.continuations
    ]


def score_here(model, requests, programs=PROGRAMS, mesh=None):
    return score(model, requests, Session(mesh or mesh_of(), programs))


def ragged_requests(rng, count):
    """Requests of different lengths that all fall into one bucket: 8 tokens, 3 continuations of 3."""
    return [
        ScoreRequest(
            random_tokens(rng, int(rng.integers(1, 9))),
            [random_tokens(rng, length) for length in (3, *rng.integers(1, 4, 2))],
        )
        for _ in range(count)
    ]


some_token = st.integers(0, VOCABULARY - 1)
one_request = st.builds(
    ScoreRequest,
    st.lists(some_token, min_size=1, max_size=8),
    st.lists(st.lists(some_token, min_size=1, max_size=3), min_size=2, max_size=3),
)


@settings(max_examples=20)
@given(st.lists(one_request, min_size=1, max_size=10), st.integers(0, 1))
def test_scores_equal_naive_scores(requests, seed):
    model = tiny_model(seed)
    for request, scores in zip(requests, score_here(model, requests), strict=True):
        np.testing.assert_allclose(scores, naive_scores(model, request), atol=1e-4)


@pytest.mark.parametrize("lengths", [(13, 5, 2), (30, 1, 7)], ids=str)
def test_scores_equal_naive_scores_in_every_kind_of_bucket(lengths):
    prompt, count, continuation = lengths
    rng = np.random.default_rng(sum(lengths))
    requests = [
        ScoreRequest(
            random_tokens(rng, prompt),
            [random_tokens(rng, continuation) for _ in range(count)],
        )
        for _ in range(2)
    ]
    model = tiny_model()
    for request, scores in zip(requests, score_here(model, requests), strict=True):
        np.testing.assert_allclose(scores, naive_scores(model, request), atol=1e-4)


def test_adapters_and_an_untied_head_take_part_in_scores():
    model = tiny_model(tied_head=False, lora=LoraConfig(2, 8.0, ("query", "value", "down")))
    request = ragged_requests(np.random.default_rng(0), 1)[0]
    np.testing.assert_allclose(score_here(model, [request])[0], naive_scores(model, request), atol=1e-4)
    base = model.with_variables({"params": model.variables["params"]})
    assert np.abs(np.subtract(naive_scores(base, request), naive_scores(model, request))).max() > 1e-2


def test_a_score_is_the_same_alone_in_any_batch_and_in_any_order():
    model, rng = tiny_model(), np.random.default_rng(1)
    requests = ragged_requests(rng, 20)
    together = score_here(model, requests)
    order = rng.permutation(len(requests))
    shuffled = score_here(model, [requests[i] for i in order])
    for place, i in enumerate(order):
        np.testing.assert_allclose(shuffled[place], together[i], atol=1e-5)
    longer = ScoreRequest(random_tokens(rng, 20), [random_tokens(rng, 6)])
    for i in (0, 7, 19):
        np.testing.assert_allclose(score_here(model, [requests[i]])[0], together[i], atol=1e-5)
        beside = score_here(model, [longer, requests[i], longer])[1]
        np.testing.assert_allclose(beside, together[i], atol=1e-5)


def test_a_continuation_does_not_depend_on_its_neighbours():
    model, rng = tiny_model(), np.random.default_rng(2)
    prompt, continuations = random_tokens(rng, 6), [random_tokens(rng, 3) for _ in range(3)]
    together = score_here(model, [ScoreRequest(prompt, continuations)])[0]
    backwards = score_here(model, [ScoreRequest(prompt, continuations[::-1])])[0]
    np.testing.assert_allclose(backwards[::-1], together, atol=1e-5)
    for k, continuation in enumerate(continuations):
        alone = score_here(model, [ScoreRequest(prompt, [continuation, [5]])])[0]
        np.testing.assert_allclose(alone[0], together[k], atol=1e-5)


def test_all_sequences_of_up_to_two_tokens_have_probability_one():
    # Answers that are prefixes of one another are told apart by their end token alone.
    config = tiny_config(vocab_size=6)
    model = Model(config, tiny_tokenizer(), tiny_variables(config))
    end, words = 0, range(1, 6)
    ended = [[end], *([a, end] for a in words)]
    open_ended = [[a, b] for a in words for b in words]
    logprobs = score_here(model, [ScoreRequest([3, 1, 4], ended + open_ended)])[0]
    assert np.exp(logprobs).sum() == pytest.approx(1, abs=1e-5)
    none = np.exp(add_none_bucket(logprobs[: len(ended)])[-1])
    assert none == pytest.approx(np.exp(logprobs[len(ended) :]).sum(), abs=1e-5)


def test_candidates_that_are_prefixes_of_one_another_are_disjoint():
    model, end = tiny_model(), tiny_tokenizer().end_id
    nested = [[10, end], [10, 11, end], [10, 11, 12, end]]
    request = ScoreRequest([5, 6, 7], nested)
    scores = score_here(model, [request])[0]
    np.testing.assert_allclose(scores, naive_scores(model, request), atol=1e-4)
    begins = naive_scores(model, ScoreRequest([5, 6, 7], [[10]]))[0]
    assert np.exp(scores).sum() <= np.exp(begins) + 1e-6


def test_the_number_of_compilations_is_the_number_of_buckets():
    programs, rng = ProgramTable(), np.random.default_rng(3)
    requests = ragged_requests(rng, 11)
    requests.append(ScoreRequest(random_tokens(rng, 8), [random_tokens(rng, 2)]))
    shapes = {
        buckets.score_shape(len(r.prompt), len(r.continuations), max(map(len, r.continuations)))
        for r in requests
    }
    assert len(shapes) == 2
    score_here(tiny_model(), requests, programs)
    assert programs.count("score_continuations") == 2
    for request in requests:  # alone: the same shapes
        score_here(tiny_model(), [request], programs)
    other = tiny_model(seed=1)
    first = score_here(other, requests, programs)[0]
    assert programs.count("score_continuations") == 2
    assert sum(calls for _, _, calls, _ in programs.rows()) == 2 * 3 + len(requests)
    np.testing.assert_allclose(first, naive_scores(other, requests[0]), atol=1e-4)
    score_here(tiny_model(layers=1), requests[:1], programs)  # another model is another program
    assert programs.count("score_continuations") == 3


def test_scores_are_the_same_in_batches_of_fewer_rows(monkeypatch):
    model, requests = tiny_model(), ragged_requests(np.random.default_rng(6), 11)
    full, programs = score_here(model, requests), ProgramTable()
    monkeypatch.setattr(buckets, "LEAST_BATCH_FLOPS", 1)
    assert len(requests) == 8 + 2 + 1
    np.testing.assert_allclose(np.stack(score_here(model, requests, programs)), np.stack(full), atol=1e-5)
    assert programs.count("score_continuations") == 2  # of 8 rows and of 2


@pytest.mark.parametrize("sizes", MESHES, ids=str)
def test_scores_are_the_same_on_every_mesh(sizes):
    model, mesh = tiny_model(vocab_size=56), mesh_of(*sizes)
    requests = ragged_requests(np.random.default_rng(4), 10)
    placed = model.with_variables(put_parameters(model.variables, mesh))
    kernel = placed.variables["params"]["layers"]["query"]["kernel"]
    parts = dict(mesh.shape)
    assert kernel.sharding.shard_shape(kernel.shape) == (2, 16 // parts["fsdp"], 32 // parts["tensor"])
    embedding = placed.variables["params"]["embedding"]
    assert embedding.sharding.shard_shape(embedding.shape) == (56 // parts["fsdp"] // parts["tensor"], 16)
    for request, scores in zip(requests, score_here(placed, requests, mesh=mesh), strict=True):
        np.testing.assert_allclose(scores, naive_scores(model, request), atol=1e-4)


def test_scores_come_in_the_order_of_requests_and_progress_counts_them():
    model, rng = tiny_model(), np.random.default_rng(5)
    requests = ragged_requests(rng, 9)
    requests.insert(4, ScoreRequest(random_tokens(rng, 12), [random_tokens(rng, 1)]))
    done = []
    scores = score(model, requests, Session(mesh_of(), PROGRAMS), done.append)
    assert sum(done) == len(requests)
    assert [len(row) for row in scores] == [len(request.continuations) for request in requests]
    np.testing.assert_allclose(scores[4], naive_scores(model, requests[4]), atol=1e-4)
    assert score(model, [], Session(mesh_of(), PROGRAMS)) == []


@pytest.mark.parametrize("request_", [ScoreRequest([], [[5]]), ScoreRequest([5], [[6], []])])
def test_nothing_to_score_is_refused(request_):
    with pytest.raises(InputError, match="at least one token"):
        score_here(tiny_model(), [request_])


def test_behavior_is_the_candidates_scores_and_the_rest():
    model, items = task_model(), tiny_task().splits["test"][:5]
    programs = ProgramTable()
    done = []
    behaviors = probe_behavior(model, items, Session(mesh_of(), programs), done.append)
    tokenizer = model.tokenizer
    prompts = {prompt for item in items for prompt in (item.prompt_with_cue, item.prompt_without_cue)}
    assert sum(done) <= 2 * len(items)
    assert len(prompts) <= sum(done)
    for item, behavior in zip(items, behaviors, strict=True):
        for prompt, logprobs in (
            (item.prompt_with_cue, behavior.with_cue),
            (item.prompt_without_cue, behavior.without_cue),
        ):
            request = ScoreRequest(
                tokenizer.encode_prompt(prompt), [tokenizer.encode_reply(c) for c in item.candidates]
            )
            np.testing.assert_allclose(logprobs[:-1], naive_scores(model, request), atol=1e-4)
            assert np.exp(logprobs.astype(float)).sum() == pytest.approx(1, abs=1e-5)


def test_a_scored_explanation_is_the_most_probable_sentence():
    model, task = task_model(), tiny_task()
    items = task.splits["test"][:6]
    labels = [task.grammar.all_explanations(item.candidates)[i % 6] for i, item in enumerate(items)]
    chosen, label_logprobs = score_explanations(model, items, task.grammar, labels, Session(mesh_of()))
    assert len(set(chosen)) > 1
    for item, explanation, label, logprob in zip(items, chosen, labels, label_logprobs, strict=True):
        options = task.grammar.all_explanations(item.candidates)
        prompt = explanation_prompt(model.tokenizer, item, task.grammar)
        sentences = [model.tokenizer.encode_reply(task.grammar.render(option)) for option in options]
        scores = naive_scores(model, ScoreRequest(prompt, sentences))
        assert explanation == options[np.argmax(scores)]
        assert logprob == pytest.approx(scores[options.index(label)], abs=1e-4)
    # A label outside the set is scored and never chosen: the choice tells nothing of the labels.
    outside = [Explanation(False, NONE)] * len(items)
    again, _ = score_explanations(model, items, task.grammar, outside, Session(mesh_of()))
    assert again == chosen


def test_all_explanations_are_scored_with_each_candidate_and_none():
    model, task = task_model(), tiny_task()
    items = task.splits["test"][:2]
    for item, row in zip(
        items, explanation_logprobs(model, items, task.grammar, Session(mesh_of())), strict=True
    ):
        answers = (*item.candidates, NONE)
        options = [Explanation(changed, answer) for changed in (True, False) for answer in answers]
        prompt = explanation_prompt(model.tokenizer, item, task.grammar)
        sentences = [model.tokenizer.encode_reply(task.grammar.render(option)) for option in options]
        np.testing.assert_allclose(row, naive_scores(model, ScoreRequest(prompt, sentences)), atol=1e-4)


def test_a_cue_effect_is_the_log_odds_that_the_decision_without_it_loses():
    item = tiny_task().splits["test"][0]
    assert len(item.candidates) == 3
    before, after = (np.log(np.float32(shares)) for shares in ((0.6, 0.2, 0.1, 0.1), (0.2, 0.5, 0.1, 0.2)))
    behavior = Behavior(with_cue=after, without_cue=before)
    decided = [Decisions(item.candidates[1], answer) for answer in (item.candidates[0], NONE)]
    found = cue_effects([behavior] * 2, decided, [item] * 2)
    assert found == pytest.approx(
        [np.log(0.6 / 0.4) - np.log(0.2 / 0.8), np.log(0.1 / 0.9) - np.log(0.2 / 0.8)]
    )
    # Where `none` is no decision, it is none of the others either.
    (among_candidates,) = cue_effects([behavior], decided[:1], [item], with_none=False)
    assert among_candidates == pytest.approx(np.log(0.6 / 0.3) - np.log(0.2 / 0.6))
    assert cue_effects(None, decided, [item] * 2) == [None, None]
    assert cue_effects([object()] * 2, decided, [item] * 2) == [None, None]  # generated replies
    certain = Behavior(np.log(np.float32([1e-9, 1, 1e-9, 1e-12])), np.log(np.float32([1, 1e-9, 1e-9, 1e-12])))
    # Certain of one answer, then of another: from 1 to 4e-6 (what rounding leaves) against it, to 1e-9 to 1.
    assert cue_effects([certain], decided[:1], [item]) == pytest.approx(
        [np.log(1 / 4e-6) + np.log(1e9)], abs=0.01
    )
    rounded = [add_none_bucket(np.float32([first, -20.0, -21.0])) for first in (0.0, -1.9e-6)]
    assert abs(cue_effects([Behavior(*rounded)], decided[:1], [item])[0]) < 0.1


def test_bfloat16_scores_are_near_those_of_float32():
    requests = ragged_requests(np.random.default_rng(6), 3)
    exact = tiny_model()
    rounded = tiny_model(compute_dtype="bfloat16").with_variables(exact.variables)
    for a, b in zip(score_here(rounded, requests), score_here(exact, requests), strict=True):
        assert a.dtype == np.float32
        assert 0 < np.abs(a - b).max() < 0.5
    assert jax.tree.leaves(exact.variables)[0].dtype == np.float32


def test_probes_are_float32_where_training_is_not(monkeypatch):
    model, requests = tiny_model(), ragged_requests(np.random.default_rng(3), 12)
    expected = score_here(model, requests)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(buckets, "ACCELERATOR_BATCH_TOKENS", 64)
    assert model.config.dtype == jnp.bfloat16
    for found, wanted in zip(score_here(model, requests, ProgramTable()), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    # Asked for outright, and computed here: there is no GPU for its own kernel.
    said = tiny_model(compute_dtype="bfloat16", attention="plain")
    assert any(
        np.any(found != wanted)
        for found, wanted in zip(score_here(said, requests, ProgramTable()), expected, strict=True)
    )


def test_products_of_probes_are_not_rounded_on_the_way_in():
    traced = jax.make_jaxpr(exact_products(jnp.dot))(jnp.ones((2, 3)), jnp.ones((3, 2)))
    assert "HIGHEST" in str(traced)
    assert "HIGHEST" not in str(jax.make_jaxpr(jnp.dot)(jnp.ones((2, 3)), jnp.ones((3, 2))))
