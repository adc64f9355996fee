"""A Hugging Face config.json as a `ModelConfig`, and back. No key is silently ignored.

Two layouts are read: the older one (`rope_theta`, `rope_scaling`, `rope_local_base_freq`,
`sliding_window_pattern`) and the newer one (`rope_parameters`, for Gemma 3 by kind of layer, and
`layer_types`). A missing key means what it means to transformers' configuration classes.
"""

import math
from collections.abc import Mapping
from typing import Any

from introspection.errors import InputError, brief
from introspection.models.config import ModelConfig, RopeScaling
from introspection.weights.hf_families import (
    ACTIVATIONS,
    FAMILIES,
    OFF,
    SHARED,
    VISION,
    WITHOUT_EFFECT,
    Family,
)
from introspection.weights.hf_values import number, optional_number, whole_number

SLIDING, FULL = "sliding_attention", "full_attention"
_ABSENT_WINDOW = 4096  # if a Mistral or Qwen config lacks the key; null means no window
WITH_VISION = "gemma3"  # the model_type with a text model in its text_config
_MOST_LAYERS = 10_000  # no published model has as many; the lists below have an entry for each
_GEMMA3_BASES = {FULL: 1_000_000.0, SLIDING: 10_000.0}


def model_config(fields: Mapping[str, Any], source: str, **overrides: Any) -> ModelConfig:
    """The decoder that a config.json describes; of a Gemma 3 with vision, that of its text.

    Args:
      source: its path, for messages.
      overrides: fields of `ModelConfig`.

    Raises:
      InputError: the model_type or an option is not supported; a key is unknown, missing or has an invalid
        value.
    """
    if fields.get("model_type") == WITH_VISION:
        fields = _text_fields(fields, source)
    model_type = fields.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise InputError(
            f"{source}: model_type {brief(model_type)} is not supported; supported are "
            f"{', '.join(FAMILIES)}, and gemma3 with vision, whose text model is read"
        )
    family = FAMILIES[model_type]
    fields = {**family.defaults, **fields}
    for key, value in fields.items():
        if key in SHARED or key in family.keys or key in WITHOUT_EFFECT:
            continue
        if key not in OFF:
            raise InputError(f"{source}: unknown key {brief(key)} of a {model_type}; no key is ignored")
        if value not in OFF[key]:
            raise InputError(f"{source}: {key}={brief(value)} is not supported for {model_type}")
    width, heads = (
        whole_number(fields, "hidden_size", source),
        whole_number(fields, "num_attention_heads", source),
    )
    head_dim = family.head_dim or width // heads
    if fields.get("head_dim") is not None:
        head_dim = whole_number(fields, "head_dim", source)
    # The first Llama's configs lack the number of key heads; the others must have it.
    kv_heads = heads
    absent = "num_key_value_heads" not in fields
    if fields.get("num_key_value_heads") is not None or (absent and model_type != "llama"):
        kv_heads = whole_number(fields, "num_key_value_heads", source)
    layers = whole_number(fields, "num_hidden_layers", source, _MOST_LAYERS)
    context_length = whole_number(fields, "max_position_embeddings", source)
    tied_head = fields.get("tie_word_embeddings", family.tied_head)
    if not isinstance(tied_head, bool):
        raise InputError(f"{source}: tie_word_embeddings is {brief(tied_head)}; it must be true or false")
    read = {
        "vocab_size": whole_number(fields, "vocab_size", source),
        "width": width,
        "layers": layers,
        "query_heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "mlp_width": whole_number(fields, "intermediate_size", source),
        "context_length": context_length,
        "norm_epsilon": number(fields, "rms_norm_eps", source, 1e-6),
        "tied_head": tied_head,
        "activation": _activation(fields, family, source),
        **family.switches,
        **_softcaps_and_scale(fields, family, head_dim, source),
        **_windows(fields, model_type, layers, source),
    }
    read |= _rope(fields, model_type, context_length, bool(read["window"]), source)
    try:
        return ModelConfig(**(read | overrides))
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def hf_config(config: ModelConfig, dtype: str = "float32", **more: Any) -> dict[str, Any]:
    """The config.json, in both layouts, with which transformers computes the same as `config`.

    `more` are further keys, such as eos_token_id. Reading the result gives `config` again, except for fields
    outside the function (adapters, remat, the dtypes in memory and of products).

    Raises:
      InputError: no model_type has everything that the config switches on.
    """
    model_type = _model_type(config)
    family = FAMILIES[model_type]
    activation = {ours: theirs for theirs, ours in ACTIVATIONS.items()}[config.activation]
    layer_types = [SLIDING if windowed else FULL for windowed in _windowed(config)]
    fields = {
        "architectures": [family.architecture],
        "model_type": model_type,
        "dtype": dtype,
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.query_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tied_head,
        "attention_bias": False,
        "attention_dropout": 0.0,
        family.activation: activation,
        "rope_parameters": _rope_parameters(config, config.rope_base, config.rope_scaling),
        **more,
    }
    if "layer_types" in family.keys and model_type != "mistral":
        fields["layer_types"] = layer_types
    if model_type == "mistral":
        fields["sliding_window"] = config.window
    if model_type.startswith("qwen"):
        fields |= {"use_sliding_window": bool(config.window), "sliding_window": config.window or None}
    if model_type.startswith("gemma"):
        scale = config.query_scale or config.head_dim**-0.5
        # transformers needs a number even if no layer has a window.
        fields |= {
            "query_pre_attn_scalar": round(scale**-2),
            "sliding_window": config.window or config.context_length,
            "attn_logit_softcapping": config.attention_softcap,
            "final_logit_softcapping": config.final_softcap,
        }
    if model_type == "gemma3_text":
        local = fields["rope_parameters"]
        if config.local_rope_base is not None:
            local = _rope_parameters(config, config.local_rope_base, None)
        fields["rope_parameters"] = {FULL: fields["rope_parameters"], SLIDING: local}
        fields["rope_local_base_freq"] = local["rope_theta"]
    # For programs that do not know rope_parameters and would silently use their defaults.
    fields["rope_theta"] = config.rope_base
    if config.rope_scaling is not None:
        scaling = _rope_parameters(config, config.rope_base, config.rope_scaling)
        fields["rope_scaling"] = {key: value for key, value in scaling.items() if key != "rope_theta"}
    return fields


def _text_fields(fields: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The text model's config in that of a model with vision: its own keys, and those that both share."""
    own = fields.get("text_config")
    if not isinstance(own, Mapping):
        raise InputError(f"{source}: model_type {WITH_VISION!r} needs a text_config, not {brief(own)}")
    shared = {key: value for key, value in fields.items() if key not in VISION and key != "text_config"}
    for key in shared.keys() & own.keys() - WITHOUT_EFFECT:
        if shared[key] != own[key]:
            raise InputError(
                f"{source}: {key} is {brief(shared[key])}, but {brief(own[key])} in text_config; keep one"
            )
    return {**shared, "model_type": "gemma3_text", **own}


def _activation(fields: Mapping[str, Any], family: Family, source: str) -> str:
    # Gemma's configs have both keys; transformers uses hidden_activation.
    default = "silu" if family.activation == "hidden_act" else "gelu_pytorch_tanh"
    name = fields.get(family.activation) or default
    for key in ("hidden_act", family.activation):
        given = fields.get(key) or name
        if not isinstance(given, str) or given not in ACTIVATIONS:
            raise InputError(
                f"{source}: {key} {brief(given)} is not supported; supported are {', '.join(ACTIVATIONS)}"
            )
    if (fields.get("hidden_act") or name) != name:
        raise InputError(
            f"{source}: hidden_act is {fields['hidden_act']!r}, but {family.activation} {name!r}"
        )
    return ACTIVATIONS[name]


def _softcaps_and_scale(
    fields: Mapping[str, Any], family: Family, head_dim: int, source: str
) -> dict[str, float | None]:
    options: dict[str, float | None] = {}
    for key, name in (
        ("attn_logit_softcapping", "attention_softcap"),
        ("final_logit_softcapping", "final_softcap"),
    ):
        if key in family.keys:
            # As in transformers, an absent cap is Gemma 2's default; null means no cap.
            absent = {"attention_softcap": 50.0, "final_softcap": 30.0}[name]
            has_default = family.architecture.startswith("Gemma2") and key not in fields
            options[name] = absent if has_default else optional_number(fields, key, source)
    if "query_pre_attn_scalar" in family.keys:
        scalar = number(fields, "query_pre_attn_scalar", source, 256.0)
        if scalar <= 0:
            raise InputError(f"{source}: query_pre_attn_scalar is {scalar:g}; it must be above 0")
        options["query_scale"] = None if scalar == head_dim else scalar**-0.5
    return options


def _windows(fields: Mapping[str, Any], model_type: str, layers: int, source: str) -> dict[str, Any]:
    """`window` and `windowed_layers`; () means all layers have the window, a window of 0 that none has."""
    if "sliding_window" not in FAMILIES[model_type].keys:
        return {"window": 0}
    types, window = fields.get("layer_types"), fields.get("sliding_window")
    if "sliding_window" not in fields and (model_type == "mistral" or model_type.startswith("qwen")):
        window = _ABSENT_WINDOW
    if model_type.startswith("qwen") and not fields.get("use_sliding_window", False):
        window = None
    kinds = types if isinstance(types, list) else [types]
    if types is not None and (len(kinds) != layers or any(kind not in (SLIDING, FULL) for kind in kinds)):
        raise InputError(
            f"{source}: layer_types is {brief(types)}; each of {layers} layers must be {SLIDING} or {FULL}"
        )
    match model_type:
        case "mistral":
            windowed = [window is not None] * layers
            if types is not None and [kind == SLIDING for kind in types] != windowed:
                raise InputError(
                    f"{source}: a mistral whose layer_types differ from each other or from sliding_window "
                    "is not supported"
                )
        case "qwen2" | "qwen3":
            first = layers if window is None else number(fields, "max_window_layers", source, 28.0)
            windowed = [layer >= first for layer in range(layers)]
        case "gemma2":
            windowed = [layer % 2 == 0 for layer in range(layers)]
            size = fields.get("sliding_window_size")
            if size is not None and size != window:
                raise InputError(
                    f"{source}: sliding_window_size is {brief(size)}, but sliding_window {brief(window)}"
                )
        case _:
            keys = ("sliding_window_pattern", "_sliding_window_pattern")
            given = [key for key in keys if fields.get(key) is not None]
            every = whole_number(fields, given[0], source) if given else 6
            windowed = [(layer + 1) % every != 0 for layer in range(layers)]
    if types is not None:
        windowed = [kind == SLIDING for kind in types]
    if not any(windowed):
        return {"window": 0}
    if window is None:
        off = " or use_sliding_window false" if model_type.startswith("qwen") else ""
        raise InputError(f"{source}: layers are {SLIDING}, but sliding_window is missing{off}")
    size = whole_number({"sliding_window": window}, "sliding_window", source)
    return {"window": size, "windowed_layers": () if all(windowed) else tuple(windowed)}


def _rope(
    fields: Mapping[str, Any], model_type: str, context_length: int, windowed: bool, source: str
) -> dict[str, Any]:
    """`rope_base`, `rope_scaling` and, for Gemma 3, `local_rope_base`, from either layout."""
    newer, older_scaling = fields.get("rope_parameters"), fields.get("rope_scaling")

    def read(inner: Any, base_key: str, default: float, scaling: Any) -> tuple[float, RopeScaling | None]:
        """For one kind of layer. Older keys beside rope_parameters must agree with it."""
        base = number(fields, base_key, source, default)
        if inner is None:
            return _base_and_scaling(scaling or {}, base, context_length, source)
        found = _base_and_scaling(inner, base, context_length, source)
        if fields.get(base_key) is not None and found[0] != base:
            raise InputError(f"{source}: {base_key} is {base}, but {found[0]} in rope_parameters; keep one")
        if scaling and _base_and_scaling(scaling, found[0], context_length, source) != found:
            raise InputError(f"{source}: rope_scaling and rope_parameters differ; keep one")
        return found

    if model_type != "gemma3_text":
        base, scaling = read(newer, "rope_theta", 10_000.0, older_scaling)
        return {"rope_base": base, "rope_scaling": scaling}
    if newer is not None and (not isinstance(newer, Mapping) or not set(newer) <= {FULL, SLIDING}):
        raise InputError(f"{source}: rope_parameters of a {model_type} must have only {FULL} and {SLIDING}")
    inner = {kind: None if newer is None else newer.get(kind) or {} for kind in (FULL, SLIDING)}
    base, scaling = read(inner[FULL], "rope_theta", _GEMMA3_BASES[FULL], older_scaling)
    local_base, local_scaling = read(inner[SLIDING], "rope_local_base_freq", _GEMMA3_BASES[SLIDING], None)
    if not windowed or (local_base, local_scaling) == (base, scaling):
        return {"rope_base": base, "rope_scaling": scaling}
    if local_scaling is not None:
        raise InputError(f"{source}: rope_parameters scales {SLIDING}, which is not supported")
    return {"rope_base": base, "rope_scaling": scaling, "local_rope_base": local_base}


def _base_and_scaling(
    given: Any, base: float, context_length: int, source: str
) -> tuple[float, RopeScaling | None]:
    if not isinstance(given, Mapping):
        raise InputError(f"{source}: the rope parameters are {brief(given)}; they must be a JSON object")
    base = number(given, "rope_theta", source, base)
    kind = given.get("rope_type") or given.get("type") or "default"
    known = {"rope_theta", "rope_type", "type", "partial_rotary_factor"}
    match kind:
        case "default":
            pass
        case "linear":
            known |= {"factor"}
        case "llama3":
            known |= {
                "factor",
                "low_freq_factor",
                "high_freq_factor",
                "original_max_position_embeddings",
            }
        case _:
            raise InputError(
                f"{source}: rope_type {brief(kind)} is not supported; supported are default, linear, llama3"
            )
    for key in given:
        if key not in known:
            raise InputError(f"{source}: unknown key {brief(key)} of {kind} rope parameters")
    if given.get("partial_rotary_factor") not in OFF["partial_rotary_factor"]:
        raise InputError(
            f"{source}: partial_rotary_factor={brief(given['partial_rotary_factor'])} is not supported"
        )
    if kind == "default":
        return base, None
    options: dict[str, Any] = {"factor": number(given, "factor", source)}
    if kind == "llama3":
        original = {"original_max_position_embeddings": context_length, **given}
        options |= {
            "low_frequency_factor": number(given, "low_freq_factor", source),
            "high_frequency_factor": number(given, "high_freq_factor", source),
            "original_context_length": whole_number(original, "original_max_position_embeddings", source),
        }
    try:
        return base, RopeScaling(kind, **options)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def _windowed(config: ModelConfig) -> tuple[bool, ...]:
    return config.windowed_layers or (bool(config.window),) * config.layers


def _model_type(config: ModelConfig) -> str:
    """The first model_type that computes what the config describes."""
    switches = {
        name: getattr(config, name)
        for name in ("qkv_bias", "qk_norm", "zero_centered_norms", "post_norms", "scale_embedding")
    }
    switched = {name: True for name, on in switches.items() if on}
    fitting = [name for name, family in FAMILIES.items() if family.switches == switched]
    windows = set(_windowed(config))
    if fitting == ["llama", "mistral"]:
        fitting = {frozenset({False}): ["llama"], frozenset({True}): ["mistral"]}.get(frozenset(windows), [])
    if not fitting:
        has = ", ".join([*switched, *(["a window in some layers"] if len(windows) > 1 else [])])
        raise InputError(f"the model can't be written for transformers: no model_type has exactly {has}")
    model_type = fitting[0]
    family = FAMILIES[model_type]
    scalar = (config.query_scale or config.head_dim**-0.5) ** -2
    wanted = round(scalar) if "query_pre_attn_scalar" in family.keys else config.head_dim
    problems = {
        "query_scale": not math.isclose(scalar, wanted, rel_tol=1e-9),
        "attention_softcap": config.attention_softcap and "attn_logit_softcapping" not in family.keys,
        "final_softcap": config.final_softcap and "final_logit_softcapping" not in family.keys,
        "local_rope_base": config.local_rope_base is not None and model_type != "gemma3_text",
    }
    for name, has in problems.items():
        if has:
            raise InputError(
                f"the model can't be written for transformers: a {model_type} has no {name} of "
                f"{getattr(config, name)}"
            )
    return model_type


def _rope_parameters(config: ModelConfig, base: float, scaling: RopeScaling | None) -> dict[str, Any]:
    if scaling is None:
        return {"rope_type": "default", "rope_theta": base}
    parameters = {"rope_type": scaling.kind, "rope_theta": base, "factor": scaling.factor}
    if scaling.kind == "llama3":
        parameters |= {
            "low_freq_factor": scaling.low_frequency_factor,
            "high_freq_factor": scaling.high_frequency_factor,
            "original_max_position_embeddings": scaling.original_context_length,
        }
    return parameters
