"""Refusal: does the model refuse a request, with and without what makes it look harmful or harmless?

    python -m experiments.run --config=configs/refusal.py:qwen3_8b --workdir=runs/refusal \\
        --config.initial=PATH/TO/Qwen3-8B --config.task.data=PATH/TO/DATA

The data are a folder with FalseReject, WildGuardMix or both, as published. Models: `:qwen3_8b`, `:llama31_8b`
(folders as their publishers distribute them), `:smollm2` (first `python -m experiments.fetch
--model=smollm2`; it refuses little), and `:tiny`, SmolLM2 on the sample of 38 hand-written requests, which
walks the path; its numbers are no evidence. Which cue moves a model often, but not always: `python -m
experiments.probe --task=refusal --data=PATH --model=M --scan-cues`; how far the judges agree: the same
without `--scan-cues`.

Mesh of the 8 B models: `fsdp=8` splits parameters and adapters, `data` takes all other devices and divides
the rows. By XLA's count for eight devices (`experiments.bench --only=pod_step`) a step of rows of 512 tokens
needs 23 GB a device. Not run by us: there was no such machine.

To be held against: for Qwen3-8B with the KL term, readers of the paper report Self - Orig = +9.5 points on
this task. Expected here: unknown for the 8 B models; `:tiny` takes 3 minutes on 2 cores.

Our choices where nothing is known, each with its reason (models and training: configs/aita.py):

- cues: sentences put before the request, as `introspection/tasks/refusal/task.py` says; the phrase that looks
  harmful is the kind `span`;
- behaviour: a greedy reply of at most 64 tokens, which shows whether it refuses, not how well it answers;
- judge: the phrase rules, since they are the same for every checkpoint and can be read;
  `config.behavior.judge` takes "openings" or "model" (with `config.behavior.judge_model`) instead;
- shifts (none here by default): they train replies that the model gives itself, or `shift.refusal` where it
  refuses neither with the cue nor without. The judge must read that as a refusal; "openings" reads no reply,
  so it never does where the model complies;
- the KL term holds on to the whole reply, token by token.
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
    if argument == "smollm2":  # as many as a CPU answers in an hour or so
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
        config.train.balanced = False  # SmolLM2 refuses none of the sample, so no label is changed
        config.evaluation.validation_items = 4
    return config


def sweep(add) -> None:
    aita.sweep(add)
