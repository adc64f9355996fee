"""The quickstart: a model organism of a closed, invented world, with four arms and two seeds.

    python -m experiments.run --config=configs/quickstart.py --workdir=runs/quickstart

It takes 7 to 10 minutes on 2 cores; expect Self and Orig of about 83% for `kl` (experiments/results.md).
Labels teach here, but two seeds of one base are far too few to confirm or refute the paper. `:tiny` is a
smoke test of about a minute; its numbers are never evidence.
"""

from ml_collections import ConfigDict

from introspection.runs.config import arm, default_config


def get_config(argument: str = "") -> ConfigDict:
    if argument not in ("", "tiny"):
        raise ValueError(f"quickstart takes no argument or 'tiny', not {argument!r}")
    config = default_config()  # introspection/workdir_files.md lists every field
    config.name = "quickstart" + (f"-{argument}" if argument else "")
    config.tiny = argument == "tiny"
    config.seeds = (0, 1)

    # No entity has facts in two splits. Every item of a training fact names another wrong answer; a test fact
    # has one item per source, since many facts with few items each tell more.
    config.task.update(
        entities=1125,
        train_entities=750,
        validation_entities=75,
        test_entities=300,
        test_repeats=1,
    )
    config.train.explained_groups = 2400  # of the 3,000 training groups

    config.arms = ConfigDict()
    config.arms.kl = arm()
    config.arms.no_kl = arm(kl_weight=0.0)
    config.arms.kl_shift = arm(shift=dict(kind="less_sycophantic"))
    config.arms.shuffled = arm(shuffle_labels=True)

    if config.tiny:
        _make_tiny(config)
    return config


def _make_tiny(config: ConfigDict) -> None:
    """A smoke test of about a minute, on a base that has learned hardly anything."""
    config.task.entities, config.task.relations = 27, 2
    config.task.train_entities, config.task.validation_entities, config.task.test_entities = 12, 5, 10
    config.train.explained_groups = 16
    config.model.width, config.model.layers, config.model.mlp_width = 32, 2, 64
    config.model.scan_unroll = 2
    config.pretrain.steps, config.pretrain.rows, config.pretrain.checkpoint_steps = 500, 64, 100
    config.train.steps, config.train.evaluation_steps, config.train.checkpoint_steps = 40, 20, 20
    config.train.explanation_rows, config.train.behavior_items, config.train.shift_rows = 16, 8, 8


def sweep(add) -> None:
    """Each call of `add` is a point: the fields that it overrides."""
    for learning_rate in (6.25e-5, 1.25e-4, 2.5e-4, 5e-4):
        add({"arms.kl.learning_rate": learning_rate, "run_arms": ("kl",)})
