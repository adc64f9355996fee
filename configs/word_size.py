"""Size, in the organism of words: does the effect change from 0.13 to 2.2 M parameters?

    python -m experiments.sweep --config=configs/word_size.py:rates --workdir=runs/word_size_rates
    python -m experiments.sweep --config=configs/word_size.py --workdir=runs/word_size
    python -m experiments.sweep --config=configs/word_size.py --workdir=runs/word_size --summarize

The organisms that read text (`configs/model_size.py`) have not learned enough facts on two cores for labels
to teach them; these have, so their size can be asked about. World, rows and steps are the quickstart's; sizes
differ in width and rates alone. Two bases a size, each the other's neighbour, and one seed of explanation
training. `:rates` reads validation explanation loss and accuracy of `kl` at five rates, and no gap: it has
two test people. `:tiny` is a smoke test; its numbers are no evidence. Procedure: experiments/notebook.md,
2026-11-30; results, all but the largest size: experiments/results.md.
"""

from ml_collections import ConfigDict

from configs import model_size, organism
from introspection.organism.config import OrganismSizes
from introspection.runs.config import arm

NAME = "word_size"
# By name: width, the peak rate of pretraining, and that of explanation training, which `:rates` found.
SIZES = {
    "0.13m": (32, 4.5e-3, 4e-3),
    "0.35m": (64, 3e-3, 2e-3),
    "1m": (128, 2e-3, 5e-4),
    "2m": (192, 1.5e-3, 3.3e-4),  # a guess: it has not run
}
# Arms of `:rates`: times 1e-3 · 64 / width. The grid ended at double, the best at 0.35 M: it was moved once.
RATES = {"kl": 1.0, "lr_quarter": 0.25, "lr_half": 0.5, "lr_double": 2.0, "lr_fourfold": 4.0}
BASES, TINY = model_size.BASES, model_size.TINY


def get_config(argument: str = "") -> ConfigDict:
    if argument not in ("", "tiny", "rates"):
        raise ValueError(f"word_size takes no argument, 'rates' or 'tiny', not {argument!r}")
    config = organism.get_config("tiny" if argument == "tiny" else "")
    config.name = NAME + (f"-{argument}" if argument else "")
    config.curve = "" if argument == "rates" else "size"
    config.seeds = (10,)
    recipes = {name: config.arms[name] for name in organism.MAIN}
    if argument == "rates":
        recipes = {name: arm() for name in RATES}
    config.arms, config.run_arms = ConfigDict(recipes), tuple(recipes)
    if config.tiny:
        config.foreign, config.run_arms = "none", ("kl", "shuffled")
    return config


def sweep(add, argument: str = "") -> None:
    for size, (width, pretraining, training) in (TINY if argument == "tiny" else SIZES).items():
        shape = OrganismSizes().scaled(width)
        rates = dict.fromkeys(organism.MAIN, training)
        if argument == "rates":
            rates = {name: times * 0.064 / width for name, times in RATES.items()}
        fields = {
            "part": size,
            **{f"model.{name}": getattr(shape, name) for name in ("width", "head_dim", "mlp_width")},
            "pretrain.learning_rate": pretraining,
            **{f"arms.{name}.learning_rate": rate for name, rate in rates.items()},
        }
        if argument == "rates":
            add({"point": size, "base": f"{size}-0", "foreign": "none", "task.test_entities": 2, **fields})
            continue
        for seed in BASES[:1] if argument == "tiny" else BASES:
            other = BASES[(seed + 1) % len(BASES)]
            seeds = {"pretrain.seed": seed, "neighbor.seed": other}
            add({"point": f"{size}-{seed}", "base": f"{size}-{seed}", **seeds, **fields})
