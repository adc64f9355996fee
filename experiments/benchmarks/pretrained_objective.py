"""The whole objective on a pretrained model, in examples/s, against transformers and peft.

A training step has explanation rows with their cross entropy, and prompts with and without the cue, each with
a reply along which KL(reference ‖ current) is computed; adapters on all seven projections, AdamW, clipped
gradient, float32, all cores. Both sides train the same adapters on the same batches, step by step, and their
losses must agree. The peer's process works on request, and idles while this one works.

The peer has two variants, which alternate:

- plain: the libraries' normal use: logits of all positions, and the reference is the model with its adapters
  switched off, run as well.
- tuned: by hand what this library does: the reference's hidden states are computed before training, only
  scored positions reach the head, no mask for padding that nothing sees, and a fused optimizer.

The gradient measure is the next-token loss of all positions and its gradient in all parameters, without
adapters, on equal tokens without padding.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.matrix_products import forward_products, limit_numbers, product_limit
from experiments.benchmarks.peer_process import Peer, peers_python
from experiments.benchmarks.pretrained_case import TINY, Case, Size, make_case, step_flops, step_products
from experiments.benchmarks.timing import Measure, carried, spread
from introspection.errors import RunError
from introspection.models.config import ModelConfig
from introspection.models.decoder import forward
from introspection.models.head import cross_entropy, head_matrix
from introspection.training.batches import stack_batches
from introspection.training.loop import weights
from introspection.training.objectives import Batch, ObjectiveConfig
from introspection.training.step import Frozen, OptimizerConfig, RunValues, initial_state, train_steps
from introspection.weights.adapters import export_adapters
from introspection.weights.export import export_model

__all__ = ["TINY", "run"]
SCRIPT = "speed_training.py"
WAYS = ("plain", "tuned")
OPTIMIZER = OptimizerConfig(steps=1000)
LEARNING_RATE = 1e-4
TOLERANCE = 1e-3  # of the losses, relative
HEAD_CHUNK = 512  # as in configs/smollm2.py


def run(size: Size | None = None) -> list[Measure]:
    """Two comparisons of the objective, one of the plain gradient.

    Raises:
      InputError: SmolLM2 has not been fetched, or there are no peers.
      RunError: the peer fails, or a loss differs.
    """
    size = size or Size()
    peers_python()
    case = make_case(size)
    base = dataclasses.replace(case.config, lora=None)
    tokens = gradient_tokens(size, base.vocab_size)
    step, gradient = our_step(case), our_gradient(base, case.params, tokens)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_case(folder, case, tokens)
        with Peer(SCRIPT, folder) as peer:
            ours, theirs = alternate_steps(size, step, peer)
            raw = alternate_gradients(size, gradient, peer)
            versions = peer.versions
    examples = size.explanation_rows + size.behavior_items
    limit = product_limit(step_products(case))
    achieved = step_flops(case) / statistics.median(ours) / 1e9
    extra = {
        "examples_are": "explanation rows and behaviour items (two rows each)",
        "rows_by_tokens": f"{size.explanation_rows + 2 * size.behavior_items}×{size.time}",
        **spread("ours", ours),
        **{key: value for way in WAYS for key, value in spread(way, theirs[way]).items()},
        **limit_numbers(achieved, limit),
        **versions,
    }
    measures = [
        Measure(
            name=f"pretrained_objective.{way}",
            value=round(examples / statistics.median(ours), 3),
            unit="examples/s",
            reference=round(examples / statistics.median(theirs[way]), 3),
            ratio=statistics.median(theirs[way]) / statistics.median(ours),
            extra={"ratio_is": f"ours / transformers and peft, {way}", "target": ">= 1.2", **extra},
        )
        for way in WAYS
    ]
    return [*measures, gradient_measure(base, tokens, raw, versions)]


def gradient_measure(
    config: ModelConfig, tokens: np.ndarray, raw: dict[str, list[float]], versions: dict[str, str]
) -> Measure:
    """Tokens/s of the plain gradient."""
    products = forward_products(config, tokens.size, tokens.size)
    # Every product is done three times: forward, and backward to its input and to its matrix.
    achieved = 3 * sum(product.flops for product in products) / statistics.median(raw["ours"]) / 1e9
    ours, theirs = (statistics.median(raw[side]) for side in ("ours", "theirs"))
    return Measure(
        name="pretrained_objective.gradient",
        value=round(tokens.size / ours, 1),
        unit="tokens/s",
        reference=round(tokens.size / theirs, 1),
        ratio=theirs / ours,
        extra={
            "ratio_is": "ours / transformers, equal tokens",
            "target": "about 1",
            "rows_by_tokens": "×".join(map(str, tokens.shape)),
            **spread("ours", raw["ours"]),
            **spread("theirs", raw["theirs"]),
            **limit_numbers(achieved, product_limit(products)),
            **versions,
        },
    )


def gradient_tokens(size: Size, vocab_size: int) -> np.ndarray:
    """Random tokens, half as many as in a step."""
    rows = (size.explanation_rows + 2 * size.behavior_items) // 2
    return np.random.default_rng(9).integers(4, vocab_size, (rows, size.time), np.int32)


def our_step(case: Case) -> Callable[[int], float]:
    """One step on a batch, by number, as in `training.loop`; it trains, and returns the loss."""
    config = case.config
    params = case.params
    objective = ObjectiveConfig(head_chunk=HEAD_CHUNK)
    program = jax.jit(
        lambda *arrays: train_steps(config, objective, OPTIMIZER, "loop", *arrays), donate_argnums=(0,)
    )
    values = RunValues(jnp.float32(LEARNING_RATE), weights(1.0, 0.0))
    state = initial_state([{"lora": case.adapters}], OPTIMIZER)
    frozen = Frozen({"params": params}, head_matrix(params, config))
    batches = [jax.device_put(stack_batches([[batch]])) for batch in case.batches]
    chosen = [batches[0]]
    call = carried(lambda held: program(held, frozen, chosen[0], values), state)

    def step(number: int) -> float:
        chosen[0] = batches[number % len(batches)]
        held, metrics = call()
        jax.block_until_ready(held)
        return float(metrics["loss"][0, 0])

    return step


def our_gradient(config: ModelConfig, params: dict, tokens: np.ndarray) -> Callable[[], float]:
    """The mean next-token loss of all positions and its gradient in all parameters."""

    def loss(params, tokens):
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        out = forward(config, {"params": params}, tokens, positions, jnp.zeros_like(tokens))
        hidden, targets = out.hidden[:, :-1].reshape(-1, config.width), tokens[:, 1:].reshape(-1)
        ones = jnp.full(targets.shape, 1.0 / targets.size)
        head = head_matrix(params, config)
        return cross_entropy(head, hidden, targets, ones, HEAD_CHUNK, config.final_softcap)

    program, placed = jax.jit(jax.value_and_grad(loss)), jnp.asarray(tokens)

    def gradient() -> float:
        value, gradients = program(params, placed)
        jax.block_until_ready(gradients)
        return float(value)

    return gradient


def write_case(folder: Path, case: Case, tokens: np.ndarray) -> None:
    """Writes the peer's inputs: the model, its adapters, the batches."""
    base = dataclasses.replace(case.config, lora=None)
    export_model(folder / "model", base, case.params, {}, {})
    assert case.config.lora is not None
    export_adapters(folder / "adapter", case.config.lora, case.adapters, base=str(folder / "model"))
    for number, batch in enumerate(case.batches):
        arrays: dict[str, Any] = peer_arrays(batch)
        np.savez(folder / f"batch{number}.npz", **arrays)
    np.save(folder / "tokens.npy", tokens)


def peer_arrays(batch: Batch) -> dict[str, np.ndarray]:
    """One batch in the peer's format: explanation rows, then both rows of each item."""
    arrays: dict[str, np.ndarray] = {}
    behavior, explanation = batch.behavior, batch.explanation
    assert behavior is not None
    assert explanation is not None
    flat = jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), behavior.rows)
    for kind, rows in (("explanation", explanation), ("reply", flat)):
        arrays |= {
            f"{kind}_tokens": rows.tokens,
            f"{kind}_mask": rows.segments >= 0,
            f"{kind}_scored": rows.scored,
            f"{kind}_targets": rows.targets[..., 0],
            f"{kind}_counted": rows.continuation[..., 0] >= 0,
        }
    hidden = np.asarray(behavior.reference_hidden)
    return arrays | {"reference_hidden": hidden.reshape(-1, *hidden.shape[2:])}


def alternate_steps(
    size: Size, step: Callable[[int], float], peer: Peer
) -> tuple[list[float], dict[str, list[float]]]:
    """Seconds of our steps and of the peer's, by variant: ours, plain, ours, tuned, ours, plain, …

    Both sides do step 0, 1, 2, …, each on its own adapters. The first of each variant is not timed.
    """
    ours: list[float] = []
    theirs: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(len(WAYS) * (size.rounds + 1)):
        way = WAYS[number % len(WAYS)]
        start = time.perf_counter()
        loss = step(number)
        seconds = time.perf_counter() - start
        answer = peer.ask(do="step", way=way, batch=number % size.batches)
        check_loss(f"step {number} ({way})", loss, answer["loss"])
        if number >= len(WAYS):
            ours.append(seconds)
            theirs[way].append(answer["seconds"])
    return ours, theirs


def alternate_gradients(size: Size, gradient: Callable[[], float], peer: Peer) -> dict[str, list[float]]:
    """Seconds of both sides' gradients, without the first."""
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for number in range(size.rounds + 1):
        start = time.perf_counter()
        loss = gradient()
        taken = time.perf_counter() - start
        answer = peer.ask(do="gradient")
        check_loss("the bare gradient", loss, answer["loss"])
        if number:
            seconds["ours"].append(taken)
            seconds["theirs"].append(answer["seconds"])
    return seconds


def check_loss(what: str, ours: float, theirs: float) -> None:
    if not abs(ours - theirs) <= TOLERANCE * abs(theirs):
        raise RunError(f"{what}: the loss is {ours} here, but {theirs} in the peer")
