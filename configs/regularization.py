"""Regularisation: what the KL term must be for explanations to follow behaviour, one factor at a time.

    python -m experiments.sweep --config=configs/regularization.py --workdir=runs/regularization
    python -m experiments.sweep --config=configs/regularization.py --workdir=runs/regularization --summarize

Asked: how drift, Self and Orig change with the KL term's weight λ, direction, support, prompts and groups.
The paper's readers report that coupling vanishes or reverses at λ = 0 [S]. Three bases, two seeds; `:tiny`
is a smoke test. A base took 50 to 96 minutes of one core beside other work; results: experiments/results.md.
`:qwen3_8b` and `:llama31_8b` run one model on Hint-MMLU (`--config.initial`,
`--config.task.data` as in configs/hint_mmlu.py); they have not been run.
"""

from ml_collections import ConfigDict

from configs import organism

NAME = "regularization"
# Each arm changes one factor of `kl` (λ = 1, KL(reference ‖ current) over the vocabulary, on both prompts of
# the explained groups). Names of weights are in percent.
FACTORS = {
    "kl": {},
    "no_kl": dict(kl_weight=0.0),
    "kl10": dict(kl_weight=0.1),
    "kl30": dict(kl_weight=0.3),
    "kl200": dict(kl_weight=2.0),
    "kl400": dict(kl_weight=4.0),
    "kl_reverse": dict(kl_direction="current_to_reference"),
    "kl_symmetric": dict(kl_direction="symmetric"),
    "kl_candidates": dict(kl_support="candidates"),
    "kl_with_cue": dict(kl_prompts="with_cue"),
    "kl_without_cue": dict(kl_prompts="without_cue"),
    "kl_text": dict(kl_prompts="other_text"),
    "kl_other": dict(kl_groups="other"),
    "kl_both": dict(kl_groups="both"),
}
# Reference emitters of the same recipe, where the recipe moves behaviour more than `kl` does.
SHUFFLED = ("no_kl", "kl10", "kl30", "kl_other", "kl_text")
FOREIGN = ("kl", "no_kl", "kl10")
RECIPES = {
    **FACTORS,
    "shuffled": dict(shuffle_labels=True),
    **{f"shuffled_{arm}": {**FACTORS[arm], "shuffle_labels": True} for arm in SHUFFLED},
    **{f"foreign_{arm}": {**FACTORS[arm], "foreign_to": arm} for arm in FOREIGN},
}


def get_config(argument: str = "organism") -> ConfigDict:
    return organism.fork(NAME, argument, RECIPES)


def sweep(add, argument: str = "organism") -> None:
    for point in organism.forked(NAME, argument, RECIPES):
        add(point)
