"""`jabberwocky`: questions in an invented language, whose rule a base model can't know.

A model learns the rule only by behaviour (`behavior_examples`): what to answer with a cue word, and without.
Its explanations are trained on other tasks. Do they describe its behaviour here too? (The paper reports
79.8% but not how its language was made, so the design is ours.)

- A group is a sentence (a context word, fillers, a noun); its items differ in the cue word. Test sentences
  never occur in training, but all their words do (this is checked). So a model that learned the rule can
  answer them, and a model that memorised sentences can't.
- `gold` is the rule's answer without the cue and `cued` its answer with the cue; they are equal if the cue
  does not flip. Both cases must occur, or "unchanged" would always be correct.
- Class sizes (`open_share`, `flipping_share`) make about half of the items flip, so that always saying
  "unchanged" (or "changed") is correct on half of them.
- The cue is called a hint and comes last, and explanations use the words of the task that trains them
  (`explained_as`): the language is new, not the form of the question.
- `rule` sets the difficulty (`jabberwocky.language.RULES`); more words, or `fillers`, raise it.
"""

import dataclasses
import itertools
from pathlib import Path

import numpy as np

from introspection.errors import InputError
from introspection.runtime.config import check_choice
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
# By world; most other tasks explain in the words of `world_facts`.
GRAMMARS = {language.name: language.grammar for language in (WORLD_FACTS, INVENTED_WORLD, SECOND_WORLD)}
TEMPLATE_VERSION = "jabberwocky/1"


@dataclasses.dataclass(frozen=True)
class JabberwockyConfig:
    seed: int = 0  # draws the words, their roles, and the sentences of each split
    train_items: int = 1600  # taught by behaviour; 0 in one of the three takes all remaining
    validation_items: int = 200  # also taught: nothing is selected on them
    test_items: int = 800  # never taught
    rule: str = "context"  # when a cue word flips the answer: "cue" (easy), "context" or "parity" (hard)
    nouns: int = 40  # each has an answer
    contexts: int = 20  # each is open (allows a flip) or closed
    open_share: float = 0.7  # of the context words
    cue_words: int = 20
    flipping_share: float = 0.7  # of the cue words
    answers: int = 4  # of the language; all are candidates of every item
    fillers: int = 0  # meaningless words per sentence; each multiplies the number of sentences
    filler_words: int = 20  # to draw fillers from
    repeats: int = 4  # items per sentence, each with another cue word
    list_answers: bool = True  # in the prompt, in drawn order; False for an organism, whose prompts are short
    explained_as: str = "world_facts"  # the world whose explanation wording is used, of GRAMMARS

    def __post_init__(self):
        check_choice("config.task.explained_as", self.explained_as, GRAMMARS)
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
        """How many sentences the language has: the groups that are split."""
        return self.nouns * self.contexts * self.filler_words**self.fillers


def build_jabberwocky(config: JabberwockyConfig, data_dir: Path = Path()) -> Task:
    """The task; it reads no files.

    Raises:
      InputError: sizes that the language does not have, or a word that no training sentence has.
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
        # Seeded per sentence, so that its items ask the same question with different cue words.
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
    """Items per split. Raises InputError if the language has too few sentences."""
    sizes = {split: getattr(config, f"{split}_items") for split in SPLITS}
    left = config.sentences - sum(-(-size // config.repeats) for size in sizes.values())
    rest = [split for split, size in sizes.items() if not size]
    if len(rest) > 1:
        raise InputError(
            f"config.task: {rest[0]}_items and {rest[1]}_items are both 0; at most one can take all remaining"
        )
    if left < len(rest):
        raise InputError(
            f"config.task: the items need more than the {config.sentences} sentences of the language "
            f"({config.repeats} items each); lower them, or raise nouns, contexts or fillers"
        )
    return sizes | dict.fromkeys(rest, left * config.repeats)


def _check_coverage(train: JabberwockyItems) -> None:
    """Raises InputError if some word never occurs in training, since its role could not be learned."""
    language, listed = train.language, set(train.language.answers)
    missing = {*language.names()} - listed
    # Far fewer items usually cover every word.
    for item in itertools.islice(train, 100 * len(missing)):
        missing -= {*item.group.split("-"), item.id.split("/")[1]}
        if not missing:
            return
    raise InputError(
        f"config.task.train_items is {len(train)}: too few to teach every word, such as {min(missing)!r}; "
        "raise it, or use fewer words"
    )
