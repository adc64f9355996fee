"""A loaded model: its config, tokenizer and variables; merging of adapters."""

import dataclasses

import jax
import jax.numpy as jnp

from introspection.models.config import LoraConfig, ModelConfig
from introspection.models.head import adapted_head
from introspection.text.tokenizer import ChatTokenizer


@dataclasses.dataclass(frozen=True)
class Model:
    """`variables` is `{"params": ...}` and, with adapters, also `{"lora": ...}`."""

    config: ModelConfig
    tokenizer: ChatTokenizer
    variables: dict[str, dict]
    name: str = ""  # by which it was loaded, for messages; "" if it was changed since

    def with_variables(self, variables: dict[str, dict]) -> "Model":
        return dataclasses.replace(self, variables=variables, name="")


def in_float32(model: Model) -> Model:
    """The model with all parameters in float32: the same numbers."""
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), model.variables)
    config = dataclasses.replace(model.config, parameter_dtype="float32")
    return dataclasses.replace(model, config=config, variables=variables)


def select_seed(stacked, index: int):
    """One seed of a tree whose leaves have a leading seed axis."""
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def merged_parameters(params: dict, adapters: dict, lora: LoraConfig) -> dict:
    """`W + alpha / rank · A B` for every adapted `W`, of parameters in float32."""
    if lora.adapts_head:
        params = {**params, "head": adapted_head(params["head"], adapters, lora)}
    layers = dict(params["layers"])
    for name, adapter in adapters["layers"].items():
        kernel = layers[name]["kernel"]
        update = jnp.einsum(
            "lir,lro->lio", adapter["A"].astype(jnp.float32), adapter["B"].astype(jnp.float32)
        )
        layers[name] = {**layers[name], "kernel": kernel + lora.alpha / lora.rank * update}
    return {**params, "layers": layers}


def parameter_distance(one: Model, other: Model) -> float:
    """The Euclidean norm of the difference of all parameters, adapters merged, in float32."""
    merged = (merge_adapters(model).variables["params"] for model in (one, other))
    squared = jax.tree.map(
        lambda a, b: jnp.sum(jnp.square(a.astype(jnp.float32) - b.astype(jnp.float32))), *merged
    )
    return float(jnp.sqrt(sum(jax.tree.leaves(squared))))


def merge_adapters(model: Model) -> Model:
    """The model with its adapters, if any, merged into its parameters, which are float32 then."""
    lora = model.config.lora
    if lora is None:
        return model
    model = in_float32(model)
    params = merged_parameters(model.variables["params"], model.variables["lora"], lora)
    config = dataclasses.replace(model.config, lora=None)
    return dataclasses.replace(model, config=config, variables={"params": params})
