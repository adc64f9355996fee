"""Shape buckets: the few array shapes that programs are compiled for.

A request's lengths do not depend on its neighbours in a batch, so its score is the same alone and in any
batch, and the number of buckets bounds the number of compilations. Only a large model's last batches have
fewer rows or a longer bucket's length, where rounding may differ.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax

# Target number of tokens per probing batch: short prompts get more rows, long ones fewer, never under eight.
# Small batches leave an accelerator idle: on an H100, SmolLM2 generated 1,024 replies of 24 tokens at 212 per
# second with 8,192, 258 with 32,768 and 785 with 131,072 (JAX 0.11.2, bfloat16, one manual run). Half of the
# last (not measured) leaves room for larger models, whose keys and values take up to 0.3 MB per token.
BATCH_TOKENS = 8192
ACCELERATOR_BATCH_TOKENS = 65_536
# A batch with less arithmetic (2 · parameters · tokens) is not worth an executable with fewer rows.
LEAST_BATCH_FLOPS = 2e10
ACCELERATOR_LEAST_BATCH_FLOPS = 1e12


def batch_tokens() -> int:
    """Tokens of a probing batch on this process's devices."""
    return BATCH_TOKENS if jax.default_backend() == "cpu" else ACCELERATOR_BATCH_TOKENS


def bucket(length: int, smallest: int = 1) -> int:
    """The least of 1, 2, 3, 4, 6, 8, 12, 16, 24, … (powers of two and three halves of them) >= length.

    Padding is less than a third of a bucket, about a seventh on average; more only below `smallest`.
    """
    length, power = max(length, smallest), 1
    while power < length:
        power *= 2
    return power * 3 // 4 if power >= 4 and length <= power * 3 // 4 else power


class ScoreShape(NamedTuple):
    prompts: int
    prompt_length: int  # tokens
    continuations: int  # per prompt
    continuation_length: int  # tokens, including the end token


def score_shape(prompt_length: int, continuations: int, continuation_length: int) -> ScoreShape:
    """The bucket of one request; `prompts` is a power of two, to divide over any mesh."""
    prompt_length = bucket(prompt_length, smallest=8)
    continuations = bucket(continuations)
    continuation_length = bucket(continuation_length, smallest=2)
    tokens = prompt_length + continuations * continuation_length
    prompts = 1 << max(batch_tokens() // tokens, 1).bit_length() - 1
    return ScoreShape(max(prompts, 8), prompt_length, continuations, continuation_length)


def batches(
    requests: Sequence[Any], shape: ScoreShape, parameters: int, parts: int, least_rows: int = 1
) -> Iterator[tuple[Sequence[Any], ScoreShape]]:
    """Batches of requests of one bucket, each with the shape to pad it to.

    Full batches come first. If a full batch of a model with this many parameters is expensive, the last
    batches have a quarter of its rows, a sixteenth and so on, down to `least_rows`: each is more than half
    full, or the smallest that is worth an executable. So a few requests never cost a large model a full
    batch. The rows of each can be split into `parts`.
    """
    sizes, start = _row_counts(shape, parameters, parts, least_rows), 0
    while start < len(requests):
        while len(sizes) > 1 and len(requests) - start <= sizes[0] // 2:
            sizes = sizes[1:]
        yield requests[start : start + sizes[0]], shape._replace(prompts=sizes[0])
        start += sizes[0]


def joined_batches(
    by_shape: Mapping[ScoreShape, Sequence[Any]], parameters: int, parts: int, least_rows: int = 1
) -> Iterator[tuple[Sequence[Any], ScoreShape]]:
    """`batches` over several buckets that differ in prompt length, for slow calls.

    Requests that do not fill a large model's batch wait for the next bucket, if it is at most half longer.
    """
    waiting: list[Any] = []
    shapes = sorted(by_shape, key=lambda shape: shape.prompt_length)
    for shape, longer in itertools.zip_longest(shapes, shapes[1:]):
        requests = [*waiting, *by_shape[shape]]
        is_near = longer is not None and 2 * longer.prompt_length <= 3 * shape.prompt_length
        rows, *fewer = _row_counts(shape, parameters, parts, least_rows)
        full = len(requests) // rows * rows if is_near and fewer else len(requests)
        waiting = requests[full:]
        yield from batches(requests[:full], shape, parameters, parts, least_rows)


def _row_counts(shape: ScoreShape, parameters: int, parts: int, least_rows: int) -> list[int]:
    row_flops = 2 * parameters * (shape.prompt_length + shape.continuations * shape.continuation_length)
    least_flops = LEAST_BATCH_FLOPS if jax.default_backend() == "cpu" else ACCELERATOR_LEAST_BATCH_FLOPS
    least, sizes = max(least_rows, parts, math.ceil(least_flops / row_flops)), [shape.prompts]
    while sizes[-1] // 4 >= least:
        sizes.append(sizes[-1] // 4)
    return [math.ceil(size / parts) * parts for size in sizes]
