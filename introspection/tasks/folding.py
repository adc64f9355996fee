"""How texts are made comparable: one writing of what is the same, then as much folding as keeps words apart.

Accents are dropped where people drop them in writing: Latin, Greek, vowel points of Hebrew and Arabic. In
other scripts marks tell words apart: パリ is Paris, バリ is Bali, and й, и and every Thai tone mark differ.
"""

import enum
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Sequence

# NFKC would read 10² as 102, 1½ as 11/2 and № as "No".
_KEPT = re.compile("([²³¹⁰⁴-⁹⁺⁻¼-¾⅐-⅟№™℠ªº]+)")
_QUOTES = str.maketrans("’‘ʼ′´‐‑−", "'''''---")
_EN_DASH = re.compile(r"(?<=[^\W\d_])–(?=[^\W\d_])")  # within a word it is a hyphen: Guinea–Bissau
# Characters without width: soft hyphens, joiners, marks of direction, variants of emoji.
_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]")
_LETTERS = str.maketrans({"ı": "i", "ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "ё": "е"})
_ACCENTS = re.compile(
    "(?<![\u0400-\u052f])[\u0300-\u036f]+"  # of all letters but the Cyrillic ones
    "|(?<=[аеиоуыэюя])\u0301"  # a Russian stress mark
    "|[\u0591-\u05bd\u05bf\u05c1-\u05c7\u064b-\u065f\u0670]+"  # vowel points of Hebrew and Arabic
)


class Folding(enum.IntEnum):
    """How much is folded, each more than the one before it."""

    UNIFIED = 0  # only what `unify` and white space do; case counts
    LOWER = 1
    CASE = 2  # Unicode's full case folding: ß is ss
    ACCENTS = 3


def unify(text: str) -> str:
    """One writing of the same characters: composed or not, half or full width, in any script's digits."""
    if text.isascii():
        return text
    parts = _KEPT.split(_INVISIBLE.sub("", _EN_DASH.sub("-", text.translate(_QUOTES))))
    parts[::2] = [unicodedata.normalize("NFKC", part) for part in parts[::2]]
    return re.sub(r"\d", lambda digit: str(unicodedata.decimal(digit[0])), "".join(parts))


def fold(text: str, folding: Folding = Folding.ACCENTS) -> str:
    """A text in one writing and with single spaces, folded as far as is asked for."""
    text = unify(" ".join(text.split()))
    if folding >= Folding.LOWER:
        text = text.casefold() if folding >= Folding.CASE else text.lower()
        text = text.replace("i\u0307", "i")  # of the Turkish İ
    if folding >= Folding.ACCENTS and not text.isascii():
        text = _ACCENTS.sub("", unicodedata.normalize("NFD", text.translate(_LETTERS)))
    return unicodedata.normalize("NFC", text)


def folding_of(candidates: Sequence[str], case_counts: bool = False) -> Folding:
    """The strongest folding that keeps candidates apart: ano and año, or Masse and Maße, are two words.

    Case tells candidates apart only if it counts.
    """
    if case_counts:
        return Folding.UNIFIED
    for folding in (Folding.ACCENTS, Folding.CASE):
        if len({fold(candidate, folding) for candidate in candidates}) == len(candidates):
            return folding
    return Folding.LOWER


def place_of(text: str, place: int, folded: Callable[[str], str]) -> int:
    """The place in a text that a place in `folded(text)` comes from: after all that is folded before it."""
    return bisect_right(range(len(text) + 1), place, key=lambda end: len(folded(text[:end]))) - 1
