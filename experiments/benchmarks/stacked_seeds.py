"""All seeds in one train step against one seed after another, on the quickstart's shapes.

On a CPU two things can make the stacked step faster: fewer dispatches (and so fewer mappings of temporary
memory, see `page_faults`), and cores that a single seed leaves idle. `matrix_product_limit_ms` is the time of
only the step's products with parameters, at the rate of one large product in the same run.
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
from introspection.training.objectives import Batch, ObjectiveConfig
from introspection.training.step import train_steps

# Relative difference of a step's loss from rounding.
TOLERANCE = 1e-5
STACKINGS = ("loop", "vectorize")


@dataclasses.dataclass(frozen=True)
class Size:
    shapes: StepShapes = dataclasses.field(default_factory=StepShapes)
    seeds: int = 4
    steps_per_call: tuple[int, ...] = (1, 10)
    compared_steps: int = 20  # whose losses must be equal
    matrix: int = 1024  # rows of the matrix product that measures the machine's rate
    runs: int = 9


TINY = Size(TINY_SHAPES, 2, (2,), 4, 32, 2)


def run(size: Size | None = None) -> list[Measure]:
    """Two measures (ways of stacking) for every number of steps per call.

    One seed after another is the same program with a seed axis of 1, called once per seed. All programs
    donate their state, as in training. Raises RunError if a step's loss differs by more than `TOLERANCE`.
    """
    size = size or Size()
    return [measure for steps in size.steps_per_call for measure in compare(size, steps)]


def compare(size: Size, steps: int) -> list[Measure]:
    single, stacked = make_case(size.shapes, 1), make_case(size.shapes, size.seeds)
    batches = make_batches(size.shapes, max(steps, size.compared_steps), size.seeds)
    by_seed = [jax.tree.map(lambda x, i=i: x[:, i : i + 1], batches) for i in range(size.seeds)]
    one_seed = step_program(size.shapes, "loop")
    programs = {stacking: step_program(size.shapes, stacking) for stacking in STACKINGS}

    expected = np.concatenate([losses(one_seed, single, own, steps) for own in by_seed], axis=1)
    differences = {}
    for stacking, program in programs.items():
        found = losses(program, stacked, batches, steps)
        differences[stacking] = float(np.max(np.abs(found - expected) / np.abs(expected)))
        if not differences[stacking] <= TOLERANCE:
            raise RunError(
                f"losses of seeds stacked by {stacking} differ by {differences[stacking]:.1e}, relatively"
            )

    def repeated(program: Callable, case: Case, own: Batch) -> Callable:
        first = jax.device_put(jax.tree.map(lambda x: x[:steps], own))
        return carried(program, case.state, case.frozen, first, case.weights)

    singles = [repeated(one_seed, single, own) for own in by_seed]
    ways = {"one_after_another": lambda: [call() for call in singles]}
    ways |= {stacking: repeated(program, stacked, batches) for stacking, program in programs.items()}
    matrix = jax.random.normal(jax.random.key(0), (size.matrix, size.matrix))
    product = jax.jit(lambda matrix: matrix @ matrix)
    ways["matrix_product"] = lambda: product(matrix)
    times = alternate(ways, size.runs)
    rate = 2 * size.matrix**3 / times.pop("matrix_product").median
    per_step = {name: time.divided(steps) for name, time in times.items()}
    limit = size.seeds * product_operations(size.shapes) / rate
    megabytes = {
        f"{name}_temporary_mb": round(
            temporary_bytes(
                program, case.state, case.frozen, jax.tree.map(lambda x: x[:steps], own), case.weights
            )
            / 1e6,
            1,
        )
        for name, program, case, own in (
            ("one_after_another", one_seed, single, by_seed[0]),
            *((stacking, programs[stacking], stacked, batches) for stacking in STACKINGS),
        )
    }
    return [
        Measure(
            name=f"stacked_seeds.{stacking}.{steps}_steps_a_call",
            value=round(per_step[stacking].median * 1e3, 3),
            unit=f"ms a step of {size.seeds} seeds",
            reference=round(per_step["one_after_another"].median * 1e3, 3),
            ratio=per_step["one_after_another"].median / per_step[stacking].median,
            extra={
                "ratio_is": "one after another / stacked",
                "target": ">= 2",
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
        state, metrics = program(state, case.frozen, some, case.weights)
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
