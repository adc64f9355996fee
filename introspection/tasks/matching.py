"""Which candidate a generated answer names, and where: a strict matcher that can answer "none"."""

import functools
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from introspection.tasks.folding import fold, folding_of, place_of
from introspection.tasks.items import NONE, Match
from introspection.tasks.letters import letters_of, named_letters

_UNSPACED = ("CJK", "IDEOGRAPHIC", "HIRAGANA", "THAI", "LAO", "KHMER", "MYANMAR")
_RUNS = ("KATAKANA", "HANGUL")  # words of these scripts end where the script changes
_VIRAMAS = "\u1039\u17d2"  # of Burmese and Khmer: the next consonant stands below
# What Korean attaches to a noun: a case, a topic, "is". 인도네시아 (Indonesia) does not name 인도 (India).
_KOREAN = re.compile(
    "번?(께서|에서|에게|부터|까지|으로|로|에|의|와|과|이랑|랑|하고|보다|처럼|만)?(은|는|이|가|을|를|도|만)?"
    "(이?(다|야|고|며|라고|라는|지만|었다|었습니다)|였다|였습니다|입니다만?|이?에요|예요|이?요|이?죠)?"
)

_TEXT = re.compile(r"\\(?:text|math)\w*\s*\{([^{}]*)\}")  # LaTeX's, around words
_BOX = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_JOINED = re.compile(r"(?<=[^\W\d_])\\[ -](?=[^\W\d_])")  # in an escaped name
_IN_NUMBERS = ".,:/^'٫٬–~〜"
# What rejects the name that it stands beside: "it is not Oslo", "Oslo is wrong", 不是东京, 東京ではない.
_DENIED_BEFORE = re.compile(
    "(?:(?:\\bnot|n't|\\bcannot|\\bnever|\\bnicht|\\bkeine?|\\bpas|\\bn[aã]o [eé]|\\bno es|\\bnon [eè]|\\bне)"
    "(?: be)?(?: (?:the|an?|in|at))?[ *_\"'`(]+|不[会會]?是?|[并並]非|[没沒]有)$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    "[*_\"'`)]*(?: (?:is|was|would be) (?:wrong|incorrect|false|not (?:the )?(?:right|correct|answer|true)))"
    "|[*_\"'`)]* (?:isn't|wasn't) (?:the )?(?:right|correct|answer|true)"
    "|(?:では|じゃ)(?:な|あり?ませ)|[이가은는]? ?아[니닙]",
    re.IGNORECASE,
)


class Mention(NamedTuple):
    candidate: str
    start: int  # in the folded text
    end: int


def match_candidate(text: str, candidates: Sequence[str], case_counts: bool = False) -> str:
    """The one candidate that a text names; `NONE` if it names none or several. See `find_match`."""
    return find_match(text, candidates, case_counts).candidate


def find_match(text: str, candidates: Sequence[str], case_counts: bool = False) -> Match:
    """The one candidate that a text names, and where it first does; `NONE` if it names none or several.

    A candidate is named if its words occur whole and in order: "Niger" is not named in "Nigeria", nor C in
    C++. Accents don't count unless they tell two candidates apart (`folding_of`). If one candidate contains
    another ("York" in "New York"), the longest match counts. A text that names two, even to reject one, or
    that only rejects one ("not Oslo") gets `NONE`: labels made from it must be reliable. If there is a LaTeX
    \\boxed{…}, only that is read. Option letters follow `letters.named_letters`.

    Args:
      case_counts: for symbols: "In" is an element, "in" a word.
    """
    read = _TEXT.sub(lambda found: f"{' ' * (found.start(1) - found.start())}{found[1]} ", text)
    if letters := letters_of(candidates):
        found = named_letters(read, letters)
        return found[0] if len({one.candidate for one in found}) == 1 else Match(NONE)
    read = _boxed(read)
    found = mentions(read, candidates, case_counts)
    folded = functools.partial(fold, folding=folding_of(candidates, case_counts))
    if len({one.candidate for one in found}) != 1 or _denies(folded(read), found):
        return Match(NONE)
    start, end = (place_of(read, place, folded) for place in found[0][1:])
    return Match(found[0].candidate, start, start + len(read[start:end].rstrip()))


def _boxed(text: str) -> str:
    """The contents of `\\boxed{…}` in their places, if there are any, else the text."""
    spans = [found.span(1) for found in _BOX.finditer(text)]
    shown = ["|"] * len(text)
    for start, end in spans:
        shown[start:end] = text[start:end]
    return "".join(shown) if spans else text


def _denies(folded: str, found: Sequence[Mention]) -> bool:
    """Whether a text rejects a name where it stands; `folded` is the text that the mentions are places of."""
    return any(
        _DENIED_BEFORE.search(folded[: one.start]) or _DENIED_AFTER.match(folded[one.end :]) for one in found
    )


def mentions(text: str, candidates: Sequence[str], case_counts: bool = False) -> list[Mention]:
    """Where a text names candidates, in order; of overlapping mentions the longest counts, then the first."""
    folding = folding_of(candidates, case_counts)
    folded, apart = fold(text, folding), {fold(c, folding).replace("-", " ") for c in candidates}
    # Guinea Bissau is Guinea-Bissau, unless another candidate is.
    joint = "[ -]" if len(apart) == len(candidates) else r"\g<0>"
    found = [
        Mention(candidate, at.start(), at.start() + len(words))
        for candidate in candidates
        for words in [fold(candidate, folding)]
        for at in re.finditer(f"(?={_JOINED.sub(joint, re.escape(words))})", folded)
        if words and is_whole(folded, at.start(), at.start() + len(words))
    ]
    kept, spans, taken = [], set(), bytearray(len(folded))
    for one in sorted(found, key=lambda one: (one.start - one.end, one.start)):
        # Two candidates that no folding tells apart are both named.
        if one[1:] in spans or not any(taken[one.start : one.end]):
            kept.append(one)
            spans.add(one[1:])
            taken[one.start : one.end] = b"\1" * (one.end - one.start)
    return sorted(kept, key=lambda one: one.start)


def is_whole(text: str, start: int, end: int) -> bool:
    """Whether a stretch is a whole name, outside longer words and numbers: 1 is not in 10, 1.5 or 1/2."""
    # Underscores around a name are Markdown's, inside a word they are the word's.
    before, name, after = text[:start].rstrip("_"), text[start:end], text[end : end + 99].lstrip("_")
    farther, left = ("  " + before)[-2:]
    right, beyond = (after + "  ")[:2]
    korean = re.match("[가-힣]*", after)[0]
    return not (
        _are_one_word(left, name[0])
        or left in _VIRAMAS
        or (left in "+-" and (not name[0].isalpha() or _are_one_word(farther, name[0])))
        or (left == "." and farther != ".")
        or (left == "'" and _are_one_word(farther, name[0]))
        or (left in "{^" and name[0].isdigit())  # of a formula
        or (left in _IN_NUMBERS and farther.isdigit() and name[0].isdigit())
        or (not korean and _are_one_word(right, name[-1]))
        or not _KOREAN.fullmatch(korean)
        or right == "ー"
        or unicodedata.category(right)[0] == "M"
        or right in "+#♯♭"
        or (right in ".'-" and _are_one_word(beyond, name[-1]))
        or (right == "-" and len(name) == 1)  # a grade
        or (right in _IN_NUMBERS and beyond.isdigit() and name[-1].isdigit())
        # 5 000, with a space between the thousands
        or (re.match(r" \d{3}(?!\d)", after) and re.search(r"(?<!\d)\d{1,3}$", name))
        or (re.search(r"(?<!\d)\d{1,3} $", before) and re.match(r"\d{3}(?!\d)", name))
    )


def _are_one_word(outer: str, inner: str) -> bool:
    """Whether a character beside a name goes on the word of its first or last one (as in Unicode's UAX 29).

    Scripts that are written without spaces may end a word anywhere; a sign counts as Latin: x-1 is not -1.
    """
    if not _is_word(outer):
        return False
    if outer.isnumeric() and inner.isnumeric():  # also 二十
        return True
    return _script(outer) is not None and _script(outer) == (_script(inner) if _is_word(inner) else "")


def _is_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character)[0] == "M"


@functools.lru_cache(maxsize=100_000)
def _script(character: str) -> str | None:
    """What runs of letters are words: "" where spaces part words, None if a word may end anywhere."""
    name = unicodedata.name(character, "")
    if name.startswith(_UNSPACED):
        return None
    return next((script for script in _RUNS if name.startswith(script)), "")
