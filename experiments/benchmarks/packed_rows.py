"""Train steps in packs against rows padded to the longest, at the lengths of two tasks' chats.

In useful tokens/s: those of all rows by themselves, without padding, on both sides. Two kinds of packs: of
rows that have nothing in common (`apart`: packing alone), and of rows that begin as the task's do (`shared`).
Random tokens, and adapters on a decoder of SmolLM2's shape with few layers.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.timing import Measure, alternate, carried
from introspection.errors import RunError
from introspection.models.config import LoraConfig, ModelConfig
from introspection.models.decoder import initialize
from introspection.models.head import head_matrix
from introspection.runtime.mesh import MeshConfig, make_mesh
from introspection.text.rows import Rows, build_row, stack_rows
from introspection.training.batches import (
    BatchSizes,
    TrainingRows,
    by_item,
    make_batch,
    same_time,
    stack_batches,
)
from introspection.training.loop import weights
from introspection.training.objectives import Batch, BehaviorBatch, ObjectiveConfig, batch_parts
from introspection.training.packing import in_packs
from introspection.training.step import Frozen, OptimizerConfig, RunValues, initial_state, train_steps

OPTIMIZER = OptimizerConfig(steps=1000)
TOLERANCE = 1e-3  # of the loss, relative


@dataclasses.dataclass(frozen=True)
class Chats:
    """Tokens of the parts of SmolLM2's chat, and how many rows a step has of it."""

    start: int  # of all prompts: the system prompt, and an instruction
    question: tuple[int, ...]  # equally spaced quantiles; the longest may be left out
    cue: int
    asked: int
    end: int  # of the turn
    explanation: tuple[int, int]
    reply: tuple[int, int]
    replies: int  # side by side: a generated one, or candidates
    pack_tokens: dict[str, int]  # by kind
    sizes: BatchSizes = BatchSizes(8, 2, 1)


CHATS = {
    "world_facts": Chats(23, (5, 8, 12), 9, 10, 7, (5, 12), (8, 24), 1, {"apart": 400, "shared": 256}),
    # 0, 5, … 95% of 282 questions of MMLU's dev part.
    "hint_mmlu": Chats(
        36,
        (24, 35, 40, 43, 47, 51, 55, 60, 65, 69, 74, 80, 86, 92, 99, 106, 120, 140, 180, 286),
        10, 9, 7, (5, 12), (2, 2), 4, {"apart": 512, "shared": 512},
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Size:
    model: ModelConfig = ModelConfig(49_152, 576, 4, 9, 3, 64, 1536, 8192, compute_dtype="float32")
    rank: int = 128
    chats: tuple[str, ...] = tuple(CHATS)
    items: int = 64
    runs: int = 7


TINY = Size(
    ModelConfig(512, 16, 1, 2, 1, 8, 24, context_length=512, compute_dtype="float32"),
    rank=2,
    chats=("world_facts",),
    items=8,
    runs=2,
)


def run(size: Size | None = None) -> list[Measure]:
    """Raises RunError if a loss differs."""
    size = size or Size()
    return [measure for name in size.chats for measure in _of_chats(size, name, CHATS[name])]


def _of_chats(size: Size, name: str, chats: Chats) -> list[Measure]:
    batches = {}
    for kind in ("apart", "shared"):
        rows = training_rows(size, chats, shared=kind == "shared")
        alone = make_batch(rows, chats.sizes, 0, 0)
        packs = in_packs(
            lambda step, seed, b=alone: b, 1, (0,), chats.pack_tokens[kind], make_mesh(MeshConfig())
        )
        batches[kind] = alone, packs(0, 0)
    step = stepper(size)
    ways = {
        f"{kind}_{way}": step(batch)
        for kind, both in batches.items()
        for way, batch in zip(WAYS, both, strict=True)
    }
    for kind in batches:
        losses = [float(ways[f"{kind}_{way}"]()[1]["loss"][0, 0]) for way in WAYS]
        if abs(losses[0] - losses[1]) > TOLERANCE * abs(losses[0]):
            raise RunError(f"{name}, {kind}: the loss is {losses[1]} in packs, but {losses[0]} in rows")
    timings, measures = alternate(ways, size.runs), []
    for kind, (alone, packed) in batches.items():
        parts, packs = batch_parts(alone).values(), packed.packs
        assert packs is not None
        useful = sum(int((part.segments >= 0).sum()) for part in parts)
        in_rows, in_packs_ = (timings[f"{kind}_{way}"] for way in WAYS)
        measures.append(
            Measure(
                name=f"packed_rows.{name}.{kind}",
                value=round(useful / in_packs_.median, 1),
                unit="useful tokens/s",
                reference=round(useful / in_rows.median, 1),
                ratio=in_rows.median / in_packs_.median,
                extra={
                    "ratio_is": "packs / rows padded to the longest",
                    "target": ">= 1.3",
                    "tokens_of_rows": useful,
                    "read_in_rows": sum(part.tokens.size for part in parts),
                    "read_in_packs": packs.tokens.size,
                    "not_padding_in_packs": int((packs.ends > 0).sum()),
                    **in_rows.numbers("rows"),
                    **in_packs_.numbers("packs"),
                },
            )
        )
    return measures


WAYS = ("rows", "packs")


def stepper(size: Size) -> Callable[[Batch], Callable[[], Any]]:
    """From a batch to repeated train steps on it."""
    config = dataclasses.replace(size.model, lora=LoraConfig(size.rank, float(size.rank)))
    variables = jax.jit(functools.partial(initialize, config))(jax.random.key(0))
    params, adapters = variables["params"], variables["lora"]
    objective = ObjectiveConfig(head_chunk=512)
    program = jax.jit(
        lambda *arrays: train_steps(config, objective, OPTIMIZER, "loop", *arrays), donate_argnums=(0,)
    )
    frozen = Frozen({"params": params}, head_matrix({"params": params}, config))
    values = RunValues(jnp.float32(1e-4), weights(1.0, 0.0))

    def repeated(batch: Batch) -> Callable[[], Any]:
        state = initial_state([{"lora": adapters}], OPTIMIZER)
        return carried(program, state, frozen, jax.device_put(stack_batches([[batch]])), values)

    return repeated


def training_rows(size: Size, chats: Chats, shared: bool) -> TrainingRows:
    """Rows of random tokens; if they share nothing, each begins with a token of its own."""
    rng = np.random.default_rng(0)
    vocabulary, firsts = size.model.vocab_size, iter(range(1, 3 * size.items + 1))

    def tokens(count: float) -> list[int]:
        return rng.integers(3 * size.items + 2, vocabulary, int(count)).tolist()

    def between(limits: tuple[int, int]) -> int:
        return int(rng.integers(limits[0], limits[1] + 1))

    def row(prompt: Sequence[int], replies: list[list[int]]) -> Rows:
        return build_row(prompt if shared else [next(firsts), *prompt[1:]], replies)

    start, end, asked = tokens(chats.start), tokens(chats.end), tokens(chats.asked)
    quantiles = np.linspace(0, 1, len(chats.question))
    explained, behaving = [], []
    for _ in range(size.items):
        question = tokens(np.interp(rng.random(), quantiles, chats.question))
        cue = tokens(chats.cue)
        explained.append(row([*start, *question, *cue, *asked, *end], [tokens(between(chats.explanation))]))
        for prompt in ([*start, *question, *cue, *end], [*start, *question, *end]):
            behaving.append(row(prompt, [tokens(between(chats.reply)) for _ in range(chats.replies)]))
    explanation, behavior = same_time(stack_rows(explained), stack_rows(behaving))
    said = behavior.scored.shape[1] if chats.replies == 1 else 1
    hidden = rng.standard_normal((size.items, 2, said, size.model.width)).astype(np.float32)
    held = BehaviorBatch(by_item(behavior), np.ones((size.items, 2), bool), hidden)
    return TrainingRows(explanation, held, None)
