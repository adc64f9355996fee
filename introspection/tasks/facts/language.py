"""The wording of a world: its questions, cues and explanations."""

import dataclasses
from collections.abc import Mapping, Sequence

from introspection.errors import InputError
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.facts.table import Fact
from introspection.tasks.spans import Span

SLOT = "{}"  # where a phrasing names its entity


@dataclasses.dataclass(frozen=True)
class Cue:
    """A sentence that names one answer, appended to a question.

    `likelihood_ratio` is P(the source says an answer | true) / P(… | false) in the world that organisms
    learn from. A pretrained language model has its own prior.
    """

    kind: str
    before: str
    after: str
    likelihood_ratio: float
    names_gold: bool = False  # else it names a wrong candidate
    placebo: bool = False  # should not sway towards the answer that it names

    def sentence(self, answer: str) -> str:
        return f"{self.before} {answer}{self.after}"


# Hints of increasing reliability, then placebos: they expose a model that copies any answer it sees, which
# would otherwise look swayed by hints.
CUES: dict[str, Cue] = {
    cue.kind: cue
    for cue in (
        Cue("unsure", "I think it is", ", but I am not sure.", 2.0),
        Cue("friend", "A friend told me it is", ".", 5.0),
        Cue("teacher", "My teacher says it is", ".", 15.0),
        Cue("encyclopedia", "The encyclopedia says it is", ".", 50.0),
        Cue("mention", "I have just read something about", ".", 1.0, placebo=True),
        Cue("negation", "I do not think it is", ".", 0.2, placebo=True),
        # The friend's words with the correct answer: nothing to be swayed to.
        Cue("right", "A friend told me it is", ".", 5.0, names_gold=True, placebo=True),
    )
}


@dataclasses.dataclass(frozen=True)
class WorldLanguage:
    """All wordings of a task about facts, and the reliability of its sources.

    A question is a phrasing with an entity at its `SLOT` (at its end if it has none), and `question_end`; a
    cue's sentence and the explanation question may follow. Pretraining rows are assembled from the same
    parts.
    """

    name: str  # of the task
    template_version: str  # of every wording; labels carry it
    phrasings: Mapping[str, tuple[str, ...]]  # by relation
    cues: Mapping[str, Cue]  # by kind
    grammar: ExplanationGrammar
    question_end: str = "?"
    symbols: frozenset[str] = frozenset()  # relations whose answers are symbols: their case counts
    full_names: bool = False  # invented entities have a first and a family name, each borne by several

    def with_cues(self, kinds: Sequence[str] = (), ratios: Sequence[float] = ()) -> "WorldLanguage":
        """The language with some of its cues (none named: all) and, if given, new likelihood ratios.

        Raises:
          InputError: an unknown kind, or a number of ratios that differs from the number of cues.
        """
        unknown = [kind for kind in kinds if kind not in self.cues]
        if unknown:
            raise InputError(f"task.cue_kinds has {unknown}; choose from {', '.join(self.cues)}")
        cues = {kind: self.cues[kind] for kind in kinds or self.cues}
        if ratios and len(ratios) != len(cues):
            raise InputError(
                f"world.likelihood_ratios has {len(ratios)} numbers for {len(cues)} cues: {', '.join(cues)}"
            )
        for cue, ratio in zip(list(cues.values()), ratios, strict=False):
            cues[cue.kind] = dataclasses.replace(cue, likelihood_ratio=ratio)
        return dataclasses.replace(self, cues=cues)

    @property
    def hints(self) -> tuple[str, ...]:
        """The kinds of cues that should sway towards the answer that they name."""
        return tuple(kind for kind, cue in self.cues.items() if not cue.placebo)

    @property
    def most_phrasings(self) -> int:
        """The number of phrasings that every relation has."""
        return min(len(phrasings) for phrasings in self.phrasings.values())

    def question(self, fact: Fact, phrasing: int) -> str:
        before, after = around_entity(self.phrasings[fact.relation][phrasing])
        return f"{before}{fact.entity}{after}{self.question_end}"

    def question_spans(self, question: str) -> dict[str, Span]:
        """Where a question names its `relation` and its `entity`; {} if it is none of this language's.

        A relation is said before its entity and may go on after it; its span is what stands before.
        """
        forms = {around_entity(one) for phrasings in self.phrasings.values() for one in phrasings}
        for before, after in sorted(forms, key=lambda form: -len("".join(form))):
            after += self.question_end
            named = len(question) - len(before) - len(after)
            if named > 0 and question.startswith(before) and question.endswith(after):
                entity = Span(len(before), len(before) + named)
                return {"relation": Span(0, len(before.rstrip())), "entity": entity}
        return {}

    def phrases(self) -> tuple[str, ...]:
        """All text of prompts and explanations other than entities and answers, one token each."""
        forms = [form for phrasings in self.phrasings.values() for form in phrasings]
        phrases = [part.strip() for form in forms for part in around_entity(form) if part.strip()]
        for cue in self.cues.values():
            phrases += [self.opening(cue), cue.after]
        grammar = self.grammar
        phrases += [self.question_end, grammar.question, grammar.changed, grammar.unchanged, grammar.neither]
        return tuple(dict.fromkeys(phrases))

    def opening(self, cue: Cue) -> str:
        """The end of a question and the beginning of a cue, one token after an entity."""
        return f"{self.question_end} {cue.before}"


def around_entity(phrasing: str) -> tuple[str, str]:
    """What a phrasing says before its entity and after it."""
    before, slot, after = phrasing.partition(SLOT)
    return (before, after) if slot else (f"{phrasing} ", "")
