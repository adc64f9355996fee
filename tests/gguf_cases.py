"""Tiny models as GGUF files, as llama.cpp's converter writes them, with or without a tokenizer."""

import json

import chat_templates
import gguf
import numpy as np
from tiny import tiny_config, tiny_variables

from introspection.models.config import RopeScaling
from introspection.weights.tensor_names import named_leaves

GEMMA = dict(activation="gelu", zero_centered_norms=True, post_norms=True, scale_embedding=True, window=8)
CONFIGS = {
    "llama": dict(tied_head=False, rope_scaling=RopeScaling("linear", 2.0)),
    "qwen2": dict(qkv_bias=True),
    "qwen3": dict(qk_norm=True, head_dim=12),
    "gemma2": dict(**GEMMA, attention_softcap=20.0, final_softcap=10.0, windowed_layers=(True, False)),
    "gemma3": dict(**GEMMA, qk_norm=True, local_rope_base=1e4, head_dim=12, rope_base=1e6),
}
# Names as llama.cpp has them, by their paths in our tree.
PARTS = {
    "query": "attn_q",
    "key": "attn_k",
    "value": "attn_v",
    "output": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
    "attention_norm": "attn_norm",
    "mlp_norm": "ffn_norm",
    "attention_post_norm": "post_attention_norm",
    "mlp_post_norm": "post_ffw_norm",
    "query_norm": "attn_q_norm",
    "key_norm": "attn_k_norm",
}


def config_of(architecture, **changes):
    sizes = dict(width=32, mlp_width=64, norm_epsilon=2**-20, kv_heads=2)
    return tiny_config(**(sizes | CONFIGS[architecture] | changes))


def params_of(architecture, **changes):
    return tiny_variables(config_of(architecture, **changes))["params"]


def metadata_of(architecture, config) -> dict:
    metadata = {
        "block_count": config.layers,
        "context_length": config.context_length,
        "embedding_length": config.width,
        "feed_forward_length": config.mlp_width,
        "attention.head_count": config.query_heads,
        "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.norm_epsilon,
        "rope.freq_base": config.rope_base,
    }
    if config.rope_scaling is not None and config.rope_scaling.kind == "linear":
        metadata |= {"rope.scaling.type": "linear", "rope.scaling.factor": config.rope_scaling.factor}
    if config.window:
        metadata["attention.sliding_window"] = config.window
    if architecture == "gemma2":
        metadata["attn_logit_softcapping"] = config.attention_softcap
        metadata["final_logit_softcapping"] = config.final_softcap
    return metadata


def tensors_of(architecture, config, params) -> dict[str, np.ndarray]:
    """What convert_hf_to_gguf.py makes of the parameters: each (out, in), queries and keys permuted."""
    tensors = {}
    for path, leaf in named_leaves(params).items():
        leaf = np.asarray(leaf)
        if architecture.startswith("gemma") and path.endswith("scale"):
            leaf = leaf + 1
        match path.split("/"):
            case ["embedding"]:
                tensors["token_embd.weight"] = leaf
            case ["head"]:
                tensors["output.weight"] = leaf
            case ["final_norm", _]:
                tensors["output_norm.weight"] = leaf
            case [_, part, kind]:
                for layer, own in enumerate(leaf):
                    own = own.T if kind == "kernel" else own
                    if architecture == "llama" and part in ("query", "key"):
                        heads = config.query_heads if part == "query" else config.kv_heads
                        halves = own.reshape(heads, 2, own.shape[0] // heads // 2, own.shape[1])
                        own = halves.swapaxes(1, 2).reshape(own.shape)
                    suffix = "bias" if kind == "bias" else "weight"
                    tensors[f"blk.{layer}.{PARTS[part]}.{suffix}"] = own
    return tensors


def write_gguf(
    path, architecture="llama", quantized=False, metadata=(), tensors=(), named=None, tokenizer=(), **changes
):
    """Writes a tiny model; entries of `metadata` and `tensors` replace its own, None leaves them out.

    `tokenizer` are fields with their whole names, such as those of `fields_of`.
    """
    config = config_of(architecture, **changes)
    own = tensors_of(architecture, config, params_of(architecture, **changes))
    writer = gguf.GGUFWriter(path, named or architecture)
    for name, value in {**metadata_of(architecture, config), **dict(metadata)}.items():
        match value:
            case int():
                writer.add_uint32(f"{architecture}.{name}", value)
            case float():
                writer.add_float32(f"{architecture}.{name}", value)
            case str():
                writer.add_string(f"{architecture}.{name}", value)
    for name, value in dict(tokenizer).items():
        if not name.startswith("tokenizer."):
            continue
        match value:
            case int():
                writer.add_uint32(name, value)
            case str():
                writer.add_string(name, value)
            case list():
                writer.add_array(name, value)
    for name, array in {**own, **dict(tensors)}.items():
        if array is None:
            continue
        array = np.ascontiguousarray(array)
        if quantized and array.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return config


def fields_of(tokenizer, pre="qwen2", template=chat_templates.QWEN25, **changes):
    """The fields of a byte-level tokenizer; two rows only fill an embedding up."""
    definition = json.loads(tokenizer.to_str())
    special = {token["id"]: token["special"] for token in definition["added_tokens"]}
    size = tokenizer.get_vocab_size()
    return {
        "general.architecture": "qwen2",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [tokenizer.id_to_token(i) for i in range(size)] + ["[PAD0]", "[PAD1]"],
        "tokenizer.ggml.token_type": [{None: 1, True: 3, False: 4}[special.get(i)] for i in range(size)]
        + [5, 5],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in definition["model"]["merges"]],
        "tokenizer.ggml.eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "tokenizer.chat_template": template,
        **changes,
    }
