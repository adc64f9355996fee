"""All patched runs in one program against one site at a time, on the quickstart's shapes.

One at a time is a loop over one compiled program, which is given the source run's activations; so both sides
read the source once. The third way is attribution: one forward and one backward pass for all sites.
"""

import dataclasses
import functools

import jax
import numpy as np

from experiments.benchmarks.quickstart_case import TINY as TINY_SHAPES
from experiments.benchmarks.quickstart_case import StepShapes
from experiments.benchmarks.timing import Measure, alternate
from introspection.errors import RunError
from introspection.models.decoder import initialize
from introspection.probes.contrasts import GROUPS, Contrast, ContrastBatch, Run, contrast_batch
from introspection.probes.patching import (
    all_sites,
    first_order_effects,
    logit_differences,
    patched_differences,
    site_weights,
    source_values,
)

TOLERANCE = 1e-4  # nats between the two ways
SAID = ("relation", "entity", "cue", "cued_answer", "cue", "ask", "answer")
UNCUED = ("relation", "entity", "question", "ask", "answer")


@dataclasses.dataclass(frozen=True)
class Size:
    shapes: StepShapes = dataclasses.field(default_factory=StepShapes)
    items: tuple[int, ...] = (1, 32)
    runs: int = 9


TINY = Size(TINY_SHAPES, (2,), 2)


def run(size: Size | None = None) -> list[Measure]:
    """One measure for every number of items. Raises RunError if the ways differ by more than `TOLERANCE`."""
    size = size or Size()
    return [compare(size, items) for items in size.items]


def compare(size: Size, items: int) -> Measure:
    config = size.shapes.model()
    variables = jax.jit(functools.partial(initialize, config))(jax.random.key(0))
    batch = jax.device_put(random_batch(items, config.vocab_size))
    sites = all_sites(config, ("cue", "cued_answer", "ask", "answer"))
    together = jax.device_put(site_weights(config, [[site] for site in sites]))
    single = [
        jax.tree.map(lambda leaf, i=i: np.repeat(leaf[i : i + 1], items, axis=0), together)
        for i in range(len(sites))
    ]
    single = jax.device_put(single)
    all_at_once = jax.jit(functools.partial(logit_differences, config))
    read = jax.jit(functools.partial(source_values, config))
    one_site = jax.jit(functools.partial(patched_differences, config))
    first_order = jax.jit(functools.partial(first_order_effects, config))

    def loop() -> list[jax.Array]:
        values = read(variables, batch)
        return [one_site(variables, batch, values, weights) for weights in single]

    difference = float(np.abs(np.stack(loop()) - np.asarray(all_at_once(variables, batch, together))).max())
    if not difference <= TOLERANCE:
        raise RunError(f"sites patched side by side differ by {difference:.1e} nats from each one alone")
    times = alternate(
        {
            "together": lambda: all_at_once(variables, batch, together),
            "one_at_a_time": loop,
            "attribution": lambda: first_order(variables, batch),
        },
        size.runs,
    )
    milliseconds = {name: round(time.median * 1e3, 3) for name, time in times.items()}
    return Measure(
        name=f"patching.{items}_items",
        value=milliseconds["together"],
        unit=f"ms for {len(sites)} sites",
        reference=milliseconds["one_at_a_time"],
        ratio=times["one_at_a_time"].median / times["together"].median,
        extra={
            "ratio_is": "one at a time / together",
            "target": ">= 20",
            "attribution_ms": milliseconds["attribution"],
            "largest_difference_nats": difference,
            **times["together"].numbers("together"),
            **times["one_at_a_time"].numbers("one_at_a_time"),
        },
    )


def random_batch(items: int, vocabulary: int) -> ContrastBatch:
    """Explanation prompts of the invented world's form, of random words."""
    rng = np.random.default_rng(0)
    one, middle = np.eye(5, dtype=np.float32), np.array([0, 0, 0.5, 0.5, 0], np.float32)
    forth = np.stack([one[0], one[1], one[2], middle, middle, one[3], one[4]])
    back = (forth.T > 0.9).astype(np.float32)

    def random_run(groups: tuple[str, ...], counterpart: np.ndarray) -> Run:
        tokens = rng.integers(4, vocabulary, len(groups)).tolist()
        return Run(tokens, [GROUPS.index(group) for group in groups], counterpart)

    pairs = [(random_run(SAID, forth), random_run(UNCUED, back)) for _ in range(items)]
    return contrast_batch([Contrast(*runs, 4, 5) for runs in pairs])
