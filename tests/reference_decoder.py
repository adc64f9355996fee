"""The decoder once more, in float64 numpy and for one plain sequence: what all shortcuts are held against."""

import numpy as np


def reference_logits(config, variables, tokens):
    """Logits after every token of one sequence."""
    head = variables["params"]["embedding" if config.tied_head else "head"]
    return reference_hidden(config, variables, tokens) @ np.asarray(head, np.float64).T


def reference_hidden(config, variables, tokens):
    """Final hidden states of one sequence, without masks of padding, blocks, buckets or batches."""
    params = _float64(variables["params"])
    adapters = _float64(variables.get("lora", {}))
    x = params["embedding"][np.asarray(tokens)]
    if config.scale_embedding:
        x = x * np.sqrt(config.width)
    time = len(tokens)
    future = np.triu(np.ones((time, time), bool), 1)
    for layer in range(config.layers):
        weights = _select(params["layers"], layer)
        updates = _select(adapters.get("layers", {}), layer)

        def project(name, inputs, weights=weights, updates=updates):
            outputs = inputs @ weights[name]["kernel"]
            if name in updates:
                scale = config.lora.alpha / config.lora.rank
                outputs = outputs + scale * (inputs @ updates[name]["A"] @ updates[name]["B"])
            return outputs

        def norm(name, inputs, weights=weights):
            return _norm(inputs, weights[name]["scale"], config)

        normed = norm("attention_norm", x)
        queries = project("query", normed).reshape(time, config.query_heads, -1)
        keys = project("key", normed).reshape(time, config.kv_heads, -1)
        if config.qk_norm:
            queries, keys = norm("query_norm", queries), norm("key_norm", keys)
        queries, keys = _rotate(queries, config.rope_base), _rotate(keys, config.rope_base)
        values = project("value", normed).reshape(time, config.kv_heads, -1)
        heads = []
        for head in range(config.query_heads):
            shared = head // (config.query_heads // config.kv_heads)
            logits = queries[:, head] @ keys[:, shared].T / np.sqrt(config.head_dim)
            logits[future] = -np.inf
            heads.append(_softmax(logits) @ values[:, shared])
        update = project("output", np.concatenate(heads, axis=-1))
        x = x + (norm("attention_post_norm", update) if config.post_norms else update)
        normed = norm("mlp_norm", x)
        gate = project("gate", normed)
        if config.activation == "silu":
            gate = gate / (1 + np.exp(-gate))
        else:
            gate = gate / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
        update = project("down", gate * project("up", normed))
        x = x + (norm("mlp_post_norm", update) if config.post_norms else update)
    return _norm(x, params["final_norm"]["scale"], config)


def reference_token_logprobs(config, variables, prompt, continuation):
    """Log-probability of every token of a continuation after a prompt."""
    logprobs = log_softmax(reference_logits(config, variables, [*prompt, *continuation]))
    return np.array([logprobs[len(prompt) - 1 + i, token] for i, token in enumerate(continuation)])


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _softmax(logits):
    return np.exp(log_softmax(logits))


def _norm(x, scale, config):
    root_mean_square = np.sqrt((x**2).mean(axis=-1, keepdims=True) + config.norm_epsilon)
    return x / root_mean_square * (1 + scale if config.zero_centered_norms else scale)


def _rotate(vectors, base):
    """Every pair (i, i + half) of a head's vector turns by position * base^(-i / half)."""
    half = vectors.shape[-1] // 2
    angles = np.arange(len(vectors))[:, None] * base ** (-np.arange(half) / half)
    turned = (vectors[..., :half] + 1j * vectors[..., half:]) * np.exp(1j * angles)[:, None, :]
    return np.concatenate([turned.real, turned.imag], axis=-1)


def _float64(tree):
    return (
        {name: _float64(leaf) for name, leaf in tree.items()}
        if isinstance(tree, dict)
        else np.asarray(tree, np.float64)
    )


def _select(tree, layer):
    return (
        {name: _select(leaf, layer) for name, leaf in tree.items()} if isinstance(tree, dict) else tree[layer]
    )
