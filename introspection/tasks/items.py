"""The values that flow from a task to everything else: items, decisions and explanations."""

import dataclasses
from typing import NamedTuple

# The decision where everything that is not a candidate outweighs every candidate; no candidate may be
# named so.
NONE = "none"


@dataclasses.dataclass(frozen=True)
class Item:
    """One counterfactual question: the same prompt with and without a cue.

    `candidates` are in the task's canonical order: the right answer first, then the answer that the cue
    names (unless it is the right one), then the others. The order is never shown to the model; it gives
    shuffled labels and the input-only predictor an answer that stays valid for another item (its rank).
    """

    id: str
    group: str  # what must not be on both sides of a split: the fact, the question, the post
    stratum: str  # labels are shuffled within a stratum and cue kind: the relation, the subject
    cue_kind: str
    prompt_with_cue: str
    prompt_without_cue: str
    candidates: tuple[str, ...]
    gold: str
    cued: str  # the candidate that the cue names
    subset: str = ""  # of the test items that are reported apart: "held_out" or "seen" (entities)


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
