"""Hint-MMLU: the letter that answers a multiple-choice question, with and without a hint that names one.

    python -m experiments.run --config=configs/hint_mmlu.py:qwen3_8b --workdir=runs/hint_mmlu \\
        --config.initial=PATH/TO/Qwen3-8B --config.task.data=PATH/TO/data.tar

Models: `:qwen3_8b`, `:llama31_8b` (folders as their publishers distribute them), `:smollm2` (first
`python -m experiments.fetch --model=smollm2`), and `:tiny`, SmolLM2 on the sample of 15 hand-written
questions, which walks the path; its numbers are no evidence. The hint must move the model often, but not
always, and models differ: `python -m experiments.probe --task=hint_mmlu --data=PATH --model=M --scan-cues`
shows it for every wording, and `--config.task.cue_kinds` takes the one chosen.

Mesh of the 8 B models: `fsdp=8` splits parameters and adapters, `data` takes all other devices and divides
the rows. By XLA's count for eight devices (`experiments.bench --only=pod_step`) a step of rows of 512 tokens
needs 23 GB a device. Not run by us: there was no such machine.

To be held against: for Qwen3-8B with the KL term, readers of the paper report Self - Orig = +11.1 points on
this task. Its predecessor (arXiv:2511.08579), where Qwen3-8B is trained to explain itself, reports exact
match 83.4, F1 87.0 and content 90.6, against 8.9 untrained and 58.1 by Llama-3.1-8B. Expected here: unknown
for the 8 B models; SmolLM2 answers MMLU at about chance, so that its numbers show the path alone. On the 15
sample questions its replies named another letter, or none, after the plain hint in 13, after the professor's
in 12, after the user's belief in 5. `:tiny` took 15 minutes on one core.

Known of the paper's setting: 12,642 training and 1,400 test items; the arg-max answer letter; LoRA of rank
96 or more is needed (at 32 the gap is slightly negative), a higher learning rate widens the gap, and without
the KL term it vanishes. Our choices where nothing is known, each with its reason:

- questions, wording, place and letter of the hint: as `introspection/tasks/hint_mmlu/task.py` says;
- 500 validation items beside them: settings must be chosen on other items than the test's;
- balanced labels: the training items are as many as can be balanced between changed and unchanged;
- λ = 1, KL(reference ‖ current) over the vocabulary at the answer, on both prompts: the plain reading;
- LoRA of rank 128 and alpha 128: the smallest power of two above 96;
- learning rate 1e-4, constant after a warm-up, 32 explanations and 16 behaviour items a step, 800 steps (two
  epochs of 12,642): usual for LoRA on such models; choose again by validation explanation loss (`sweep`);
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
        config.behavior.readout = "score"  # the likeliest letter
    else:
        # Its replies are generated: it goes on after the letter, so that the letter alone is no likely reply.
        config = smollm2.get_config("tiny" if argument == "tiny" else "")
        config.behavior.reply_tokens = 12
    config.name = f"hint_mmlu-{argument}"
    config.task = task_section("hint_mmlu")
    config.evaluation.explanation_tokens = 16
    if argument == "smollm2":  # as many as a CPU reads in an hour or so
        config.task.train_items, config.task.validation_items, config.task.test_items = 1000, 70, 203
        config.train.explained_items = 0  # all that can be balanced between changed and unchanged
    if config.tiny:
        config.task.data = "sample"
        config.task.cue_kinds = ("plain", "belief")  # so that some labels are changed and some are not
        config.task.train_items, config.task.validation_items, config.task.test_items = 16, 4, 10
        config.train.explained_items = 0
        config.evaluation.validation_items = 4
    return config


def sweep(add) -> None:
    for learning_rate in (3e-5, 1e-4, 3e-4):
        add({"arms.kl.learning_rate": learning_rate, "run_arms": ("kl",)})
