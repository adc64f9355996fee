"""Pretraining rows of a model organism: statements of sampled speakers, as token rows."""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int

from introspection.errors import InputError
from introspection.organism.world import SpeakerRows, World, sample_speakers
from introspection.text.rows import Rows
from introspection.text.tokenizer import WordTokenizer
from introspection.training.objectives import Batch

# The longest row: phrasing, entity, cue, named answer, end of cue, question, reply, verb phrase, answer. The
# reply's end token is predicted but not an input.
ROW_TOKENS = 9
# Without explanations, rows have no question, verb phrase or third token to predict.
UNEXPLAINED_TOKENS, UNEXPLAINED_TARGETS = 7, 2
PLAIN, HINTED, EXPLAINED = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class RowShares:
    """Shares of the three kinds of rows; they sum to 1."""

    plain: float = 0.25  # a question and a speaker's answer
    hinted: float = 0.75  # the same with a cue
    explained: float = 0.0  # a speaker's explanation, about entities in no split

    def __post_init__(self):
        if abs(self.plain + self.hinted + self.explained - 1) > 1e-6:
            raise InputError("pretrain.mixture: plain, hinted and explained must sum to 1; change one")


@runtime_checkable
class RowTable(Protocol):
    """What turns speakers' statements into token rows; a `TokenTable` or a `sentences.SentenceTable`."""

    @property
    def forms(self) -> int: ...  # question forms in use
    @property
    def end(self) -> int: ...
    def rows(self, speakers: SpeakerRows, kinds: Int[np.ndarray, " rows"], explains: bool) -> Rows: ...


@dataclasses.dataclass(frozen=True)
class TokenTable:
    phrasings: Int[np.ndarray, "facts phrasings"]
    entities: Int[np.ndarray, " facts"]
    candidates: Int[np.ndarray, "facts candidates"]
    before: Int[np.ndarray, " cues"]
    after: Int[np.ndarray, " cues"]
    plain_end: int
    question: int
    changed: int
    unchanged: int
    reply: int
    end: int

    @property
    def forms(self) -> int:
        return self.phrasings.shape[1]

    def rows(self, speakers: SpeakerRows, kinds: Int[np.ndarray, " rows"], explains: bool) -> Rows:
        made = speaker_rows(speakers, kinds, self)
        return made if explains else without_room_to_explain(made)


def token_table(world: World, tokenizer: WordTokenizer, phrasings: int) -> TokenTable:
    """Looks up every phrase and name, with the first `phrasings` question forms of each relation.

    Raises InputError if one of them is not a single token.
    """

    def token(text: str) -> int:
        tokens = tokenizer.encode_reply(text)[:-1]
        if len(tokens) != 1:
            raise InputError(f"{text!r} is {len(tokens)} tokens; organisms need a word-level vocabulary")
        return tokens[0]

    language = world.language
    cues, grammar = language.cues.values(), language.grammar
    return TokenTable(
        phrasings=np.array(
            [[token(p) for p in language.phrasings[fact.relation][:phrasings]] for fact in world.facts]
        ),
        entities=np.array([token(fact.entity) for fact in world.facts]),
        candidates=np.array([[token(c) for c in candidates] for candidates in world.candidates]),
        before=np.array([token(language.opening(cue)) for cue in cues]),
        after=np.array([token(cue.after) for cue in cues]),
        plain_end=token(language.question_end),
        question=token(grammar.question),
        changed=token(grammar.changed),
        unchanged=token(grammar.unchanged),
        reply=tokenizer.reply_id,
        end=tokenizer.end_id,
    )


def speaker_rows(speakers: SpeakerRows, kinds: Int[np.ndarray, " rows"], table: TokenTable) -> Rows:
    """Token rows of speakers' statements; a test compares them with tokenised text."""
    count = len(kinds)
    rows = np.arange(count)
    tokens = np.zeros((count, ROW_TOKENS), np.int32)
    tokens[:, 0] = table.phrasings[speakers.fact, speakers.phrasing]
    tokens[:, 1] = table.entities[speakers.fact]
    plain, explained = kinds == PLAIN, kinds == EXPLAINED
    tokens[:, 2] = np.where(plain, table.plain_end, table.before[speakers.cue])
    tokens[:, 3] = table.candidates[speakers.fact, speakers.cued]
    tokens[:, 4] = table.after[speakers.cue]
    tokens[:, 5] = table.question
    reply = np.choose(kinds, (3, 5, 6))  # index of the reply token
    tokens[rows, reply] = table.reply

    said = np.where(explained | plain, speakers.without_cue, speakers.with_cue)
    answer = table.candidates[speakers.fact, said]
    verb = np.where(speakers.with_cue != speakers.without_cue, table.changed, table.unchanged)
    tokens[rows, reply + 1] = np.where(explained, verb, answer)
    tokens[rows[explained], reply[explained] + 2] = answer[explained]
    length = reply + 2 + explained
    place = np.arange(ROW_TOKENS)
    inside = place < length[:, None]

    # Explanations: verb phrase, answer, end. Plain and hinted: answer, end.
    targets = np.stack([np.where(explained, verb, answer), answer, np.full(count, table.end)], axis=1)
    targets[~explained, 1] = table.end
    counted = np.stack([np.ones(count, bool), np.ones(count, bool), explained], axis=1)
    scored = np.minimum(reply[:, None] + np.arange(3), ROW_TOKENS - 1)
    return Rows(
        tokens=np.where(inside, tokens, 0).astype(np.int32),
        positions=np.broadcast_to(place, tokens.shape).astype(np.int32),
        segments=np.where(inside, 0, -1).astype(np.int32),
        scored=np.where(counted, scored, 0).astype(np.int32),
        targets=np.where(counted, targets, 0)[:, :, None].astype(np.int32),
        continuation=np.where(counted, 0, -1)[:, :, None].astype(np.int32),
    )


def pretraining_text(
    world: World,
    table: RowTable,
    mixture: RowShares,
    count: int,
    seed: int,
    among: Bool[np.ndarray, " facts"],
) -> list[list[int]]:
    """Tokens of `count` newly sampled speakers' plain and hinted rows about the facts `among`."""
    rng = np.random.default_rng([seed, 5])
    shares = np.array([mixture.plain, mixture.hinted])
    kinds = rng.choice(2, count, p=shares / shares.sum())
    rows = table.rows(sample_speakers(world, count, table.forms, rng, among), kinds, explains=False)
    lengths = (rows.segments >= 0).sum(axis=1)
    return [[*own[:length].tolist(), table.end] for own, length in zip(rows.tokens, lengths, strict=True)]


def without_room_to_explain(rows: Rows) -> Rows:
    """Rows without explanations, cut to the shorter length that they need."""
    by_token = {
        name: getattr(rows, name)[:, :UNEXPLAINED_TOKENS] for name in ("tokens", "positions", "segments")
    }
    by_target = {
        name: getattr(rows, name)[:, :UNEXPLAINED_TARGETS] for name in ("scored", "targets", "continuation")
    }
    return rows._replace(**by_token, **by_target)


def pretraining_batch(
    world: World,
    table: RowTable,
    mixture: RowShares,
    rows: int,
    step: int,
    seed: int,
    explainable: Bool[np.ndarray, " facts"] | None = None,
) -> Batch:
    """`rows` newly sampled speakers, as a function of step and seed.

    Speakers explain themselves only about `explainable` facts (None: all), which exclude those of explanation
    training and tests.
    """
    rng = np.random.default_rng([seed, 4, step])
    shares = [mixture.plain, mixture.hinted, mixture.explained]
    kinds = rng.choice(3, rows, p=shares)
    speakers = sample_speakers(world, rows, table.forms, rng)
    if mixture.explained:
        others = sample_speakers(world, rows, table.forms, rng, among=explainable)
        speakers = SpeakerRows(
            **{
                field.name: np.where(
                    kinds == EXPLAINED, getattr(others, field.name), getattr(speakers, field.name)
                )
                for field in dataclasses.fields(SpeakerRows)
            }
        )
    return Batch(explanation=table.rows(speakers, kinds, explains=bool(mixture.explained)))
