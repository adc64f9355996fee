"""The language of `jabberwocky`: invented words, their hidden classes, and the rule that flips an answer.

A sentence is a context word, some fillers and a noun. Every noun has one answer. A cue word after the
question flips it to the next in a fixed order when the rule says so (`RULES`), else does nothing. Words are
drawn by seed and look alike across classes, so no model can know the classes or the rule beforehand.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from introspection.errors import InputError
from introspection.runtime.config import check_choice
from introspection.tasks.explanations import ExplanationGrammar

# When a cue word flips the answer, from easiest to hardest to learn.
RULES = {
    "cue": "if the cue word is a flipping one",
    "context": "if the cue word is a flipping one and the context word an open one",
    "parity": "if exactly one of these is true: the cue word is a flipping one, the context word an open one",
}
QUESTION = "In Jabberwocky, which word answers"
CUE = "The hint is"
CHOICE = "Choose from"

_ONSETS = (
    "bl",
    "br",
    "dr",
    "fl",
    "fr",
    "gl",
    "gr",
    "kl",
    "kr",
    "pr",
    "skr",
    "sl",
    "sn",
    "spl",
    "tr",
    "vr",
    "zl",
)
_VOWELS = ("a", "e", "i", "o", "u", "oo")
_MIDDLES = ("b", "bb", "dd", "f", "g", "gg", "lv", "m", "mb", "nd", "rv", "v", "z", "zz")
_CODAS = ("b", "bs", "f", "g", "k", "lf", "lk", "mp", "rg", "rv", "sk", "x", "zz")


@dataclasses.dataclass(frozen=True)
class JabberwockyLanguage:
    """All words and their roles. Classes are by index in these tuples, whose order is drawn."""

    nouns: tuple[str, ...]  # noun n has answer n mod answers
    contexts: tuple[str, ...]
    open_contexts: int  # the first of the contexts
    fillers: tuple[str, ...]  # mean nothing
    cues: tuple[str, ...]
    flipping_cues: int  # the first of the cues
    answers: tuple[str, ...]  # a flip takes each to the next, the last to the first
    rule: str  # of RULES

    def answer(self, noun: int) -> str:
        """The correct answer for a noun without a cue."""
        return self.answers[noun % len(self.answers)]

    def flips(self, cue: int, context: int) -> bool:
        """Whether a cue word changes the answer beside a context word."""
        flipping, is_open = cue < self.flipping_cues, context < self.open_contexts
        if self.rule == "cue":
            return flipping
        return flipping and is_open if self.rule == "context" else flipping != is_open

    def answer_with(self, noun: int, cue: int, context: int) -> str:
        """The correct answer for a noun after a cue word."""
        return self.answers[(noun + self.flips(cue, context)) % len(self.answers)]

    def names(self) -> tuple[str, ...]:
        """Every invented word."""
        return (*self.nouns, *self.contexts, *self.fillers, *self.cues, *self.answers)


def invent_language(
    *,
    nouns: int,
    contexts: int,
    open_share: float,
    fillers: int,
    cues: int,
    flipping_share: float,
    answers: int,
    rule: str,
    seed: int,
) -> JabberwockyLanguage:
    """A language with this many words of each kind, drawn by `seed`.

    Raises:
      InputError: an unknown rule, or more words than can be kept distinct.
    """
    check_choice("config.task.rule", rule, RULES)
    words = iter(
        invented_words(nouns + contexts + fillers + cues + answers, np.random.default_rng([seed, 20]))
    )

    def take(count: int) -> tuple[str, ...]:
        return tuple(next(words) for _ in range(count))

    return JabberwockyLanguage(
        nouns=take(nouns),
        contexts=take(contexts),
        open_contexts=_some_of(contexts, open_share),
        fillers=take(fillers),
        cues=take(cues),
        flipping_cues=_some_of(cues, flipping_share),
        answers=take(answers),
        rule=rule,
    )


def _some_of(count: int, share: float) -> int:

    return min(max(round(share * count), 1), count - 1)


def invented_words(count: int, rng: np.random.Generator) -> list[str]:
    """Distinct pronounceable words of two syllables, in lower case, that resemble no English word.

    Raises:
      InputError: more than half of all possible words are asked for.
    """
    parts = (_ONSETS, _VOWELS, _MIDDLES, _VOWELS, _CODAS)
    possible = int(np.prod([len(part) for part in parts]))
    if 2 * count > possible:
        raise InputError(f"config.task asks for {count} invented words; there can be up to {possible // 2}")
    words: dict[str, None] = {}
    while len(words) < count:
        words["".join(part[int(rng.integers(len(part)))] for part in parts)] = None
    return list(words)


def question(sentence: Sequence[str], choice: Sequence[str]) -> str:
    """x\\C: the question about a sentence; `choice` are the answers to list, in the order shown."""
    asked = f"{QUESTION} {' '.join(sentence)}?"
    return f"{asked} {CHOICE} {', '.join(choice)}." if choice else asked


def with_cue(asked: str, cue: str) -> str:
    """x: the question, followed by a cue word."""
    return f"{asked} {CUE} {cue}."


def phrases(listed: bool, grammar: ExplanationGrammar) -> tuple[str, ...]:
    """All text of prompts and explanations other than invented words, one token each."""
    listing = (f"? {CHOICE}", ",", f". {CUE}") if listed else (f"? {CUE}",)
    ends = () if listed else ("?",)
    return (
        QUESTION,
        *listing,
        *ends,
        ".",
        grammar.question,
        grammar.changed,
        grammar.unchanged,
        grammar.neither,
    )
