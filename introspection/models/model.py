"""A model at hand: its shape, its tokenizer and its variables; adapters merged into them."""

import dataclasses

import jax
import jax.numpy as jnp

from introspection.models.config import LoraConfig, ModelConfig
from introspection.text.tokenizer import ChatTokenizer


@dataclasses.dataclass(frozen=True)
class Model:
    """`variables` is `{"params": ...}` and, where there are adapters, `{"lora": ...}`."""

    config: ModelConfig
    tokenizer: ChatTokenizer
    variables: dict[str, dict]

    def with_variables(self, variables: dict[str, dict]) -> "Model":
        return dataclasses.replace(self, variables=variables)


def select_seed(stacked, index: int):
    """One seed's tree out of a tree whose leaves have a leading seed axis."""
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def merged_parameters(params: dict, adapters: dict, lora: LoraConfig) -> dict:
    """`W + alpha / rank · A B` in place of every adapted `W`, summed in float32 and kept in W's own dtype."""
    layers = dict(params["layers"])
    for name, adapter in adapters["layers"].items():
        kernel = layers[name]["kernel"]
        update = jnp.einsum(
            "lir,lro->lio", adapter["A"].astype(jnp.float32), adapter["B"].astype(jnp.float32)
        )
        merged = kernel.astype(jnp.float32) + lora.alpha / lora.rank * update
        layers[name] = {**layers[name], "kernel": merged.astype(kernel.dtype)}
    return {**params, "layers": layers}


def merge_adapters(model: Model) -> Model:
    """The model without adapters; one that has none is returned as it is."""
    lora = model.config.lora
    if lora is None:
        return model
    params = merged_parameters(model.variables["params"], model.variables["lora"], lora)
    return Model(dataclasses.replace(model.config, lora=None), model.tokenizer, {"params": params})
