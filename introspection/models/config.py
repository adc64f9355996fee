"""The shape of a decoder and of its adapters, as frozen values."""

import dataclasses

import jax
import jax.numpy as jnp

from introspection.errors import InputError
from introspection.runtime.config import check_choice, check_choices

PARAMETER_DTYPES = ("float32", "bfloat16")
COMPUTE_DTYPES = ("auto", "float32", "bfloat16", "float16")
REMAT_POLICIES = ("none", "full", "dots_saveable", "dots_with_no_batch_dims_saveable")
ACTIVATIONS = ("silu", "gelu")
KERNELS = {"cpu": "plain", "gpu": "cudnn", "tpu": "splash"}  # of attention, by platform
ATTENTIONS = ("auto", *KERNELS.values())
ROPE_SCALINGS = ("linear", "llama3")
# Options of the organisms' decoders, besides sizes.
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
SIZES = (
    *("vocab_size", "width", "layers", "query_heads", "kv_heads", "head_dim", "mlp_width"),
    *("context_length", "scan_unroll"),
)
PROJECTIONS = ("query", "key", "value", "output", "gate", "up", "down")
HEAD = "head"  # as a target of adapters


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (Hu et al. 2021): `W + alpha / rank * A B` on the named projections, and the head.

    Every layer has the two matrices; those that `layers` leaves out are not trained, so their `B` stays zero.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...] = PROJECTIONS
    layers: str = "all"  # the "lower" or "upper" half, or numbers from 0 between commas, such as "0,2"
    from_layer: int = 0  # layers below are left out too, and read forward alone in training

    def __post_init__(self):
        if self.rank < 1:
            raise InputError(
                f"lora.rank is {self.rank}; it must be at least 1 (0 in a config turns LoRA off)"
            )
        check_choices("lora.targets", self.targets, (*PROJECTIONS, HEAD))
        if not self.projections:
            raise InputError(
                f"lora.targets is {self.targets}; beside the head, name a projection of the layers"
            )

    @property
    def projections(self) -> tuple[str, ...]:
        """The targets that are matrices of a layer."""
        return tuple(target for target in self.targets if target != HEAD)

    @property
    def adapts_head(self) -> bool:
        return HEAD in self.targets

    def check(self, layers: int, tied_head: bool) -> None:
        """Raises InputError if a model of so many layers, with or without a tied head, can't have them."""
        self.trained(layers)
        if self.adapts_head and tied_head:
            raise InputError(
                "lora.targets has the head, but with model.tied_head the head is its embedding: leave it out"
            )

    def trained(self, layers: int) -> tuple[bool, ...]:
        """Whether each of a model's layers is trained; of an odd number, the middle one is in the lower half.

        Raises InputError if a number is none of a layer, or is given twice, or if `from_layer` leaves none.
        """
        half = (layers + 1) // 2
        known = {"all": range(layers), "lower": range(half), "upper": range(half, layers)}
        chosen = known.get(self.layers) or [part.strip() for part in self.layers.split(",")]
        numbers = [int(part) for part in chosen if str(part).isdecimal() and int(part) < layers]
        if len(set(numbers)) < len(list(chosen)):
            raise InputError(
                f"lora.layers is {self.layers!r}; give 'all', 'lower', 'upper', or different layers from 0 "
                f"to {layers - 1} between commas"
            )
        trained = tuple(layer in numbers and layer >= self.from_layer for layer in range(layers))
        if self.from_layer < 0 or not any(trained):
            raise InputError(
                f"lora.from_layer is {self.from_layer}, but of the model's {layers} layers the last that "
                f"lora.layers ({self.layers!r}) adapts is {max(numbers)}: give 0 to {max(numbers)}"
            )
        return trained


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Lower rotary frequencies, for a longer context than in pretraining.

    "linear" divides all of them by `factor` (Chen et al. 2023). "llama3" (Llama Team 2024) divides those that
    turn less than `low_frequency_factor` times in the original context, keeps those that turn more than
    `high_frequency_factor` times, and interpolates between.
    """

    kind: str
    factor: float
    low_frequency_factor: float = 1.0  # turns in the original context; only "llama3" has this and the rest
    high_frequency_factor: float = 4.0
    original_context_length: int = 8192  # tokens

    def __post_init__(self):
        check_choice("rope_scaling.kind", self.kind, ROPE_SCALINGS)
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
    without local attention. `weights.hf_config` reads one from a published model's config.json.
    """

    vocab_size: int  # rows of the embedding
    width: int  # of the residual stream
    layers: int
    query_heads: int
    kv_heads: int  # each shared by query_heads // kv_heads query heads
    head_dim: int
    mlp_width: int
    context_length: int  # tokens; longer prompts are an error, never truncated
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-6
    tied_head: bool = True  # the head is the embedding
    activation: str = "silu"  # of the MLP's gate; "gelu" is the tanh approximation
    zero_centered_norms: bool = False  # norms scale by 1 + w instead of w
    post_norms: bool = False  # also a norm after attention and after the MLP
    qk_norm: bool = False  # queries and keys are normed per head before rotation
    scale_embedding: bool = False  # multiply embeddings by the square root of the width
    qkv_bias: bool = False
    rope_scaling: RopeScaling | None = None
    attention_softcap: float | None = None  # c: attention logits are c tanh(logits / c)
    final_softcap: float | None = None  # likewise for the head's logits
    query_scale: float | None = None  # of attention logits; None is head_dim^-1/2
    window: int = 0  # tokens that a query in a windowed layer sees, itself included; 0: no layer is windowed
    windowed_layers: tuple[bool, ...] = ()  # () with a window: all layers
    local_rope_base: float | None = None  # of windowed layers, then without scaling; None: rope_base
    remat: str = "none"  # what the backward pass keeps of a layer, by jax.checkpoint_policies name
    scan_unroll: int = 1  # layers per scan iteration; `layers` unrolls the stack
    # Of matrix products: "auto" (float32 on a CPU and in probes, else bfloat16) or a dtype's name. Softmax,
    # norms and losses are always float32.
    compute_dtype: str = "auto"
    # Of matrices and biases in memory. "bfloat16" halves what a frozen model takes and loses nothing of one
    # whose files are bfloat16; norms' scales and adapters are always float32.
    parameter_dtype: str = "float32"
    attention: str = "auto"  # the kernel: that of the platform (`KERNELS`), or one by name
    lora: LoraConfig | None = None

    def __post_init__(self):
        for name in SIZES:
            if getattr(self, name) < 1:
                raise InputError(f"model.{name} is {getattr(self, name)}; it must be at least 1")
        if self.lora is not None:
            self.lora.check(self.layers, self.tied_head)
        if self.query_heads % self.kv_heads:
            raise InputError(
                f"model.query_heads ({self.query_heads}) must be a multiple of model.kv_heads "
                f"({self.kv_heads})"
            )
        if self.head_dim % 2:
            raise InputError(f"model.head_dim is {self.head_dim}; rotary embeddings need an even number")
        check_choice("model.compute_dtype", self.compute_dtype, COMPUTE_DTYPES)
        check_choice("model.parameter_dtype", self.parameter_dtype, PARAMETER_DTYPES)
        check_choice("model.activation", self.activation, ACTIVATIONS)
        check_choice("model.remat", self.remat, REMAT_POLICIES)
        check_choice("model.attention", self.attention, ATTENTIONS)
        if self.window < 0:
            raise InputError(f"model.window is {self.window}; give a number of tokens, or 0 for none")
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

    def for_probes(self) -> "ModelConfig":
        """The config for reading behaviour: "auto" is float32 on every device.

        Decisions are compared between models, and rounding can flip them. On an H100, adding all-zero
        adapters to SmolLM2 changed the explanation of 6 to 10% of items in bfloat16 (greedy replies;
        experiments/notebook.md, 2026-11-26); in float32 on a CPU, of none.
        """
        return dataclasses.replace(self, compute_dtype="float32") if self.compute_dtype == "auto" else self

    def on(self, platform: str) -> "ModelConfig":
        """The config with what "auto" means on a platform ("cpu", "gpu" or "tpu"): for programs that are
        compiled here for machines elsewhere."""
        dtype = "float32" if platform == "cpu" else "bfloat16"
        return dataclasses.replace(
            self,
            compute_dtype=dtype if self.compute_dtype == "auto" else self.compute_dtype,
            attention=KERNELS[platform] if self.attention == "auto" else self.attention,
        )

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.dtype(self.on(jax.default_backend()).compute_dtype)

    @property
    def attention_kernel(self) -> str:
        return self.on(jax.default_backend()).attention
