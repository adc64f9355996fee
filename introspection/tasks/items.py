"""The values that flow from a task to everything else: items, decisions and explanations."""

import dataclasses
from typing import NamedTuple

from introspection.errors import InputError

ROLES = ("system", "user", "assistant")

# The decision where everything that is not a candidate outweighs every candidate; no candidate may be
# named so.
NONE = "none"


class Turn(NamedTuple):
    """One message of a conversation."""

    role: str  # of ROLES
    content: str


@dataclasses.dataclass(frozen=True)
class Conversation:
    """A prompt of several turns, or with a system text of its own; the last turn is the user's."""

    turns: tuple[Turn, ...]

    def __post_init__(self):
        if not self.turns or self.turns[-1].role != "user":
            raise InputError("a conversation ends with the user's turn")
        for number, turn in enumerate(self.turns):
            if turn.role not in ROLES:
                raise InputError(f"turn {number + 1}: the role is {turn.role!r}; it is {', '.join(ROLES)}")
            if turn.role == "system" and number:
                raise InputError(f"turn {number + 1}: a system text can only come first")

    def __str__(self) -> str:
        return "\n\n".join(f"{turn.role}: {turn.content}" for turn in self.turns)


Prompt = str | Conversation  # a text is one user turn


def add_to_prompt(prompt: Prompt, sentence: str) -> Prompt:
    """The prompt with a sentence at the end of the user's (last) turn."""
    if isinstance(prompt, str):
        return f"{prompt} {sentence}"
    *before, last = prompt.turns
    return Conversation((*before, Turn(last.role, f"{last.content} {sentence}")))


@dataclasses.dataclass(frozen=True)
class Item:
    """One counterfactual question: the same prompt with and without a cue.

    `candidates` are kept in alphabetical order, which tells nothing: a decision takes the first of equal
    scores, and that must not be the right answer because someone listed it first.
    """

    id: str
    group: str  # what must not be on both sides of a split: the fact, the question, the post
    stratum: str  # labels are shuffled within a stratum and cue kind: the relation, the subject
    cue_kind: str
    prompt_with_cue: Prompt
    prompt_without_cue: Prompt
    candidates: tuple[str, ...]
    gold: str  # "" where nobody knows the right answer
    cued: str  # the candidate that the cue names; "" if it names none
    subset: str = ""  # what is reported apart: "held_out" or "seen" (entities); in a mixture, the task
    explanation_question: str = ""  # how its explanation is asked for; "" is the grammar's own question

    def __post_init__(self):
        object.__setattr__(self, "candidates", tuple(sorted(self.candidates)))


class Explanation(NamedTuple):
    """`(changed, answer)`: what a model would do without the cue, said by it or computed from it.

    `answer` is a candidate or `NONE`; a model may also name any other text, which matches no decision.
    Both are None where a model's explanation could not be parsed.
    """

    changed: bool | None
    answer: str | None

    @property
    def valid(self) -> bool:
        return self.changed is not None


INVALID = Explanation(None, None)


class Decisions(NamedTuple):
    """A model's two decisions on one item; each is a candidate or `NONE`."""

    with_cue: str
    without_cue: str

    @property
    def explanation(self) -> Explanation:
        """E(M): the true counterfactual explanation of these decisions (design: `E(M)`, `labels`)."""
        return Explanation(self.with_cue != self.without_cue, self.without_cue)
