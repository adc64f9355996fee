"""The decoder: from tokens to final hidden states. Parameters are always an argument.

`Decoder(config).apply(variables, tokens, positions, segments, prefixes)` is a pure function of
`variables = {"params": ..., "lora": ...}`; `models.head` applies the head, only to scored positions.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from introspection.models.attention import (
    LONGEST_WHOLE,
    PrefixBlock,
    RowView,
    all_masks,
    attention,
    row_ends,
)
from introspection.models.config import ModelConfig
from introspection.models.head import HEAD_ADAPTER
from introspection.models.interventions import Activations, Patch, replaced
from introspection.models.products import product
from introspection.models.rotary import rotary_frequencies, rotate
from introspection.runtime.mesh import for_lookups, missing_rows, split_rows, split_width


class DecoderOutput(NamedTuple):
    hidden: Float[Array, "rows time width"]  # after the final norm
    keys: Float[Array, "layers rows time kv_heads head_dim"] | None  # if asked for
    values: Float[Array, "layers rows time kv_heads head_dim"] | None
    activations: Activations | None = None  # if asked for


class RMSNorm(nn.Module):
    """Root mean square norm (Zhang & Sennrich 2019), computed in float32."""

    epsilon: float
    zero_centered: bool = False  # the parameter is the scale - 1

    @nn.compact
    def __call__(self, x):
        start = nn.initializers.zeros if self.zero_centered else nn.initializers.ones
        scale = self.param("scale", start, (x.shape[-1],), jnp.float32)
        if self.zero_centered:
            scale = 1.0 + scale
        x32 = x.astype(jnp.float32)
        x32 = x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + self.epsilon)
        return (x32 * scale).astype(x.dtype)


class Projection(nn.Module):
    """A matrix and an optional bias, with an optional low-rank adapter in the collection `lora`."""

    config: ModelConfig
    features: int
    bias: bool = False

    @nn.compact
    def __call__(self, x):
        dtype, lora, stored = self.config.dtype, self.config.lora, jnp.dtype(self.config.parameter_dtype)
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, stored)
        y = product(x, kernel)
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), stored)
            y = y + bias.astype(dtype)
        if lora is not None and self.name in lora.targets:
            down, up = adapter(self, *shape, lora.rank)
            y = y + product(product(x, down), up) * (lora.alpha / lora.rank)
        return y


def adapter(module: nn.Module, inner: int, outer: int, rank: int) -> tuple[jax.Array, jax.Array]:
    """A module's `A` and `B`. A is random and B zero, so that training starts from the base's function."""
    start, shape = nn.initializers.lecun_normal(), (inner, rank)
    down = module.variable("lora", "A", lambda: start(module.make_rng("params"), shape, jnp.float32))
    up = module.variable("lora", "B", lambda: jnp.zeros((rank, outer), jnp.float32))
    return down.value, up.value


class HeadAdapter(nn.Module):
    """The head's adapter, which `models.head` applies."""

    width: int
    vocab_size: int
    rank: int

    @nn.compact
    def __call__(self) -> None:
        adapter(self, self.width, self.vocab_size, self.rank)


class Layer(nn.Module):
    config: ModelConfig
    return_cache: bool
    return_activations: bool
    branched: bool
    recomputed: bool  # attention's weights in the backward pass
    stationary: bool  # matrices stay where they are and activations move

    @nn.compact
    def __call__(self, x, prefix_keys_values, windowed, patch, view, prefix_places, masks):
        config = self.config
        x = split_width(x) if self.stationary else split_rows(x)
        rows, time, _ = x.shape
        frequencies = rotary_frequencies(config.head_dim, config.rope_base, config.rope_scaling)
        if config.local_rope_base is not None:
            local = rotary_frequencies(config.head_dim, config.local_rope_base)
            frequencies = jnp.where(windowed, local, frequencies)

        def project(name, features, bias=False):
            return Projection(config, features, bias, name=name)

        def norm(name, x):
            return RMSNorm(config.norm_epsilon, config.zero_centered_norms, name=name)(x)

        with jax.named_scope("attention"):
            normed = norm("attention_norm", x)
            queries = project("query", config.query_heads * config.head_dim, config.qkv_bias)(normed)
            keys = project("key", config.kv_heads * config.head_dim, config.qkv_bias)(normed)
            values = project("value", config.kv_heads * config.head_dim, config.qkv_bias)(normed)
            if self.stationary:  # each row's keys are where the row is
                queries, keys, values = map(split_rows, (queries, keys, values))
            queries = queries.reshape(rows, time, config.query_heads, config.head_dim)
            keys = keys.reshape(rows, time, config.kv_heads, config.head_dim)
            values = values.reshape(rows, time, config.kv_heads, config.head_dim)
            if config.qk_norm:
                queries, keys = norm("query_norm", queries), norm("key_norm", keys)
            queries = rotate(queries, view.positions, frequencies)
            keys = rotate(keys, view.positions, frequencies)
            prefixes = tuple(
                PrefixBlock(*both, *places)
                for both, places in zip(prefix_keys_values, prefix_places, strict=True)
            )
            attended = attention(
                queries,
                keys,
                values,
                view,
                prefixes,
                implementation=config.attention_kernel,
                branched=self.branched,
                window=config.window,
                windowed=windowed,
                scale=config.query_scale,
                softcap=config.attention_softcap,
                masks=masks,
                recomputed=self.recomputed,
            )
            heads = replaced("heads", attended, patch)
            update = project("output", config.width)(heads.reshape(rows, time, -1))
            added = replaced(
                "attention", norm("attention_post_norm", update) if config.post_norms else update, patch
            )
            x = x + added
        with jax.named_scope("mlp"):
            normed = norm("mlp_norm", x)
            activate = nn.silu if config.activation == "silu" else nn.gelu
            # Recomputed in the backward pass, since storing it takes longer.
            gate = jax.checkpoint(lambda gate, up: activate(gate) * up, prevent_cse=False)
            gated = gate(project("gate", config.mlp_width)(normed), project("up", config.mlp_width)(normed))
            update = project("down", config.width)(gated)
            mlp = replaced("mlp", norm("mlp_post_norm", update) if config.post_norms else update, patch)
            x = replaced("residual", x + mlp, patch)
        cache = (keys, values) if self.return_cache else None
        return x, (cache, Activations(x, added, mlp, heads) if self.return_activations else None)


class Decoder(nn.Module):
    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "rows time"],
        positions: Int[Array, "rows time"],
        segments: Int[Array, "rows time"] | None,
        prefixes: tuple[PrefixBlock, ...] = (),
        return_cache: bool = False,
        patch: Patch | None = None,
        return_activations: bool = False,
        ends: Int[Array, "rows time"] | None = None,
        branched: bool = True,
        start: Float[Array, "rows time width"] | None = None,
        normed: bool = True,
    ) -> DecoderOutput:
        """Final hidden states of every token.

        `positions` count from the start of the prompt, so a continuation's first token has the prompt's
        length; `segments` are those of `attention.row_ends`, of packed rows None, with the `ends` of
        `attention.span_mask` in their place; rows that share a prefix are consecutive.
        `patch` replaces activations on the way; those returned are the replaced ones. `branched` is as for
        `attention`: False promises at most one continuation a row. Of some of a model's layers, `start` is
        what the layer below them gives, and `normed` False leaves out the final norm.
        """
        config = self.config
        table = (config.vocab_size, config.width), jnp.dtype(config.parameter_dtype)
        embedding = self.param("embedding", nn.initializers.normal(0.02), *table)
        if not config.tied_head:
            self.param("head", nn.initializers.normal(0.02), *table)
        if config.lora is not None and config.lora.adapts_head:
            HeadAdapter(config.width, config.vocab_size, config.lora.rank, name=HEAD_ADAPTER)()
        # On a mesh, the activations of fewer tokens than the width are less than the matrices that they meet.
        stationary = tokens.size < config.width
        if start is not None:
            x = start
        else:
            looked_up = for_lookups(embedding.astype(config.dtype), tokens.size)[tokens]
            x = split_width(looked_up) if stationary else split_rows(looked_up)
            if config.scale_embedding:
                x = x * jnp.asarray(config.width**0.5, config.dtype)

        layer = Layer
        if config.remat != "none":
            policy = None if config.remat == "full" else getattr(jax.checkpoint_policies, config.remat)
            layer = nn.remat(Layer, prevent_cse=False, policy=policy)
        layers = nn.scan(
            layer,
            variable_axes={"params": 0, "lora": 0},
            split_rngs={"params": True},
            in_axes=(0, 0, 0, *[nn.broadcast] * 3),  # pyright: ignore[reportArgumentType]
            length=config.layers,
            unroll=config.scan_unroll,
        )(config, return_cache, return_activations, branched, segments is None, stationary, name="layers")
        if segments is not None:
            ends = row_ends(segments)
        assert ends is not None  # one of them is given
        view = RowView(ends, positions)
        keys_values = tuple((block.keys, block.values) for block in prefixes)
        places = tuple((block.mask, block.positions) for block in prefixes)
        windowed, masks = None, None
        if config.window:
            windowed = jnp.array(config.windowed_layers or (True,) * config.layers)
        if tokens.shape[1] <= LONGEST_WHOLE:  # once for all layers
            masks = all_masks(view, tuple(block.positions for block in prefixes), config.window)
        x, (cache, activations) = layers(x, keys_values, windowed, patch, view, places, masks)
        hidden = x
        if normed:
            hidden = RMSNorm(config.norm_epsilon, config.zero_centered_norms, name="final_norm")(x)
        return DecoderOutput(hidden, *(cache or (None, None)), activations)


def forward(
    config: ModelConfig,
    variables: Mapping[str, Any],
    tokens: Int[Array, "rows time"],
    positions: Int[Array, "rows time"],
    segments: Int[Array, "rows time"] | None,
    prefixes: tuple[PrefixBlock, ...] = (),
    ends: Int[Array, "rows time"] | None = None,
    start: Float[Array, "rows time width"] | None = None,
    **options: Any,
) -> DecoderOutput:
    """`Decoder.__call__` with these parameters.

    On a mesh, rows (without prefixes or more to return) that its devices can't share evenly are read with
    masked rows beside them, since a program would otherwise copy all rows to every device.
    """
    more = 0 if prefixes or options.keys() - {"branched", "normed"} else missing_rows(tokens.shape[0])
    if more:
        tokens, positions = (jnp.pad(array, ((0, more), (0, 0))) for array in (tokens, positions))
        segments = (
            segments if segments is None else jnp.pad(segments, ((0, more), (0, 0)), constant_values=-1)
        )
        ends = ends if ends is None else jnp.pad(ends, ((0, more), (0, 0)))
        start = start if start is None else jnp.pad(start, ((0, more), (0, 0), (0, 0)))
    read: Any = Decoder(config).apply(
        variables, tokens, positions, segments, prefixes, ends=ends, start=start, **options
    )
    return read._replace(hidden=read.hidden[: tokens.shape[0] - more]) if more else read


def initialize(config: ModelConfig, key: jax.Array) -> dict:
    """Random variables: `{"params": ...}` and, with LoRA, `{"lora": ...}`; jit it with out_shardings."""
    example = jnp.zeros((1, 2), jnp.int32)
    return dict(Decoder(config).init(key, example, example, example))


def count_parameters(params) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))
