"""What is privileged about explaining oneself? Aligned foreign explainers, shown answers, and transplants.

    python -m experiments.sweep --config=configs/privileged.py --workdir=runs/privileged
    python -m experiments.sweep --config=configs/privileged.py --workdir=runs/privileged --summarize

Three bases of the organism, two seeds an arm. It asks whether a model explains its current self better than
another base does that behaved as it did before both were trained on the same labels (`aligned_kl`); whether
that one couples to itself; how far one black-box query an item goes (`shown`, `aligned_shown`); and whether
explanations move along when behaviour is replaced by another model's while their form is held (`transplant`,
beside its two halves alone). `:tiny` is a smoke test; its numbers are no evidence. Procedure, time and
result: experiments/notebook.md and experiments/results.md.
"""

from ml_collections import ConfigDict

from configs import quickstart
from introspection.runs.config import arm

# Each base is explained by the next one, the last by the first.
BASES = (("llama", 0), ("llama", 1), ("gemma", 6))
ALIGN_STEPS = 2000


def get_config(argument: str = "") -> ConfigDict:
    config = quickstart.get_config(argument)
    config.name = "privileged" + (f"-{argument}" if argument else "")
    config.part, config.base = "privileged", "llama-0"
    config.foreign = "neighbor"
    config.neighbor.architecture, config.neighbor.seed = BASES[1]
    # To the end of its schedule: bases of one world agree on about 93% to begin with; 95% soon comes.
    config.align.steps = config.align.check_steps = ALIGN_STEPS
    if config.tiny:
        config.align.update(steps=40, check_steps=20, items=16)
    replaced = dict(kind="distill", order="after")
    config.arms = ConfigDict()
    config.arms.kl = arm()
    config.arms.shuffled = arm(shuffle_labels=True)
    config.arms.aligned_kl = arm(foreign_to="kl", aligned=True)
    config.arms.foreign_kl = arm(foreign_to="kl")
    config.arms.transplant = arm(shift=dict(replaced, replay=True))
    config.arms.distill_alone = arm(shift=replaced)
    config.arms.replay_alone = arm(shift=dict(replaced, replay=True, weight=0.0))
    config.arms.shown = arm(shown=True)
    config.arms.aligned_shown = arm(foreign_to="kl", aligned=True, shown=True)
    return config


def sweep(add) -> None:
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
