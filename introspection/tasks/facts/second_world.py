"""`second_world`: another closed world, to test whether a finding depends on the first.

Beasts, ships and songs, with their own relations, sources, likelihood ratios and explanation sentence. Cue
kinds with the same role share a name.
"""

from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.facts.language import Cue, WorldLanguage

PHRASINGS: dict[str, tuple[str, ...]] = {
    "beast_lair": ("Where does one hunt the", "In which wood sleeps the", "What shelters the"),
    "beast_prey": ("What is eaten by the", "Which herd flees from the", "What feeds the"),
    "beast_omen": ("What is foretold by the", "Which fate follows the", "What comes after the"),
    "beast_bane": ("What kills the", "Which herb wards off the", "What is feared by the"),
    "ship_port": ("Which harbour is home to the", "Where was the keel laid of the", "Where anchors the"),
    "ship_cargo": ("What lies in the hold of the", "Which goods go aboard the", "What is carried by the"),
    "ship_captain": ("Who commands the", "Whose orders steer the", "Who is at the helm of the"),
    "ship_flag": ("Which crown is flown by the", "Whose colours are worn by the", "Who pays for the"),
    "song_singer": ("Who first sang the", "Whose voice made the", "Who is known for the"),
    "song_hero": ("Whom do they praise in the", "Whose deeds are told in the", "Who dies in the"),
    "song_season": ("When do children learn the", "Which moon calls for the", "When is the time of the"),
    "song_lute": ("Which strings are plucked for the", "What is played under the", "What goes with the"),
}
CUES: dict[str, Cue] = {
    cue.kind: cue
    for cue in (
        Cue("gossip", "A drunkard mumbled", ", but who knows.", 1.6),
        Cue("friend", "My cousin would bet on", " any day.", 5.0),
        Cue("guide", "The ferryman, who gets around, said", " to me.", 10.0),
        Cue("chronicle", "The guild's ledger has", " in black ink.", 16.0),
        Cue("mention", "I had a dream of", " once.", 1.0, placebo=True),
        Cue("negation", "One thing it never was is", ", they swear.", 0.3, placebo=True),
        # The cousin's words with the correct answer.
        Cue("right", "My cousin would bet on", " any day.", 5.0, names_gold=True, placebo=True),
    )
}
SECOND_WORLD = WorldLanguage(
    name="second_world",
    template_version="second_world/1",
    phrasings=PHRASINGS,
    cues=CUES,
    grammar=ExplanationGrammar(
        question="And if that had been left out?",
        changed="Then I would go for",
        unchanged="Then I would still hold to",
        neither="something not on offer",
    ),
)
