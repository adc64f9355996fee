"""A decoder whose lower layers are frozen: they are read forward alone, and no gradient goes through them.

In training, a layer with adapters costs a token about three times its forward pass, one below all adapters
its forward pass alone.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import Array, Float, Int

from introspection.models.config import ModelConfig
from introspection.models.decoder import forward


def trained_hidden(
    config: ModelConfig,
    variables: Mapping[str, Any],
    tokens: Int[Array, "rows time"],
    positions: Int[Array, "rows time"],
    segments: Int[Array, "rows time"] | None,
    ends: Int[Array, "rows time"] | None = None,
    branched: bool = True,
) -> Float[Array, "rows time width"]:
    """`DecoderOutput.hidden`, whose gradient is that of the adapters from `config.lora.from_layer` on.

    The adapters below are taken to be zero, as they stay in training, and get no gradient.
    """
    first = config.lora.from_layer if config.lora else 0
    seen: Any = {"ends": ends, "branched": branched}
    if not first:
        return forward(config, variables, tokens, positions, segments, **seen).hidden
    params = variables["params"]
    lower = dataclasses.replace(_stack(config, 0, first), lora=None)
    of_lower = {"params": {**params, "layers": _layers(params, 0, first)}}
    start = forward(lower, of_lower, tokens, positions, segments, normed=False, **seen).hidden
    of_upper = {
        "params": {**params, "layers": _layers(params, first, config.layers)},
        "lora": {"layers": _layers(variables["lora"], first, config.layers)},
    }
    upper, start = _stack(config, first, config.layers), jax.lax.stop_gradient(start)
    return forward(upper, of_upper, tokens, positions, segments, start=start, **seen).hidden


def _stack(config: ModelConfig, start: int, stop: int) -> ModelConfig:
    """The config of some of a decoder's layers, all with adapters."""
    lora = config.lora and dataclasses.replace(  # the head's adapter is applied outside
        config.lora, targets=config.lora.projections, layers="all", from_layer=0
    )
    windowed = config.windowed_layers[start:stop]
    window = config.window if not config.windowed_layers or any(windowed) else 0
    return dataclasses.replace(
        config,
        layers=stop - start,
        lora=lora,
        windowed_layers=windowed if window else (),
        window=window,
        local_rope_base=config.local_rope_base if window else None,
        scan_unroll=min(config.scan_unroll, stop - start),
    )


def _layers(tree: Mapping[str, Any], start: int, stop: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[start:stop], tree["layers"])
