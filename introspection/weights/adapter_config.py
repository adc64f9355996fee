"""What an adapter_config.json may say: fields that are read, fields without effect, and what is refused."""

from collections.abc import Mapping
from typing import Any

from introspection.errors import InputError, brief
from introspection.weights.tensor_names import ADAPTER_PREFIX, saved_names

# Fields of adapter_config.json that do not change what the adapter computes: its origin, its training, and
# details of options that must be off.
_WITHOUT_EFFECT = {
    "alora_invocation_string",
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",  # this and the next three: details of init_lora_weights
    "eva_config",
    "loftq_config",
    "lora_ga_config",
    "ensure_weight_tying",  # the file has both tensors then
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
}
_READ = {
    "alpha_pattern",
    "bias",
    "exclude_modules",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "use_rslora",
}
# Initialisations that do not change the base's weights.
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva", "mica")
MERGE_FIRST = (
    "; merge the adapter with PEFT first (PeftModel.from_pretrained(BASE_MODEL, FOLDER).merge_and_unload()"
    ".save_pretrained(NEW_FOLDER)) and give the new folder"
)
_MOST = 1e9  # of ranks and alphas
_NAME, _SHOWN = 40, 12  # characters of a field's name, and fields, that a message shows


def check_adapter_fields(fields: Mapping[str, Any], source: str) -> None:
    """Raises InputError, which names all unsupported options that would change what the adapter computes."""
    if fields.get("peft_type") != "LORA":
        kind = brief(fields.get("peft_type"))
        raise InputError(f"{source}: peft_type is {kind}; only LORA is supported{MERGE_FIRST}")
    _check_types(fields, source)
    known = _READ | _WITHOUT_EFFECT
    refused = {name: value for name, value in fields.items() if name not in known and value}
    refused |= {"bias": fields["bias"]} if fields.get("bias", "none") != "none" else {}
    saved = fields.get("modules_to_save")
    if any(not any(_means(entry, leaf) for leaf in saved_names()) for entry in saved or ()):
        refused["modules_to_save"] = saved  # only the head and the embedding are replaced
    start = fields.get("init_lora_weights")
    if (start.lower() if isinstance(start, str) else start) not in _PLAIN_STARTS:
        refused["init_lora_weights"] = start  # it changes the base's weights
    if refused:
        said = [f"{name[:_NAME]}={brief(value)}" for name, value in refused.items()]
        said[_SHOWN:] = [f"{len(said) - _SHOWN} more"] if len(said) > _SHOWN else []
        raise InputError(f"{source}: unsupported options: {', '.join(said)}{MERGE_FIRST}")


def saved_leaves(fields: Mapping[str, Any]) -> set[str]:
    """The leaves of the base's parameters that `modules_to_save` lists."""
    return {
        leaf for leaf in saved_names() for entry in fields.get("modules_to_save") or () if _means(entry, leaf)
    }


def _means(entry: str, leaf: str) -> bool:
    """Whether an entry of `modules_to_save` means a leaf: PEFT compares the ends of names."""
    module = saved_names()[leaf].pattern.removeprefix(ADAPTER_PREFIX).removesuffix(".weight")
    return bool(entry) and module.endswith(entry)


def _check_types(fields: Mapping[str, Any], source: str) -> None:
    """Raises InputError if a field that says what is adapted has the wrong type."""
    for names, kind, fits in _TYPES:
        for name in names:
            value = fields.get(name)
            if not fits(value) and (value is not None or name in ("r", "lora_alpha")):
                raise InputError(f"{source}: {name} is {brief(value)}; it must be {kind}")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _rank(value: Any) -> bool:
    return _whole(value) and 0 < value < _MOST


def _alpha(value: Any) -> bool:
    return (_whole(value) or isinstance(value, float)) and 0 < value < _MOST


_TYPES = (
    (("r",), f"a whole number above 0 and below {_MOST:.0e}", _rank),
    (("lora_alpha",), f"a number above 0 and below {_MOST:.0e}", _alpha),
    (
        ("target_modules", "exclude_modules", "layers_pattern"),
        "a text or a list of texts",
        lambda value: isinstance(value, str) or _texts(value),
    ),
    (("modules_to_save",), "a list of texts", _texts),
    (
        ("layers_to_transform",),
        "a whole number or a list of them",
        lambda value: _whole(value) or (isinstance(value, list) and all(map(_whole, value))),
    ),
    (("use_rslora", "ensure_weight_tying"), "true or false", lambda value: isinstance(value, bool)),
    (
        ("rank_pattern",),
        "an object of whole numbers above 0",
        lambda value: isinstance(value, dict) and all(map(_rank, value.values())),
    ),
    (
        ("alpha_pattern",),
        "an object of numbers above 0",
        lambda value: isinstance(value, dict) and all(map(_alpha, value.values())),
    ),
)
