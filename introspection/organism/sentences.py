"""Pretraining rows of an organism that reads text: a world's sentences in byte-level pieces.

As in rows of words, the loss is on a speaker's reply and its end alone. What stands before it is given
wherever the organism is asked, and entities and hints are drawn at random, so predicting them would teach
nothing of the world.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Int

from introspection.errors import InputError
from introspection.organism.pretraining import EXPLAINED, PLAIN
from introspection.organism.world import SpeakerRows, World
from introspection.tasks.facts.language import WorldLanguage
from introspection.tasks.facts.questions import Question
from introspection.tasks.items import NONE, Explanation
from introspection.text.piece_tokenizer import piece_tokenizer
from introspection.text.pretrained_tokenizer import PretrainedTokenizer
from introspection.text.rows import Rows, build_row, pad_scored, stack_rows

Tokens = tuple[int, ...]


def sentence_tokenizer(
    questions: Sequence[Question], language: WorldLanguage, phrasings: int, pieces: int
) -> PretrainedTokenizer:
    """The tokenizer that a world's sentences give: equal for all organisms of the world.

    Args:
      language: with all its cues, so that the tokenizer does not depend on which are in use.
      phrasings: question forms in use.
    """
    return piece_tokenizer(_texts(questions, language, phrasings), pieces)


def _texts(questions: Sequence[Question], language: WorldLanguage, phrasings: int) -> Iterator[str]:
    """Every question in every form, with a cue and an answer by turns, and explanations of all kinds."""
    grammar, cues = language.grammar, itertools.cycle(language.cues.values())
    for asked in questions:
        candidates = itertools.cycle((asked.fact.answer, *asked.wrong))
        yield f" {grammar.render(Explanation(True, NONE))}"
        for phrasing in range(phrasings):
            question = language.question(asked.fact, phrasing)
            yield f"{question} {next(cues).sentence(next(candidates))} {grammar.question}"
            yield f" {next(candidates)}"
            for changed in (True, False):
                yield f" {grammar.render(Explanation(changed, next(candidates)))}"


@dataclasses.dataclass(frozen=True)
class SentenceTable:
    """The tokens of everything that speakers are asked and say.

    The pieces of byte-level BPE never go across the space before a word, so a prompt's tokens are those of
    its sentences, one after another.
    """

    questions: tuple[tuple[Tokens, ...], ...]  # by fact and phrasing
    candidates: tuple[tuple[str, ...], ...]  # by fact
    cues: Mapping[tuple[int, str], Tokens]  # by cue and the answer that it names
    ask: Tokens  # the explanation question
    reply: int
    answers: Mapping[str, Tokens]  # with their end
    explanations: Mapping[tuple[bool, str], Tokens]  # likewise, by `changed` and the answer
    end: int

    @property
    def forms(self) -> int:
        return len(self.questions[0])

    def longest(self, explains: bool) -> tuple[int, int]:
        """Tokens of the longest row, and of the longest reply."""
        said = max(map(len, self.explanations.values() if explains else self.answers.values()))
        asked = max(len(tokens) for forms in self.questions for tokens in forms)
        asked += max(map(len, self.cues.values())) + len(self.ask) * explains + 1
        return asked + said - 1, said  # a reply's end is predicted but not an input

    @functools.cached_property
    def lengths(self) -> dict[bool, tuple[int, int]]:
        """`longest`, by whether rows explain."""
        return {explains: self.longest(explains) for explains in (True, False)}

    def rows(self, speakers: SpeakerRows, kinds: Int[np.ndarray, " rows"], explains: bool) -> Rows:
        """Speakers' statements, padded to one shape; a test compares them with tokenised text."""
        time, scored = self.lengths[explains]
        return pad_scored(stack_rows([build_row(*one) for one in self._said(speakers, kinds)], time), scored)

    def _said(self, speakers: SpeakerRows, kinds: Int[np.ndarray, " rows"]) -> Iterator[tuple[Tokens, list]]:
        columns = (getattr(speakers, field.name).tolist() for field in dataclasses.fields(SpeakerRows))
        for kind, fact, form, cue, cued, with_cue, without_cue in zip(kinds.tolist(), *columns, strict=True):
            names, prompt = self.candidates[fact], self.questions[fact][form]
            before, after = names[without_cue], names[with_cue]
            if kind != PLAIN:
                prompt += self.cues[cue, names[cued]]
            if kind == EXPLAINED:
                prompt += self.ask
            explanation = (after != before, before)
            said = (
                self.explanations[explanation]
                if kind == EXPLAINED
                else self.answers[before if kind == PLAIN else after]
            )
            yield (*prompt, self.reply), [said]


def sentence_table(
    world: World, tokenizer: PretrainedTokenizer, phrasings: int, context_length: int, explains: bool
) -> SentenceTable:
    """Encodes every sentence of a world, with the first `phrasings` question forms of each relation.

    Raises:
      InputError: a row can be longer than `context_length` tokens.
    """
    language = world.language
    asked = [language.question(fact, form) for fact in world.facts for form in range(phrasings)]
    prompts = [tuple(tokens) for tokens in tokenizer.encode_prompts(asked)]
    names = sorted({name for candidates in world.candidates for name in candidates})
    says = language.grammar.render

    def sentence(text: str) -> Tokens:
        return tuple(tokenizer.encode_reply(text)[:-1])  # a reply has the space before it, too

    table = SentenceTable(
        questions=tuple(
            tuple(prompt[:-1] for prompt in prompts[start : start + phrasings])
            for start in range(0, len(prompts), phrasings)
        ),
        candidates=world.candidates,
        cues={
            (number, name): sentence(cue.sentence(name))
            for number, cue in enumerate(language.cues.values())
            for name in names
        },
        ask=sentence(language.grammar.question),
        reply=prompts[0][-1],
        answers={name: tuple(tokenizer.encode_reply(name)) for name in names},
        explanations={
            (changed, name): tuple(tokenizer.encode_reply(says(Explanation(changed, name))))
            for changed in (True, False)
            for name in names
        },
        end=tokenizer.end_id,
    )
    longest, _ = table.lengths[explains]
    if longest > context_length:
        raise InputError(
            f"config.model.context_length is {context_length}, but a pretraining row has up to {longest} "
            f"tokens; give at least {longest}, or more config.pretrain.pieces"
        )
    return table
