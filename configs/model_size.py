"""Size: over which sizes of a model do explanations follow behaviour? Organisms that read text, trained here.

    python -m experiments.sweep --config=configs/model_size.py --workdir=runs/model_size
    python -m experiments.sweep --config=configs/model_size.py --workdir=runs/model_size --summarize \\
        --beside=runs/smollm2_sweep

Asked: gap, Orig and drift of the arm `kl` against the number of parameters, each held against the reference
emitters of the same size. A base learns a register of 1,000 invented people in sentences (task `register`,
byte-level pieces); all sizes have the same shape, sentences, arms, steps and items, and differ in width and
rates alone. Two bases a size, each the other's neighbour. The summary has one curve (`config.curve`); points
of other sweeps, such as SmolLM2's, stand on it with `--beside` where their arms are the same recipes.
Procedure: experiments/notebook.md, 2026-11-29 and 2026-12-01.

    python -m experiments.pretrain --config=configs/model_size.py:5m
    python -m experiments.sweep --config=configs/model_size.py:rates --workdir=runs/model_size_rates

The first trains one size's base alone. The second reads validation explanation loss and accuracy of `kl` at
four rates a size, and no gap: it has two test people. `:tiny` is a smoke test; its numbers are no evidence.

No size has been trained to its end (experiments/notebook.md, 2026-11-30 and 2026-12-01). In a world of 640
facts labels can't teach: `kl` learns the 384 that are explained by heart. In this world of 4,000 facts a
base of 0.28 M parameters was stopped at step 7,300 of 15,000 (16 minutes of a core), its loss flat; accuracy
was not measured. At 0.95 M parameters a core read 8,700 tokens a second of training, at 7.6 M 1,600, and a
base reads 28 M tokens: this needs an accelerator. `word_size.py` asks about size in organisms of words.
"""

from ml_collections import ConfigDict

from introspection.organism.config import OrganismSizes
from introspection.runs.config import arm, default_config, task_section
from introspection.tasks.facts.register import REGISTER

NAME = "model_size"
# By name: width, the peak rate of pretraining, and that of explanation training. The rates are a first guess,
# to be replaced by what `:rates` finds before any gap is read.
SIZES = {
    "0.3m": (64, 4e-3, 1e-3),
    "1m": (128, 2e-3, 7e-4),
    "2m": (192, 1.5e-3, 5e-4),
    "5m": (320, 1e-3, 3e-4),
}
BASES = (0, 1)  # seeds of pretraining
RATES = (0.25, 0.5, 1.0, 2.0)  # times a size's rate, in `:rates`
ARMS = ("kl", "no_kl", "shuffled", "foreign_kl", "shift_less")
TINY = {"tiny-16": (16, 1e-2, 3e-3), "tiny-32": (32, 5e-3, 1e-3)}


def get_config(argument: str = "") -> ConfigDict:
    known = ("", "tiny", "rates", *SIZES)
    if argument not in known:
        raise ValueError(f"model_size takes one of {', '.join(filter(None, known))}, not {argument!r}")
    config = default_config()
    config.name = NAME + (f"-{argument}" if argument else "")
    config.tiny = argument == "tiny"
    config.part, config.base = "0.3m", "0.3m-0"
    config.curve = "" if argument == "rates" else "size"
    config.seeds = (10,)
    config.foreign = "neighbor"

    config.task = task_section(
        REGISTER.name,
        cue_kinds=REGISTER.hints,
        entities=1000,
        train_entities=700,
        validation_entities=60,
        test_entities=200,
        repeats=1,
    )
    config.pretrain.tokens = "pieces"
    config.pretrain.rows, config.pretrain.steps = 64, 15_000  # 240 rows a fact, half of them without a cue
    config.pretrain.mixture.plain = config.pretrain.mixture.hinted = 0.5
    config.model.context_length = 64
    config.evaluation.explanation_tokens = 11

    config.train.steps, config.train.explanation_rows, config.train.behavior_items = 500, 64, 16
    config.train.shift_rows = 32

    config.arms = ConfigDict()
    config.arms.kl = arm()
    config.arms.no_kl = arm(kl_weight=0.0)
    config.arms.shuffled = arm(shuffle_labels=True)
    config.arms.foreign_kl = arm(foreign_to="kl")
    config.arms.shift_less = arm(shift=dict(kind="less_sycophantic"))
    if config.tiny:
        _make_tiny(config)
    size = {"tiny": "tiny-16"}.get(argument, argument if argument in SIZES else "0.3m")
    for field, value in of_size(size).items():
        *sections, last = field.split(".")
        section = config
        for name in sections:
            section = section[name]
        section[last] = value
    return config


def of_size(size: str) -> dict:
    """The fields that a size sets."""
    width, pretraining, training = (SIZES | TINY)[size]
    shape = OrganismSizes().scaled(width)
    return {
        **{f"model.{name}": getattr(shape, name) for name in ("width", "head_dim", "mlp_width")},
        "pretrain.learning_rate": pretraining,
        **{f"arms.{name}.learning_rate": training for name in ARMS},
    }


def _make_tiny(config: ConfigDict) -> None:
    """A smoke test of under a minute, on bases that have learned hardly anything."""
    config.task.entities, config.task.relations = 24, 2
    config.task.train_entities, config.task.validation_entities, config.task.test_entities = 12, 4, 8
    config.model.layers = config.model.scan_unroll = 2
    config.pretrain.steps, config.pretrain.rows, config.pretrain.checkpoint_steps = 200, 32, 200
    config.train.steps, config.train.evaluation_steps, config.train.checkpoint_steps = 20, 20, 20
    config.train.explanation_rows, config.train.behavior_items, config.train.shift_rows = 16, 4, 8
    config.foreign, config.run_arms = "none", ("kl", "shuffled")


def sweep(add, argument: str = "") -> None:
    sizes = TINY if argument == "tiny" else {argument: SIZES[argument]} if argument in SIZES else SIZES
    for size in sizes:
        for seed in BASES[:1] if argument in ("tiny", "rates") else BASES:
            base = {
                "part": size,
                "base": f"{size}-{seed}",
                "pretrain.seed": seed,
                "neighbor.seed": BASES[(seed + 1) % len(BASES)],
                **of_size(size),
            }
            if argument != "rates":
                add({"point": f"{size}-{seed}", **base})
                continue
            for times in RATES:
                add(
                    {
                        "point": f"{size}-times-{times}",
                        **base,
                        "arms.kl.learning_rate": times * SIZES[size][2],
                        "run_arms": ("kl",),
                        "foreign": "none",
                        "task.test_entities": 2,
                        "train.evaluation_steps": 50,
                    }
                )
