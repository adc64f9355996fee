"""Which candidate a freely said answer names: a strict matcher that knows "neither"."""

import functools
import re
import string
import unicodedata
from collections.abc import Sequence

from introspection.tasks.items import NONE

# "C", "C.", "(C) Mercury", "**C**: …", "C\n…"; not "A train …", nor "C major …".
_FIRST = r"[\s*_\"'(\[]*({letters})(?=[.):\]*,;\n]|\s*$)"
# "The answer is C", "the correct option: (C)"; the letter is a word, and no article of one.
_NAMED = r"\b(?:answer|option|choice)(?:\s+is)?\s*:?\s*[*_\"'(\[]*({letters})(?=[.):\]*,;!\"'\n]|\s*$)"


def match_candidate(text: str, candidates: Sequence[str]) -> str:
    """The one candidate that a text names, or `NONE` if it names none, or several.

    A candidate is named where its words stand whole and in order, whatever their case, accents and the white
    space between them ("Niger" is not named in "Nigeria"). Where one candidate stands inside another ("York"
    in "New York"), a place names the longest that fits there. A text that names two, even to deny one of
    them, is not guessed at: who reads labels made from it must be able to trust them. The case of a symbol
    counts: "In" is an element, "in" a word. Options' letters are no words, and are matched as
    `letters.match_letter` says.
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
            # So that a shorter one is not found in the same place.
            folded = _pattern(fold(candidate)).sub(" \0 ", folded)
            cased = _pattern(fold_accents(candidate), re.IGNORECASE).sub(" \0 ", cased)
    return named.pop() if len(named) == 1 else NONE


def fold(text: str) -> str:
    """Case, accents and runs of white space taken out of a text."""
    return fold_accents(text).casefold()


def fold_accents(text: str) -> str:
    """Accents and runs of white space taken out of a text."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(plain.split())


def is_symbol(candidate: str) -> bool:
    """Whether it is one or two letters with a capital one, like an element's symbol."""
    return len(candidate) <= 2 and candidate.isalpha() and candidate.lower() != candidate


@functools.lru_cache(maxsize=100_000)
def _pattern(words: str, flags: int = 0) -> re.Pattern[str]:
    """The folded words, not inside a longer word or number; "1" is not named in "1.5" or "10"."""
    return re.compile(rf"(?<![\w.+-])(?<!\w['’]){re.escape(words)}(?!\w|[.,'’-]\w)", flags)


def is_letters(candidates: Sequence[str]) -> bool:
    """Whether candidates are options' letters: the alphabet's first, so symbols of elements are none."""
    return len(candidates) > 1 and sorted(candidates) == list(string.ascii_uppercase[: len(candidates)])


def match_letter(text: str, candidates: Sequence[str]) -> str:
    """The one letter that a reply begins with, or calls the answer, or `NONE` if that is none, or several.

    A reply that begins with an option and goes on to call another one the answer is not guessed at. Letters
    inside the option's text ("C. Vitamin D") don't count.
    """
    letters = "|".join(map(re.escape, candidates))
    first = re.match(_FIRST.format(letters=letters), text)
    named = {first[1]} if first else set()
    named |= set(re.findall(_NAMED.format(letters=letters), text, re.IGNORECASE)) & set(candidates)
    return named.pop() if len(named) == 1 else NONE
