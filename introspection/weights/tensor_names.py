"""Names of our parameter leaves in Hugging Face, PEFT and GGUF files.

A leaf's name is its path, "layers/query/kernel"; it stacks all layers. Files store each layer separately, and
matrices as (out, in) where ours are (in, out).
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax

from introspection.errors import InputError


@dataclasses.dataclass(frozen=True)
class TensorName:
    """A leaf's name in a file; with `{layer}` in it, one tensor per layer."""

    pattern: str
    transposed: bool  # stored as (out, in)

    @property
    def stacked(self) -> bool:
        return "{layer}" in self.pattern

    def of_layer(self, layer: int) -> str:
        return self.pattern.format(layer=layer)

    def stored_shapes(self, leaf_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the tensors that make up a leaf of this shape."""
        shape = leaf_shape[1:] if self.stacked else leaf_shape
        shape = shape[::-1] if self.transposed else shape
        count = leaf_shape[0] if self.stacked else 1
        return {self.of_layer(layer): shape for layer in range(count)}


# Leaf: Hugging Face, GGUF.
_WHOLE = {
    "embedding": ("model.embed_tokens.weight", "token_embd.weight"),
    "head": ("lm_head.weight", "output.weight"),  # absent if tied to the embedding
    "final_norm/scale": ("model.norm.weight", "output_norm.weight"),
}
# Part of a layer: Hugging Face after "model.layers.N.", GGUF after "blk.N.".
_LAYER = {
    "attention_norm": ("input_layernorm", "attn_norm"),
    "attention_post_norm": ("post_attention_layernorm", "post_attention_norm"),
    "mlp_norm": ("pre_feedforward_layernorm", "ffn_norm"),
    "mlp_post_norm": ("post_feedforward_layernorm", "post_ffw_norm"),
    "query_norm": ("self_attn.q_norm", "attn_q_norm"),
    "key_norm": ("self_attn.k_norm", "attn_k_norm"),
    "query": ("self_attn.q_proj", "attn_q"),
    "key": ("self_attn.k_proj", "attn_k"),
    "value": ("self_attn.v_proj", "attn_v"),
    "output": ("self_attn.o_proj", "attn_output"),
    "gate": ("mlp.gate_proj", "ffn_gate"),
    "up": ("mlp.up_proj", "ffn_up"),
    "down": ("mlp.down_proj", "ffn_down"),
}
# Without norms after attention and MLP, Hugging Face's "post_attention" norm is the one before the MLP.
_MLP_NORM_WITHOUT_POST_NORMS = "post_attention_layernorm"
ADAPTER_PREFIX = "base_model.model."  # PEFT's, before the base's own names


def hugging_face_names(leaves: Iterable[str], post_norms: bool) -> dict[str, TensorName]:
    """Names of `params`' leaves in safetensors files; `post_norms` is the model's."""
    names = {}
    for leaf in leaves:
        if leaf in _WHOLE:
            names[leaf] = TensorName(_WHOLE[leaf][0], False)
            continue
        part, kind = _layer_part(leaf)
        module = projection_module(part)
        if part == "mlp_norm" and not post_norms:
            module = _MLP_NORM_WITHOUT_POST_NORMS
        suffix = "bias" if kind == "bias" else "weight"
        names[leaf] = TensorName(f"model.layers.{{layer}}.{module}.{suffix}", kind == "kernel")
    return names


def gguf_names(leaves: Iterable[str]) -> dict[str, TensorName]:
    """Names of `params`' leaves in GGUF files."""
    names = {}
    for leaf in leaves:
        if leaf in _WHOLE:
            names[leaf] = TensorName(_WHOLE[leaf][1], False)
            continue
        part, kind = _layer_part(leaf)
        suffix = "bias" if kind == "bias" else "weight"
        names[leaf] = TensorName(f"blk.{{layer}}.{_LAYER[part][1]}.{suffix}", kind == "kernel")
    return names


def adapter_names(leaves: Iterable[str]) -> dict[str, TensorName]:
    """Names of `lora`'s leaves in PEFT's files: "layers/query/A" is (in, rank) and "…/B" (rank, out)."""
    names = {}
    for leaf in leaves:
        part, side = _layer_part(leaf)
        module = module_of_layer(part, "{layer}")
        names[leaf] = TensorName(f"{ADAPTER_PREFIX}{module}.lora_{side}.weight", True)
    return names


def saved_names() -> dict[str, TensorName]:
    """Names, in PEFT's files, of `params`' leaves that an adapter may replace (its `modules_to_save`)."""
    return {leaf: TensorName(ADAPTER_PREFIX + _WHOLE[leaf][0], False) for leaf in ("embedding", "head")}


def module_of_layer(part: str, layer: int | str) -> str:
    """Hugging Face's name for a part of one layer: "model.layers.0.self_attn.q_proj" for "query"."""
    return f"model.layers.{layer}.{projection_module(part)}"


def projection_module(part: str) -> str:
    """Hugging Face's name for a part of a layer: "self_attn.q_proj" for "query"."""
    return _LAYER[part][0]


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a tree of dictionaries by path, "layers/query/kernel"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def tree_of(leaves: dict[str, Any]) -> dict:
    """The inverse of `named_leaves`."""
    tree: dict = {}
    for path, leaf in leaves.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def _layer_part(leaf: str) -> tuple[str, str]:
    match leaf.split("/"):
        case ["layers", part, kind] if part in _LAYER:
            return part, kind
    raise InputError(f"the parameter {leaf} has no name in Hugging Face, PEFT or GGUF files")


def shape_problems(stored: dict[str, tuple], wanted: dict[str, tuple]) -> list[str]:
    """One phrase for each parameter that is missing, surplus or misshapen."""
    problems = []
    for name in sorted(stored.keys() | wanted.keys()):
        if name not in stored:
            problems.append(f"{name} {wanted[name]} is missing in the checkpoint")
        elif name not in wanted:
            problems.append(f"{name} {stored[name]} is not in the model")
        elif stored[name] != wanted[name]:
            problems.append(f"{name} is {stored[name]} in the checkpoint and {wanted[name]} in the model")
    return problems


def leaf_shapes(tree: Any) -> dict[str, tuple]:
    return {path: tuple(leaf.shape) for path, leaf in named_leaves(tree).items()}
