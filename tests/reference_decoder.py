"""The decoder once more, in float64 numpy and for one plain sequence: what all shortcuts are held against."""

import numpy as np


def reference_logits(config, variables, tokens):
    """Logits after every token of one sequence."""
    head = variables["params"]["embedding" if config.tied_head else "head"]
    logits = reference_hidden(config, variables, tokens) @ np.asarray(head, np.float64).T
    return _softcap(logits, config.final_softcap)


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
        windowed = config.window and (not config.windowed_layers or config.windowed_layers[layer])
        unseen = future | np.tri(time, k=-config.window, dtype=bool) if windowed else future
        local = windowed and config.local_rope_base is not None
        frequencies = _frequencies(config, config.local_rope_base if local else None)
        weights = _select(params["layers"], layer)
        updates = _select(adapters.get("layers", {}), layer)

        def project(name, inputs, weights=weights, updates=updates):
            outputs = inputs @ weights[name]["kernel"] + weights[name].get("bias", 0)
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
        queries, keys = _rotate(queries, frequencies), _rotate(keys, frequencies)
        values = project("value", normed).reshape(time, config.kv_heads, -1)
        heads = []
        for head in range(config.query_heads):
            shared = head // (config.query_heads // config.kv_heads)
            logits = queries[:, head] @ keys[:, shared].T
            logits *= config.query_scale or 1 / np.sqrt(config.head_dim)
            logits = _softcap(logits, config.attention_softcap)
            logits[unseen] = -np.inf
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


def _softcap(logits, cap):
    return logits if cap is None else cap * np.tanh(logits / cap)


def _frequencies(config, local_base):
    """Radians a position of every pair of a head's vector; scaled as config.rope_scaling, if not local."""
    half = config.head_dim // 2
    frequencies = (local_base or config.rope_base) ** (-np.arange(half) / half)
    scaling = config.rope_scaling
    if scaling is None or local_base:
        return frequencies
    scaled = []
    for frequency in frequencies:
        turns = scaling.original_context_length / (2 * np.pi / frequency)
        if scaling.kind == "linear" or turns < scaling.low_frequency_factor:
            scaled.append(frequency / scaling.factor)
        elif turns > scaling.high_frequency_factor:
            scaled.append(frequency)
        else:
            share = (turns - scaling.low_frequency_factor) / (
                scaling.high_frequency_factor - scaling.low_frequency_factor
            )
            scaled.append((1 - share) * frequency / scaling.factor + share * frequency)
    return np.array(scaled)


def _rotate(vectors, frequencies):
    """Every pair (i, i + half) of a head's vector turns by position * frequency."""
    half = vectors.shape[-1] // 2
    angles = np.arange(len(vectors))[:, None] * frequencies
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
