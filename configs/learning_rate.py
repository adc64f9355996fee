"""The learning rate: does a higher one widen the gap, beyond what it does to any emitter?

    python -m experiments.sweep --config=configs/learning_rate.py --workdir=runs/learning_rate
    python -m experiments.sweep --config=configs/learning_rate.py --workdir=runs/learning_rate --summarize

Asked: gap minus that of the reference emitters trained at the same rate, at a quarter to four times the
rate of the organism study, with drift and accuracy beside it. The paper's readers report that a higher rate
widens the gap [S]. Three bases, two seeds; `:tiny` is a smoke test. A point (13 arms) took 19 to 22
minutes of one core, its base being there; results: experiments/results.md. `:qwen3_8b` and `:llama31_8b` run
one model on Hint-MMLU; they have not been run.
"""

from ml_collections import ConfigDict

from configs import organism

NAME = "learning_rate"
TIMES = {"kl": 1.0, "lr_low": 0.25, "lr_half": 0.5, "lr_double": 2.0, "lr_high": 4.0}  # the rate of `kl`
SHUFFLED = {arm: "shuffled" if arm == "kl" else f"shuffled_{arm}" for arm in TIMES}
FOREIGN = {arm: f"foreign_{arm}" for arm in ("kl", "lr_low", "lr_high")}
ARMS = (*TIMES, *SHUFFLED.values(), *FOREIGN.values())


def get_config(argument: str = "organism") -> ConfigDict:
    recipes = {
        arm: {}
        | ({"shuffle_labels": True} if arm in SHUFFLED.values() else {})
        | ({"foreign_to": arm.removeprefix("foreign_")} if arm in FOREIGN.values() else {})
        for arm in ARMS
    }
    config = organism.fork(NAME, argument, recipes)
    rate = config.arms.kl.learning_rate
    for arm, times in TIMES.items():
        for same in filter(None, (arm, SHUFFLED[arm], FOREIGN.get(arm))):
            config.arms[same].learning_rate = times * rate
    return config


def sweep(add, argument: str = "organism") -> None:
    for point in organism.forked(NAME, argument, ARMS):
        add(point)
