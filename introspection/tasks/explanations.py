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

    def parse(self, text: str) -> Explanation:
        """Reads a sentence back; anything but exactly a verb phrase, one space and an answer is INVALID.

        The answer is neither trimmed nor case-folded. Only the `neither` phrase means `NONE`: any other
        text that is no candidate is kept as it is and so matches no decision. (Were it `NONE` too, a broken
        model that names one stray answer and gives another would pass for one that knows itself.)
        """
        for verb, changed in ((self.changed, True), (self.unchanged, False)):
            answer = text.removeprefix(f"{verb} ")
            # A text that reads "none" must not pass for the bucket of that name.
            if answer != text and answer and answer == answer.strip() and answer != NONE:
                return Explanation(changed, NONE if answer == self.neither else answer)
        return INVALID

    def all_explanations(self, candidates: tuple[str, ...]) -> tuple[Explanation, ...]:
        """The finite set that scored explanations choose from: every candidate, changed and unchanged."""
        return tuple(Explanation(changed, answer) for changed in (True, False) for answer in candidates)
