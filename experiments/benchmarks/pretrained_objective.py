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

Ours has two as well: `packs` (`config.train.pack_tokens`), and `rows`, each row by itself, which is what
the peer reads. Packs are exact (`training.packing`): what rows begin with, here the system prompt and, of one
item, the question, is read once.

The gradient measure is the next-token loss of all positions and its gradient in all parameters, without
adapters, on equal tokens without padding.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
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
from introspection.training.objectives import Batch, ObjectiveConfig, batch_parts
from introspection.training.step import Frozen, OptimizerConfig, RunValues, initial_state, train_steps
from introspection.weights.adapters import export_adapters
from introspection.weights.export import export_model

__all__ = ["TINY", "run"]
SCRIPT = "speed_training.py"
WAYS = ("plain", "tuned")
SIDES = {
    "plain": "transformers and peft, plain",
    "tuned": "transformers and peft, tuned",
    "rows": "ours, each row by itself",
}
TARGETS = {"plain": ">= 2", "tuned": ">= 1.4"}  # in packs
# Each row by itself, on 2026-11-27, 2 idle cores of an AMD EPYC (Zen 5): what all later readings are held
# against.
FIRST_READING = {"share_of_limit": 0.45, "plain": 1.65, "tuned": 1.22}
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
    tokens = gradient_tokens(case)
    steps = {"packs": our_step(case, case.packed), "rows": our_step(case, case.batches)}
    gradient = our_gradient(base, case.params, tokens)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_case(folder, case, tokens)
        with Peer(SCRIPT, folder) as peer:
            ours, theirs = alternate_steps(size, steps, peer)
            raw = alternate_gradients(size, gradient, peer)
            versions = peer.versions
    examples = size.explanation_rows + size.behavior_items
    both = {way: statistics.median(seconds) for way, seconds in (ours | theirs).items()}
    shared = {
        "examples_are": "explanation rows and behaviour items (two rows each)",
        "first_reading": FIRST_READING,
        **{key: value for way in (ours | theirs) for key, value in spread(way, (ours | theirs)[way]).items()},
        **versions,
    }
    measures = []
    for own, batch in (("packs", case.packed[0]), ("rows", case.batches[0])):
        products = step_products(case.config, batch)
        achieved = step_flops(case.config, batch) / both[own] / 1e9
        numbers = {"tokens": products[0].rows, **limit_numbers(achieved, product_limit(products))}
        others = (*TARGETS, "rows") if own == "packs" else WAYS
        measures += [
            Measure(
                name=f"pretrained_objective.{own}.{other}",
                value=round(examples / both[own], 3),
                unit="examples/s",
                reference=round(examples / both[other], 3),
                ratio=both[other] / both[own],
                extra={
                    "ratio_is": f"ours in {own} / {SIDES[other]}{first_reading_note(other, numbers)}",
                    **target(own, other),
                    **numbers,
                    **shared,
                },
            )
            for other in others
        ]
    return [*measures, gradient_measure(base, tokens, raw, versions)]


def first_reading_note(other: str, numbers: Mapping[str, float]) -> str:
    """Today's share of the limit and the first reading, for the printed line."""
    if other not in TARGETS:
        return ""
    share = f"{numbers['share_of_limit']:.0%} of the products' limit"
    return f", at {share} (first reading: {FIRST_READING[other]}, at {FIRST_READING['share_of_limit']:.0%})"


def target(own: str, other: str) -> dict[str, str]:
    return {"target": TARGETS[other]} if own == "packs" and other in TARGETS else {}


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


def gradient_tokens(case: Case) -> np.ndarray:
    """Random tokens, half as many as in a step."""
    parts = batch_parts(case.batches[0]).values()
    shape = sum(len(part.tokens) for part in parts) // 2, max(part.tokens.shape[1] for part in parts)
    return np.random.default_rng(9).integers(4, case.config.vocab_size, shape, np.int32)


def our_step(case: Case, given: Sequence[Batch]) -> Callable[[int], float]:
    """One step on one of the given batches, by number, as in `training.loop`; it trains, and returns the
    loss."""
    config = case.config
    params = case.params
    objective = ObjectiveConfig(head_chunk=HEAD_CHUNK)
    program = jax.jit(
        lambda *arrays: train_steps(config, objective, OPTIMIZER, "loop", *arrays), donate_argnums=(0,)
    )
    values = RunValues(jnp.float32(LEARNING_RATE), weights(1.0, 0.0))
    state = initial_state([{"lora": case.adapters}], OPTIMIZER)
    frozen = Frozen({"params": params}, head_matrix({"params": params}, config))
    batches = [jax.device_put(stack_batches([[batch]])) for batch in given]
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
        head = head_matrix({"params": params}, config)
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
    size: Size, steps: dict[str, Callable[[int], float]], peer: Peer
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of our steps and of the peer's, by variant, which take turns.

    All do step 0, 1, 2, …, each of ours on its own adapters, the peer's two on one. The first of each is not
    timed.
    """
    ours: dict[str, list[float]] = {way: [] for way in steps}
    theirs: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(len(WAYS) * (size.rounds + 1)):
        way, losses = WAYS[number % len(WAYS)], {}
        for own, step in steps.items():
            start = time.perf_counter()
            losses[own] = step(number)
            ours[own].append(time.perf_counter() - start)
        answer = peer.ask(do="step", way=way, batch=number % size.batches)
        theirs[way].append(answer["seconds"])
        for own, loss in losses.items():
            check_loss(f"step {number} ({own}, {way})", loss, answer["loss"])
    timed = {own: seconds[len(WAYS) :] for own, seconds in ours.items()}
    return timed, {way: seconds[1:] for way, seconds in theirs.items()}


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
