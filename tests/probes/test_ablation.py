"""Parts of a model are taken out: against the reference decoder, and where a part is planted."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_decoder import reference_hidden, reference_token_logprobs
from tiny import mesh_of, random_tokens, task_model, tiny_config, tiny_task, tiny_variables

from introspection.models.config import ARCHITECTURES, LoraConfig
from introspection.models.decoder import Decoder
from introspection.probes.ablation import Part, ablate, ablation_effects, parts
from introspection.probes.explanation import explanation_prompt, score_explanations
from introspection.probes.scored import add_none_bucket, behavior_requests, probe_behavior
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.mesh import put_parameters
from introspection.runtime.session import Session

VALUES_OF_HEADS = {0: (0, 1), 1: (2, 3)}  # which query heads read a key-value head in the tiny model


def test_every_part_is_named_once():
    found = parts(tiny_config())
    assert [part.name for part in found[3:7]] == [
        "layer 0 head 3", "layer 0 mlp", "layer 1 head 0", "layer 1 head 1",
    ]  # fmt: skip
    assert len(set(found)) == 2 * 4 + 2
    assert [part.block for part in found[3:6]] == ["layer 0 heads", "layer 0 mlp", "layer 1 heads"]


def without(config, variables, part):
    """The model without a part by other numbers than `ablate` changes: what the part reads, not writes.

    Every query head gets keys and values of its own, so that one head's values can be zeroed; an MLP's up
    projection multiplies all that it does.
    """
    layers = jax.tree.map(lambda leaf: np.array(leaf, np.float64), dict(variables["params"]["layers"]))
    for name in ("key", "value"):
        kernel = layers[name]["kernel"].reshape(config.layers, config.width, config.kv_heads, -1)
        repeated = np.repeat(kernel, config.query_heads // config.kv_heads, axis=2)
        if name == "value" and part.head is not None:
            repeated[part.layer, :, part.head] = 0
        layers[name] = {"kernel": repeated.reshape(config.layers, config.width, -1)}
    if part.head is None:
        layers["up"]["kernel"][part.layer] = 0
    config = dataclasses.replace(config, kv_heads=config.query_heads)
    return config, {"params": {**variables["params"], "layers": layers}}


@functools.cache
def program(config):
    return jax.jit(Decoder(config).apply)


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
@pytest.mark.parametrize("part", [Part(0, 0), Part(1, 2), Part(0, None), Part(1, None)], ids=lambda p: p.name)
def test_an_ablated_model_is_the_reference_without_the_part(architecture, part):
    config = tiny_config(**ARCHITECTURES[architecture])
    variables, tokens = tiny_variables(config), random_tokens(np.random.default_rng(0), 9)
    array = jnp.asarray([tokens])
    positions, segments = jnp.arange(9)[None], jnp.zeros((1, 9), jnp.int32)
    hidden = program(config)(ablate(variables, config, part), array, positions, segments).hidden[0]
    expected = reference_hidden(*without(config, variables, part), tokens)
    np.testing.assert_allclose(hidden, expected, atol=1e-4)
    assert np.abs(hidden - reference_hidden(config, variables, tokens)).max() > 0.05


def test_a_part_goes_with_its_adapters_and_nothing_else_does():
    config = tiny_config(lora=LoraConfig(2, 4.0))
    variables = tiny_variables(config)
    for part, name, rows in ((Part(1, 3), "output", slice(24, 32)), (Part(1, None), "down", slice(0, 24))):
        ablated = ablate(variables, config, part)
        for collection, leaf in (("params", "kernel"), ("lora", "A")):
            before = variables[collection]["layers"][name][leaf]
            after = ablated[collection]["layers"][name][leaf]
            np.testing.assert_array_equal(after, before.at[1, rows].set(0))
        changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), ablated, variables)
        assert sum(jax.tree.leaves(changed)) == 2


@pytest.fixture(scope="module")
def items():
    return tiny_task().splits["test"][::5]


def test_effects_are_drops_of_the_models_own_answers(items):
    mesh, task, programs = mesh_of(), tiny_task(), ProgramTable()
    session = Session(mesh, programs)
    model = task_model()
    model = model.with_variables(put_parameters(model.variables, mesh))
    effects = ablation_effects(model, items, task.grammar, session)
    assert effects.behavior.shape == (10, len(items))
    np.testing.assert_array_equal(effects.behavior, np.mean([effects.with_cue, effects.without_cue], axis=0))
    probed = ProgramTable()
    probe_behavior(model, items, Session(mesh, probed))
    labels = [task.grammar.all_explanations(item.candidates)[0] for item in items]
    score_explanations(model, items, task.grammar, labels, Session(mesh, probed))
    assert programs.count("score_continuations") == probed.count("score_continuations")
    part, number = Part(0, 1), 3  # an item on which this part matters for all three
    row = parts(model.config).index(part)
    whole, taken = (model.config, model.variables), without(model.config, model.variables, part)

    def logprobs(one, prompt, texts):
        replies = [model.tokenizer.encode_reply(text) for text in texts]
        return np.array([reference_token_logprobs(*one, prompt, reply).sum() for reply in replies])

    def drop(prompt, texts, bucket=lambda values: values):
        before, after = (bucket(logprobs(one, prompt, texts)) for one in (whole, taken))
        return before.max() - after[before.argmax()]

    item = items[number]
    for effect, request in zip(
        (effects.with_cue, effects.without_cue), behavior_requests(model.tokenizer, [item]), strict=True
    ):
        expected = drop(request.prompt, item.candidates, add_none_bucket)
        # Random parameters decide for `none` almost surely, so what a part costs them is little.
        assert abs(expected) > 5e-5
        assert effect[row, number] == pytest.approx(expected, rel=0.03, abs=0)
    options = [task.grammar.render(e) for e in task.grammar.all_explanations(item.candidates)]
    expected = drop(explanation_prompt(model.tokenizer, item, task.grammar), options)
    assert abs(expected) > 0.1
    assert effects.explanation[row, number] == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
def test_a_part_that_reads_only_the_question_serves_explanations_alone(items):
    """Layer 0's second key-value head sees nothing but a direction that the question's words alone have."""
    model, grammar = task_model(), tiny_task().grammar
    asked = {token for item in items for token in explanation_prompt(model.tokenizer, item, grammar)}
    prompts = {token for request in behavior_requests(model.tokenizer, items) for token in request.prompt}
    assert asked - prompts
    params = jax.tree.map(np.array, model.variables["params"])
    params["embedding"][:, -1] = 0
    params["embedding"][list(asked - prompts), -1] = 3
    head_dim = model.config.head_dim
    params["layers"]["value"]["kernel"][0, :-1, head_dim:] = 0
    planted = model.with_variables({"params": jax.tree.map(jnp.asarray, params)})
    effects = ablation_effects(planted, items, grammar, Session(mesh_of()))
    found = parts(model.config)
    for head in VALUES_OF_HEADS[1]:
        row = found.index(Part(0, head))
        np.testing.assert_array_equal(effects.behavior[row], 0)
        assert np.abs(effects.explanation[row]).min() > 1e-3
    for head in VALUES_OF_HEADS[0]:
        assert np.abs(effects.behavior[found.index(Part(0, head))]).max() > 5e-5
