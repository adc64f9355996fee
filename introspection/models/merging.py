"""Adapters added into the matrices that they adapt: the same function, without adapters."""

import dataclasses

import jax.numpy as jnp

from introspection.models.config import LoraConfig
from introspection.models.model import Model


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
