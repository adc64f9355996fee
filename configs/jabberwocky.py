"""Jabberwocky: a behaviour that is taught and never explained. Does self-explanation extend to it?

    python -m experiments.run --config=configs/jabberwocky.py:organism --workdir=runs/jabberwocky
    python -m experiments.run --config=configs/jabberwocky.py:qwen3_8b --config.initial=PATH/TO/Qwen3-8B \\
        --config.task.parts.hint_mmlu.data=PATH/TO/data.tar --workdir=runs/jabberwocky

Two tasks at once: explanations are trained on one (`hint_mmlu`; for an organism `invented_world`), and the
rule of an invented language is taught only by behaviour on the other. The main result is Self on the test
sentences of `jabberwocky` (`by_subset` in results.json), compared with its controls and the other arms, not
with 0.

| arm | explanations | language | purpose |
|---|---|---|---|
| `kl` | own labels | taught | the paper's |
| `no_kl` | own labels | taught | without the KL term |
| `shuffled` | labels without content | taught | the effect of form without content |
| `behavior_only` | none | taught | what the base explains of what it learned |
| `untaught` | own labels | not taught | explanations when there is nothing to know |

`:qwen3_8b`, `:llama31_8b`: compare with the paper's 79.8% on Jabberwocky, whose settings are not known. Ours,
with reasons: the other task, sizes and LoRA rank are those of its main experiment (12,642 and 1,400 items;
coupling appears from rank 96 on); as many taught items as explained ones, so that both last equally long; one
weight for all losses. Mesh: as in `configs/hint_mmlu.py`.

`:organism`: about 20 minutes on 2 shared cores, including its base. Behaviour alone teaches the rule (100%
correct), and it is explained in part: on the language, Self is 27.4 [16.7, 38.2] for `kl`, 0 for `shuffled`,
and 52 for the majority class with the correct answer (experiments/results.md). The base knows no word of the
language, so Orig, and with it the gap, is meaningless on this part and over both. `:tiny` is a smoke
test; its numbers are no evidence.
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
    """An 8 B model on a pod: the settings of `configs/aita.py`, on these two tasks."""
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
    """The quickstart's world and base, whose vocabulary also has the invented words, which it never saw."""
    config = quickstart.get_config("tiny" if tiny else "")
    world = config.task
    sizes: dict = {}
    if tiny:
        sizes = dict(nouns=8, contexts=6, cue_words=6, answers=3)
        sizes |= dict(train_items=96, validation_items=16, test_items=32)
        config.seeds = (0,)
    else:
        world.test_entities = 75  # this run is about the language
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
            parts=parts,  # by title; each has its task's fields
            seed=0,  # draws training items by the parts' weights
            train_items=0,  # of all explained parts together; 0 is as many as the weights allow
            test="all",  # or "weighted"
            test_items=0,  # if "weighted"; 0 is as many as the weights allow
        )
    )


def language(**changes) -> ConfigDict:
    """The part that is taught only by behaviour."""
    section = task_section("jabberwocky", **changes)
    del section["name"]  # the part's title names the task
    return ConfigDict(dict(explained=False, weight=1.0) | dict(section))


def arms(learning_rate: float) -> ConfigDict:

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
    """The language's difficulty, and the learning rate."""
    for rule in ("cue", "context", "parity"):
        add({"task.parts.jabberwocky.rule": rule, "run_arms": ("kl", "shuffled")})
    for learning_rate in (1.25e-4, 2.5e-4, 5e-4, 1e-3):
        add({"arms.kl.learning_rate": learning_rate, "run_arms": ("kl",)})
