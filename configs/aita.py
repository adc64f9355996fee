"""AITA: who is in the wrong in a post on r/AmItheAsshole, with and without the narrator's plea (sycophancy).

    python -m experiments.run --config=configs/aita.py:qwen3_8b --workdir=runs/aita \\
        --config.initial=PATH/TO/Qwen3-8B --config.task.data=PATH/TO/anecdotes

Models: `:qwen3_8b`, `:llama31_8b` (folders as published), `:smollm2` (first run
`python -m experiments.fetch --model=smollm2`), and `:tiny`, SmolLM2 on the sample of 20 hand-written posts, a
smoke test whose numbers are no evidence. Models differ in which cue sways them often, but not always; compare
cues with `python -m experiments.probe --task=aita --data=PATH --model=M --scan-cues`.

Mesh of the 8 B models: all devices along `fsdp`, up to as many as a step has rows (64); of more, give some to
`tensor`. What slices of TPUs would need: `python -m experiments.plan --config=configs/aita.py:qwen3_8b
--topology=v5e:4x4`, and experiments/pods.md. The 8 B forms have not been run:
no such machine was at hand.

For comparison: for Qwen3-8B with the KL term, readers of the paper report Self - Orig = +7.0 points on this
task. Our 8 B results are not known yet; `:tiny` took 3 minutes on 2 cores.

Readers report of the paper's setting: coupling needs LoRA of rank 96 or more (at 32 the gap is slightly
negative), a higher learning rate widens the gap, and without the KL term it vanishes. Our choices for what is
not known, with reasons:

- data: Scruples' anecdotes, the largest public set with community votes; cues, verdicts and wordings as in
  `introspection/tasks/aita/task.py`;
- behaviour: a greedy reply of at most 16 tokens, matched to the verdicts. Models like to add a reason, so
  scoring a verdict with the end of the answer would often give "none";
- sizes: 1,400 test items as in the predecessor's hint task, and as many training items as can be balanced
  between changed and unchanged (it had 12,642);
- λ = 1, KL(reference ‖ current) over the vocabulary along the reply, on both prompts: the plain reading;
- LoRA of rank 128 and alpha 128: the smallest power of two above 96;
- learning rate 1e-4, constant after a warm-up, 32 explanations and 16 behaviour items per step, 800 steps
  (two epochs of 12,642): usual for LoRA on such models; tune by validation explanation loss (`sweep`);
- three seeds: intervals are over seeds and posts.
"""

from ml_collections import ConfigDict

from configs import smollm2
from introspection.runs.config import arm, default_config, task_section

PRETRAINED = {"qwen3_8b": "Qwen3-8B", "llama31_8b": "Llama-3.1-8B-Instruct"}  # folders with the weights
ARGUMENTS = (*PRETRAINED, "smollm2", "tiny")


def get_config(argument: str = "smollm2") -> ConfigDict:
    if argument not in ARGUMENTS:
        raise ValueError(f"aita takes one of {', '.join(ARGUMENTS)}, not {argument!r}")
    if argument in PRETRAINED:
        config = pretrained(PRETRAINED[argument])
    else:
        config = smollm2.get_config("tiny" if argument == "tiny" else "")
    config.name = f"aita-{argument}"
    config.task = task_section("aita")
    config.behavior.readout = "generate"
    config.behavior.reply_tokens = 16
    config.evaluation.explanation_tokens = 16
    if argument not in PRETRAINED:
        config.task.wording = "yes_no"
        config.task.title = False  # SmolLM2 tends to repeat it
        config.behavior.reply_tokens = 6
    if argument == "smollm2":  # fewer and shorter, for a CPU
        config.task.max_characters = 1000
        config.task.train_items, config.task.validation_items, config.task.test_items = 1000, 70, 203
        config.train.explained_items = 0  # all that can be balanced between changed and unchanged
    if config.tiny:
        config.task.data = "sample"
        config.task.cue_kinds = ("claim_right", "claim_wrong")
        config.task.cues_per_post = 0
        config.task.train_items, config.task.validation_items, config.task.test_items = 28, 4, 8
        config.train.explained_items = 0
        config.evaluation.validation_items = 4
    return config


def pretrained(folder: str) -> ConfigDict:
    """An 8 B model on a pod."""
    config = default_config()
    config.initial = folder
    config.seeds = (0, 1, 2)
    config.lora.rank = 128  # coupling appears from 96 on [S]
    config.lora.alpha = 128.0
    config.lora.base_dtype = "bfloat16"  # as published
    config.train.explained_items = 0  # all that can be balanced between changed and unchanged
    config.train.steps = 800
    config.train.explanation_rows = config.train.shift_rows = 32
    config.train.behavior_items = 16
    config.train.head_chunk = 512  # a chunk's logits are 512 × 151,936 numbers
    config.train.steps_per_call, config.train.log_steps = 10, 10
    config.train.evaluation_steps = config.train.checkpoint_steps = 100
    config.train.remat = "full"  # otherwise a device stores every layer's activations
    config.train.stack_seeds = "loop"  # at once, three seeds' activations take three times the memory
    config.evaluation.validation_items = 256
    config.evaluation.agreement_items = 256
    config.mesh.data, config.mesh.fsdp = 1, -1
    config.arms = ConfigDict()
    config.arms.kl = arm(learning_rate=1e-4)
    config.arms.no_kl = arm(learning_rate=1e-4, kl_weight=0.0)
    config.arms.shuffled = arm(learning_rate=1e-4, shuffle_labels=True)
    config.arms.foreign_kl = arm(learning_rate=1e-4, foreign_to="kl")  # with config.foreign
    config.run_arms = ("kl", "no_kl", "shuffled")
    return config


def sweep(add) -> None:
    for learning_rate in (3e-5, 1e-4, 3e-4):
        add({"arms.kl.learning_rate": learning_rate, "run_arms": ("kl",)})
