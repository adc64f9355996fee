"""What a speaker is asked and says, as text: what pretraining rows of words and of sentences must hold."""

from introspection.organism.world import SpeakerRows, World
from introspection.tasks.items import Explanation


def asked_and_said(world: World, speakers: SpeakerRows, kind: int, row: int) -> tuple[str, str]:
    """One row's prompt and reply; its kind is 0 for plain, 1 for hinted, 2 for explained."""
    language, fact = world.language, world.facts[speakers.fact[row]]
    cues, grammar = list(language.cues.values()), language.grammar
    names = world.candidates[speakers.fact[row]]
    asked = language.question(fact, int(speakers.phrasing[row]))
    cued = f"{asked} {cues[speakers.cue[row]].sentence(names[speakers.cued[row]])}"
    with_cue, without_cue = names[speakers.with_cue[row]], names[speakers.without_cue[row]]
    explanation = grammar.render(Explanation(with_cue != without_cue, without_cue))
    return [(asked, without_cue), (cued, with_cue), (f"{cued} {grammar.question}", explanation)][kind]
