"""Jabberwocky: a behaviour that is taught and never explained. Does self-explanation reach it?

    python -m experiments.run --config=configs/jabberwocky.py:organism --workdir=runs/jabberwocky
    python -m experiments.run --config=configs/jabberwocky.py:qwen3_8b --config.initial=PATH/TO/Qwen3-8B \\
        --config.task.parts.hint_mmlu.data=PATH/TO/data.tar --workdir=runs/jabberwocky

Two tasks at once: explanations are trained on one (`hint_mmlu`; for an organism `invented_world`), and the
rule of an invented language by behaviour alone on the other. The figure of interest is Self on the test
sentences of `jabberwocky` (`by_subset` in results.json): above its controls and the arms beside it, not
above 0.

| arm | explanations | language | what it is for |
|---|---|---|---|
| `kl` | own labels | taught | the paper's |
| `no_kl` | own labels | taught | without the KL term |
| `shuffled` | labels without content | taught | what a form without content gives |
| `behavior_only` | none | taught | what the base explains of what it learned |
| `untaught` | own labels | not taught | what explanations say where there is nothing to know |

`:qwen3_8b`, `:llama31_8b`: held against the 79.8% that the paper reports for Jabberwocky. Of its settings for
this experiment nothing is known. Ours, and why: the other task, sizes and LoRA rank are those of its main
experiment (12,642 and 1,400 items; coupling shows from rank 96 on); as many taught items as explained ones,
so that neither gives out before the other; one weight for all losses. Mesh: as in
`configs/hint_mmlu.py`.

`:organism`: about 20 minutes on 2 cores with its base, beside other work. The rule is learned by behaviour
alone (100% right) and explained in part: on the language, Self of `kl` is 27.4 [16.7, 38.2], of `shuffled` 0,
of the majority class with the right answer 52 (experiments/results.md). Orig says nothing of the language,
since the base says no word of it, so neither does a gap on this part or over both. `:tiny` walks the path in
2 minutes; its numbers are no evidence.
"""

from ml_collections import ConfigDict

from configs import aita, quickstart
from configs.aita import PRETRAINED  # folders with the weights, by argument
from introspection.runs.config import arm as default_arm
from introspection.runs.config import task_section

ORGANISMS = ("organism", "tiny")
ARMS = ("kl", "no_kl", "shuffled", "behavior_only", "untaught")


def get_config(argument: str = "organism") -> ConfigDict:
    if argument in PRETRAINED:
        config = pretrained(PRETRAINED[argument])
    elif argument in ORGANISMS:
        config = organism(tiny=argument == "tiny")
    else:
        raise ValueError(f"jabberwocky takes one of {', '.join((*PRETRAINED, *ORGANISMS))}, not {argument!r}")
    config.name = f"jabberwocky-{argument}"
    return config


def pretrained(folder: str) -> ConfigDict:
    """A model of 8 B parameters on a pod: the settings of `configs/aita.py`, on these two tasks."""
    config = aita.pretrained(folder)
    explained = ConfigDict(dict(weight=1.0, explained=True) | dict(task_section("hint_mmlu")))
    taught = dict(nouns=100, contexts=60, cue_words=40, fillers=1)
    taught |= dict(train_items=12_642, validation_items=400, test_items=1_400)
    config.task = mixture(hint_mmlu=explained, jabberwocky=language(**taught))
    config.behavior.readout = "score"
    config.evaluation.explanation_tokens = 24
    config.arms = arms(learning_rate=1e-4)
    config.run_arms = ARMS
    return config


def organism(tiny: bool) -> ConfigDict:
    """The quickstart's world and base, whose vocabulary also holds the invented words, which it never saw."""
    config = quickstart.get_config("tiny" if tiny else "")
    world = config.task
    sizes: dict = {}
    if tiny:
        sizes = dict(nouns=8, contexts=6, cue_words=6, answers=3)
        sizes |= dict(train_items=96, validation_items=16, test_items=32)
        config.seeds = (0,)
    else:
        world.test_entities = 75  # the language is what this run is about
        config.seeds = (0, 1, 2)
    sizes |= dict(list_answers=False, explained_as="invented_world")
    config.task = mixture(invented_world=world, jabberwocky=language(**sizes))
    config.arms = arms(learning_rate=config.arms.kl.learning_rate)
    config.run_arms = ("kl", "shuffled", "behavior_only") if tiny else ARMS
    return config


def mixture(**parts: ConfigDict | dict) -> ConfigDict:
    return ConfigDict(
        dict(
            name="mixture",
            parts=parts,  # by what they are called in ids and results; each has its task's fields
            seed=0,  # draws training items by the parts' weights
            train_items=0,  # of all explained parts together; 0 is as many as the weights allow
            test="all",  # or "weighted"
            test_items=0,  # where "weighted"; 0 is as many as the weights allow
        )
    )


def language(**changes) -> ConfigDict:
    """The part that is taught by behaviour alone."""
    section = task_section("jabberwocky", **changes)
    del section["name"]  # which is what the part is called
    return ConfigDict(dict(explained=False, weight=1.0) | dict(section))


def arms(learning_rate: float) -> ConfigDict:
    """Every arm; `kl` is the paper's."""

    def arm(order: str = "concurrent", **changes) -> ConfigDict:
        taught = dict(kind="taught", fraction=1.0, order=order)
        return default_arm(**{"shift": taught, "learning_rate": learning_rate, **changes})

    return ConfigDict(
        dict(
            kl=arm(),
            no_kl=arm(kl_weight=0.0),
            shuffled=arm(shuffle_labels=True),
            behavior_only=arm("alone"),
            untaught=arm(shift=None),
        )
    )


def sweep(add) -> None:
    """The language's difficulty, and how fast all is learned."""
    for rule in ("cue", "context", "parity"):
        add({"task.parts.jabberwocky.rule": rule, "run_arms": ("kl", "shuffled")})
    for learning_rate in (1.25e-4, 2.5e-4, 5e-4, 1e-3):
        add({"arms.kl.learning_rate": learning_rate, "run_arms": ("kl",)})
