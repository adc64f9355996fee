"""The values that flow from a task to everything else: items, decisions and explanations."""

import dataclasses
from typing import NamedTuple

from introspection.errors import InputError

ROLES = ("system", "user", "assistant")

# The decision when everything outside the candidates outweighs each candidate, or several candidates are
# equally likely; a reserved name.
NONE = "none"


class Turn(NamedTuple):
    role: str  # of ROLES
    content: str


@dataclasses.dataclass(frozen=True)
class Conversation:
    """A prompt of several turns, or with its own system text; the user has the last turn."""

    turns: tuple[Turn, ...]

    def __post_init__(self):
        if not self.turns or self.turns[-1].role != "user":
            raise InputError("a conversation must end with a user turn")
        for number, turn in enumerate(self.turns):
            if turn.role not in ROLES:
                raise InputError(
                    f"turn {number + 1}: the role is {turn.role!r}; choose from {', '.join(ROLES)}"
                )
            if turn.role == "system" and number:
                raise InputError(f"turn {number + 1}: only the first turn can be a system text")

    def __str__(self) -> str:
        return "\n\n".join(f"{turn.role}: {turn.content}" for turn in self.turns)


Prompt = str | Conversation  # a str is one user turn


def turns(prompt: Prompt) -> tuple[Turn, ...]:
    """A prompt's turns; a text is one of the user's."""
    return (Turn("user", prompt),) if isinstance(prompt, str) else prompt.turns


def add_to_prompt(prompt: Prompt, sentence: str) -> Prompt:
    """Appends a sentence to the user's (last) turn."""
    if isinstance(prompt, str):
        return f"{prompt} {sentence}"
    *before, last = turns(prompt)
    return Conversation((*before, Turn(last.role, f"{last.content} {sentence}")))


@dataclasses.dataclass(frozen=True)
class Item:
    """One counterfactual question: the same prompt with and without a cue.

    `candidates` are sorted, so that their order tells nothing of the correct answer; equal scores decide for
    `NONE`.
    """

    id: str
    group: str  # never in two splits: the fact, the question, the post
    stratum: str  # labels are shuffled within a stratum and cue kind: the relation, the subject
    cue_kind: str
    prompt_with_cue: Prompt
    prompt_without_cue: Prompt
    candidates: tuple[str, ...]
    gold: str  # the correct answer; "" if unknown
    cued: str  # the candidate that the cue names; "" if none
    subset: str = ""  # reported separately: "held_out" or "seen" (entities); in a mixture, the task
    explanation_question: str = ""  # "" is the grammar's own
    phrasing: str = ""  # which of the relation's wordings asks it, counted from 0; "" if not known
    entity: str = ""  # what the question is about, which other groups may share; "" if it has none
    case_counts: bool = False  # in generated answers: the candidates are symbols, such as "In" and "No"

    def __post_init__(self):
        object.__setattr__(self, "candidates", tuple(sorted(self.candidates)))


class Explanation(NamedTuple):
    """`(changed, answer)`: what a model would do without the cue, as it says or as computed from it.

    `answer` is a candidate, `NONE`, or any other text that the model names, which matches no decision.
    Both are None if a model's explanation could not be parsed.
    """

    changed: bool | None
    answer: str | None

    @property
    def valid(self) -> bool:
        return self.changed is not None


class Match(NamedTuple):
    """What a text names, and the stretch that says so: the text's characters `start` to `end`."""

    candidate: str  # or `NONE`, with an empty stretch
    start: int = 0
    end: int = 0


INVALID = Explanation(None, None)


class Decisions(NamedTuple):
    """A model's two decisions on one item; each is a candidate or `NONE`."""

    with_cue: str
    without_cue: str

    @property
    def explanation(self) -> Explanation:
        """E(M): the true counterfactual explanation of these decisions."""
        return Explanation(self.with_cue != self.without_cue, self.without_cue)
