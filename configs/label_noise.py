"""Label noise: how much agreement between labels and behaviour does coupling need?

    python -m experiments.sweep --config=configs/label_noise.py --workdir=runs/label_noise
    python -m experiments.sweep --config=configs/label_noise.py --workdir=runs/label_noise --summarize

Asked: gap minus the reference emitters' against the mean agreement with the trained labels, with a share of
0 to 75% of the labels replaced by another explanation, and with only `changed`, only the answer, or both
wrong, uniformly or towards the cue's answer. The paper's readers report that coupling needs an agreement of
about 60 to 70% [S]. Three bases, two seeds; `:tiny` is a smoke test. A point (18 arms) took 27 to 32
minutes of one core; results: experiments/results.md. `:qwen3_8b` and `:llama31_8b` run one model on
Hint-MMLU; they have not been run.
"""

from ml_collections import ConfigDict

from configs import organism

NAME = "label_noise"
NOISE = {f"noise{percent}": dict(label_noise=percent / 100) for percent in (15, 30, 45, 60, 75)}
# What noise makes wrong, and towards what: at 30 and 60%.
KINDS = {
    "changed": dict(noise_part="changed"),
    "answer": dict(noise_part="answer"),
    "cued": dict(noise_towards="cued"),
    "answer_cued": dict(noise_part="answer", noise_towards="cued"),
}
RECIPES = {
    "kl": {},
    **NOISE,
    **{f"noise_{kind}{n}": dict(label_noise=n / 100, **KINDS[kind]) for kind in KINDS for n in (30, 60)},
    "shuffled": dict(shuffle_labels=True),
    "foreign_kl": dict(foreign_to="kl"),
    **{f"foreign_{arm}": {**NOISE[arm], "foreign_to": arm} for arm in ("noise30", "noise60")},
}


def get_config(argument: str = "organism") -> ConfigDict:
    return organism.fork(NAME, argument, RECIPES)


def sweep(add, argument: str = "organism") -> None:
    for point in organism.forked(NAME, argument, RECIPES):
        add(point)
