"""Which candidate a generated answer names: a strict matcher that can answer "none"."""

import functools
import re
import string
import unicodedata
from collections.abc import Sequence

from introspection.tasks.items import NONE

# "C", "C.", "(C) Mercury", "**C**: …", "C\n…"; not "A train …", nor "C major …".
_FIRST = r"[\s*_\"'(\[]*({letters})(?=[.):\]*,;\n]|\s*$)"
# "The answer is C", "the correct option: (C)"; a letter on its own, not the article of a phrase.
_NAMED = r"\b(?:answer|option|choice)(?:\s+is)?\s*:?\s*[*_\"'(\[]*({letters})(?=[.):\]*,;!\"'\n]|\s*$)"


def match_candidate(text: str, candidates: Sequence[str]) -> str:
    """The one candidate that a text names; `NONE` if it names none or several.

    A candidate is named if its words occur whole and in order, up to case, accents and white space ("Niger"
    is not named in "Nigeria"). If one candidate contains another ("York" in "New York"), the longest match
    counts. A text that names two, even to reject one, gets `NONE`: labels made from it must be reliable. A
    symbol's case counts: "In" is an element, "in" a word. Option letters follow `match_letter`.
    """
    if is_letters(candidates):
        return match_letter(text, candidates)
    folded, cased = fold(text), fold_accents(text)
    named = set()
    by_length = sorted(candidates, key=lambda candidate: -len(fold(candidate)))
    for candidate in by_length:
        symbol = is_symbol(candidate)
        pattern = _pattern(fold_accents(candidate) if symbol else fold(candidate))
        if pattern.search(cased if symbol else folded):
            named.add(candidate)
            # Masked, so that a shorter candidate does not match in the same place.
            folded = _pattern(fold(candidate)).sub(" \0 ", folded)
            cased = _pattern(fold_accents(candidate), re.IGNORECASE).sub(" \0 ", cased)
    return named.pop() if len(named) == 1 else NONE


def fold(text: str) -> str:
    """Removes case, accents and extra white space."""
    return fold_accents(text).casefold()


def fold_accents(text: str) -> str:
    """Removes accents and extra white space."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(plain.split())


def is_symbol(candidate: str) -> bool:
    """Whether it has one or two letters with a capital, like an element's symbol."""
    return len(candidate) <= 2 and candidate.isalpha() and candidate.lower() != candidate


@functools.lru_cache(maxsize=100_000)
def _pattern(words: str, flags: int = 0) -> re.Pattern[str]:
    """The folded words, outside longer words and numbers; "1" is not named in "1.5" or "10"."""
    return re.compile(rf"(?<![\w.+-])(?<!\w['’]){re.escape(words)}(?!\w|[.,'’-]\w)", flags)


def is_letters(candidates: Sequence[str]) -> bool:
    """Whether the candidates are option letters: the first of the alphabet, so not elements' symbols."""
    return len(candidates) > 1 and sorted(candidates) == list(string.ascii_uppercase[: len(candidates)])


def match_letter(text: str, candidates: Sequence[str]) -> str:
    """The one letter that a reply starts with or calls the answer; `NONE` if there is none or several.

    Letters inside an option's text ("C. Vitamin D") don't count.
    """
    letters = "|".join(map(re.escape, candidates))
    first = re.match(_FIRST.format(letters=letters), text)
    named = {first[1]} if first else set()
    named |= set(re.findall(_NAMED.format(letters=letters), text, re.IGNORECASE)) & set(candidates)
    return named.pop() if len(named) == 1 else NONE
