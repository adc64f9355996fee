"""`jabberwocky`: questions in an invented language, whose rule a base model can't know.

A model learns the rule by behaviour alone (`behavior_examples`): what to answer with a cue word, and what
without. Its explanations are trained on other tasks, never here. Do they describe here too what it does?
(The paper reports 79.8%; how its language was made is not known, so all of this is our choice.)

The design, and why:

- A group is a sentence (a context word, words that mean nothing, a noun); its items differ in their cue
  word. Test sentences never occur in training, all their words do (it is checked), and the rule is the
  same: a model that learned it answers them, one that learned sentences by heart does not.
- `gold` is the rule's answer without the cue and `cued` the rule's answer with it: equal where the cue does
  not flip. Both must be learned, or "unchanged" would always be right.
- Class sizes (`open_share`, `flipping_share`) make about half of the items flip, so that to say always
  "unchanged", or always "changed", is right on half of them.
- The cue is called a hint and stands last, and the explanation is asked for in the words of the task whose
  explanations are trained (`explained_as`): what is new is the language, not the form of the question.
- `rule` sets how hard it is (`jabberwocky_language.RULES`); more words, or `fillers`, make it harder too.
- Items are made when they are read, so any number of them takes no memory.
"""

import dataclasses
import itertools
from pathlib import Path

import numpy as np

from introspection.errors import InputError
from introspection.tasks.facts.invented_world import INVENTED_WORLD
from introspection.tasks.facts.second_world import SECOND_WORLD
from introspection.tasks.facts.world_facts import WORLD_FACTS
from introspection.tasks.items import Item
from introspection.tasks.jabberwocky.language import (
    JabberwockyLanguage,
    invent_language,
    phrases,
    question,
    with_cue,
)
from introspection.tasks.sequences import ItemSequence, permuted
from introspection.tasks.task import SPLITS, Task

NAME = "jabberwocky"
# By the world whose wording of explanations it is; `world_facts` and most other tasks share one.
GRAMMARS = {language.name: language.grammar for language in (WORLD_FACTS, INVENTED_WORLD, SECOND_WORLD)}
TEMPLATE_VERSION = "jabberwocky/1"


@dataclasses.dataclass(frozen=True)
class JabberwockyConfig:
    """How large and how hard the language is, and how many items are asked."""

    seed: int = 0  # draws the words, what each does, and which sentences are in which split
    train_items: int = 1600  # taught by behaviour; 0 in one of the three takes all that is left
    validation_items: int = 200  # taught too: nothing is chosen by them
    test_items: int = 800  # never taught
    rule: str = "context"  # when a cue word flips the answer: "cue" (easy), "context" or "parity" (hard)
    nouns: int = 40  # words that have an answer each
    contexts: int = 20  # words that open or close the way for a flip
    open_share: float = 0.7  # of the context words that let a cue flip the answer
    cue_words: int = 20
    flipping_share: float = 0.7  # of the cue words that flip it
    answers: int = 4  # of the language, which are every item's candidates
    fillers: int = 0  # words in a sentence that mean nothing; each multiplies the sentences that there are
    filler_words: int = 20  # to draw fillers from
    repeats: int = 4  # items a sentence, each with another cue word
    list_answers: bool = True  # in the prompt, in drawn order; an organism's prompts are short: False
    explained_as: str = "world_facts"  # the world as whose explanations are asked for and said, of GRAMMARS

    def __post_init__(self):
        if self.explained_as not in GRAMMARS:
            raise InputError(
                f"config.task.explained_as is {self.explained_as!r}; choose from {', '.join(GRAMMARS)}"
            )
        smallest = {"nouns": self.answers, "contexts": 2, "cue_words": max(2, self.repeats), "answers": 2}
        smallest |= {"repeats": 1, "filler_words": 1}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value) is int and value < smallest.get(field.name, 0):
                raise InputError(
                    f"config.task.{field.name} is {value}; it must be at least {smallest.get(field.name, 0)}"
                )
        for name in ("open_share", "flipping_share"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"config.task.{name} is {getattr(self, name)}; it must be between 0 and 1")

    @property
    def sentences(self) -> int:
        """All that the language has: the groups that splits are drawn from."""
        return self.nouns * self.contexts * self.filler_words**self.fillers


def build_jabberwocky(config: JabberwockyConfig, data_dir: Path = Path()) -> Task:
    """The task; it reads no files.

    Raises:
      InputError: sizes that the language does not have, or training sentences that lack a word.
    """
    language = invent_language(
        nouns=config.nouns,
        contexts=config.contexts,
        open_share=config.open_share,
        fillers=config.filler_words if config.fillers else 0,
        cues=config.cue_words,
        flipping_share=config.flipping_share,
        answers=config.answers,
        rule=config.rule,
        seed=config.seed,
    )
    splits, start = {}, 0
    for split, count in _split_sizes(config).items():
        splits[split] = JabberwockyItems(language, config, start, count)
        start += -(-count // config.repeats)
    _check_coverage(splits["train"])
    return Task(
        name=NAME,
        template_version=f"{TEMPLATE_VERSION}/{config.explained_as}",
        grammar=GRAMMARS[config.explained_as],
        splits=splits,
        names=tuple(sorted(language.names())),
        phrases=phrases(config.list_answers, GRAMMARS[config.explained_as]),
    )


@dataclasses.dataclass(frozen=True)
class JabberwockyItems(ItemSequence):
    """The items of a split, each made when it is read."""

    language: JabberwockyLanguage
    config: JabberwockyConfig
    start: int  # its first sentence, in the drawn order of all sentences
    size: int

    def __len__(self) -> int:
        return self.size

    def item(self, place: int) -> Item:
        language, config = self.language, self.config
        sentence, repeat = divmod(place, config.repeats)
        number = permuted(self.start + sentence, config.sentences, config.seed)
        rest, noun = divmod(number, config.nouns)
        rest, context = divmod(rest, config.contexts)
        fillers = []
        for _ in range(config.fillers):
            rest, filler = divmod(rest, config.filler_words)
            fillers.append(language.fillers[filler])
        # By sentence, so that its items ask the same with different cue words.
        rng = np.random.default_rng([config.seed, 21, number])
        cue = int(rng.permutation(len(language.cues))[repeat])
        shown = [language.answers[i] for i in rng.permutation(len(language.answers))]
        words = [language.contexts[context], *fillers, language.nouns[noun]]
        asked = question(words, shown if config.list_answers else ())
        gold, cued = language.answer(noun), language.answer_with(noun, cue, context)
        group = "-".join(words)
        return Item(
            id=f"{group}/{language.cues[cue]}",
            group=group,
            stratum="",
            cue_kind="flipping" if cue < language.flipping_cues else "idle",
            prompt_with_cue=with_cue(asked, language.cues[cue]),
            prompt_without_cue=asked,
            candidates=language.answers,
            gold=gold,
            cued=cued,
        )


def _split_sizes(config: JabberwockyConfig) -> dict[str, int]:
    """Items of each split. Raises InputError if there are not as many."""
    sizes = {split: getattr(config, f"{split}_items") for split in SPLITS}
    left = config.sentences - sum(-(-size // config.repeats) for size in sizes.values())
    rest = [split for split, size in sizes.items() if not size]
    if len(rest) > 1:
        raise InputError(
            f"config.task: {rest[0]}_items and {rest[1]}_items are both 0; one takes all that is left"
        )
    if left < len(rest):
        raise InputError(
            f"config.task: the items asked for take more than all {config.sentences} sentences, of "
            f"{config.repeats} items each; lower them, or raise nouns, contexts or fillers"
        )
    return sizes | dict.fromkeys(rest, left * config.repeats)


def _check_coverage(train: JabberwockyItems) -> None:
    """Raises InputError if a word is never taught: what it does could not be known."""
    language, listed = train.language, set(train.language.answers)
    missing = {*language.names()} - listed
    # Long before so many, every word has come up.
    for item in itertools.islice(train, 100 * len(missing)):
        missing -= {*item.group.split("-"), item.id.split("/")[1]}
        if not missing:
            return
    raise InputError(
        f"config.task.train_items is {len(train)}: too few to teach every word, such as {min(missing)!r}; "
        "raise it, or lower the numbers of words"
    )
