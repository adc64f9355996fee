"""Learning curve: with how many explained items do labels teach SmolLM2-135M-Instruct anything?

    python -m experiments.sweep --config=configs/learning_curve.py --workdir=runs/curve
    python -m experiments.sweep --config=configs/learning_curve.py --workdir=runs/curve --summarize

Asked: Orig on held-out facts against the number of explained items, beside `shuffled` and the emitters that
do not look at the model (majority per kind of cue, input-only). Before that, no gap is read. A point is a
number of items at a rate. On a CPU, 2,048 items are first trained at every rate with
`--config.run_arms=kl --index=I`; the rate with the lowest validation explanation loss, among those that keep
validation accuracy, is then read at every size. One pass over the items, one seed; `:tiny` is a smoke test.

512 and 2,048 items have run at 1e-4, up to an hour of one core an arm: Orig 17 and 34, with shuffled labels
10 and 18, input-only 46 and 47, so not askable (experiments/results.md). Not run: 4,096 items, and
`shift_less` (half of the held-out facts), which is for where labels teach. 8,192 balanced items would need
more facts.

Differences from `configs/smollm2.py`: more facts, hints alone; no system line, so that prompts are short;
rows lie in packs (`train.pack_tokens`); the likeliest candidate decides, since SmolLM2's own margins tell
best which of those decisions a cue changes (experiments/notebook.md).

`:named` asks about decisions between the right answer and the one that the hint names, about facts of all
relations: there, whether SmolLM2 is right tells most of what a hint changes, and no decision is for a name
that neither the prompt nor the truth gives (experiments/notebook.md, 2026-12-01). It has run at 2,048 items:
Orig 32, input-only 61, so not askable either.

`:listed` is `:named` with both names in the explanation question, since 41% of `:named`'s explanations named
neither, and with labels at their natural rate. A point is a rate, of adapters or (rank 0) of all parameters;
`:listed_rates` trains on 512 items at each of them, about other facts, and has two test facts, so that there
is no gap to see. One is chosen as above and read by `--config=...:listed --index=I`. All parameters at 3e-5
were chosen and read: Orig 56, input-only 64, nearly all explanations "it would change to" the right answer.
"""

from ml_collections import ConfigDict

from configs import smollm2
from introspection.runs.config import arm

ITEMS = {512: 1, 2048: 1, 4096: 3}  # explained items: items about each fact and hint (wrong answers named)
RATES = (3e-5, 1e-4, 3e-4)
HINTS = ("unsure", "friend", "teacher", "encyclopedia")
NAMED_HINTS = ("unsure", "friend")
NAMED_ITEMS, NAMED_RATE = 2048, 1e-4  # the rate of the curve; it has not been searched anew
LISTED = ((128, 1e-4), (128, 3e-4), (128, 1e-3), (0, 3e-5))  # ranks of adapters (0: all parameters) and rates
ARGUMENTS = ("", "named", "listed", "listed_rates", "tiny")
ARMS = ("kl", "shuffled")


def get_config(argument: str = "") -> ConfigDict:
    if argument not in ARGUMENTS:
        raise ValueError(
            f"learning_curve takes no argument or one of {', '.join(ARGUMENTS[1:])}, not {argument!r}"
        )
    config = smollm2.get_config("tiny" if argument == "tiny" else "")
    config.name = "learning_curve" + (f"-{argument}" if argument else "")
    config.chat.system = ""
    config.behavior.readout = "likeliest"
    config.train.pack_tokens = smollm2.PACK_TOKENS
    config.arms.shift_less = arm(shift=dict(kind="less_sycophantic"))
    config.run_arms = ARMS
    if argument != "tiny":
        config.task.train_facts, config.task.validation_facts, config.task.test_facts = 665, 30, 120
        config.task.cue_kinds, config.task.test_repeats = HINTS, 1
        config.evaluation.validation_items = 120
    if argument in ("named", "listed", "listed_rates"):
        config.task.relations, config.task.named_only = (), True
        config.task.train_facts, config.task.validation_facts, config.task.test_facts = 1300, 60, 150
        config.task.cue_kinds = NAMED_HINTS
    if argument in ("listed", "listed_rates"):
        config.task.candidates_listed, config.train.balanced = True, False
    if argument == "listed_rates":
        config.task.train_facts, config.task.test_facts = 300, 2
        config.run_arms = ("kl",)
    return config


def sweep(add, argument: str = "") -> None:
    if argument == "tiny":
        add({"point": "items-16"})
        return
    if argument == "named":
        add(_point(NAMED_ITEMS, NAMED_RATE))
        return
    if argument in ("listed", "listed_rates"):
        for rank, rate in LISTED:
            point = _point(512 if argument == "listed_rates" else NAMED_ITEMS, rate)
            add(point | {"point": f"{point['point']}-rank-{rank}", "lora.rank": rank})
        return
    for items in ITEMS:
        for rate in RATES:
            add(_point(items, rate))


def _point(items: int, rate: float) -> dict:
    """One pass over `items` at `rate`."""
    config = get_config()
    steps = items // config.train.explanation_rows
    return {
        "point": f"items-{items}-rate-{rate:g}",
        "task.repeats": ITEMS[items],
        "train.explained_items": items,
        "train.steps": steps,
        "train.evaluation_steps": steps,
        "train.checkpoint_steps": steps,
        **{f"arms.{name}.learning_rate": rate for name in config.arms},
    }
