"""Supervision: whose behaviour the labels describe.

    python -m experiments.sweep --config=configs/supervision.py --workdir=runs/supervision
    python -m experiments.sweep --config=configs/supervision.py --workdir=runs/supervision --summarize

Asked: Self and Orig (against the teacher of the labels) where a share α of the facts has another base's
labels, for every ordered pair of three bases, so that each pair is asked in both directions; and where all
labels are those of the base's own checkpoint at 10 to 70% of pretraining (100% is the arm `kl`), or of a
base that is twice or half as wide. The paper's readers report Self > Orig even at α = 1, with explanations
less accurate by 19% [S]. Two seeds; `:tiny` is a smoke test. All points took 75 minutes on
2 cores, beside other work; results: experiments/results.md. `:qwen3_8b` and `:llama31_8b` run one model on
Hint-MMLU and need `--config.foreign`, a model with the same tokenizer; they have not been run.
"""

from ml_collections import ConfigDict

from configs import aita, organism

NAME = "supervision"
RECIPES = {
    "kl": {},
    **{f"labels_foreign{percent}": dict(foreign_labels=percent / 100) for percent in (25, 50, 75, 100)},
    "shuffled": dict(shuffle_labels=True),
    "foreign_kl": dict(foreign_to="kl"),
}
# Another base's labels, as `labels_foreign100`, where that base is twice or half as wide.
SIZES = {"labels_larger": 2.0, "labels_smaller": 0.5}
EARLIER = {f"labels_at{percent}": percent for percent in (10, 20, 40, 70)}  # percent of pretraining
PAIRED = organism.BASES[:3]


def get_config(argument: str = "organism") -> ConfigDict:
    config = organism.fork(
        NAME,
        argument,
        {**RECIPES, **dict.fromkeys(SIZES, RECIPES["labels_foreign100"]), **{arm: {} for arm in EARLIER}},
    )
    if argument == "tiny":
        config.pretrain.steps = 400  # so that a tenth is whole dispatches
    config.pretrain.checkpoint_steps = config.pretrain.steps // 10
    return config


def sweep(add, argument: str = "organism") -> None:
    if argument in aita.PRETRAINED:
        add({"point": NAME, "run_arms": tuple(RECIPES)})
        return
    # A pair's other direction stands in a part of its own, since a part has every base's arm once.
    points = organism.forked(NAME, argument, RECIPES, chosen=PAIRED, ring=PAIRED)
    config = get_config(argument or "organism")
    steps = config.pretrain.steps
    # The smoke test's base has learned nothing before, so that no cue changes an answer.
    earlier = {arm: n for arm, n in EARLIER.items() if argument != "tiny" or n == max(EARLIER.values())}
    for arm, percent in earlier.items():
        teacher = {"label_teacher": f"pretrain@{steps * percent // 100}", "foreign": "none"}
        points += organism.forked(arm.replace("_", "-"), argument, (arm,), NAME, **teacher)
    for arm, times in SIZES.items():
        wide = {"neighbor.width": int(times * config.model.width)}
        points += organism.forked(
            arm.replace("_", "-"), argument, (arm,), NAME, chosen=PAIRED, ring=PAIRED, **wide
        )
    if argument != "tiny":
        points += organism.forked(f"{NAME}-back", argument, RECIPES, chosen=PAIRED, ring=PAIRED, step=2)
    for point in points:
        add(point)
