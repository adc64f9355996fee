"""How time and memory grow with items, tokens, candidates, compared models and devices.

Every size runs in a process of its own, so that a peak of memory is that size's; sizes of one factor go up
until one takes longer than `Sizes.most_seconds`. The second time is measured, after one that compiles.
"""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from experiments.benchmarks.sharded_loading import memory_of
from experiments.benchmarks.timing import Measure
from introspection.coupling.matrix import coupling_matrix
from introspection.errors import RunError
from introspection.models.config import ModelConfig
from introspection.models.decoder import initialize
from introspection.models.model import Model
from introspection.probes.context import within_context
from introspection.probes.explanation import decode_explanations
from introspection.probes.scored import decisions, probe_behavior
from introspection.runtime.mesh import MeshConfig, make_mesh
from introspection.runtime.session import Session
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.items import Decisions, Explanation, Item
from introspection.tasks.task import Task
from introspection.text.tokenizer import phrase_tokenizer

GRAMMAR = ExplanationGrammar()
DIGITS = [str(digit) for digit in range(10)]
ITEMS = 64  # where another factor grows
CONTEXT = 4_096  # tokens


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes of each factor; one without sizes is left out."""

    items: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    tokens: tuple[int, ...] = (64, 256, 1_024, 2_048)  # of a prompt
    candidates: tuple[int, ...] = (2, 8, 32, 64)
    models: tuple[int, ...] = (2, 4, 8)  # compared with each other, as their answers
    devices: tuple[int, ...] = (1, 2, 4, 8)  # simulated, over which items are split
    most_seconds: float = 20.0  # of the second time; a size ten times that takes ten times as long


TINY = Sizes((20, 40), (), (), (), ())


def generated(items: int, tokens: int = 8, candidates: int = 4) -> tuple[Item, ...]:
    """Different questions of about so many tokens: a number's digits."""
    chosen = tuple(f"a{k}" for k in range(candidates))

    def item(number: int) -> Item:
        asked = " ".join(f"{number:0{max(tokens - 2, 7)}d}")
        return Item(
            id=str(number), group=str(number), stratum="", cue_kind="hint", candidates=chosen,
            prompt_with_cue=f"{asked} hint", prompt_without_cue=asked, gold=chosen[0], cued=chosen[1],
        )  # fmt: skip

    return tuple(map(item, range(items)))


def random_model(candidates: int) -> Model:
    words = [*DIGITS, "hint", *(f"a{k}" for k in range(candidates))]
    phrases = [GRAMMAR.question, GRAMMAR.changed, GRAMMAR.unchanged, GRAMMAR.neither]
    tokenizer = phrase_tokenizer(words, phrases)
    config = ModelConfig(
        tokenizer.vocab_size, 32, 2, 2, 2, 16, 64, context_length=CONTEXT, compute_dtype="float32"
    )
    return Model(config, tokenizer, jax.jit(lambda key: initialize(config, key))(jax.random.key(0)), "random")


def probing(items: Sequence[Item], devices: int = 1) -> Callable[[], object]:
    """Lengths, behaviour and explanations of a random model, as `experiments.compare` reads them."""
    model = random_model(len(items[0].candidates))
    session = Session(make_mesh(MeshConfig(data=devices)))
    task = Task("growth", "growth/1", GRAMMAR, {"test": tuple(items)})

    def probe() -> object:
        kept = within_context(task, model.tokenizer, CONTEXT, 0.0, Console(quiet=True)).splits["test"]
        with jax.set_mesh(session.mesh):
            behaviors = probe_behavior(model, kept, session)
            said = decode_explanations(model, kept, task.grammar, 8, session)
        return decisions(behaviors, kept), said

    return probe


def comparing(models: int, items: int) -> Callable[[], object]:
    """The matrix of models whose answers are random."""
    rng = np.random.default_rng(0)
    answers = rng.integers(0, 4, (models, 2, items)).astype(str)
    decided = {
        str(m): [Decisions(*pair) for pair in zip(*of_model, strict=True)]
        for m, of_model in enumerate(answers)
    }
    said = {
        name: [Explanation(one.with_cue != one.without_cue, one.without_cue) for one in of_model]
        for name, of_model in decided.items()
    }
    groups = [str(i) for i in range(items)]
    return lambda: coupling_matrix(said, decided, groups, np.random.default_rng(0))


FACTORS: dict[str, Callable[[int], Callable[[], object]]] = {
    "items": lambda size: probing(generated(size)),
    "tokens": lambda size: probing(generated(ITEMS, tokens=size)),
    "candidates": lambda size: probing(generated(ITEMS, candidates=size)),
    "models": lambda size: comparing(size, items=4 * ITEMS),
    "compared_items": lambda size: comparing(2, items=size),
    "devices": lambda size: probing(generated(16 * ITEMS), devices=size),
}


def run(sizes: Sizes | None = None) -> list[Measure]:
    """One line a factor: the exponent of its time, with seconds and peak memory at every size."""
    sizes = sizes or Sizes()
    chosen = {
        **{name: getattr(sizes, name) for name in ("items", "tokens", "candidates", "models", "devices")},
        "compared_items": sizes.items,
    }
    return [grown(factor, chosen[factor], sizes.most_seconds) for factor in FACTORS if chosen[factor]]


def grown(factor: str, sizes: Sequence[int], most_seconds: float) -> Measure:
    """A factor's line. The exponents are of a straight line through the logarithms."""
    found: list[dict[str, float]] = []
    for size in sizes:
        if found and found[-1]["seconds"] > most_seconds:
            break
        found.append(in_process(factor, size))
        print(f"{factor}: {size:,} in {found[-1]['seconds']:.2f} s", file=sys.stderr, flush=True)
    ran = sizes[: len(found)]
    seconds, memory = ([one[name] for one in found] for name in ("seconds", "peak_bytes"))
    added = [one["peak_bytes"] - one["before_bytes"] for one in found]
    exponent = fitted(ran, seconds)
    return Measure(
        name=f"growth.{factor}",
        value=round(seconds[-1], 3),
        unit=f"s at {ran[-1]:,} {factor.replace('_', ' ')}",
        reference=round(seconds[0], 3),
        ratio=exponent,
        extra={
            "ratio_is": "exponent of seconds",
            "memory_exponent": round(fitted(ran, memory), 3),
            "sizes": list(ran),
            "seconds": [round(one, 4) for one in seconds],
            "exponents_between": [round(fitted(*pair), 3) for pair in _neighbours(ran, seconds)],
            "peak_mb": [round(one / 1e6) for one in memory],
            "added_mb": [round(one / 1e6) for one in added],
            **({"stopped": f"after {most_seconds:g} s"} if len(ran) < len(sizes) else {}),
        },
    )


def fitted(sizes: Sequence[int], values: Sequence[float]) -> float:
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0]) if len(sizes) > 1 else 0.0


def _neighbours(
    sizes: Sequence[int], values: Sequence[float]
) -> list[tuple[tuple[int, int], tuple[float, float]]]:
    return list(zip(itertools.pairwise(sizes), itertools.pairwise(values), strict=True))


def in_process(factor: str, size: int) -> dict[str, float]:
    """Seconds of the second time, and bytes of resident memory at its start and at its peak.

    Raises RunError if the process fails.
    """
    ended = subprocess.run(
        [sys.executable, "-m", __name__, factor, str(size)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    if ended.returncode:
        raise RunError(f"growth.{factor} failed at {size}: {ended.stderr[-500:]}")
    return json.loads(ended.stdout.strip().splitlines()[-1])


def here(factor: str, size: int) -> dict[str, float]:
    jax.config.update("jax_platforms", "cpu")
    if factor == "devices":
        jax.config.update("jax_num_cpu_devices", size)
    work = FACTORS[factor](size)
    before = memory_of("VmRSS")
    work()
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "before_bytes": before, "peak_bytes": memory_of("VmHWM")}


if __name__ == "__main__":
    print(json.dumps(here(sys.argv[1], int(sys.argv[2]))), flush=True)
