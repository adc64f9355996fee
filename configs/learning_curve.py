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

`:rates` trains all parameters instead of adapters, on 2,048 items at three rates, and has two test facts, so
that there is no gap to see; `:full` is the curve with all parameters trained, at each of these rates. Neither
has been run to its end.

`:named` asks about decisions between the right answer and the one that the hint names, about facts of all
relations: there, whether SmolLM2 is right tells most of what a hint changes, and no decision is for a name
that neither the prompt nor the truth gives (experiments/notebook.md, 2026-12-01). It has run at 2,048 items:
Orig 32, input-only 61, so not askable either.
"""

from ml_collections import ConfigDict

from configs import smollm2
from introspection.runs.config import arm

ITEMS = {512: 1, 2048: 1, 4096: 3}  # explained items: items about each fact and hint (wrong answers named)
RATES = (3e-5, 1e-4, 3e-4)
FULL_RATES = (3e-5, 1e-4, 1e-5)  # of all parameters
FULL_ITEMS = 2048
HINTS = ("unsure", "friend", "teacher", "encyclopedia")
NAMED_HINTS = ("unsure", "friend")
NAMED_ITEMS, NAMED_RATE = 2048, 1e-4  # the rate of the curve; it has not been searched anew
ARMS = ("kl", "shuffled")


def get_config(argument: str = "") -> ConfigDict:
    if argument not in ("", "full", "named", "rates", "tiny"):
        raise ValueError(
            f"learning_curve takes no argument, 'full', 'named', 'rates' or 'tiny', not {argument!r}"
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
    if argument == "named":
        config.task.relations, config.task.named_only = (), True
        config.task.train_facts, config.task.validation_facts, config.task.test_facts = 1300, 60, 150
        config.task.cue_kinds = NAMED_HINTS
    if argument in ("full", "rates"):
        config.lora.rank = 0
    if argument == "rates":
        config.task.test_facts = 2
        config.run_arms = ("kl",)
    return config


def sweep(add, argument: str = "") -> None:
    if argument == "tiny":
        add({"point": "items-16"})
        return
    if argument == "rates":
        for rate in FULL_RATES:
            add(_point(FULL_ITEMS, rate) | {"train.evaluation_steps": 64})
        return
    if argument == "named":
        add(_point(NAMED_ITEMS, NAMED_RATE))
        return
    for items in ITEMS:
        for rate in FULL_RATES if argument == "full" else RATES:
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
