"""SmolLM2-135M with adapters, and rows as in `configs/smollm2.py`."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from configs.smollm2 import PACK_TOKENS, get_config
from experiments.benchmarks.matrix_products import Product, forward_products
from introspection.checkpoints.names import load_one
from introspection.models.config import LoraConfig, ModelConfig
from introspection.models.decoder import forward, initialize
from introspection.models.model import Model
from introspection.probes.explanation import explanation_prompt
from introspection.runs.config import read_config
from introspection.runtime.config import cache_dir
from introspection.runtime.mesh import MeshConfig, make_mesh
from introspection.tasks.registry import load_task
from introspection.text.rows import build_row, stack_rows
from introspection.text.tokenizer import phrase_tokenizer
from introspection.training.batches import BatchSizes, TrainingRows, by_item, make_batch, same_time
from introspection.training.objectives import Batch, BehaviorBatch, batch_parts
from introspection.training.packing import in_packs


@dataclasses.dataclass(frozen=True)
class Size:
    """The shapes of `configs/smollm2.py`, and its prompts."""

    model: ModelConfig | None = None  # None: SmolLM2, fetched; else random numbers of this shape and prompts
    rank: int = 128
    explanation_rows: int = 8  # per step
    behavior_items: int = 2  # per step; each is two rows, with and without its cue
    reply: tuple[int, int] = (8, 24)  # random tokens, in number as SmolLM2's
    items: int = 64  # from which rows are drawn
    pack_tokens: int = PACK_TOKENS
    batches: int = 3
    rounds: int = 6


TINY_MODEL = ModelConfig(64, 16, 2, 2, 1, 8, 24, context_length=32, compute_dtype="float32")
TINY = Size(TINY_MODEL, 2, explanation_rows=3, reply=(2, 4), items=6, pack_tokens=32, rounds=2)


class Asked(NamedTuple):
    """Tokens about one item."""

    explanation_prompt: list[int]
    explanation: list[int]
    with_cue: list[int]
    without_cue: list[int]


class Case(NamedTuple):
    """A model at the start of training, and the batches of some steps."""

    config: ModelConfig  # with adapters
    params: dict
    adapters: dict  # A random, B zero, as at the start of training
    batches: list[Batch]  # each row by itself
    packed: list[Batch]  # the same in packs


def load_model(shape: ModelConfig | None) -> Model:
    """SmolLM2 in float32; or random numbers of a shape, with an unused tokenizer.

    Raises:
      InputError: SmolLM2 has not been fetched.
    """
    if shape is not None:
        params = jax.jit(lambda key: initialize(shape, key))(jax.random.key(0))["params"]
        return Model(shape, phrase_tokenizer(["a"], []), {"params": params})
    model = load_one("smollm2", make_mesh(MeshConfig()))
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

    rows = training_rows(size, asked_of(size, model), config.vocab_size)
    sizes, filled = BatchSizes(size.explanation_rows, size.behavior_items, 1), []
    for step in range(size.batches):
        batch = make_batch(rows, sizes, step, 0)
        held = batch.behavior
        assert held is not None
        flat = jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), held.rows)
        hidden = np.asarray(hidden_states(params, flat))
        hidden = hidden.reshape(size.behavior_items, 2, *hidden.shape[1:])
        filled.append(batch._replace(behavior=held._replace(reference_hidden=hidden)))
    mesh = make_mesh(MeshConfig())
    of_step = in_packs(lambda step, seed: filled[step], len(filled), (0,), size.pack_tokens, mesh)
    return Case(with_adapters, params, adapters, filled, [of_step(step, 0) for step in range(len(filled))])


def asked_of(size: Size, model: Model) -> list[Asked]:
    """What is asked about items: of the config's task, with labels drawn; or random, with a common start."""
    rng = np.random.default_rng(0)
    if size.model is not None:
        return [_random_asked(rng, size.model.vocab_size) for _ in range(size.items)]
    task, _ = load_task(read_config(get_config()).task, cache_dir())
    train, tokenizer = task.splits["train"], model.tokenizer
    asked = []
    for place in rng.permutation(len(train))[: size.items]:
        item = train[place]
        labels = task.grammar.all_explanations(item.candidates)
        said = task.grammar.render(labels[rng.integers(len(labels))])
        both = tokenizer.encode_prompts([item.prompt_with_cue, item.prompt_without_cue])
        prompt = explanation_prompt(tokenizer, item, task.grammar)
        asked.append(Asked(prompt, tokenizer.encode_reply(said), *both))
    return asked


def _random_asked(rng: np.random.Generator, vocab_size: int) -> Asked:
    question, cue, asked, said = (rng.integers(5, vocab_size, count).tolist() for count in (2, 2, 1, 3))
    return Asked([4, *question, *cue, *asked], said, [4, *question, *cue, 3], [4, *question, 3])


def training_rows(size: Size, asked: list[Asked], vocab_size: int) -> TrainingRows:
    """All rows, without the reference's hidden states."""
    rng = np.random.default_rng(1)
    replies = [
        build_row(
            prompt, [rng.integers(5, vocab_size, rng.integers(size.reply[0], size.reply[1] + 1)).tolist()]
        )
        for one in asked
        for prompt in (one.with_cue, one.without_cue)
    ]
    explained = stack_rows([build_row(one.explanation_prompt, [one.explanation]) for one in asked])
    explained, said = same_time(explained, stack_rows(replies))
    nothing = np.zeros((len(asked), 0), np.float32)
    return TrainingRows(
        explained, BehaviorBatch(by_item(said), np.ones((len(asked), 2), bool), nothing), None
    )


def step_products(config: ModelConfig, batch: Batch) -> list[Product]:
    """The products of one step's forward pass: all tokens, and the scored positions of both kinds."""
    parts = batch_parts(batch).values()
    tokens, scored = (sum(getattr(part, name).size for part in parts) for name in ("tokens", "scored"))
    return forward_products(config, batch.packs.tokens.size if batch.packs else tokens, scored)


def step_flops(config: ModelConfig, batch: Batch) -> int:
    """Operations of the matrix products in one step of training the adapters, padding included.

    A product with a frozen matrix is done twice, forward and backward to its input; one with an adapter three
    times, also backward to the adapter. The reference's logits add one product with the head.
    """
    *layers, head = step_products(config, batch)
    frozen, adapted = layers[:7], layers[7:]
    held = batch.behavior
    assert held is not None
    reference = held.rows.scored.size / head.rows
    return round(
        sum(2 * product.flops for product in frozen)
        + sum(3 * product.flops for product in adapted)
        + (2 + reference) * head.flops
    )
