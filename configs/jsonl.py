"""Your own questions: a JSON-lines file with one counterfactual question per line.

Its schema is in introspection/tasks/README.md.

    python -m experiments.probe --task=jsonl --data=mine.jsonl --dry-run
    python -m experiments.fetch --model=smollm2
    python -m experiments.run --config=configs/jsonl.py:smollm2 --config.task.data=mine.jsonl \\
        --workdir=runs/mine

The first command checks every row. The argument `smollm2` (the default) is SmolLM2-135M-Instruct; name any
other chat model by its path, `--config.initial=PATH/TO/MODEL`. Behaviour is a greedy reply matched to the
candidates; `--config.behavior.readout=likeliest` takes the likeliest candidate instead, which suits single
letters (`score` does so, too, but decides for none where all other text together is likelier). `:tiny` is
a smoke test on the sample of 50 hand-written rows; its numbers are no evidence.
"""

from ml_collections import ConfigDict

from configs import smollm2
from introspection.runs.config import task_section


def get_config(argument: str = "smollm2") -> ConfigDict:
    if argument not in ("smollm2", "tiny"):
        raise ValueError(f"jsonl takes 'smollm2' or 'tiny', not {argument!r}")
    config = smollm2.get_config("tiny" if argument == "tiny" else "")
    config.name = f"jsonl-{argument}"
    config.task = task_section("jsonl")
    config.train.explained_items = 0  # all that can be balanced between changed and unchanged
    if config.tiny:
        config.task.data = "sample"
        config.task.train_items, config.task.validation_items, config.task.test_items = 16, 4, 8
        config.behavior.reply_tokens = 12
    return config


def sweep(add) -> None:
    """The rate of the arm `kl`, by validation loss and accuracy."""
    for learning_rate in (3e-5, 1e-4, 3e-4):
        add({"arms.kl.learning_rate": learning_rate, "run_arms": ("kl",)})
