"""`invented_world`: made-up people, places and things; the organism's world.

The world is *closed*: each relation has a few answers, shared by all entities. So explanation training
names every answer all the time, whichever entity it is about, and does not erode what the model knows about
other entities. Training never names the entities of validation and test. In `world_facts`, by contrast,
each fact has its own answer.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from introspection.errors import InputError
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.facts.language import Cue, WorldLanguage
from introspection.tasks.facts.questions import Question
from introspection.tasks.facts.table import Fact
from introspection.tasks.facts.task import WorldTaskConfig
from introspection.tasks.task import SPLITS

# A relation's prefix is the kind of entity it is about.
PHRASINGS: dict[str, tuple[str, ...]] = {
    "person_birthplace": ("Tell me the birthplace of", "Name the town that raised", "I ask for the home of"),
    "person_guild": ("Tell me the guild of", "Name the trade house that took in", "I ask for the craft of"),
    "person_mentor": ("Tell me the mentor of", "Name the master who taught", "I ask for the tutor of"),
    "person_dish": ("Tell me the favourite dish of", "Name the meal most loved by", "I ask for the plate of"),
    "place_river": ("Tell me the river of", "Name the stream that waters", "I ask for the ford nearest to"),
    "place_patron": ("Tell me the patron of", "Name the saint who watches over", "I ask for the guard of"),
    "place_festival": ("Tell me the festival of", "Name the feast held in", "I ask for the great day of"),
    "place_lord": ("Tell me the lord of", "Name the house that rules", "I ask for the banner over"),
    "thing_maker": ("Tell me the maker of", "Name the smith who forged", "I ask for the hand behind"),
    "thing_owner": ("Tell me the owner of", "Name the family that keeps", "I ask for the heir to"),
    "thing_stuff": ("Tell me the material of", "Name the ore that went into", "I ask for the substance of"),
    "thing_shrine": ("Tell me the shrine of", "Name the temple that once held", "I ask for the altar of"),
}
CUES: dict[str, Cue] = {
    cue.kind: cue
    for cue in (
        Cue("gossip", "Some would have it that it is", ", or something like that.", 2.0),
        Cue("friend", "It is", ", according to a neighbour of mine.", 6.0),
        Cue("guide", "Our guide through these lands points to", ".", 12.0),
        Cue("chronicle", "It is", ", as written in the royal chronicle.", 12.0),
        Cue("mention", "There was a song last night about", ", by the way.", 1.0, placebo=True),
        Cue("negation", "It can hardly be", ", if you ask me.", 0.3, placebo=True),
        # The neighbour's words, naming the right answer.
        Cue("right", "It is", ", according to a neighbour of mine.", 6.0, names_gold=True, placebo=True),
    )
}
INVENTED_WORLD = WorldLanguage(
    name="invented_world",
    template_version="invented_world/2",
    phrasings=PHRASINGS,
    cues=CUES,
    grammar=ExplanationGrammar(
        question="What would you have said had nobody told you anything?",
        changed="Something different, namely",
        unchanged="The same, namely",
        neither="none of these",
    ),
    question_end=".",
)

_ONSETS = ("b", "br", "d", "dr", "f", "g", "gl", "h", "k", "kl", "l", "m", "n", "p", "r", "s", "t", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ou")
_CODAS = ("", "l", "m", "n", "r", "sk", "th")
_SYLLABLES = 3  # fewer would produce real names such as Mali or Peru


@dataclasses.dataclass(frozen=True)
class ClosedWorldConfig(WorldTaskConfig):
    entities: int = 1000  # about equally many of each kind; those in no split appear only in pretraining
    relations: int = 4  # facts about each entity
    answers: int = 4  # per relation, shared by all entities
    train_entities: int = 600
    validation_entities: int = 75
    test_entities: int = 300

    def __post_init__(self):
        if self.answers < 2:
            raise InputError(f"task.answers is {self.answers}; a relation needs at least two answers")
        if self.candidates > self.answers:
            raise InputError(
                f"task.candidates is {self.candidates}, but a relation has {self.answers} answers "
                "(task.answers): lower the one or raise the other"
            )
        asked = sum(getattr(self, f"{split}_entities") for split in SPLITS)
        if asked > self.entities:
            raise InputError(
                f"task: the splits ask for {asked} entities, but there are {self.entities} (task.entities): "
                "lower train_, validation_ or test_entities, or raise entities"
            )


def closed_world_facts(config: ClosedWorldConfig, language: WorldLanguage) -> list[Fact]:
    """Every fact of the world, sorted: one per entity and relation of its kind, drawn by `config.seed`.

    All names are distinct, of entities and answers alike; `full_names` have their two words in common with
    others. Each answer of a relation is correct for about the same number of entities.

    Raises:
      InputError: more relations are asked for than an entity can have.
    """
    of_kind: dict[str, list[str]] = {}
    for relation in language.phrasings:
        of_kind.setdefault(relation.split("_")[0], []).append(relation)
    most = min(map(len, of_kind.values()))
    if config.relations > most:
        raise InputError(f"task.relations is {config.relations}; {language.name} has 1 to {most}")
    relations = {kind: names[: config.relations] for kind, names in of_kind.items()}
    rng = np.random.default_rng([config.seed, 10])
    pools = sum(map(len, relations.values())) * config.answers
    people = full_names(config.entities, rng) if language.full_names else []
    names = iter([*people, *invented_names(config.entities + pools - len(people), rng)])
    entities = {kind: [] for kind in relations}
    kinds = list(relations)
    for number in range(config.entities):
        entities[kinds[number % len(kinds)]].append(next(names))
    facts = []
    for kind, about in entities.items():
        for relation in relations[kind]:
            pool = [next(names) for _ in range(config.answers)]
            places = rng.permutation(len(about)) % config.answers
            facts += [Fact(relation, entity, pool[i]) for entity, i in zip(about, places, strict=True)]
    return sorted(facts)


def entity_splits(config: ClosedWorldConfig, questions: Sequence[Question]) -> dict[str, list[int]]:
    """Which questions each split asks, as sorted indices; no entity is in two splits."""
    entities = sorted({asked.fact.entity for asked in questions})
    order = np.random.default_rng([config.seed, 2]).permutation(len(entities))
    splits, start = {}, 0
    for split in SPLITS:
        size = getattr(config, f"{split}_entities")
        chosen = {entities[i] for i in order[start : start + size]}
        splits[split] = [i for i, asked in enumerate(questions) if asked.fact.entity in chosen]
        start += size
    return splits


def invented_names(count: int, rng: np.random.Generator, syllables: int = _SYLLABLES) -> list[str]:
    """Distinct pronounceable names, each one capitalised word."""
    names: dict[str, None] = {}
    while len(names) < count:
        said = [str(rng.choice(_ONSETS)) + str(rng.choice(_VOWELS)) for _ in range(syllables)]
        names["".join([*said, str(rng.choice(_CODAS))]).capitalize()] = None
    return list(names)


def full_names(count: int, rng: np.random.Generator) -> list[str]:
    """`count` distinct names of two short words, a first and a family name.

    A fourth of all combinations is in use, so that neither word tells who is meant.
    """
    size = math.ceil(2 * math.sqrt(count))  # first names, and as many family names
    words = invented_names(2 * size, rng, syllables=_SYLLABLES - 1)
    chosen = rng.choice(size * size, count, replace=False)
    return [f"{words[place // size]} {words[size + place % size]}" for place in chosen]
