"""The world that organisms learn from: speakers who know facts more or less well, and follow hints.

Every pretraining row is from another speaker, drawn from the world, so a model that predicts speakers well
is calibrated: unsure where speakers differ, and swayed by a hint as Bayes' rule predicts. Each fact has its
own consistency (the share of speakers who are right) and rate (its frequency), independent of its entity.
Facts are either well or hardly known, so that whether a hint changes the answer depends on the fact, not only
on the kind of hint. Speakers can also explain themselves: a speaker is one draw of Gumbel noise, used with
and without the hint, so that only the hint can change the answer (the Gumbel-max structural causal model,
Oberst & Sontag 2019).
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from introspection.errors import InputError
from introspection.tasks.facts.language import WorldLanguage
from introspection.tasks.facts.questions import Question
from introspection.tasks.facts.table import Fact
from introspection.tasks.items import Decisions, Item
from introspection.tasks.mixture import unmixed
from introspection.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class WorldConfig:
    """How speakers' knowledge is drawn; all fields are our choice, none is from the paper."""

    seed: int = 0  # of the facts, and of who knows them
    known: tuple[float, float] = (0.93, 0.98)  # share of speakers who are right about a well-known fact
    hardly_known: tuple[float, float] = (0.45, 0.60)  # about a hardly known one; both are uniform
    known_share: float = 0.5  # of facts that are well known
    favorite_share: float = 0.5  # of wrong speakers who give the fact's favourite wrong answer
    rate_spread: float = 1.5  # a fact's rate is log-uniform between 1 / spread and spread
    # P(source says it | true) / P(source says it | false), in the order of the world's cues; () is the
    # language's default.
    likelihood_ratios: tuple[float, ...] = ()

    def __post_init__(self):
        for name in ("known", "hardly_known"):
            ends = getattr(self, name)
            if len(ends) != 2 or not 0 < ends[0] <= ends[1] < 1:
                raise InputError(f"world.{name} is {ends}; give two shares, 0 < low <= high < 1")
        for name in ("known_share", "favorite_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"world.{name} is {getattr(self, name)}; it must be a share, from 0 to 1")
        if self.rate_spread < 1:
            raise InputError(f"world.rate_spread is {self.rate_spread}; it must be at least 1")
        if any(ratio <= 0 for ratio in self.likelihood_ratios):
            raise InputError(f"world.likelihood_ratios is {self.likelihood_ratios}; each must be above 0")


@dataclasses.dataclass(frozen=True)
class World:
    """Beliefs over each fact's candidates: the correct one first, then the favourite wrong one."""

    facts: tuple[Fact, ...]
    candidates: tuple[tuple[str, ...], ...]
    beliefs: Float[np.ndarray, "facts candidates"]  # share of speakers with each answer, without a hint
    rates: Float[np.ndarray, " facts"]  # sum to 1
    language: WorldLanguage  # of questions and answers

    @functools.cached_property
    def index(self) -> dict[str, int]:
        """Each fact's place, by its id."""
        return {fact.id: i for i, fact in enumerate(self.facts)}


def build_world(config: WorldConfig, questions: Sequence[Question], language: WorldLanguage) -> World:
    """Draws every fact's consistency and rate.

    Args:
      language: with the cues of this world (`WorldLanguage.with_cues`).
    """
    rng = np.random.default_rng([config.seed, 3])
    count, others = len(questions), len(questions[0].wrong)
    well_known = rng.random(count) < config.known_share
    right = np.where(well_known, rng.uniform(*config.known, count), rng.uniform(*config.hardly_known, count))
    beliefs = np.empty((count, 1 + others))
    beliefs[:, 0] = right
    beliefs[:, 1] = (1 - right) * (config.favorite_share if others > 1 else 1)
    beliefs[:, 2:] = ((1 - right) * (1 - config.favorite_share) / max(others - 1, 1))[:, None]
    rates = config.rate_spread ** rng.uniform(-1, 1, count)
    facts = tuple(question.fact for question in questions)
    candidates = tuple((question.fact.answer, *question.wrong) for question in questions)
    return World(facts, candidates, beliefs, rates / rates.sum(), language)


def posterior(
    beliefs: Float[np.ndarray, "rows candidates"],
    cued: Int[np.ndarray, " rows"],
    likelihood_ratios: Float[np.ndarray, " rows"],
) -> Float[np.ndarray, "rows candidates"]:
    """Bayes' rule for speakers who hear a source name the candidate `cued`."""
    weights = beliefs.copy()
    weights[np.arange(len(weights)), cued] *= likelihood_ratios
    return weights / weights.sum(axis=1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class SpeakerRows:
    """Statements of sampled speakers, one per row, as indices of facts, cues and candidates."""

    fact: Int[np.ndarray, " rows"]
    phrasing: Int[np.ndarray, " rows"]
    cue: Int[np.ndarray, " rows"]  # index into the language's cues
    cued: Int[np.ndarray, " rows"]  # candidate that the cue names
    with_cue: Int[np.ndarray, " rows"]  # the speaker's answer, a candidate
    without_cue: Int[np.ndarray, " rows"]


def sample_speakers(
    world: World,
    rows: int,
    phrasings: int,
    rng: np.random.Generator,
    among: Bool[np.ndarray, " facts"] | None = None,
) -> SpeakerRows:
    """Speakers asked about facts (of `among`) at their rates, with and without a cue for any candidate."""
    rates = world.rates if among is None else world.rates * among
    fact = rng.choice(len(world.facts), rows, p=rates / rates.sum())
    ratios = np.array([cue.likelihood_ratio for cue in world.language.cues.values()])
    cue = rng.integers(len(ratios), size=rows)
    candidates = world.beliefs.shape[1]
    cued = rng.integers(candidates, size=rows)
    noise = rng.gumbel(size=(rows, candidates))
    beliefs = world.beliefs[fact]
    return SpeakerRows(
        fact=fact,
        phrasing=rng.integers(phrasings, size=rows),
        cue=cue,
        cued=cued,
        with_cue=np.argmax(np.log(posterior(beliefs, cued, ratios[cue])) + noise, axis=1),
        without_cue=np.argmax(np.log(beliefs) + noise, axis=1),
    )


def bayes_optimal_decisions(world: World, items: Sequence[Item]) -> list[Decisions]:
    """The most common speaker's decisions on each item, with and without the cue."""
    index = [world.index[item.group] for item in items]
    beliefs = world.beliefs[index]
    cued = np.array([world.candidates[i].index(item.cued) for i, item in zip(index, items, strict=True)])
    ratios = np.array([world.language.cues[item.cue_kind].likelihood_ratio for item in items])
    with_cue = posterior(beliefs, cued, ratios).argmax(axis=1)
    without_cue = beliefs.argmax(axis=1)
    return [
        Decisions(world.candidates[i][a], world.candidates[i][b])
        for i, a, b in zip(index, with_cue, without_cue, strict=True)
    ]


def optimal_decisions(world: World, task: Task) -> list[Decisions]:
    """The best predictions of the test items: the most common speaker's decisions or, for a mixture's other
    parts, the correct answers."""
    items = task.splits["test"]
    decided = [Decisions(item.cued, item.gold) for item in items]
    own = [unmixed(task, item) for item in items]
    of_world = [i for i, item in enumerate(own) if item.group in world.index]
    for i, best in zip(of_world, bayes_optimal_decisions(world, [own[i] for i in of_world]), strict=True):
        decided[i] = best
    return decided
