"""The published model families, and how the decoder reads their config.json."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Family:
    """What a model_type switches on in the decoder, and the keys of its config.json."""

    architecture: str  # transformers' class
    switches: Mapping[str, bool]  # of ModelConfig
    keys: frozenset[str]  # besides `SHARED`
    tied_head: bool = False  # default for tie_word_embeddings
    head_dim: int | None = None  # default for head_dim; None: hidden_size / num_attention_heads
    activation: str = "hidden_act"  # the key that names the activation
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of keys that published files omit


SHARED = frozenset(
    [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "max_position_embeddings",
        "rms_norm_eps",
        "tie_word_embeddings",
        "hidden_act",
        "rope_theta",
        "rope_scaling",
        "rope_parameters",
    ]
)
_CHOSEN_LAYERS = frozenset(("use_sliding_window", "sliding_window", "max_window_layers", "layer_types"))
_GEMMA = {"zero_centered_norms": True, "post_norms": True, "scale_embedding": True}
_GEMMA_KEYS = frozenset(
    ["hidden_activation", "query_pre_attn_scalar", "sliding_window", "layer_types", "final_logit_softcapping"]
)
FAMILIES: dict[str, Family] = {
    "llama": Family("LlamaForCausalLM", {}, frozenset()),
    "mistral": Family("MistralForCausalLM", {}, frozenset(("sliding_window", "layer_types"))),
    "qwen2": Family("Qwen2ForCausalLM", {"qkv_bias": True}, _CHOSEN_LAYERS),
    "qwen3": Family("Qwen3ForCausalLM", {"qk_norm": True}, _CHOSEN_LAYERS, head_dim=128),
    "gemma2": Family(
        "Gemma2ForCausalLM",
        _GEMMA,
        _GEMMA_KEYS | {"attn_logit_softcapping", "sliding_window_size"},
        tied_head=True,
        head_dim=256,
        activation="hidden_activation",
    ),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        {**_GEMMA, "qk_norm": True},
        _GEMMA_KEYS | {"sliding_window_pattern", "_sliding_window_pattern", "rope_local_base_freq"},
        tied_head=True,
        head_dim=256,
        activation="hidden_activation",
        defaults={
            "vocab_size": 262_208,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "max_position_embeddings": 131_072,
            "sliding_window": 4096,
        },
    ),
}
# Keys of a Gemma 3 with vision, beside its text_config, that say nothing about text.
VISION = frozenset(
    [
        "boi_token_index",
        "eoi_token_index",
        "image_token_index",
        "mm_tokens_per_image",
        "vision_config",
    ]
)
ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu"}
# Unsupported options and the values that leave them off; a family that lists one in its keys supports it.
OFF: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False, None),
    "attention_bias": (False, None),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "is_encoder_decoder": (False, None),
    "layer_types": (None,),
    "mlp_bias": (False, None),
    "partial_rotary_factor": (1, None),
    "pretraining_tp": (1, None),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
    "rope_interleaved": (False, None),
    "sliding_window": (None,),
    "tie_encoder_decoder": (False, None),
    "use_bidirectional_attention": (False, None),
    "use_mrope": (False, None),
    "use_sliding_window": (False, None),
}
# Keys that do not change what the model computes from tokens: names, versions, token ids, initialisation,
# dropout, caching and other programs' settings.
WITHOUT_EFFECT = frozenset(
    [
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "bos_token_id",
        "cache_implementation",
        "chunk_size_feed_forward",
        "cross_attention_hidden_size",
        "dtype",
        "eos_token_id",
        "finetuning_task",
        "id2label",
        "initializer_range",
        "is_decoder",
        "is_llama_config",
        "label2id",
        "model_type",
        "name_or_path",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "prefix",
        "problem_type",
        "return_dict",
        "sep_token_id",
        "task_specific_params",
        "tokenizer_class",
        "torch_dtype",
        "torchscript",
        "transformers.js_config",
        "transformers_version",
        "unk_token_id",
        "unsloth_fixed",
        "unsloth_version",
        "use_bfloat16",
        "use_cache",
    ]
)
