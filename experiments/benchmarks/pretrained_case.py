"""SmolLM2-135M with adapters, and token rows of the lengths in `configs/smollm2.py`."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.matrix_products import Product, forward_products
from introspection.checkpoints.names import load_one, model_path
from introspection.models.config import LoraConfig, ModelConfig
from introspection.models.decoder import forward, initialize
from introspection.models.model import Model
from introspection.runtime.config import cache_dir
from introspection.runtime.mesh import MeshConfig, make_mesh
from introspection.text.rows import Rows, build_row, stack_rows
from introspection.text.tokenizer import phrase_tokenizer
from introspection.training.objectives import Batch, BehaviorBatch


@dataclasses.dataclass(frozen=True)
class Size:
    """The shapes of `configs/smollm2.py`; lengths are ranges in tokens, from its items."""

    model: ModelConfig | None = None  # None: SmolLM2, fetched; else random numbers of this shape
    rank: int = 128
    explanation_rows: int = 8  # per step
    behavior_items: int = 2  # per step; each is two rows, with and without its cue
    explanation_prompt: tuple[int, int] = (49, 64)
    explanation: tuple[int, int] = (5, 12)
    prompt_with_cue: tuple[int, int] = (42, 52)
    prompt_without_cue: tuple[int, int] = (35, 42)
    reply: tuple[int, int] = (8, 24)
    time: int = 75  # of every row, padding included
    batches: int = 3
    rounds: int = 6


TINY_MODEL = ModelConfig(64, 16, 2, 2, 1, 8, 24, context_length=32, compute_dtype="float32")
TINY = Size(
    TINY_MODEL,
    rank=2,
    explanation_rows=3,
    behavior_items=2,
    explanation_prompt=(4, 6),
    explanation=(2, 3),
    prompt_with_cue=(4, 6),
    prompt_without_cue=(3, 5),
    reply=(2, 4),
    time=12,
    rounds=2,
)


class Case(NamedTuple):
    """A model at the start of training, and the batches of some steps."""

    config: ModelConfig  # with adapters
    params: dict
    adapters: dict  # A random, B zero, as at the start of training
    batches: list[Batch]


def load_model(shape: ModelConfig | None) -> Model:
    """SmolLM2 in float32; or random numbers of a shape, with an unused tokenizer.

    Raises:
      InputError: SmolLM2 has not been fetched.
    """
    if shape is not None:
        params = jax.jit(lambda key: initialize(shape, key))(jax.random.key(0))["params"]
        return Model(shape, phrase_tokenizer(["a"], []), {"params": params})
    model = load_one(model_path("smollm2", cache_dir()), make_mesh(MeshConfig()))
    return dataclasses.replace(model, config=dataclasses.replace(model.config, compute_dtype="float32"))


def make_case(size: Size) -> Case:
    """The common start of both sides of a comparison; deterministic."""
    model = load_model(size.model)
    config, params = model.config, model.variables["params"]
    with_adapters = dataclasses.replace(config, lora=LoraConfig(size.rank, float(size.rank)))
    adapters = jax.jit(lambda key: initialize(with_adapters, key)["lora"])(jax.random.key(1))

    @jax.jit
    def hidden_states(params, rows: Any):  # of `Rows`, on a device
        hidden = forward(config, {"params": params}, rows.tokens, rows.positions, rows.segments).hidden
        return jnp.take_along_axis(hidden, rows.scored[..., None], axis=1)

    batches = [random_batch(size, config.vocab_size, seed) for seed in range(size.batches)]
    filled = []
    for batch in batches:
        held = batch.behavior
        assert held is not None
        flat = jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), held.rows)
        hidden = np.asarray(hidden_states(params, flat))
        hidden = hidden.reshape(size.behavior_items, 2, *hidden.shape[1:])
        filled.append(batch._replace(behavior=held._replace(reference_hidden=hidden)))
    return Case(with_adapters, params, adapters, filled)


def random_batch(size: Size, vocab_size: int, seed: int) -> Batch:
    """Random tokens in rows of the size's lengths, without the reference's hidden states."""
    rng = np.random.default_rng(seed)

    def tokens(lengths: tuple[int, int]) -> list[int]:
        return rng.integers(4, vocab_size, rng.integers(lengths[0], lengths[1] + 1)).tolist()

    explanations = [
        build_row(tokens(size.explanation_prompt), [tokens(size.explanation)])
        for _ in range(size.explanation_rows)
    ]
    replies = [
        build_row(tokens(prompt), [tokens(size.reply)])
        for _ in range(size.behavior_items)
        for prompt in (size.prompt_with_cue, size.prompt_without_cue)
    ]
    # Every batch of a run has the same shape.
    longest = build_row([0] * (size.time - size.reply[1] + 1), [[0] * size.reply[1]])
    said = stack_rows([*replies, longest], size.time)
    written = stack_rows(
        [*explanations, build_row([0], [[0] * size.explanation[1]])],
        size.time,
    )
    rows = Rows(*(array[:-1].reshape(size.behavior_items, 2, *array.shape[1:]) for array in said))
    return Batch(
        explanation=Rows(*(array[:-1] for array in written)),
        behavior=BehaviorBatch(rows, np.ones((size.behavior_items, 2), bool), np.zeros(0, np.float32)),
    )


def step_products(case: Case) -> list[Product]:
    """The products of one step's forward pass: all rows, and the scored positions of both kinds."""
    batch = case.batches[0]
    assert batch.behavior is not None
    rows = (batch.explanation, batch.behavior.rows)
    tokens, scored = (sum(getattr(part, name).size for part in rows) for name in ("tokens", "scored"))
    return forward_products(case.config, tokens, scored)


def step_flops(case: Case) -> int:
    """Operations of the matrix products in one step of training the adapters, padding included.

    A product with a frozen matrix is done twice, forward and backward to its input; one with an adapter three
    times, also backward to the adapter. The reference's logits add one product with the head.
    """
    *layers, head = step_products(case)
    frozen, adapted = layers[:7], layers[7:]
    held = case.batches[0].behavior
    assert held is not None
    reference = held.rows.scored.size / head.rows
    return round(
        sum(2 * product.flops for product in frozen)
        + sum(3 * product.flops for product in adapted)
        + (2 + reference) * head.flops
    )
