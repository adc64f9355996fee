"""Learning curve: with how many explained items do labels teach SmolLM2-135M-Instruct anything?

    python -m experiments.sweep --config=configs/learning_curve.py:rates --workdir=runs/curve_rates
    python -m experiments.sweep --config=configs/learning_curve.py --workdir=runs/curve
    python -m experiments.sweep --config=configs/learning_curve.py --workdir=runs/curve --summarize

Asked: Orig on held-out facts against the number of explained items, beside `shuffled` and the emitters that
do not look at the model (majority per kind of cue, input-only). Before that, no gap is read. The first
command has the most items and two test facts, and reads validation explanation loss and accuracy at three
rates; the rate here is to be what it finds. One pass over the items, one seed; `:tiny` is a smoke test. Not
run yet; `configs/smollm2.py` says what 512 items gave.

Differences from `configs/smollm2.py`: more facts and items about each; no system line, so that prompts are
short; rows lie in packs (`train.pack_tokens`); the likeliest candidate decides, since SmolLM2's own margins
tell best which of those decisions a cue changes (AUROC 72.7 within kinds of cue, of replies 59.6;
experiments/notebook.md).
"""

from ml_collections import ConfigDict

from configs import smollm2

ITEMS = {"512": 512, "2048": 2048, "8192": 8192}
LEARNING_RATE = smollm2.LEARNING_RATE  # until `:rates` has run
RATES = (3e-5, 1e-4, 3e-4)
ARMS = ("kl", "shuffled")


def get_config(argument: str = "") -> ConfigDict:
    if argument not in ("", "rates", "tiny"):
        raise ValueError(f"learning_curve takes no argument, 'rates' or 'tiny', not {argument!r}")
    config = smollm2.get_config("tiny" if argument == "tiny" else "")
    config.name = "learning_curve" + (f"-{argument}" if argument else "")
    config.chat.system = ""
    config.behavior.readout = "likeliest"
    config.train.pack_tokens = smollm2.PACK_TOKENS
    config.run_arms = ARMS
    for name in config.arms:
        config.arms[name].learning_rate = LEARNING_RATE
    if argument != "tiny":
        config.task.train_facts, config.task.validation_facts, config.task.test_facts = 640, 30, 120
        config.task.repeats, config.task.test_repeats = 3, 1
        config.evaluation.validation_items = 210
    return config


def sweep(add, argument: str = "") -> None:
    if argument == "tiny":
        add({"point": "items-16"})
        return
    rows = smollm2.get_config().train.explanation_rows
    for name, items in ITEMS.items():
        size = {"train.explained_items": items, "train.steps": items // rows}
        ends = {f"train.{when}_steps": items // rows for when in ("evaluation", "checkpoint")}
        if argument != "rates":
            add({"point": f"items-{name}", **size, **ends})
    if argument == "rates":
        for rate in RATES:
            add(
                {
                    "point": f"rate-{rate:g}",
                    **size,
                    "train.evaluation_steps": items // rows // 4,
                    "train.checkpoint_steps": items // rows,
                    "arms.kl.learning_rate": rate,
                    "run_arms": ("kl",),
                    "task.test_facts": 2,
                }
            )
