"""SmolLM2-135M-Instruct explains itself: the main job on a real pretrained model.

    python -m experiments.fetch --model=smollm2
    python -m experiments.run --config=configs/smollm2.py --workdir=runs/smollm2

Its foreign explainer is SmolLM2 first trained to behave differently (`:other`, by behaviour alone: to answer
as if there were no cue), then on the same labels as the arm `kl`:

    python -m experiments.run --config=configs/smollm2.py:other --workdir=runs/smollm2_other
    python -m experiments.run --config=configs/smollm2.py --workdir=runs/smollm2_foreign \\
        --config.foreign=runs/smollm2_other:other --config.run_arms=kl,no_kl,shuffled,foreign_kl

`:large` has larger sets and five seeds, for an accelerator; `sweep` tunes its rate and steps. We have not
run either to its end.

A smoke result, not evidence: one model, one seed, 512 training and 203 test items, LoRA of rank 128 on a CPU,
47 minutes on 2 cores. Its gaps: kl +2.0 [−5.4, +10.8], no_kl −10.8 [−21.2, −1.5], shuffled −7.4
[−17.7, +2.5]; no coupling beyond that of the controls. With three seeds, 60 test facts and the foreign
explainer: kl −0.5 [−5.9, +5.2], its foreign explainer +0.8 [−5.2, +6.3], and no other gap away from 0
(experiments/results.md). On a GPU the arm `kl` at rank 16 finished: Self 36.2, Orig 36.7, gap −0.5
[−5.8, +5.4] (three seeds, 700 items). How the rate was chosen: experiments/notebook.md.

Behaviour is a greedily decoded reply, matched strictly to the candidates, since the likelihood of unlisted
candidates mostly measures copying in a model of this size. The report shows the placebo cues beside the real
hints. `:tiny` is a smoke test with a few items and steps; its numbers are no evidence.

Choices where the paper is silent: relations with short conventional names, most of which the model knows;
only the first, most natural question form; the KL term on both prompts, along all tokens of the reply.
"""

from ml_collections import ConfigDict

from introspection.runs.config import arm, default_config, task_section
from introspection.tasks.facts.language import CUES

# Lowest validation explanation loss after 64 steps among the rates that keep validation accuracy. The rate
# 1e-3, chosen on a GPU with twice as many behaviour rows, does not keep it here (experiments/notebook.md).
LEARNING_RATE = 3e-5
# For `--config.train.pack_tokens`: all prompts begin with the template's system prompt, an item's also with
# its question, and of a step's 740 tokens these repeat 310. Other tasks, with longer prompts, need more.
PACK_TOKENS = 256
OTHER_RATE = 1e-3  # of `:other`, which should change behaviour


def get_config(argument: str = "") -> ConfigDict:
    if argument not in ("", "other", "large", "large_other", "tiny"):
        raise ValueError(
            f"smollm2 takes no argument, 'other', 'large', 'large_other' or 'tiny', not {argument!r}"
        )
    config = default_config()
    config.name = "smollm2" + (f"-{argument}" if argument else "")
    config.tiny = argument == "tiny"
    config.seeds = (0,)
    config.initial = "smollm2"  # fetched into the cache; or your own folder, GGUF file or workdir

    # True facts about countries and elements; hints of four sources, and placebos.
    config.task = task_section(
        "world_facts",
        relations=(
            "country_capital",
            "country_continent",
            "country_currency",
            "country_language",
            "element_symbol",
        ),
        cue_kinds=tuple(CUES),
        phrasings=1,
        repeats=1,
        train_facts=100,
        validation_facts=10,
        test_facts=29,
    )

    config.behavior.readout = "generate"
    config.behavior.reply_tokens = 24

    config.lora.rank = 128
    config.lora.alpha = 128.0

    config.train.explained_items = 512  # balanced between changed and unchanged
    config.train.steps = 64  # one epoch
    config.train.explanation_rows = 8
    config.train.behavior_items = 2
    config.train.shift_rows = 4
    config.train.steps_per_call, config.train.log_steps = 4, 8
    # At the start and the end: on a CPU an evaluation takes 1.5 minutes, the 64 steps 9.
    config.train.evaluation_steps = config.train.checkpoint_steps = 64
    config.train.head_chunk = 512  # a chunk's logits are 512 × 49,152 numbers

    config.evaluation.validation_items = 70
    config.evaluation.agreement_items = 32
    config.evaluation.explanation_tokens = 16

    config.arms = ConfigDict()
    config.arms.kl = arm(learning_rate=LEARNING_RATE)
    config.arms.no_kl = arm(learning_rate=LEARNING_RATE, kl_weight=0.0)
    config.arms.shuffled = arm(learning_rate=LEARNING_RATE, shuffle_labels=True)
    config.arms.foreign_kl = arm(learning_rate=LEARNING_RATE, foreign_to="kl")
    config.run_arms = ("kl", "no_kl", "shuffled")
    if argument.startswith("large"):
        config.seeds = (0, 1, 2, 3, 4)
        config.task.train_facts, config.task.validation_facts, config.task.test_facts = 250, 40, 150
        config.train.explained_items, config.train.steps = 1024, 128  # one epoch
        config.train.behavior_items, config.evaluation.agreement_items = 4, 64
        config.train.steps_per_call = 8
        config.train.evaluation_steps = config.train.checkpoint_steps = 128
    if argument.endswith("other"):
        other = dict(kind="less_sycophantic", groups="all", fraction=1.0, order="alone")
        config.arms.other = arm(shift=other, learning_rate=OTHER_RATE)
        config.run_arms, config.seeds = ("other",), (0,)
        config.train.explanation_rows, config.train.shift_rows = 1, 16
    if config.tiny:
        config.task.train_facts, config.task.validation_facts, config.task.test_facts = 8, 2, 3
        config.train.explained_items, config.train.steps = 16, 4
        config.train.steps_per_call = config.train.log_steps = 2
        config.train.evaluation_steps = config.train.checkpoint_steps = 4
        config.train.explanation_rows, config.train.behavior_items = 4, 2
        config.evaluation.validation_items, config.evaluation.agreement_items = 7, 8
        config.run_arms = ("kl",)
    return config


def sweep(add) -> None:
    """The rate and steps of `:large`, on only its 280 validation items: it has two test facts."""
    for learning_rate in (3e-5, 1e-4, 3e-4, 1e-3):
        add(
            {
                "arms.kl.learning_rate": learning_rate,
                "run_arms": ("kl",),
                "seeds": (0,),
                "task.test_facts": 2,
                "train.steps": 256,
                "train.evaluation_steps": 64,
                "train.checkpoint_steps": 256,
                "evaluation.validation_items": 280,
            }
        )
