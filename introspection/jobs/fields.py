"""A run's config as the values that its parts take; what fields alone tell is refused before work starts."""

import re
from collections.abc import Mapping
from typing import Any

from introspection.errors import InputError
from introspection.jobs.arms import ArmConfig
from introspection.jobs.organism import check_organism
from introspection.jobs.settings import settings
from introspection.models.config import LoraConfig
from introspection.training.batches import BatchSizes
from introspection.training.loop import LoopConfig
from introspection.training.objectives import ObjectiveConfig
from introspection.training.shifts import ShiftConfig
from introspection.training.step import OptimizerConfig

RESERVED = ("initial", "clean")  # a store beside the arms' and a labels folder


def check_fields(config: Any, arms: Mapping[str, ArmConfig]) -> None:
    """Raises InputError if a field can't be used, as far as fields alone tell."""
    check_organism(config)
    loop_config(config)
    lora_config(config)
    batch_sizes(config)
    for name, arm in arms.items():
        try:
            objective_config(config, arm)
            optimizer_config(config, arm)
        except InputError as error:
            raise InputError(f"config.arms.{name}: {error}") from error
    for name in ("validation_items", "explanation_tokens"):
        if config.evaluation[name] < 1:
            raise InputError(f"config.evaluation.{name} is {config.evaluation[name]}; it must be at least 1")


def chosen_arms(config: Any) -> dict[str, ArmConfig]:
    """The arms to run. Raises InputError on an unknown or empty choice."""
    if not config.run_arms or not config.seeds:
        raise InputError("config.run_arms and config.seeds name at least one arm and one seed")
    unknown = [name for name in config.run_arms if name not in config.arms]
    if unknown:
        raise InputError(f"config.run_arms has {unknown[0]!r}; choose from {', '.join(config.arms)}")
    unusable = [name for name in config.run_arms if name in RESERVED or re.search(r"[:@/,]", name)]
    if unusable:
        raise InputError(
            f"config.arms has {unusable[0]!r}: an arm is a folder's name without : @ / and the comma, "
            f"and {', '.join(RESERVED)} are taken"
        )
    seeds = list(config.seeds)
    if not all(isinstance(seed, int) and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise InputError(f"config.seeds is {tuple(seeds)}; give different whole numbers, such as (0, 1)")
    return {name: arm_config(config.arms[name]) for name in config.run_arms}


def arm_config(fields: Mapping[str, Any]) -> ArmConfig:
    fields = dict(fields)
    return settings(ArmConfig, fields | {"shift": settings(ShiftConfig, fields["shift"])})


def loop_config(config: Any) -> LoopConfig:
    options = config.train
    return LoopConfig(
        options.steps,
        options.steps_per_call,
        options.log_steps,
        options.evaluation_steps,
        options.checkpoint_steps,
        options.stack_seeds,
    )


def optimizer_config(config: Any, arm: ArmConfig) -> OptimizerConfig:
    options = config.train
    return OptimizerConfig(
        arm.learning_rate,
        options.steps,
        options.schedule,
        options.warmup_steps,
        options.weight_decay,
        options.gradient_clip,
    )


def objective_config(config: Any, arm: ArmConfig) -> ObjectiveConfig:
    return ObjectiveConfig(arm.kl_support, arm.kl_direction, config.train.head_chunk)


def batch_sizes(config: Any) -> BatchSizes:
    options = config.train
    return BatchSizes(options.explanation_rows, options.behavior_items, options.shift_rows)


def lora_config(config: Any) -> LoraConfig | None:
    if not config.lora.rank:
        return None
    return LoraConfig(config.lora.rank, config.lora.alpha, tuple(config.lora.targets))
