"""config.json of published models, as their authors' folders have them (the older layout)."""

_COMMON = {
    **{"initializer_range": 0.02, "use_cache": True, "attention_dropout": 0.0, "torch_dtype": "bfloat16"},
    "transformers_version": "4.42.0.dev0",  # or another; who reads a config passes over it
}


def _sizes(width, mlp, layers, heads, kv_heads, vocabulary, context):
    return {
        **{"hidden_size": width, "intermediate_size": mlp, "num_hidden_layers": layers},
        **{"num_attention_heads": heads, "num_key_value_heads": kv_heads},
        **{"vocab_size": vocabulary, "max_position_embeddings": context},
    }


def _family(model_type, architecture, begin, end, **fields):
    ids = {"bos_token_id": begin, "eos_token_id": end}
    return {
        **_COMMON,
        "model_type": model_type,
        "architectures": [f"{architecture}ForCausalLM"],
        **ids,
        **fields,
    }


def _llama3_scaling(factor):
    frequencies = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    length = {"original_max_position_embeddings": 8192}
    return {"rope_scaling": {"factor": factor, **frequencies, **length, "rope_type": "llama3"}}


_LLAMA = _family("llama", "Llama", 1, 2, hidden_act="silu", pretraining_tp=1, rms_norm_eps=1e-05)
_LLAMA31 = {
    **_LLAMA,
    **{"bos_token_id": 128000, "eos_token_id": 128001, "rope_theta": 500000.0},
    **{"attention_bias": False, "mlp_bias": False},
}
_MISTRAL = _family(
    "mistral", "Mistral", 1, 2, hidden_act="silu", rms_norm_eps=1e-05, tie_word_embeddings=False
)
_QWEN = {"hidden_act": "silu", "rms_norm_eps": 1e-06, "use_sliding_window": False}
_GEMMA = {
    **{"attention_bias": False, "cache_implementation": "hybrid", "hidden_activation": "gelu_pytorch_tanh"},
    **{"pad_token_id": 0, "rms_norm_eps": 1e-06, "head_dim": 256, "query_pre_attn_scalar": 256},
}
_GEMMA2 = {
    **_family("gemma2", "Gemma2", 2, 1, **_GEMMA),
    **{"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "hidden_act": "gelu_pytorch_tanh"},
    **{"rope_theta": 10000.0, "sliding_window": 4096, "torch_dtype": "float32"},
}
HUB_CONFIGS = {
    "Llama-2-7b": {
        **_LLAMA,
        **_sizes(4096, 11008, 32, 32, 32, 32000, 4096),
        **{"_name_or_path": "meta-llama/Llama-2-7b-hf", "torch_dtype": "float16"},
        **{"rope_scaling": None, "tie_word_embeddings": False},
    },
    "Llama-3.1-8B": {
        **_LLAMA31,
        **_sizes(4096, 14336, 32, 32, 8, 128256, 131072),
        **_llama3_scaling(8.0),
        "tie_word_embeddings": False,
    },
    "Llama-3.2-1B": {
        **_LLAMA31,
        **_sizes(2048, 8192, 16, 32, 8, 128256, 131072),
        **_llama3_scaling(32.0),
        **{"head_dim": 64, "tie_word_embeddings": True},
    },
    "SmolLM2-135M": {
        **_LLAMA,
        **_sizes(576, 1536, 30, 9, 3, 49152, 8192),
        **{"attention_bias": False, "mlp_bias": False, "is_llama_config": True, "pad_token_id": 2},
        **{
            "rope_interleaved": False,
            "rope_scaling": None,
            "rope_theta": 100000,
            "tie_word_embeddings": True,
        },
        "initializer_range": 0.041666666666666664,
        "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}},
    },
    "Mistral-7B-v0.1": {
        **_MISTRAL,
        **_sizes(4096, 14336, 32, 32, 8, 32000, 32768),
        **{"rope_theta": 10000.0, "sliding_window": 4096},
    },
    "Mistral-7B-v0.3": {
        **_MISTRAL,
        **_sizes(4096, 14336, 32, 32, 8, 32768, 32768),
        **{"rope_theta": 1000000.0, "sliding_window": None},
    },
    "Qwen2.5-0.5B": {
        **_family("qwen2", "Qwen2", 151643, 151643, **_QWEN),
        **_sizes(896, 4864, 24, 14, 2, 151936, 32768),
        **{"max_window_layers": 24, "rope_theta": 1000000.0, "sliding_window": 32768},
        **{"tie_word_embeddings": True, "use_mrope": False},
    },
    "Qwen3-8B": {
        **_family("qwen3", "Qwen3", 151643, 151645, **_QWEN),
        **_sizes(4096, 12288, 36, 32, 8, 151936, 40960),
        **{"attention_bias": False, "head_dim": 128, "max_window_layers": 36, "rope_scaling": None},
        **{"rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": False},
    },
    "gemma-2-2b": {**_GEMMA2, **_sizes(2304, 9216, 26, 8, 4, 256000, 8192)},
    "gemma-2-27b": {
        **_GEMMA2,
        **_sizes(4608, 36864, 46, 32, 16, 256000, 8192),
        **{"head_dim": 128, "query_pre_attn_scalar": 144, "sliding_window_size": 4096},
    },
    "gemma-3-1b": {
        **_family("gemma3_text", "Gemma3", 2, [1, 106], **_GEMMA),
        **_sizes(1152, 6912, 26, 4, 1, 262144, 32768),
        **{"attn_logit_softcapping": None, "final_logit_softcapping": None, "rope_scaling": None},
        **{"rope_local_base_freq": 10000, "rope_theta": 1000000},
        **{"sliding_window": 512, "sliding_window_pattern": 6},
    },
}


def newer_layout(fields):
    """The same config as transformers 5 writes it."""
    newer = {name: value for name, value in fields.items() if name not in _OLD_NAMES}
    scaling = fields.get("rope_scaling") or {"rope_type": "default"}
    rope = {"rope_theta": float(fields.get("rope_theta", 10000.0)), **scaling}
    layers, model_type = fields["num_hidden_layers"], fields["model_type"]
    if model_type == "gemma3_text":
        local = {"rope_theta": float(fields["rope_local_base_freq"]), "rope_type": "default"}
        rope = {"full_attention": rope, "sliding_attention": local}
        every = fields["sliding_window_pattern"]
        newer["_sliding_window_pattern"] = every
        newer["layer_types"] = _layer_types((i + 1) % every for i in range(layers))
        newer["use_bidirectional_attention"] = False
    if model_type == "gemma2":
        newer["layer_types"] = _layer_types((i + 1) % 2 for i in range(layers))
        newer["use_bidirectional_attention"] = None
    if model_type.startswith("qwen"):
        newer["layer_types"] = _layer_types([False] * layers)
        newer["sliding_window"] = None
    return newer | {
        "rope_parameters": rope,
        "dtype": fields["torch_dtype"],
        "transformers_version": "5.24.0",
    }


_OLD_NAMES = ("rope_theta", "rope_scaling", "rope_local_base_freq", "sliding_window_pattern", "torch_dtype")


def _layer_types(windowed):
    return ["sliding_attention" if one else "full_attention" for one in windowed]
