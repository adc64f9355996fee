"""A cue that stands in a text already: a span of it, and the text without the span."""

from typing import NamedTuple


class Span(NamedTuple):
    """Characters `start` to before `stop` of a text."""

    start: int
    stop: int


def without_span(text: str, span: Span, replacement: str = "") -> str:
    """The text without a span, or with something else in its place.

    Without a replacement the white space around the gap is closed: of the two runs that meet, the one with
    more line ends stays, and none before a closing or after an opening mark. Nothing else changes.
    """
    before, after = text[: span.start], text[span.stop :]
    if replacement:
        return before + replacement + after
    left, right = before.rstrip(), after.lstrip()
    if not left or not right or right[0] in ".,;:!?)]" or left[-1] in "([":
        return left + right
    gaps = before[len(left) :], after[: len(after) - len(right)]
    return left + max(gaps, key=lambda gap: gap.count("\n")) + right
