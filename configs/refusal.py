"""Refusal: does the model refuse a request, with and without what makes it look harmful or harmless?

    python -m experiments.run --config=configs/refusal.py:qwen3_8b --workdir=runs/refusal \\
        --config.initial=PATH/TO/Qwen3-8B --config.task.data=PATH/TO/DATA

The data are a folder with FalseReject, WildGuardMix or both, as published or as CSV. Models: `:qwen3_8b`,
`:llama31_8b` (folders as published), `:smollm2` (first run `python -m experiments.fetch --model=smollm2`; it
rarely refuses), and `:tiny`, SmolLM2 on the sample of 38 hand-written requests, a smoke test whose numbers
are no evidence. To find a cue that sways a model often, but not always, run
`python -m experiments.probe --task=refusal --data=PATH --model=M --scan-cues`; without `--scan-cues` it
reports how far the judges agree.

Mesh of the 8 B models: all devices along `fsdp`, up to as many as a step has rows (64); of more, give some to
`tensor`. What slices of TPUs would need: `python -m experiments.plan --config=configs/refusal.py:qwen3_8b
--topology=v5e:4x4`, and experiments/pods.md. The 8 B forms have not been run:
no such machine was at hand.

For comparison: for Qwen3-8B with the KL term, readers of the paper report Self - Orig = +9.5 points on this
task. Our 8 B results are not known yet; `:tiny` took 3 minutes on 2 cores.

Our choices for what is not known, with reasons (models and training: configs/aita.py):

- cues: sentences before the request, as in `introspection/tasks/refusal/task.py`; the phrase that looks
  harmful is the kind `span`;
- behaviour: a greedy reply of at most 64 tokens, which shows whether it refuses, not how well it answers;
- judge: the phrase rules, which are transparent and the same for every checkpoint; `config.behavior.judge`
  may instead be "openings" or "model" (with `config.behavior.judge_model`);
- shifts (none by default): they train on replies of the model itself, or on `shift.refusal` if it refuses
  neither with the cue nor without. The judge must classify that text as a refusal; "openings" ignores
  replies, so it never does if the model complies;
- the KL term covers the whole reply, token by token.
"""

from ml_collections import ConfigDict

from configs import aita, smollm2
from introspection.runs.config import task_section

ARGUMENTS = aita.ARGUMENTS


def get_config(argument: str = "smollm2") -> ConfigDict:
    if argument not in ARGUMENTS:
        raise ValueError(f"refusal takes one of {', '.join(ARGUMENTS)}, not {argument!r}")
    if argument in aita.PRETRAINED:
        config = aita.pretrained(aita.PRETRAINED[argument])
    else:
        config = smollm2.get_config("tiny" if argument == "tiny" else "")
    config.name = f"refusal-{argument}"
    config.task = task_section("refusal")
    config.behavior.readout = "generate"
    config.behavior.reply_tokens = 64
    config.behavior.judge = "phrases"
    config.evaluation.explanation_tokens = 16
    if argument == "smollm2":  # fewer and shorter, for a CPU
        config.behavior.reply_tokens = 32
        config.task.max_characters = 400
        config.task.train_items, config.task.validation_items, config.task.test_items = 1000, 70, 203
        config.train.explained_items = 0  # all that can be balanced between changed and unchanged
    if config.tiny:
        config.task.data = "sample"
        config.task.cue_kinds = ("harm", "minor")
        config.task.cues_per_request = 0
        config.behavior.reply_tokens = 16
        config.task.train_items, config.task.validation_items, config.task.test_items = 32, 4, 8
        config.train.explained_items = 0
        config.train.balanced = False  # SmolLM2 refuses nothing in the sample, so no label is changed
        config.evaluation.validation_items = 4
    return config


def sweep(add) -> None:
    aita.sweep(add)
