"""Shape buckets: the few array shapes that programs are compiled for.

A shape depends on a request alone, never on its neighbours in a batch, so a score is the same alone and
in any batch, and the number of compilations is bounded by the number of buckets.
"""

from typing import NamedTuple

# Tokens that one scoring batch aims at; short prompts get more rows, long ones fewer, never under eight.
BATCH_TOKENS = 8192


def bucket(length: int, smallest: int = 1) -> int:
    """The least of 1, 2, 3, 4, 6, 8, 12, 16, 24, … (powers of two and their halves' sums) >= length.

    Less than a third of a bucket is padding, about a seventh on average; more only below `smallest`.
    """
    length, power = max(length, smallest), 1
    while power < length:
        power *= 2
    return power * 3 // 4 if power >= 4 and length <= power * 3 // 4 else power


class ScoreShape(NamedTuple):
    """The arrays of one scoring batch."""

    prompts: int
    prompt_length: int  # tokens
    continuations: int  # a prompt
    continuation_length: int  # tokens, its end token included


def score_shape(prompt_length: int, continuations: int, continuation_length: int) -> ScoreShape:
    """The bucket of one request; `prompts` is a power of two so that it divides over any mesh."""
    prompt_length = bucket(prompt_length, smallest=8)
    continuations = bucket(continuations)
    continuation_length = bucket(continuation_length, smallest=2)
    tokens = prompt_length + continuations * continuation_length
    prompts = 1 << max(BATCH_TOKENS // tokens, 1).bit_length() - 1
    return ScoreShape(max(prompts, 8), prompt_length, continuations, continuation_length)
