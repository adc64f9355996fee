"""`world_facts`: the language of true facts about countries and elements; the embedded default task."""

import dataclasses
from collections.abc import Sequence

from introspection.errors import InputError
from introspection.tasks.cues import CUES
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.facts import Fact
from introspection.tasks.language import WorldLanguage
from introspection.tasks.world_task import WorldTaskConfig

PHRASINGS: dict[str, tuple[str, ...]] = {
    "country_calling_code": ("What is the calling code of", "Which code dials", "The phone prefix of"),
    "country_capital": ("What is the capital of", "Which city is the seat of", "The capital city of"),
    "country_code": ("What is the ISO code of", "Which two letters stand for", "The country code of"),
    "country_continent": ("Which continent holds", "On which continent is", "The continent of"),
    "country_currency": ("What is the currency of", "With what do people pay in", "The money of"),
    "country_demonym": ("What are people called in", "Who lives in", "The demonym of"),
    "country_language": ("What is the language of", "Which language do people speak in", "The tongue of"),
    "country_subregion": ("Which region holds", "In which part of the world is", "The region of"),
    "element_block": ("Which block holds", "To which block belongs", "The block of"),
    "element_category": ("What kind of element is", "To which family belongs", "The category of"),
    "element_group": ("Which group holds", "To which group belongs", "The group of"),
    "element_number": ("What is the atomic number of", "How many protons has", "The number of"),
    "element_period": ("Which period holds", "To which period belongs", "The period of"),
    "element_symbol": ("What is the symbol of", "Which letters stand for", "The symbol of"),
}
WORLD_FACTS = WorldLanguage(
    name="world_facts",
    template_version="world_facts/1",
    phrasings=PHRASINGS,
    cues=CUES,
    grammar=ExplanationGrammar(),
)


@dataclasses.dataclass(frozen=True)
class WorldFactsConfig(WorldTaskConfig):
    """Which facts of the table are asked."""

    relations: tuple[str, ...] = ()  # of PHRASINGS; () is all


def facts_of_relations(facts: Sequence[Fact], relations: Sequence[str]) -> list[Fact]:
    """The facts of some relations, in their order; all of them if none is named.

    Raises:
      InputError: an unknown relation.
    """
    unknown = [name for name in relations if name not in PHRASINGS]
    if unknown:
        raise InputError(f"config.task.relations has {unknown[0]!r}; choose from {', '.join(PHRASINGS)}")
    return [fact for fact in facts if not relations or fact.relation in relations]
