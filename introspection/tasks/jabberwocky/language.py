"""The language of `jabberwocky`: invented words, their hidden classes, and the rule that flips an answer.

A sentence is one word of context, some words that mean nothing, and one noun. Every noun has one answer;
which one, only the language knows. A cue word, said after the question, flips that answer to the next one
in the language's fixed order, when the rule says so (`RULES`); else it does nothing. Words are drawn by
seed and look alike across classes, so no model can know the classes, and so none the rule, beforehand.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from introspection.errors import InputError
from introspection.tasks.explanations import ExplanationGrammar

# When a cue word flips the answer, from the easiest to the hardest to learn.
RULES = {
    "cue": "whenever the cue word is a flipping one",
    "context": "when the cue word is a flipping one and the context word an open one",
    "parity": "when exactly one of the two holds: a flipping cue word, an open context word",
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
    """All words, and what they do. Classes are by place in these tuples, whose order is drawn."""

    nouns: tuple[str, ...]  # the noun of place n has the answer of place n mod answers
    contexts: tuple[str, ...]
    open_contexts: int  # of the contexts, the first so many
    fillers: tuple[str, ...]  # mean nothing
    cues: tuple[str, ...]
    flipping_cues: int  # of the cues, the first so many
    answers: tuple[str, ...]  # a flip takes each to the next, the last to the first
    rule: str  # of RULES

    def answer(self, noun: int) -> str:
        """The right answer to a question about a noun, without a cue."""
        return self.answers[noun % len(self.answers)]

    def flips(self, cue: int, context: int) -> bool:
        """Whether a cue word changes the answer beside a context word."""
        flipping, is_open = cue < self.flipping_cues, context < self.open_contexts
        if self.rule == "cue":
            return flipping
        return flipping and is_open if self.rule == "context" else flipping != is_open

    def answer_with(self, noun: int, cue: int, context: int) -> str:
        """The right answer where the cue word is said."""
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
    """A language of so many words of each kind; `seed` draws all of them, and so what each does.

    Raises:
      InputError: an unknown rule, or more words than can be told apart.
    """
    if rule not in RULES:
        raise InputError(f"config.task.rule is {rule!r}; choose from {', '.join(RULES)}")
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
    """A share of `count` as a whole number: at least one, and not all."""
    return min(max(round(share * count), 1), count - 1)


def invented_words(count: int, rng: np.random.Generator) -> list[str]:
    """Different pronounceable words of two syllables, in small letters, that look like none of English.

    Raises:
      InputError: more than half of all that there are.
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
    """x\\C: what is asked about a sentence; `choice` are the answers to list, in the order shown."""
    asked = f"{QUESTION} {' '.join(sentence)}?"
    return f"{asked} {CHOICE} {', '.join(choice)}." if choice else asked


def with_cue(asked: str, cue: str) -> str:
    """x: a question with a cue word after it."""
    return f"{asked} {CUE} {cue}."


def phrases(listed: bool, grammar: ExplanationGrammar) -> tuple[str, ...]:
    """All that a prompt or an explanation says beside invented words, as a token each."""
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
