"""The shape of a decoder and of its adapters, as frozen values."""

import dataclasses

import jax
import jax.numpy as jnp

from introspection.errors import InputError

COMPUTE_DTYPES = ("auto", "float32", "bfloat16", "float16")
REMAT_POLICIES = ("none", "full", "dots_saveable", "dots_with_no_batch_dims_saveable")
ACTIVATIONS = ("silu", "gelu")
# What the families' decoders switch on, beside their sizes.
ARCHITECTURES: dict[str, dict[str, object]] = {
    "llama": {},
    "gemma": {
        "activation": "gelu",
        "zero_centered_norms": True,
        "post_norms": True,
        "qk_norm": True,
        "scale_embedding": True,
    },
}
PROJECTIONS = ("query", "key", "value", "output", "gate", "up", "down")


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (Hu et al. 2021): `W + alpha / rank * A B` on the named projections."""

    rank: int
    alpha: float  # the update is scaled by alpha / rank
    targets: tuple[str, ...] = PROJECTIONS

    def __post_init__(self):
        if self.rank < 1:
            raise InputError(
                f"lora.rank is {self.rank}; it must be at least 1 (0 in a config turns LoRA off)"
            )
        unknown = [name for name in self.targets if name not in PROJECTIONS]
        if unknown or not self.targets:
            raise InputError(f"lora.targets has {unknown or 'nothing'}; choose from {', '.join(PROJECTIONS)}")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A decoder-only transformer: RMSNorm, RoPE, grouped-query attention, gated MLP.

    The defaults are Llama's (Touvron et al. 2023); `ARCHITECTURES["gemma"]` is Gemma 3's (Gemma Team 2025)
    but for its local attention.
    """

    vocab_size: int  # rows of the embedding
    width: int  # of the residual stream
    layers: int
    query_heads: int
    kv_heads: int  # shared by query_heads // kv_heads query heads each
    head_dim: int
    mlp_width: int
    context_length: int  # tokens; longer prompts are refused, not cut
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-6
    tied_head: bool = True  # the head is the embedding
    activation: str = "silu"  # of the MLP's gate; "gelu" is its tanh approximation
    zero_centered_norms: bool = False  # a norm scales by 1 + w, not by w
    post_norms: bool = False  # a norm after attention and after the MLP too
    qk_norm: bool = False  # queries and keys are normed, head by head, before their rotation
    scale_embedding: bool = False  # embeddings are multiplied by the square root of the width
    remat: str = "none"  # what the backward pass keeps of a layer, by jax.checkpoint_policies name
    scan_unroll: int = 1  # layers a scan iteration; `layers` unrolls the stack
    # Of matrix products: float32 on a CPU, bfloat16 elsewhere, or a dtype's name; softmax, norms and losses
    # are float32 always.
    compute_dtype: str = "auto"
    lora: LoraConfig | None = None

    def __post_init__(self):
        if self.query_heads % self.kv_heads:
            raise InputError(
                f"model.query_heads ({self.query_heads}) is no multiple of model.kv_heads ({self.kv_heads})"
            )
        if self.head_dim % 2:
            raise InputError(f"model.head_dim ({self.head_dim}) is odd; rotary embeddings need an even one")
        if self.compute_dtype not in COMPUTE_DTYPES:
            raise InputError(
                f"model.compute_dtype is {self.compute_dtype!r}; choose from {', '.join(COMPUTE_DTYPES)}"
            )
        if self.activation not in ACTIVATIONS:
            raise InputError(f"model.activation is {self.activation!r}; choose from {', '.join(ACTIVATIONS)}")
        if self.remat not in REMAT_POLICIES:
            raise InputError(f"model.remat is {self.remat!r}; choose from {', '.join(REMAT_POLICIES)}")

    @property
    def dtype(self) -> jnp.dtype:
        if self.compute_dtype == "auto":
            return jnp.dtype("float32" if jax.default_backend() == "cpu" else "bfloat16")
        return jnp.dtype(self.compute_dtype)
