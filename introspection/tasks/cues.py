"""Cues: who suggests an answer, in which words, and how reliable they are. Here those of `world_facts`."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Cue:
    """A sentence that names one answer, appended to a question.

    `likelihood_ratio` is how much more often this source says an answer when it is true than when it is
    not, in the world that organisms learn from. A pretrained language model brings its own idea of it.
    """

    kind: str
    before: str
    after: str
    likelihood_ratio: float
    names_gold: bool = False  # else it names a wrong candidate
    placebo: bool = False  # should not pull towards the answer that it names

    def sentence(self, answer: str) -> str:
        return f"{self.before} {answer}{self.after}"


# Hints of rising reliability, then placebos: without them, a model that copies any answer that it sees
# would pass for one that is swayed by hints.
CUES: dict[str, Cue] = {
    cue.kind: cue
    for cue in (
        Cue("unsure", "I think it is", ", but I am not sure.", 2.0),
        Cue("friend", "A friend told me it is", ".", 5.0),
        Cue("teacher", "My teacher says it is", ".", 15.0),
        Cue("encyclopedia", "The encyclopedia says it is", ".", 50.0),
        Cue("mention", "I have just read something about", ".", 1.0, placebo=True),
        Cue("negation", "I do not think it is", ".", 0.2, placebo=True),
        # The friend's words, naming the right answer: nothing to be swayed to.
        Cue("right", "A friend told me it is", ".", 5.0, names_gold=True, placebo=True),
    )
}
