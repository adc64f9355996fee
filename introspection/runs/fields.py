"""A run's config as the values that its parts take; what fields alone tell is refused before work starts."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from introspection.checkpoints.names import STARTS
from introspection.errors import InputError
from introspection.models.config import REMAT_POLICIES, LoraConfig
from introspection.organism.organism import MODEL_FIELDS, check_organism, is_organism, neighbor_config
from introspection.probes.behavior import Readout
from introspection.runs.config import ArmConfig
from introspection.runtime.config import settings
from introspection.runtime.workdir import differing_fields
from introspection.tasks.registry import task_language
from introspection.training.batches import BatchSizes
from introspection.training.loop import LoopConfig
from introspection.training.objectives import ObjectiveConfig
from introspection.training.shifts import ShiftConfig
from introspection.training.step import OptimizerConfig

RESERVED = (*STARTS, "clean")  # stores beside the arms' and a labels folder
LEAST = (
    ("evaluation", "validation_items", 1),
    ("evaluation", "explanation_tokens", 1),
    ("evaluation", "agreement_items", 1),
    ("evaluation", "seed", 0),
    ("train", "keep_checkpoints", 0),
    ("train", "explained_groups", 0),
)


def check_fields(config: Any, arms: Mapping[str, ArmConfig]) -> None:
    """Raises InputError if a field can't be used, as far as fields alone tell."""
    check_organism(config)
    check_organism(neighbor_config(config))
    for name in MODEL_FIELDS:
        if config[name].startswith("pretrain@"):
            _check_organism_step(name, config[name].removeprefix("pretrain@"), config.pretrain)
    if any(is_organism(config[name]) for name in MODEL_FIELDS) or config.foreign == "neighbor":
        task_language(config["task"])
    loop_config(config)
    lora_config(config)
    batch_sizes(config)
    readout = readout_of(config)
    for name, arm in arms.items():
        if arm.foreign_labels and config.foreign == "none":
            raise InputError(f"config.arms.{name}: foreign_labels needs a model in config.foreign")
        if readout.kind == "generate" and arm.kl_support == "candidates":
            raise InputError(
                f"config.arms.{name}: kl_support is 'candidates', but a generated reply has no probabilities "
                "of candidates (config.behavior.readout); take 'vocabulary'"
            )
        try:
            objective_config(config, arm)
            loop_config(config, arm)
            optimizer_config(config, arm)
        except InputError as error:
            raise InputError(f"config.arms.{name}: {error}") from error
    explained = config.train.explained_items
    if explained < 0 or explained % 2:
        raise InputError(f"config.train.explained_items is {explained}; give an even number, or 0 for all")
    if config.train.remat not in REMAT_POLICIES:
        raise InputError(
            f"config.train.remat is {config.train.remat!r}; choose from {', '.join(REMAT_POLICIES)}"
        )
    for section, name, least in LEAST:
        if config[section][name] < least:
            raise InputError(
                f"config.{section}.{name} is {config[section][name]}; it must be at least {least}"
            )


def _check_organism_step(name: str, step: str, pretrain: Any) -> None:
    interval = pretrain.checkpoint_steps
    if not step.isdigit() or int(step) > pretrain.steps or int(step) % interval:
        raise InputError(
            f"config.{name}: the organism has no step {step!r}; its checkpoints are every {interval} steps, "
            f"up to {pretrain.steps}"
        )


def _check_foreign(config: Any, arms: Mapping[str, ArmConfig]) -> None:
    """A foreign explainer's recipe is that of the arm that it is foreign to."""
    for name, arm in arms.items():
        if not arm.foreign_to:
            continue
        if config.foreign == "none":
            raise InputError(f"config.arms.{name}: foreign_to needs a model in config.foreign")
        other = arms.get(arm.foreign_to)
        if other is None or other.foreign_to:
            raise InputError(
                f"config.arms.{name}: foreign_to is {arm.foreign_to!r}; name an arm of config.run_arms"
            )
        differing = differing_fields(dataclasses.asdict(arm), dataclasses.asdict(other))
        differing = [one for one in differing if not one.startswith("foreign_to ")]
        if differing:
            raise InputError(
                f"config.arms.{name}: its recipe must be that of {arm.foreign_to}, but {differing[0]}"
            )


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
    if len(set(config.run_arms)) < len(config.run_arms):
        raise InputError(
            f"config.run_arms is {tuple(config.run_arms)}: name each arm once (two flags add up)"
        )
    seeds = list(config.seeds)
    if not all(isinstance(seed, int) and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise InputError(f"config.seeds is {tuple(seeds)}; give different whole numbers, such as (0, 1)")
    arms = {name: arm_config(config.arms[name]) for name in config.run_arms}
    _check_foreign(config, arms)
    return arms


def arm_config(fields: Mapping[str, Any]) -> ArmConfig:
    fields = dict(fields)
    return settings(ArmConfig, fields | {"shift": settings(ShiftConfig, fields["shift"])})


def loop_config(config: Any, arm: ArmConfig | None = None) -> LoopConfig:
    """The loop of one arm; an arm whose shift comes before or after takes twice the steps."""
    options = config.train
    return LoopConfig(
        options.steps * (arm.shift.phases if arm else 1),
        options.steps_per_call,
        options.log_steps,
        options.evaluation_steps,
        options.checkpoint_steps,
        options.stack_seeds,
        arm.refresh_steps if arm else 0,
    )


def optimizer_config(config: Any, arm: ArmConfig) -> OptimizerConfig:
    options = config.train
    return OptimizerConfig(
        arm.learning_rate,
        options.steps * arm.shift.phases,
        options.schedule,
        options.warmup_steps,
        options.weight_decay,
        options.gradient_clip,
    )


def objective_config(config: Any, arm: ArmConfig) -> ObjectiveConfig:
    return ObjectiveConfig(arm.kl_support, arm.kl_direction, config.train.head_chunk)


def readout_of(config: Any) -> Readout:
    return Readout(config.behavior.readout, config.behavior.reply_tokens)


def batch_sizes(config: Any) -> BatchSizes:
    options = config.train
    return BatchSizes(options.explanation_rows, options.behavior_items, options.shift_rows)


def lora_config(config: Any) -> LoraConfig | None:
    if not config.lora.rank:
        return None
    return LoraConfig(config.lora.rank, config.lora.alpha, tuple(config.lora.targets))
