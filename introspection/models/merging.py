"""Adapters added into the matrices that they adapt: the same function, without adapters."""

import dataclasses

import jax.numpy as jnp

from introspection.models.model import Model


def merge_adapters(model: Model) -> Model:
    """`W + alpha / rank · A B` in place of every adapted `W`, summed in float32 and kept in W's own dtype.

    A model without adapters is returned as it is.
    """
    lora = model.config.lora
    if lora is None:
        return model
    params = dict(model.variables["params"])
    layers = dict(params["layers"])
    for name, adapter in model.variables["lora"]["layers"].items():
        kernel = layers[name]["kernel"]
        update = jnp.einsum(
            "lir,lro->lio", adapter["A"].astype(jnp.float32), adapter["B"].astype(jnp.float32)
        )
        merged = kernel.astype(jnp.float32) + lora.alpha / lora.rank * update
        layers[name] = {**layers[name], "kernel": merged.astype(kernel.dtype)}
    params["layers"] = layers
    return Model(dataclasses.replace(model.config, lora=None), model.tokenizer, {"params": params})
