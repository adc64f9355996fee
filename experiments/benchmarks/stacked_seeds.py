"""Runs with their own seed, rate and λ in one train step, against one run after another; quickstart's shapes.

On a CPU two things can make the stacked step faster: fewer dispatches (and so fewer mappings of temporary
memory, see `page_faults`), and cores that a single run leaves idle. "apart" is what training does there with
a model as small as the organism: a call a run, as many at a time as there are cores.
`matrix_product_limit_ms` is the time of only the step's products with parameters, at the rate of one large
product in the same run.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments.benchmarks.quickstart_case import OPTIMIZER, Case, StepShapes, make_batches, make_case
from experiments.benchmarks.quickstart_case import TINY as TINY_SHAPES
from experiments.benchmarks.timing import Measure, alternate, carried, temporary_bytes
from introspection.errors import RunError
from introspection.training.objectives import Batch, ObjectiveConfig, ObjectiveWeights
from introspection.training.stacking import call_together
from introspection.training.step import RunValues, train_steps

# Relative difference of a step's loss from rounding.
TOLERANCE = 1e-5
STACKINGS = ("loop", "vectorize", "apart")


@dataclasses.dataclass(frozen=True)
class Size:
    shapes: StepShapes = dataclasses.field(default_factory=StepShapes)
    runs: int = 8  # seeds, each with another rate and λ
    steps_per_call: tuple[int, ...] = (1, 10)
    compared_steps: int = 20  # whose losses must be equal
    matrix: int = 1024  # rows of the matrix product that measures the machine's rate
    repeats: int = 9


TINY = Size(TINY_SHAPES, 2, (2,), 4, 32, 2)


def run(size: Size | None = None) -> list[Measure]:
    """A measure for every way of stacking and number of steps per call.

    One run after another is the same program with a run axis of 1, called once a run. All programs donate
    their state, as in training. Raises RunError if a step's loss differs by more than `TOLERANCE`.
    """
    size = size or Size()
    return [measure for steps in size.steps_per_call for measure in compare(size, steps)]


def compare(size: Size, steps: int) -> list[Measure]:
    runs, places = size.runs, np.arange(size.runs, dtype=np.float32)
    single, stacked = make_case(size.shapes, 1), make_case(size.shapes, runs)
    stacked = stacked._replace(values=RunValues(1e-3 / (1 + places), spread_weights(places)))
    batches = make_batches(size.shapes, max(steps, size.compared_steps), runs)
    rows = [jax.tree.map(lambda x, i=i: x[:, i : i + 1], batches) for i in range(runs)]
    alone = [single._replace(values=jax.tree.map(lambda x, i=i: x[i], stacked.values)) for i in range(runs)]
    one_run = step_program(size.shapes, "loop")
    programs = {stacking: step_program(size.shapes, stacking) for stacking in ("loop", "vectorize")}

    each = [losses(one_run, case, own, steps) for case, own in zip(alone, rows, strict=True)]
    expected, differences = np.concatenate(each, axis=1), {"apart": 0.0}  # the same program on the same rows
    for stacking, program in programs.items():
        found = losses(program, stacked, batches, steps)
        differences[stacking] = float(np.max(np.abs(found - expected) / np.abs(expected)))
        if not differences[stacking] <= TOLERANCE:
            raise RunError(
                f"losses of runs stacked by {stacking} differ by {differences[stacking]:.1e}, relatively"
            )

    def repeated(program: Callable, case: Case, own: Batch) -> Callable:
        first = jax.device_put(jax.tree.map(lambda x: x[:steps], own))
        return carried(program, case.state, case.frozen, first, case.values)

    singles = [repeated(one_run, case, own) for case, own in zip(alone, rows, strict=True)]
    ways = {"one_after_another": lambda: [call() for call in singles]}
    ways |= {"apart": lambda: call_together(lambda call: call(), [(call,) for call in singles])}
    ways |= {stacking: repeated(program, stacked, batches) for stacking, program in programs.items()}
    matrix = jax.random.normal(jax.random.key(0), (size.matrix, size.matrix))
    product = jax.jit(lambda matrix: matrix @ matrix)
    ways["matrix_product"] = lambda: product(matrix)
    times = alternate(ways, size.repeats)
    rate = 2 * size.matrix**3 / times.pop("matrix_product").median
    per_step = {name: time.divided(steps) for name, time in times.items()}
    limit = runs * product_operations(size.shapes) / rate
    megabytes = {
        f"{name}_temporary_mb": round(
            temporary_bytes(
                program, case.state, case.frozen, jax.tree.map(lambda x: x[:steps], own), case.values
            )
            / 1e6,
            1,
        )
        for name, program, case, own in (
            ("one_after_another", one_run, single, rows[0]),
            *((stacking, program, stacked, batches) for stacking, program in programs.items()),
        )
    }
    return [
        Measure(
            name=f"stacked_seeds.{stacking}.{steps}_steps_a_call",
            value=round(per_step[stacking].median * 1e3, 3),
            unit=f"ms a step of {runs} runs",
            reference=round(per_step["one_after_another"].median * 1e3, 3),
            ratio=per_step["one_after_another"].median / per_step[stacking].median,
            extra={
                "ratio_is": "one after another / stacked",
                "target": ">= 2 on an accelerator, >= 1 on a CPU by the way that training takes there",
                "max_relative_loss_difference": differences[stacking],
                "matrix_product_gflops": round(rate / 1e9, 1),
                "matrix_product_limit_ms": round(limit * 1e3, 3),
                **megabytes,
                **per_step[stacking].numbers(stacking),
                **per_step["one_after_another"].numbers("one_after_another"),
            },
        )
        for stacking in STACKINGS
    ]


def spread_weights(places: Float[np.ndarray, " runs"]) -> ObjectiveWeights:
    """λ from 0 upwards; μ is 0."""
    return ObjectiveWeights(np.ones_like(places), places / 2, np.zeros_like(places))


def step_program(shapes: StepShapes, stacking: str) -> Callable:
    config, objective = shapes.model(), ObjectiveConfig()
    return jax.jit(
        lambda *arrays: train_steps(config, objective, OPTIMIZER, stacking, *arrays), donate_argnums=(0,)
    )


def losses(program: Callable, case: Case, batches: Batch, steps: int) -> Float[np.ndarray, "steps seeds"]:
    """The losses of all steps of `batches`, with `steps` steps per call."""
    state, found = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), case.state), []
    total = jax.tree.leaves(batches)[0].shape[0]
    for start in range(0, total - steps + 1, steps):
        some = jax.tree.map(lambda x, start=start: x[start : start + steps], batches)
        state, metrics = program(state, case.frozen, some, case.values)
        found.append(np.asarray(metrics["loss"]))
    return np.concatenate(found)


def product_operations(shapes: StepShapes) -> int:
    """Floating-point operations of one seed's matrix products with parameters, forward and backward.

    A lower bound: attention's own products (at most a few hundred keys per row here) are left out.
    """
    heads = (2 * shapes.query_heads + 2 * shapes.kv_heads) * shapes.head_dim
    layer = shapes.width * (heads + 3 * shapes.mlp_width)
    behavior = shapes.prompt + shapes.candidates * (shapes.candidate - 1)
    explanation = shapes.prompt + shapes.explanation
    rows = 2 * shapes.behavior_items
    tokens = shapes.explanation_rows * explanation + rows * behavior
    scored = shapes.explanation_rows * shapes.explanation
    scored += rows * (1 + shapes.candidates * (shapes.candidate - 1))
    head = shapes.vocab_size * shapes.width
    kl = 2 * rows * head * (3 + 1)  # the reference's logits have no backward pass
    return 6 * tokens * shapes.layers * layer + 6 * scored * head + kl
