"""Which option a generated reply names by its letter: stricter than words, since A is also an article."""

import re
import string
from collections.abc import Sequence

from introspection.tasks.items import NONE

# "C", "C.", "(C) Mercury", "**C**: …", "C\n…"; not "A train …", nor "C major …".
_FIRST = r"[\s*_\"'(\[]*({letters})(?=[.):\]*,;\n]|\s*$)"
# "The answer is C", "the correct option: (C)"; the letter is a word, and no article of one.
_NAMED = r"\b(?:answer|option|choice)(?:\s+is)?\s*:?\s*[*_\"'(\[]*({letters})(?=[.):\]*,;!\"'\n]|\s*$)"


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
