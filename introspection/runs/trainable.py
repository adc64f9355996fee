"""What training changes of a model, and what it leaves."""

import dataclasses
from collections.abc import Sequence

import jax
from jax.sharding import Mesh

from introspection.models.config import ModelConfig
from introspection.models.decoder import initialize
from introspection.models.model import Model, in_float32
from introspection.runs.config import RunConfig
from introspection.runtime.mesh import parameter_shardings


def trainable_parts(
    config: RunConfig, initial: Model, seeds: Sequence[int], mesh: Mesh | None = None
) -> tuple[ModelConfig, list[dict], dict]:
    """(model config, what is trained of each seed, what is frozen): all parameters, or, if lora.rank > 0,
    adapters, drawn for every seed and the same in all arms and on every mesh."""
    model_config = dataclasses.replace(initial.config, remat=config.train.remat, lora=config.lora.lora)
    if model_config.lora is None:
        whole = in_float32(initial)  # an update of a bfloat16 number would mostly vanish
        model_config = dataclasses.replace(model_config, parameter_dtype=whole.config.parameter_dtype)
        return model_config, [{"params": whole.variables["params"]}] * len(seeds), {}
    key = jax.random.key(config.task_seed)

    def adapters_of(key: jax.Array) -> dict:
        return initialize(model_config, key)["lora"]

    placed = None if mesh is None else parameter_shardings(jax.eval_shape(adapters_of, key), mesh)
    draw = jax.jit(adapters_of, out_shardings=placed)
    adapters = [{"lora": draw(jax.random.fold_in(key, seed))} for seed in seeds]
    return model_config, adapters, {"params": initial.variables["params"]}
