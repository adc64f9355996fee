"""The cost of measuring agreement inside the train step, and the saving from sharing its forward pass.

Four ways to do one step of one seed on the quickstart's shapes, each one call of `train_steps`:

- full: explanation and behaviour rows in one forward pass, each behaviour row a prompt with its candidates;
  the KL term and agreement are computed from it. This is the step of the experiments.
- kl_only: behaviour rows have only the prompt (one one-token candidate adds no token), which is enough for
  the KL term over the vocabulary; its agreement is meaningless.
- plain: no behaviour rows, so neither KL nor agreement.
- separate: kl_only, preceded by a second program, the shared-prefix scorer, which scores the same prompts'
  candidates with the same parameters, for the same step and agreement as full.

The KL and the decisions of full and separate must agree.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.quickstart_case import OPTIMIZER, StepShapes, make_batches, make_case
from experiments.benchmarks.quickstart_case import TINY as TINY_SHAPES
from experiments.benchmarks.timing import Measure, alternate, carried
from introspection.errors import RunError
from introspection.probes.scoring import continuation_logprobs
from introspection.text.rows import Rows
from introspection.training.objectives import Batch, ObjectiveConfig, add_none, agreement
from introspection.training.step import train_steps

# Relative; the two forward passes round differently.
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Size:
    shapes: StepShapes = dataclasses.field(default_factory=StepShapes)
    runs: int = 25


TINY = Size(TINY_SHAPES, runs=2)


def prompts_alone(batch: Batch, shapes: StepShapes) -> Batch:
    """The batch with behaviour rows cut to their prompts, and padded to the explanations' length."""
    time = max(shapes.prompt, shapes.prompt + shapes.explanation)
    held: Any = batch.behavior
    rows, answers = held.rows, held.answers
    inside = np.arange(time) < shapes.prompt
    behavior = held._replace(
        rows=Rows(
            tokens=np.where(inside, rows.tokens[..., :time], 0).astype(np.int32),
            positions=np.where(inside, rows.positions[..., :time], 0).astype(np.int32),
            segments=np.where(inside, 0, -1).astype(np.int32) + np.zeros_like(rows.tokens[..., :time]),
            scored=rows.scored[..., :1],
            targets=rows.targets[..., :1, :1],
            continuation=rows.continuation[..., :1, :1],
        ),
        answers=answers._replace(candidates=np.ones_like(answers.candidates)),
    )
    explanation: Any = batch.explanation
    cut = {name: getattr(explanation, name)[..., :time] for name in ("tokens", "positions", "segments")}
    return batch._replace(explanation=explanation._replace(**cut), behavior=behavior)


def run(size: Size | None = None) -> list[Measure]:
    """Three comparisons of the full step; raises RunError if it and the separate way disagree."""
    size = size or Size()
    shapes, config, objective = size.shapes, size.shapes.model(), ObjectiveConfig()
    case, full = make_case(shapes, 1), make_batches(shapes, 1, 1)
    kl_only = prompts_alone(full, shapes)

    def step_of(batch: Batch):
        program = jax.jit(
            lambda *arrays: train_steps(config, objective, OPTIMIZER, "loop", *arrays), donate_argnums=(0,)
        )
        return carried(program, case.state, case.frozen, jax.device_put(batch), case.values)

    @jax.jit
    def probe(params, prompts, lengths, said, said_lengths, answers):
        variables = {"params": jax.tree.map(lambda leaf: leaf[0], params)}
        logprobs = continuation_logprobs(config, variables, prompts, lengths, said, said_lengths)
        slots = add_none(logprobs, jnp.repeat(answers.candidates, 2))
        return agreement(slots.reshape(shapes.behavior_items, 2, -1), answers)[0]

    held: Any = full.behavior
    answers = jax.tree.map(lambda array: array[0, 0], held.answers)
    probe_inputs = jax.device_put((*scorer_arrays(full, shapes), answers))
    separate_step = step_of(kl_only)
    parameters = [case.state.trainable["params"]]

    def separate():
        share = probe(parameters[0], *probe_inputs)
        state, metrics = separate_step()
        parameters[0] = state.trainable["params"]
        return state, {**metrics, "agreement": share}

    plain = full._replace(behavior=None)
    ways = {"full": step_of(full), "plain": step_of(plain), "kl_only": step_of(kl_only), "separate": separate}
    together, apart = ways["full"]()[1], ways["separate"]()[1]
    for name in ("kl", "agreement"):
        one, other = float(together[name].squeeze()), float(apart[name].squeeze())
        if not abs(one - other) <= TOLERANCE * max(1.0, abs(one)):
            raise RunError(f"{name} is {one} in the shared step, but {other} apart")
    times = alternate(ways, size.runs)
    extra = {key: value for name, time in times.items() for key, value in time.numbers(name).items()}

    def measure(name: str, unit: str, value: str, reference: str, ratio: float, ratio_is: str) -> Measure:
        milliseconds = [round(times[key].median * 1e3, 3) for key in (value, reference)]
        return Measure(name, milliseconds[0], unit, milliseconds[1], ratio, {"ratio_is": ratio_is, **extra})

    medians = {name: time.median for name, time in times.items()}
    return [
        measure(
            "train_step_with_agreement.cost",
            "ms a step",
            "full",
            "plain",
            medians["full"] / medians["plain"],
            "with KL and agreement / without behaviour rows",
        ),
        measure(
            "train_step_with_agreement.candidates",
            "ms a step",
            "full",
            "kl_only",
            medians["full"] / medians["kl_only"],
            "with KL and agreement / with KL alone",
        ),
        measure(
            "train_step_with_agreement.saving",
            "ms a step",
            "full",
            "separate",
            medians["separate"] / medians["full"],
            "KL step and separate probe / one shared step",
        ),
    ]


def scorer_arrays(batch: Batch, shapes: StepShapes) -> tuple[np.ndarray, ...]:
    """The behaviour rows' prompts and candidates in the scorer's format, unpadded."""
    held: Any = batch.behavior
    rows = Rows(*(array[0, 0].reshape(-1, *array.shape[4:]) for array in held.rows))
    count = len(rows.tokens)
    first = rows.targets[:, 0]
    rest = rows.targets[:, 1:, 0].reshape(count, shapes.candidates, shapes.candidate - 1)
    said = np.concatenate([first[:, :, None], rest], axis=2)
    return (
        rows.tokens[:, : shapes.prompt],
        np.full(count, shapes.prompt, np.int32),
        said,
        np.full(said.shape[:2], shapes.candidate, np.int32),
    )
