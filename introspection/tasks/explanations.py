"""The explanation grammar: `(changed, answer)` to a sentence and strictly back."""

import dataclasses

from introspection.tasks.items import INVALID, NONE, Explanation


@dataclasses.dataclass(frozen=True)
class ExplanationGrammar:
    """How a task asks for an explanation and what a valid one looks like.

    The sentence is a verb phrase that says whether the decision would change, followed by the answer
    without the cue. `neither` names an answer that is no candidate.
    """

    question: str = "How would your answer change without the hint?"
    changed: str = "It would change to"
    unchanged: str = "It would stay"
    neither: str = "something else"

    def render(self, explanation: Explanation) -> str:
        """The sentence for a valid explanation."""
        if not explanation.valid:
            raise ValueError("an invalid explanation has no sentence")
        verb = self.changed if explanation.changed else self.unchanged
        answer = self.neither if explanation.answer == NONE else explanation.answer
        return f"{verb} {answer}"

    def parse(self, text: str, candidates: tuple[str, ...]) -> Explanation:
        """Reads a sentence back; anything but exactly a verb phrase, one space and an answer is INVALID.

        An answer that is no candidate is `NONE`, as it is for a behaviour: both put the rest of the
        vocabulary into one bucket. It is neither trimmed nor case-folded.
        """
        for verb, changed in ((self.changed, True), (self.unchanged, False)):
            answer = text.removeprefix(f"{verb} ")
            if answer != text and answer and answer == answer.strip():
                return Explanation(changed, answer if answer in candidates else NONE)
        return INVALID

    def all_explanations(self, candidates: tuple[str, ...]) -> tuple[Explanation, ...]:
        """The finite set that scored explanations choose from: every candidate, changed and unchanged."""
        return tuple(Explanation(changed, answer) for changed in (True, False) for answer in candidates)
