"""What training changes of a model, and what it leaves."""

import dataclasses
from collections.abc import Sequence

import jax

from introspection.models.config import ModelConfig
from introspection.models.decoder import initialize
from introspection.models.model import Model
from introspection.runs.config import RunConfig


def trainable_parts(
    config: RunConfig, initial: Model, seeds: Sequence[int]
) -> tuple[ModelConfig, list[dict], dict]:
    """(model config, what is trained of each seed, what is frozen): all parameters, or, if lora.rank > 0,
    adapters, drawn for every seed and the same in all arms."""
    model_config = dataclasses.replace(initial.config, remat=config.train.remat, lora=config.lora.lora)
    if model_config.lora is None:
        return model_config, [{"params": initial.variables["params"]}] * len(seeds), {}
    key, draw = jax.random.key(config.task_seed), jax.jit(lambda key: initialize(model_config, key)["lora"])
    adapters = [{"lora": draw(jax.random.fold_in(key, seed))} for seed in seeds]
    return model_config, adapters, {"params": initial.variables["params"]}
