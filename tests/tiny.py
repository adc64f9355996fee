"""What many tests are built from: a decoder of two narrow layers, its tokenizer and a small task."""

import functools

import jax
import numpy as np

from introspection.models.config import ModelConfig, RopeScaling
from introspection.models.decoder import initialize
from introspection.models.model import Model
from introspection.probes.hidden import answer_hidden
from introspection.probes.scored import probe_behavior
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.mesh import MeshConfig, make_mesh, parameter_shardings
from introspection.runtime.session import Session
from introspection.tasks.facts.questions import draw_questions
from introspection.tasks.facts.table import read_facts_table
from introspection.tasks.facts.world_facts import WorldFactsConfig, world_facts_task
from introspection.tasks.items import NONE, Explanation
from introspection.text.tokenizer import phrase_tokenizer
from introspection.training.batches import (
    TrainingRows,
    behavior_batch,
    explanation_rows,
    held_prompts,
    same_time,
    shift_rows,
)
from introspection.training.shifts import ShiftExample

VOCABULARY = 50
# One frequency kept, one between, two divided.
LLAMA3 = RopeScaling("llama3", 8.0, original_context_length=32)
# Every option of a family at once.
EVERYTHING = dict(
    qkv_bias=True,
    attention_softcap=2.0,
    final_softcap=3.0,
    query_scale=0.5,
    window=3,
    windowed_layers=(True, False),
    local_rope_base=7.0,
    rope_scaling=LLAMA3,
    qk_norm=True,
    post_norms=True,
)


def tiny_config(**changes):
    sizes = dict(
        vocab_size=VOCABULARY,
        width=16,
        layers=2,
        query_heads=4,
        kv_heads=2,
        head_dim=8,
        mlp_width=24,
        context_length=64,
        rope_base=100.0,
    )
    return ModelConfig(**(sizes | changes))


@functools.cache
def tiny_variables(config, seed=0):
    """Random parameters where every leaf counts, adapters too, and logits are far from equal."""
    rng = np.random.default_rng(seed)

    def varied(path, leaf):
        noise = rng.normal(size=leaf.shape)
        name = path[-1].key
        if name in ("embedding", "head"):
            values = noise * 0.5
        elif name == "scale":
            values = 1 + 0.3 * noise
        else:
            values = 1.2 * noise / np.sqrt(leaf.shape[-2])
        return jax.numpy.asarray(values, leaf.dtype)

    shapes = jax.eval_shape(functools.partial(initialize, config), jax.random.key(0))
    return jax.tree_util.tree_map_with_path(varied, shapes)


@functools.cache
def tiny_tokenizer():
    """A vocabulary of `VOCABULARY` words: four special tokens, w0, w1, …"""
    return phrase_tokenizer((), [f"w{i:02}" for i in range(VOCABULARY - 4)])


def tiny_model(seed=0, **changes):
    config = tiny_config(**changes)
    return Model(config, tiny_tokenizer(), tiny_variables(config, seed))


@functools.cache
def tiny_questions():
    facts = [f for f in read_facts_table() if f.relation in ("country_capital", "element_block")]
    return tuple(draw_questions(facts, 12, candidates=3, seed=0))


@functools.cache
def tiny_task():
    """Items of twelve facts with all cues: six to train, two to validate, four to test."""
    config = WorldFactsConfig(
        seed=0, candidates=3, repeats=1, train_facts=6, validation_facts=2, test_facts=4
    )
    return world_facts_task(config, tiny_questions())


@functools.cache
def task_model(seed=0, **changes):
    """A model whose vocabulary is that of `tiny_task`."""
    task = tiny_task()
    tokenizer = phrase_tokenizer(task.names, task.phrases)
    config = tiny_config(vocab_size=tokenizer.vocab_size, **changes)
    return Model(config, tokenizer, tiny_variables(config, seed))


@functools.cache
def tiny_training_rows(kl_prompts="both"):
    """What `tiny_task` trains: labels of every kind, behaviour held to `task_model(1)`, and a shift.

    Of two items in three the trained label is the clean one.
    """
    task, reference = tiny_task(), task_model(1)
    items, tokenizer, programs = task.splits["train"], reference.tokenizer, ProgramTable()
    clean = [
        (*task.grammar.all_explanations(item.candidates), Explanation(False, NONE))[i % 7]
        for i, item in enumerate(items)
    ]
    trained = [
        label if i % 3 else Explanation(not label.changed, label.answer) for i, label in enumerate(clean)
    ]
    explanation = explanation_rows(tokenizer, items, trained, task)
    behavior = behavior_batch(
        tokenizer,
        items,
        {item.id: tuple(pair) for item, *pair in zip(items, trained, clean, strict=True)},
        probe_behavior(reference, items, Session(mesh_of(), programs)),
        answer_hidden(reference, items, Session(mesh_of(), programs)),
        held_prompts(items, kl_prompts, {items[0].prompt_with_cue}, {item.group for item in items}),
    )
    shift = shift_rows(tokenizer, [ShiftExample(i.prompt_with_cue, i.cued) for i in task.splits["test"]])
    explanation, rows, shift = same_time(explanation, behavior.rows, shift)
    return TrainingRows(explanation, behavior._replace(rows=rows), shift)


def label_pairs(items, labels):
    """Labels by item id as `behavior_batch` takes them, trained on as they are."""
    return {item.id: (label, label) for item, label in zip(items, labels, strict=True)}


def mesh_of(data=1, fsdp=1, tensor=1):
    return make_mesh(MeshConfig(data, fsdp, tensor))


def random_tokens(rng, length):
    return [int(token) for token in rng.integers(4, VOCABULARY, length)]


def assert_trees_close(actual, expected, **tolerances):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerances), actual, expected)


def assert_placed(tree, mesh):
    """Every leaf lies on the mesh as parameters do."""
    shardings = parameter_shardings(tree, mesh)
    for leaf, sharding in zip(jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True):
        assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)


def equations(jaxpr):
    """Every equation of a jaxpr and of the jaxprs inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)
