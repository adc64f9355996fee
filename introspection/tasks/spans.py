"""Cues inside a text: spans, the text without them, and the difference between prompts."""

import difflib
import re
from typing import NamedTuple

# Beyond this many pairs of words a difference is shown as one replacement: an exact one takes too long.
MOST_WORD_PAIRS = 1_000_000
# Kana, Chinese characters and Hangul: written without spaces, so each character counts as a word.
UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
Segment = tuple[str, str]  # "=" in both prompts, "+" only with the cue, "-" only without it


class Span(NamedTuple):
    """Characters `start` to `stop` (exclusive) of a text."""

    start: int
    stop: int


def without_span(text: str, span: Span, replacement: str = "") -> str:
    """The text without a span, or with a replacement.

    Without a replacement, white space around the gap is closed: of the two runs that meet, the one with more
    line ends stays, and none before a closing or after an opening mark.
    """
    before, after = text[: span.start], text[span.stop :]
    if replacement:
        return before + replacement + after
    left, right = before.rstrip(), after.lstrip()
    if not left or not right or right[0] in ".,;:!?)]" or left[-1] in "([":
        return left + right
    gaps = before[len(left) :], after[: len(after) - len(right)]
    return left + max(gaps, key=lambda gap: gap.count("\n")) + right


def prompt_difference(with_cue: str, without_cue: str) -> list[Segment]:
    """Both prompts as one list of segments, compared word by word.

    Joined, the `=` and `+` segments are the prompt with the cue, the `=` and `-` segments the one without.
    """
    left, right = _words(with_cue), _words(without_cue)
    start = 0
    while start < min(len(left), len(right)) and left[start] == right[start]:
        start += 1
    end = 0
    while end < min(len(left), len(right)) - start and left[-1 - end] == right[-1 - end]:
        end += 1
    middle_left, middle_right = left[start : len(left) - end], right[start : len(right) - end]
    segments = [("=", "".join(left[:start]))]
    if len(middle_left) * len(middle_right) > MOST_WORD_PAIRS:
        segments += [("+", "".join(middle_left)), ("-", "".join(middle_right))]
    else:
        matcher = difflib.SequenceMatcher(None, middle_left, middle_right, autojunk=False)
        for operation, i, j, k, m in matcher.get_opcodes():
            if operation == "equal":
                segments.append(("=", "".join(middle_left[i:j])))
            else:
                segments += [("+", "".join(middle_left[i:j])), ("-", "".join(middle_right[k:m]))]
    segments.append(("=", "".join(left[len(left) - end :])))
    return [segment for segment in segments if segment[1]]


def _words(text: str) -> list[str]:
    return re.findall(rf"\s+|[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s]", text)
