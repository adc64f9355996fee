"""Which decisions change where probing rounds: products in bfloat16, weights in bfloat16, other batches.

The reference is what probes do: float32 throughout. Softmax, norms and the head's log-probabilities are
float32 in all ways. SmolLM2 is asked real questions; a model of random numbers with about 1 B parameters,
random tokens.
"""

import dataclasses
import sys
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import pretrained_scoring
from experiments.benchmarks.pretrained_case import TINY_MODEL, load_model
from experiments.benchmarks.timing import Measure
from introspection.models.config import ModelConfig
from introspection.models.decoder import count_parameters
from introspection.models.model import Model
from introspection.probes.scoring import ScoreRequest, score
from introspection.runtime.session import Session

BILLION = ModelConfig(32_768, 2_048, 16, 16, 8, 128, 5_632, context_length=128, compute_dtype="float32")


@dataclasses.dataclass(frozen=True)
class Size:
    """The models, and how many items each is asked; an item is a prompt with and one without a cue."""

    models: tuple[tuple[str, ModelConfig | None, int], ...] = (
        ("smollm2", None, 256),
        ("random_1b", BILLION, 64),
    )


TINY = Size((("tiny", TINY_MODEL, 2),))


def run(size: Size | None = None) -> list[Measure]:
    """One line a model and way of rounding: the share of decisions that differ from the reference's.

    Raises:
      InputError: SmolLM2 has not been fetched.
    """
    return [line for name, shape, items in (size or Size()).models for line in rounded(name, shape, items)]


def rounded(name: str, shape: ModelConfig | None, items: int) -> list[Measure]:
    model = load_model(shape)
    case = pretrained_scoring.Size(shape, items)
    asked = (
        pretrained_scoring.random_requests(case) if shape else pretrained_scoring.item_requests(case, model)
    )
    exact, seconds = scored(model, asked)
    session = Session()
    alone = [score(model, [request], session)[0] for request in asked[:32]]
    lines = [_line(f"{name}.float32_each_alone", exact[:32], alone, seconds, seconds)]
    in_bfloat16 = dataclasses.replace(model.config, compute_dtype="bfloat16")
    weights = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16).astype(leaf.dtype), model.variables)
    ways = {
        "bfloat16_products": dataclasses.replace(model, config=in_bfloat16),
        "bfloat16_weights": model.with_variables(weights),
    }
    for way, other in ways.items():
        found, own_seconds = scored(other, asked)
        lines.append(_line(f"{name}.{way}", exact, found, seconds, own_seconds))
    parameters = count_parameters(model.variables)
    return [dataclasses.replace(line, extra={**line.extra, "parameters": parameters}) for line in lines]


def scored(model: Model, asked: Sequence[ScoreRequest]) -> tuple[list[np.ndarray], float]:
    """Log-probabilities of every request's candidates, and the seconds that it took besides compiling."""
    session = Session()
    started = time.perf_counter()
    found = score(model, asked, session)
    return found, time.perf_counter() - started - session.programs.compile_seconds()


def _line(
    name: str, exact: Sequence[np.ndarray], found: Sequence[np.ndarray], seconds: float, own_seconds: float
) -> Measure:
    margins = np.array([np.diff(np.sort(one)[-2:])[0] for one in exact])
    differ = np.array([np.argmax(a) != np.argmax(b) for a, b in zip(exact, found, strict=True)])
    largest = max(float(np.abs(a - b).max()) for a, b in zip(exact, found, strict=True))
    print(f"{name}: {differ.sum()} of {len(exact)} in {own_seconds:.0f} s", file=sys.stderr, flush=True)
    return Measure(
        name=f"probing_precision.{name}",
        value=int(differ.sum()),
        unit=f"decisions that differ, of {len(exact)}",
        reference=0,
        ratio=float(differ.mean()),
        extra={
            "ratio_is": "share that differs",
            "max_abs_difference_nats": largest,
            "margin_median_nats": float(np.median(margins)),
            "largest_margin_of_a_changed_one": float(margins[differ].max(initial=0.0)),
            "seconds_ratio": round(own_seconds / seconds, 3),
        },
    )
