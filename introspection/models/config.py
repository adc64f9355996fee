"""The shape of a decoder and of its adapters, as frozen values."""

import dataclasses

import jax
import jax.numpy as jnp

from introspection.errors import InputError

COMPUTE_DTYPES = ("auto", "float32", "bfloat16", "float16")
REMAT_POLICIES = ("none", "full", "dots_saveable", "dots_with_no_batch_dims_saveable")
ACTIVATIONS = ("silu", "gelu")
ROPE_SCALINGS = ("linear", "llama3")
# What the organisms' decoders switch on, beside their sizes.
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
class RopeScaling:
    """How rotary frequencies are lowered so that a model reads more tokens than it was first trained on.

    "linear" divides all of them by `factor` (Chen et al. 2023). "llama3" (Llama Team 2024) divides those that
    turn less than `low_frequency_factor` times in the original context, leaves those that turn more than
    `high_frequency_factor` times, and interpolates between.
    """

    kind: str
    factor: float
    low_frequency_factor: float = 1.0  # turns in the original context; of "llama3" alone, as what follows
    high_frequency_factor: float = 4.0
    original_context_length: int = 8192  # tokens

    def __post_init__(self):
        if self.kind not in ROPE_SCALINGS:
            raise InputError(f"rope_scaling.kind is {self.kind!r}; choose from {', '.join(ROPE_SCALINGS)}")
        if self.factor < 1:
            raise InputError(f"rope_scaling.factor is {self.factor}; it must be at least 1")
        if self.high_frequency_factor <= self.low_frequency_factor:
            raise InputError(
                f"rope_scaling.high_frequency_factor ({self.high_frequency_factor}) must be above "
                f"rope_scaling.low_frequency_factor ({self.low_frequency_factor})"
            )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A decoder-only transformer: RMSNorm, RoPE, grouped-query attention, gated MLP.

    The defaults are Llama's (Touvron et al. 2023); `ARCHITECTURES["gemma"]` is Gemma 3's (Gemma Team 2025)
    but for its local attention. `weights.hf_config` makes one of a published model's config.json.
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
    qkv_bias: bool = False  # queries, keys and values have an offset
    rope_scaling: RopeScaling | None = None
    attention_softcap: float | None = None  # c: attention logits are c tanh(logits / c)
    final_softcap: float | None = None  # the same of the head's logits
    query_scale: float | None = None  # of attention logits; None is head_dim^-1/2
    window: int = 0  # tokens that a query of a windowed layer sees, itself included; 0: no layer is windowed
    windowed_layers: tuple[bool, ...] = ()  # which layers are; () with a window: all
    local_rope_base: float | None = None  # of windowed layers, which it also leaves unscaled; None: rope_base
    remat: str = "none"  # what the backward pass keeps of a layer, by jax.checkpoint_policies name
    scan_unroll: int = 1  # layers a scan iteration; `layers` unrolls the stack
    # Of matrix products: "auto", which is float32 on a CPU and in probes, bfloat16 elsewhere; or a dtype's
    # name. Softmax, norms and losses are float32 always.
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
        if self.window < 0:
            raise InputError(f"model.window is {self.window}; it is a number of tokens, or 0 for none")
        if self.windowed_layers and len(self.windowed_layers) != self.layers:
            raise InputError(
                f"model.windowed_layers has {len(self.windowed_layers)} entries; "
                f"it needs one for each of model.layers ({self.layers})"
            )
        if not self.window and (any(self.windowed_layers) or self.local_rope_base is not None):
            raise InputError("model.windowed_layers and model.local_rope_base need a model.window")
        for name in ("rope_base", "norm_epsilon"):
            if getattr(self, name) <= 0:
                raise InputError(f"model.{name} is {getattr(self, name)}; it must be above 0")
        for name in ("attention_softcap", "final_softcap", "query_scale"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise InputError(f"model.{name} is {getattr(self, name)}; it must be above 0, or None")
        if self.remat not in REMAT_POLICIES:
            raise InputError(f"model.remat is {self.remat!r}; choose from {', '.join(REMAT_POLICIES)}")

    def for_probes(self) -> "ModelConfig":
        """The same model as its behaviour is read: "auto" is float32 on every device.

        Decisions are compared between models, and rounding alone makes decisions. On an H100, greedy replies
        of SmolLM2 in bfloat16 gave another explanation for 6 to 10% of items as soon as adapters of zeros
        stood beside its weights (experiments/notebook.md, 2026-11-26); in float32 on a CPU for none.
        """
        return dataclasses.replace(self, compute_dtype="float32") if self.compute_dtype == "auto" else self

    @property
    def dtype(self) -> jnp.dtype:
        if self.compute_dtype == "auto":
            return jnp.dtype("float32" if jax.default_backend() == "cpu" else "bfloat16")
        return jnp.dtype(self.compute_dtype)
