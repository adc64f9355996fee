"""Hint-MMLU: the answer letter of a multiple-choice question, with and without a hint that names a letter.

    python -m experiments.run --config=configs/hint_mmlu.py:qwen3_8b --workdir=runs/hint_mmlu \\
        --config.initial=PATH/TO/Qwen3-8B --config.task.data=PATH/TO/data.tar

Models: `:qwen3_8b`, `:llama31_8b` (folders as published), `:smollm2` (first run
`python -m experiments.fetch --model=smollm2`), and `:tiny`, SmolLM2 on the sample of 15 hand-written
questions, a smoke test whose numbers are no evidence. The hint must sway the model often, but not always, and
models differ: `python -m experiments.probe --task=hint_mmlu --data=PATH --model=M --scan-cues` compares the
wordings; set `--config.task.cue_kinds` to the chosen one.

Mesh of the 8 B models: all devices along `fsdp`, up to as many as a step has rows (64); of more, give some to
`tensor`. What slices of TPUs would need: `python -m experiments.plan --config=configs/hint_mmlu.py:qwen3_8b
--topology=v5e:4x4`, and experiments/pods.md. The 8 B forms have not been run:
no such machine was at hand.

For comparison: for Qwen3-8B with the KL term, readers of the paper report Self - Orig = +11.1 points on this
task. Its predecessor (arXiv:2511.08579), which trains Qwen3-8B to explain itself, reports exact match 83.4,
F1 87.0 and content 90.6, against 8.9 untrained and 58.1 by Llama-3.1-8B. Our 8 B results are not known yet;
SmolLM2 answers MMLU at about chance, so it only tests the code path. On the 15 sample questions its replies
named another letter, or none, after the plain hint in 13, after the professor's in 12, after the user's
belief in 5. `:tiny` took 15 minutes on one core.

Known of the paper's setting: 12,642 training and 1,400 test items; the arg-max answer letter; coupling needs
LoRA of rank 96 or more (at 32 the gap is slightly negative), a higher learning rate widens the gap, and
without the KL term it vanishes. Our choices for what is not known, with reasons:

- questions, and the hint's wording, position and letter: as in `introspection/tasks/hint_mmlu/task.py`;
- 500 validation items besides: settings must not be chosen on test items;
- balanced labels: as many training items as can be balanced between changed and unchanged;
- λ = 1, KL(reference ‖ current) over the vocabulary at the answer, on both prompts: the plain reading;
- LoRA of rank 128 and alpha 128: the smallest power of two above 96;
- learning rate 1e-4, constant after a warm-up, 32 explanations and 16 behaviour items per step, 800 steps
  (two epochs of 12,642): usual for LoRA on such models; tune by validation explanation loss (`sweep`);
- Qwen3 does not think before it replies (`config.chat.enable_thinking`): its first token is the answer;
- three seeds: intervals are over seeds and questions.
"""

from ml_collections import ConfigDict

from configs import aita, smollm2
from introspection.runs.config import task_section

ARGUMENTS = (*aita.PRETRAINED, "smollm2", "tiny")


def get_config(argument: str = "smollm2") -> ConfigDict:
    if argument not in ARGUMENTS:
        raise ValueError(f"hint_mmlu takes one of {', '.join(ARGUMENTS)}, not {argument!r}")
    if argument in aita.PRETRAINED:
        config = aita.pretrained(aita.PRETRAINED[argument])
        config.behavior.readout = "score"  # the likeliest letter, or none
    else:
        # Generated replies: SmolLM2 continues after the letter, so a bare letter is an unlikely reply.
        config = smollm2.get_config("tiny" if argument == "tiny" else "")
        config.behavior.reply_tokens = 12
    config.name = f"hint_mmlu-{argument}"
    config.task = task_section("hint_mmlu")
    config.evaluation.explanation_tokens = 16
    if argument == "smollm2":  # fewer, for a CPU
        config.task.train_items, config.task.validation_items, config.task.test_items = 1000, 70, 203
        config.train.explained_items = 0  # all that can be balanced between changed and unchanged
    if config.tiny:
        config.task.data = "sample"
        config.task.cue_kinds = ("plain", "belief")  # so that labels of both classes occur
        config.task.train_items, config.task.validation_items, config.task.test_items = 16, 4, 10
        config.train.explained_items = 0
        config.evaluation.validation_items = 4
    return config


def sweep(add) -> None:
    for learning_rate in (3e-5, 1e-4, 3e-4):
        add({"arms.kl.learning_rate": learning_rate, "run_arms": ("kl",)})
