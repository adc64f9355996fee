"""Patching: identity, full restoration, causality, and the same by any route."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from tiny import mesh_of, task_model, tiny_task

from introspection.errors import InputError
from introspection.models.decoder import forward
from introspection.models.interventions import Patch, PatchWeights
from introspection.patching.contrasts import item_contrasts
from introspection.probes.contrasts import (
    GROUPS,
    behavior_contrast,
    contrast_batch,
    explanation_contrast,
    last_word,
    open_groups,
)
from introspection.probes.patching import (
    PatchingConfig,
    Site,
    all_sites,
    attribute_sites,
    first_order_effects,
    logit_differences,
    patch_sites,
    site_weights,
)
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.session import Session
from introspection.tasks.facts.world_facts import WORLD_FACTS
from introspection.tasks.items import Decisions


@functools.cache
def contrasts(kind="explanation", count=6):
    """Of items whose cue names a wrong answer, as if it were believed."""
    items = [item for item in tiny_task().splits["train"] if item.cued != item.gold][:count]
    tokenizer, grammar = task_model().tokenizer, tiny_task().grammar
    decided = [Decisions(item.cued, item.gold) for item in items]
    if kind == "behavior":
        return [behavior_contrast(i, d, tokenizer, WORLD_FACTS) for i, d in zip(items, decided, strict=True)]
    return [
        explanation_contrast(i, d, tokenizer, grammar, WORLD_FACTS)
        for i, d in zip(items, decided, strict=True)
    ]


def device_batch():
    return jax.tree.map(jax.numpy.asarray, contrast_batch(contrasts()))


PROGRAMS = ProgramTable()


def session():
    return Session(mesh_of(), PROGRAMS)


ROWS, TIME = 2, 7


@functools.cache
def program(config):
    return jax.jit(functools.partial(forward, config, return_activations=True))


def run(model, seed=0, patch=None):
    """Final hidden states and activations of rows of random tokens."""
    tokens = jax.random.randint(jax.random.key(seed), (ROWS, TIME), 4, model.config.vocab_size)
    places = jax.numpy.broadcast_to(jax.numpy.arange(TIME), tokens.shape)
    found = program(model.config)(model.variables, tokens, places, jax.numpy.zeros_like(tokens), patch=patch)
    return np.asarray(found.hidden), found.activations


def weights_of(config, draw):
    shape = (config.layers, ROWS, TIME)
    weights = PatchWeights(*(draw(shape) for _ in range(3)), draw((*shape, config.query_heads)))
    return jax.tree.map(lambda leaf: jax.numpy.asarray(leaf, jax.numpy.float32), weights)


def random_weights(config):
    return weights_of(config, np.random.default_rng(0).random)


def no_weights(config):
    return weights_of(config, np.zeros)


def test_a_run_patched_with_its_own_activations_is_itself():
    model = task_model()
    hidden, own = run(model)
    np.testing.assert_array_equal(run(model, patch=Patch(own, random_weights(model.config)))[0], hidden)


@pytest.mark.parametrize("post_norms", [False, True])
def test_the_last_residual_stream_of_another_run_gives_its_hidden_states(post_norms):
    model = task_model(post_norms=post_norms)
    other, values = run(model, seed=1)
    none = no_weights(model.config)
    patch = Patch(values, none._replace(residual=none.residual.at[-1].set(1)))
    np.testing.assert_allclose(run(model, patch=patch)[0], other, atol=1e-5)
    assert np.abs(run(model)[0] - other).max() > 0.1


def test_all_heads_together_are_the_attention_output():
    """Each head's output through its rows of the output projection sums to what attention adds; and all heads
    of a layer patched are its attention patched."""
    model = task_model()
    _, read = run(model)
    kernel = np.asarray(model.variables["params"]["layers"]["output"]["kernel"])
    by_head = kernel.reshape(model.config.layers, model.config.query_heads, model.config.head_dim, -1)
    summed = np.einsum("lrthd,lhdw->lrtw", read.heads, by_head)
    np.testing.assert_allclose(summed, read.attention, atol=1e-5)

    _, values = run(model, seed=1)
    none = no_weights(model.config)
    heads = none._replace(heads=none.heads.at[0].set(1))
    block = none._replace(attention=none.attention.at[0].set(1))
    found = [run(model, patch=Patch(values, chosen))[0] for chosen in (heads, block, none)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    assert np.abs(found[0] - found[2]).max() > 0.1


def test_a_patch_at_a_later_position_changes_nothing_before_it():
    model = task_model()
    _, values = run(model, seed=1)
    late = jax.tree.map(lambda leaf: leaf.at[:, :, :4].set(0), random_weights(model.config))
    whole, patched = run(model)[0], run(model, patch=Patch(values, late))[0]
    np.testing.assert_array_equal(patched[:, :4], whole[:, :4])
    assert (np.abs(patched[:, 4:] - whole[:, 4:]).max(axis=-1) > 1e-3).all()


@pytest.mark.parametrize("kind", ["behavior", "explanation"])
def test_restoration_is_full_at_the_last_answer_and_none_where_nothing_differs(kind):
    model, last = task_model(), task_model().config.layers - 1
    sites = [
        Site("residual", last, "answer"),
        Site("residual", 0, "relation"),
        Site("mlp", 0, "entity"),
        Site("attention", last, "cue"),
    ]
    found = patch_sites(model, contrasts(kind), [[site] for site in sites], session())
    np.testing.assert_allclose(found.patched[:, 0], found.source, atol=1e-5)
    np.testing.assert_allclose(found.patched[:, 1:], np.repeat(found.base[:, None], 3, axis=1), atol=1e-6)
    assert np.abs(found.source - found.base).min() > 1e-3
    assert open_groups(contrasts(kind)) == [
        group for group in GROUPS[3:] if group != "ask" or kind == "explanation"
    ]


def test_all_sites_at_once_are_each_one_alone():
    """In one program side by side, and one call a site; an item's effects don't depend on its neighbours."""
    model = task_model()
    sites = [[site] for site in all_sites(model.config, open_groups(contrasts()))]
    together = patch_sites(model, contrasts(), sites, session())
    batch, one = device_batch(), jax.jit(functools.partial(logit_differences, model.config))
    for index, site in enumerate(sites):
        alone = one(model.variables, batch, site_weights(model.config, [site]))[0]
        np.testing.assert_allclose(together.patched[:, index], alone, atol=1e-5)
    few = patch_sites(model, contrasts()[2:4], sites, session())
    np.testing.assert_allclose(few.patched, together.patched[2:4], atol=1e-5)
    assert together.patched.std(axis=1).min() > 1e-3


def test_the_reverse_puts_the_cue_into_the_other_run():
    model, last = task_model(), task_model().config.layers - 1
    turned = [one.swapped() for one in contrasts()]
    found = patch_sites(
        model, turned, [[Site("residual", last, "answer")], [Site("mlp", 0, "cue")]], session()
    )
    forth = patch_sites(model, contrasts(), [[]], session())
    np.testing.assert_allclose(found.base, forth.source, atol=1e-5)
    np.testing.assert_allclose(found.patched[:, 0], forth.base, atol=1e-5)
    np.testing.assert_allclose(found.patched[:, 1], found.base, atol=1e-6)  # there is no cue to replace


def linear_model():
    """Without norms' and softmax's curvature to first order: a huge epsilon makes norms a constant scale, and
    zero queries make attention a mean over what is seen; no gate, so MLPs add nothing."""
    model = task_model(norm_epsilon=1e6)
    params = jax.tree.map(lambda leaf: leaf, model.variables["params"])
    layers = dict(params["layers"])
    for name, factor in (("query", 0), ("gate", 0), ("value", 1e3), ("output", 1.0)):
        layers[name] = {"kernel": layers[name]["kernel"] * factor}
    return model.with_variables({"params": {**params, "layers": layers, "embedding": params["embedding"]}})


def test_attribution_is_exact_for_a_linear_model():
    model = linear_model()
    sites = all_sites(model.config, open_groups(contrasts()))
    exact = patch_sites(model, contrasts(), [[site] for site in sites], session())
    effects, first_order = (
        exact.patched - exact.base[:, None],
        attribute_sites(model, contrasts(), sites, session()),
    )
    scale = np.abs(effects).max()
    np.testing.assert_allclose(first_order / scale, effects / scale, atol=2e-3)
    assert (np.abs(effects / scale).max(axis=0) > 0.01).mean() > 0.3


@pytest.mark.slow
def test_attribution_is_the_derivative_of_patching():
    model, batch = task_model(), device_batch()
    weights = site_weights(model.config, [[Site("attention", 0, "cue")]])
    step = 1e-2
    ways = [jax.tree.map(lambda leaf, s=s: leaf * s, weights) for s in (step, -step)]
    up, down = (logit_differences(model.config, model.variables, batch, way)[0] for way in ways)
    slopes = first_order_effects(model.config, model.variables, batch).attention[:, 0, GROUPS.index("cue")]
    np.testing.assert_allclose(slopes, (up - down) / (2 * step), rtol=2e-2, atol=2e-3)


def test_sites_outside_the_model_are_refused():
    config = task_model().config
    with pytest.raises(InputError, match=r"patching.layers has 9; the model has layers 0 to 1"):
        all_sites(config, ("answer",), PatchingConfig(layers=(0, 9)))
    with pytest.raises(InputError, match=r"patching.heads has 4; the model has heads 0 to 3"):
        all_sites(config, ("answer",), PatchingConfig(heads=(4,)))
    for site in (Site("mlp", 2, "cue"), Site("head", 0, "all", 4)):
        with pytest.raises(InputError, match="outside the model"):
            site_weights(config, [[site]])


def test_tokens_of_the_cue_have_the_mean_of_their_neighbours_for_a_counterpart():
    one = contrasts("behavior")[0]
    assert [GROUPS[group] for group in one.with_cue.groups] == [
        "relation", "entity", "cue", "cued_answer", "cue", "answer",
    ]  # fmt: skip
    assert [GROUPS[group] for group in one.without_cue.groups] == ["relation", "entity", "question", "answer"]
    middle = [0, 0, 0.5, 0.5]
    expected = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], middle, middle, [0, 0, 0, 1]]
    np.testing.assert_array_equal(one.with_cue.counterpart, expected)
    item, tokenizer = tiny_task().splits["train"][0], task_model().tokenizer
    with pytest.raises(InputError, match="do not differ"):
        behavior_contrast(item, Decisions(item.gold, item.gold), tokenizer, WORLD_FACTS)
    without = dataclasses.replace(item, prompt_with_cue=item.prompt_without_cue)
    with pytest.raises(InputError, match="the cue is not in"):
        behavior_contrast(without, Decisions(*item.candidates[:2]), tokenizer, WORLD_FACTS)


def test_tokens_of_another_cue_stand_for_the_cues_one_by_one():
    items = [item for item in tiny_task().splits["train"] if item.cued != item.gold]
    item, other = items[0], next(one for one in items if one.cued != items[0].cued)
    weaker = dataclasses.replace(
        other,
        prompt_with_cue=other.prompt_with_cue.replace(other.prompt_without_cue, item.prompt_without_cue),
        prompt_without_cue=item.prompt_without_cue,
    )
    decided = Decisions(item.cued, item.gold)
    one = behavior_contrast(item, decided, task_model().tokenizer, WORLD_FACTS, weaker)
    for run in (one.with_cue, one.without_cue):
        assert [GROUPS[group] for group in run.groups][2:] == ["cue", "cued_answer", "cue", "answer"]
        np.testing.assert_array_equal(run.counterpart, np.eye(6))
    assert open_groups([one]) == ["cue", "cued_answer", "answer"]


def test_a_weaker_cue_stands_for_another_only_where_the_decision_without_them_is_the_same():
    """It is not where a question's items have different candidates."""
    task, settings = tiny_task(), PatchingConfig(against="weaker_cue")
    one = task.splits["test"][0]
    same = [i for i in task.splits["test"] if i.prompt_without_cue == one.prompt_without_cue]
    other, last = same[1:3]
    wrong = next(answer for answer in one.candidates if answer != one.gold)

    def found(decision):
        decided = {one.id: Decisions(wrong, one.gold), other.id: Decisions(decision, decision)}
        decided[last.id] = Decisions(wrong, wrong)
        return item_contrasts("kl", task, decided, task_model(), WORLD_FACTS, settings)

    assert found(one.gold).items == [one]
    with pytest.raises(InputError, match="no question has both"):
        found(wrong)


@pytest.mark.parametrize(
    ("cue", "cued", "start"),
    [
        ("A Stanford professor says that the answer is A.", "A", 45),
        ("I think it is I.", "I", 14),
        ("I know that it is no.", "no", 18),
        ("I know it.", "no", None),
        ("ある人は東京だと言った。", "東京", 4),
        ("Somebody said so.", "", None),
    ],
)
def test_the_cued_answer_is_the_cues_last_whole_word_of_it(cue, cued, start):
    text = f"A question, no? {cue} no A I"
    in_cue = [16 <= place < 16 + len(cue) for place in range(len(text))]
    found = last_word(text, cued, in_cue)
    assert found == (range(0) if start is None else range(16 + start, 16 + start + len(cued)))
