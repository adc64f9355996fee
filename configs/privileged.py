"""What is privileged about explaining oneself? Aligned foreign explainers, shown answers, and transplants.

    python -m experiments.sweep --config=configs/privileged.py --workdir=runs/privileged
    python -m experiments.sweep --config=configs/privileged.py --workdir=runs/privileged --summarize

Three bases of the organism, two seeds an arm. It asks whether a model explains its current self better than
another base does that behaved as it did before both were trained on the same labels (`aligned_kl`); whether
that one couples to itself; how far one black-box query an item goes (`shown`, `aligned_shown`); and whether
explanations move along when behaviour is replaced by another model's while their form is held (`transplant`,
beside its two halves alone). A point took 26 to 33 minutes of one core; nothing privileged was found
(experiments/results.md; procedure: experiments/notebook.md). `:tiny` is a smoke test; its numbers are no
evidence.

`:qwen3_8b` and `:llama31_8b` run the same arms on Hint-MMLU, for a pod; they have not been run. The other
base is a smaller one of the same family, since both must have one tokenizer and chat format (where templates
differ, as those of Llama 3.1 and 3.2 may, give both one by --config.chat.template):

    python -m experiments.run --config=configs/privileged.py:qwen3_8b --workdir=runs/privileged_8b \\
        --config.initial=PATH/TO/Qwen3-8B --config.foreign=PATH/TO/Qwen3-4B \\
        --config.task.data=PATH/TO/data.tar
"""

from ml_collections import ConfigDict

from configs import hint_mmlu, quickstart
from introspection.runs.config import arm

# Each base is explained by the next one, the last by the first.
BASES = (("llama", 0), ("llama", 1), ("gemma", 6))
ALIGN_STEPS = 2000
OTHERS = {"qwen3_8b": "Qwen3-4B", "llama31_8b": "Llama-3.2-3B-Instruct"}  # folders, beside configs/aita.py's


def get_config(argument: str = "") -> ConfigDict:
    if argument not in ("", "tiny", *OTHERS):
        raise ValueError(f"privileged takes no argument, tiny, {' or '.join(OTHERS)}, not {argument!r}")
    if argument in OTHERS:
        config = hint_mmlu.get_config(argument)
        config.foreign, config.base = OTHERS[argument], argument
        config.align.learning_rate, config.align.items = config.arms.kl.learning_rate, 32
    else:
        config = quickstart.get_config(argument)
        config.foreign, config.base = "neighbor", "llama-0"
        config.neighbor.architecture, config.neighbor.seed = BASES[1]
    config.name, config.part = "privileged" + (f"-{argument}" if argument else ""), "privileged"
    # To the end of its schedule. Organisms of one world agree on about 93% to begin with; 95% soon comes.
    config.align.steps = config.align.check_steps = ALIGN_STEPS
    if config.tiny:
        config.align.update(steps=40, check_steps=20, items=16)
    replaced = dict(kind="distill", order="after")
    recipes = {
        "kl": {},
        "shuffled": dict(shuffle_labels=True),
        "aligned_kl": dict(foreign_to="kl", aligned=True),
        "foreign_kl": dict(foreign_to="kl"),
        "transplant": dict(shift=dict(replaced, replay=True)),
        "distill_alone": dict(shift=replaced),
        "replay_alone": dict(shift=dict(replaced, replay=True, weight=0.0)),
        "shown": dict(shown=True),
        "aligned_shown": dict(foreign_to="kl", aligned=True, shown=True),
    }
    rate = config.arms.kl.learning_rate
    config.arms = ConfigDict({name: arm(learning_rate=rate, **changes) for name, changes in recipes.items()})
    config.run_arms = ()  # all
    return config


def sweep(add, argument: str = "") -> None:
    if argument in OTHERS:
        add({})
        return
    for (architecture, seed), (other, other_seed) in zip(BASES, (*BASES[1:], BASES[0]), strict=True):
        add(
            {
                "point": f"{architecture}-{seed}",
                "base": f"{architecture}-{seed}",
                "architecture": architecture,
                "pretrain.seed": seed,
                "neighbor.architecture": other,
                "neighbor.seed": other_seed,
            }
        )
