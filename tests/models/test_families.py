"""What families switch on: each option is the textbook's, and no shortcut of scoring or decoding loses it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_decoder import log_softmax, reference_hidden, reference_logits, reference_token_logprobs
from scipy.special import rel_entr
from tiny import (
    EVERYTHING,
    LLAMA3,
    assert_trees_close,
    label_pairs,
    mesh_of,
    random_tokens,
    task_model,
    tiny_config,
    tiny_model,
    tiny_task,
    tiny_variables,
)

from introspection.checkpoints.names import ModelCard, changed_fields, model_fingerprint
from introspection.errors import InputError
from introspection.models import attention
from introspection.models.config import LoraConfig, ModelConfig, RopeScaling
from introspection.models.decoder import Decoder
from introspection.models.head import (
    KL_DIRECTIONS,
    cross_entropy,
    head_matrix,
    target_logprobs,
    vocabulary_kl,
)
from introspection.probes.decoding import decode
from introspection.probes.hidden import answer_hidden
from introspection.probes.scored import probe_behavior
from introspection.probes.scoring import ScoreRequest, score
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.mesh import put_parameters
from introspection.runtime.session import Session
from introspection.text.rows import build_row, stack_rows
from introspection.training.batches import (
    BatchSizes,
    TrainingRows,
    behavior_batch,
    explanation_rows,
    make_batch,
    same_time,
)
from introspection.training.loop import weights
from introspection.training.objectives import ObjectiveConfig, batch_loss

OPTIONS = {
    "qkv_bias": dict(qkv_bias=True),
    "linear": dict(rope_scaling=RopeScaling("linear", 4.0)),
    "llama3": dict(rope_scaling=LLAMA3),
    "attention_softcap": dict(attention_softcap=1.5),
    "query_scale": dict(query_scale=0.7),
    "window": dict(window=3),
    "windowed_layers": dict(window=3, windowed_layers=(False, True)),
    "local_rope_base": dict(
        window=3, windowed_layers=(True, False), local_rope_base=7.0, rope_scaling=RopeScaling("linear", 4.0)
    ),
}
PROGRAMS = ProgramTable()


@functools.cache
def forward(config):
    def hidden(variables, tokens, positions, segments):
        return Decoder(config).apply(variables, tokens, positions, segments).hidden

    return jax.jit(hidden)


def plain(config, variables, tokens):
    """Final hidden states of one plain sequence."""
    tokens = jnp.asarray(tokens)[None]
    return np.asarray(forward(config)(variables, tokens, jnp.arange(tokens.shape[1])[None], 0 * tokens))[0]


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_is_the_references_and_changes_what_comes_out(option):
    config = tiny_config(**OPTIONS[option])
    variables, tokens = tiny_variables(config), random_tokens(np.random.default_rng(0), 12)
    hidden = plain(config, variables, tokens)
    np.testing.assert_allclose(hidden, reference_hidden(config, variables, tokens), atol=1e-4)
    layers = variables["params"]["layers"]
    without_bias = {name: {k: v for k, v in leaf.items() if k != "bias"} for name, leaf in layers.items()}
    off = {"params": {**variables["params"], "layers": without_bias}}
    assert np.abs(hidden - plain(tiny_config(), off, tokens))[4:].max() > 1e-2


def test_all_options_together_are_the_references_scanned_or_unrolled():
    config = tiny_config(**EVERYTHING)
    variables, tokens = tiny_variables(config), random_tokens(np.random.default_rng(1), 14)
    hidden = plain(config, variables, tokens)
    np.testing.assert_allclose(hidden, reference_hidden(config, variables, tokens), atol=1e-4)
    unrolled = tiny_config(**EVERYTHING, scan_unroll=config.layers)
    np.testing.assert_allclose(plain(unrolled, variables, tokens), hidden, atol=1e-5)


def test_windows_go_by_positions_where_continuations_lie_side_by_side():
    config, rng = tiny_config(**EVERYTHING), np.random.default_rng(2)
    variables = tiny_variables(config)
    prompt, continuations = random_tokens(rng, 5), [random_tokens(rng, n) for n in (4, 3, 5)]
    rows = stack_rows([build_row(prompt, continuations)], 16)
    hidden = forward(config)(variables, rows.tokens, rows.positions, rows.segments)[0]
    start = len(prompt)
    for continuation in continuations:
        read = continuation[:-1]
        expected = reference_hidden(config, variables, [*prompt, *read])
        np.testing.assert_allclose(hidden[start : start + len(read)], expected[len(prompt) :], atol=1e-4)
        start += len(read)


@pytest.mark.parametrize("layers", [1, 2])
def test_gradients_reach_a_token_from_its_window_alone(layers):
    config = tiny_config(window=3, layers=layers)
    variables, tokens = tiny_variables(config), jnp.arange(12)[None]  # each has an embedding row of its own

    def hidden(embedding):
        params = {**variables["params"], "embedding": embedding}
        return forward(config)({"params": params}, tokens, tokens, 0 * tokens)[0].sum(axis=-1)

    influence = np.abs(jax.jit(jax.jacrev(hidden))(variables["params"]["embedding"])).max(axis=-1)
    reach = layers * (config.window - 1)  # a layer looks two tokens back
    for query in range(12):
        for key in range(12):
            if 0 <= query - key <= reach:
                assert influence[query, key] > 1e-6, (query, key)
            else:
                assert influence[query, key] == 0, (query, key)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 2, 2)], ids=str)
def test_scores_after_a_shared_prompt_equal_those_of_whole_sequences(sizes):
    model, rng = tiny_model(**EVERYTHING), np.random.default_rng(3)
    requests = [
        ScoreRequest(random_tokens(rng, prompt), [random_tokens(rng, n) for n in (6, 1, 4)])
        for prompt in (1, 2, 7, 8)
    ]
    placed = model.with_variables(put_parameters(model.variables, mesh_of(*sizes)))
    for request, scores in zip(
        requests, score(placed, requests, Session(mesh_of(*sizes), PROGRAMS)), strict=True
    ):
        naive = [
            reference_token_logprobs(model.config, model.variables, request.prompt, c).sum()
            for c in request.continuations
        ]
        np.testing.assert_allclose(scores, naive, atol=1e-4)


def test_replies_equal_those_of_a_full_forward_at_every_step():
    model, rng = tiny_model(**EVERYTHING), np.random.default_rng(4)
    prompts = [random_tokens(rng, length) for length in (1, 5, 8)]
    for prompt, reply in zip(prompts, decode(model, prompts, 8, Session(mesh_of(), PROGRAMS)), strict=True):
        said = []
        for token, logprob in zip(reply.tokens, reply.logprobs, strict=True):
            row = log_softmax(reference_logits(model.config, model.variables, [*prompt, *said])[-1])
            assert token == row.argmax()
            assert logprob == pytest.approx(row.max(), abs=1e-4)
            said.append(token)
        assert len(said) == 8 or said[-1] == model.tokenizer.end_id


def test_without_windows_no_window_is_computed(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a mask for nothing")

    monkeypatch.setattr(attention, "window_mask", refuse)
    tokens = jnp.zeros((1, 4), jnp.int32)

    def trace(config):
        return jax.make_jaxpr(Decoder(config).apply)(tiny_variables(config), tokens, tokens, tokens)

    trace(tiny_config())
    with pytest.raises(AssertionError, match="for nothing"):
        trace(tiny_config(window=3))


def normal(seed, *shape):
    return jnp.array(np.random.default_rng(seed).normal(size=shape) * 2, jnp.float32)


HEAD, HIDDEN = normal(0, 13, 6), normal(1, 11, 6)
REFERENCE_HEAD, REFERENCE_HIDDEN = normal(2, 13, 8), normal(3, 11, 8)


@pytest.mark.parametrize("chunk", [4, 64])
def test_the_softcapped_losses_own_gradient_is_that_of_differentiation(chunk):
    targets, counted = jnp.arange(11), jnp.abs(normal(4, 11))

    def own(head, hidden):
        return cross_entropy(head, hidden, targets, counted, chunk, 2.5)

    def by_hand(head, hidden):
        logprobs = jax.nn.log_softmax(2.5 * jnp.tanh(hidden @ head.T / 2.5))
        return -jnp.sum(counted * logprobs[jnp.arange(11), targets])

    results = [jax.jit(jax.value_and_grad(loss, (0, 1)))(HEAD, HIDDEN) for loss in (own, by_hand)]
    assert_trees_close(*results, atol=1e-4)
    logprobs = target_logprobs(HEAD, HIDDEN, targets[:, None], chunk, 2.5)[:, 0]
    assert float(-jnp.sum(counted * logprobs)) == pytest.approx(float(results[1][0]), rel=1e-5)


def test_the_divergence_softcaps_each_model_by_its_own():
    def softcapped(hidden, head, cap):
        logits = np.asarray(hidden, np.float64) @ np.asarray(head, np.float64).T
        return np.exp(log_softmax(cap * np.tanh(logits / cap)))

    current, reference = softcapped(HIDDEN, HEAD, 2.5), softcapped(REFERENCE_HIDDEN, REFERENCE_HEAD, 4.0)
    for direction, pair in zip(KL_DIRECTIONS, ((reference, current), (current, reference)), strict=False):
        divergence = vocabulary_kl(HEAD, HIDDEN, REFERENCE_HEAD, REFERENCE_HIDDEN, 4, direction, 2.5, 4.0)
        np.testing.assert_allclose(divergence, rel_entr(*pair).sum(axis=-1), rtol=1e-4)


@pytest.mark.slow
def test_the_objective_softcaps_the_current_model_and_its_reference():
    model, task, programs = task_model(1, final_softcap=2.0), tiny_task(), ProgramTable()
    items = task.splits["train"]
    labels = [task.grammar.all_explanations(item.candidates)[i % 6] for i, item in enumerate(items)]
    explanation = explanation_rows(model.tokenizer, items, labels, task)
    behaviors = probe_behavior(model, items, Session(mesh_of(), programs))
    hidden = answer_hidden(model, items, Session(mesh_of(), programs))
    behavior = behavior_batch(
        model.tokenizer, items, label_pairs(items, labels), behaviors, hidden, np.ones((len(items), 2), bool)
    )
    explanation, held, _ = same_time(explanation, behavior.rows, None)
    rows = TrainingRows(explanation, behavior._replace(rows=held), None)
    batch = make_batch(rows, BatchSizes(4, 4, 1), step=0, seed=0)
    head = head_matrix(model.variables, model.config)

    def metrics(**objective):
        loss = functools.partial(batch_loss, model.config, ObjectiveConfig(**objective))
        return jax.jit(loss)(model.variables, head, batch, weights(1.0, 0.0))[1]

    # The reference is the model itself, over the vocabulary and over candidates.
    own = metrics(reference_softcap=2.0)
    assert float(own["kl"]) == pytest.approx(0, abs=1e-6)
    assert float(metrics()["kl"]) > 1e-2
    assert float(metrics(kl_support="candidates")["kl"]) == pytest.approx(0, abs=1e-5)
    logprobs = [
        reference_token_logprobs(
            model.config,
            model.variables,
            batch.explanation.tokens[i, : batch.explanation.scored[i, 0] + 1].tolist(),
            [t for t, c in zip(*(batch.explanation[n][i, :, 0] for n in (4, 5)), strict=True) if c >= 0],
        )
        for i in range(4)
    ]
    assert float(own["explanation_loss"]) == pytest.approx(-np.concatenate(logprobs).mean(), abs=1e-4)


@pytest.mark.parametrize("lora", [None, LoraConfig(2, 4.0, ("query", "down"))])
def test_a_card_gives_back_the_config_that_it_was_written_with(tmp_path, lora):
    card = ModelCard(tiny_config(**EVERYTHING, lora=lora), (0, 3), base="initial")
    card.write(tmp_path)
    assert ModelCard.read(tmp_path) == card
    assert hash(ModelCard.read(tmp_path).model) == hash(card.model)  # programs are kept by it


def test_a_models_name_is_of_what_differs_from_the_defaults():
    sizes = {field.name for field in dataclasses.fields(ModelConfig) if field.default is dataclasses.MISSING}
    assert set(changed_fields(tiny_config())) == sizes | {"rope_base"}
    scaled = changed_fields(tiny_config(rope_scaling=RopeScaling("linear", 2.0)))
    assert scaled["rope_scaling"] == {"kind": "linear", "factor": 2.0}
    model = tiny_model()
    windowed = dataclasses.replace(model, config=tiny_config(window=3))
    assert model_fingerprint(windowed) != model_fingerprint(model)
    unrolled = dataclasses.replace(model, config=tiny_config(scan_unroll=2))
    assert model_fingerprint(unrolled) == model_fingerprint(model)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (dict(window=-1), "model.window is -1"),
        (dict(window=3, windowed_layers=(True,)), "windowed_layers has 1 entries"),
        (dict(windowed_layers=(True, False)), "need a model.window"),
        (dict(local_rope_base=10.0), "need a model.window"),
        (dict(final_softcap=0.0), "model.final_softcap is 0.0"),
    ],
)
def test_options_that_make_no_decoder_are_refused(changes, problem):
    with pytest.raises(InputError, match=problem):
        tiny_config(**changes)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("yarn", 2.0), "rope_scaling.kind is 'yarn'"),
        (("linear", 0.5), "rope_scaling.factor is 0.5"),
        (("llama3", 2.0, 4.0, 4.0), "must be above"),
    ],
)
def test_scalings_that_scale_nothing_are_refused(arguments, problem):
    with pytest.raises(InputError, match=problem):
        RopeScaling(*arguments)
