"""LoRA adapters in PEFT's layout, adapter_config.json and adapter_model.safetensors: reading and writing."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from introspection.errors import InputError
from introspection.models.config import PROJECTIONS, LoraConfig, ModelConfig
from introspection.models.decoder import initialize
from introspection.runtime.mesh import MeshConfig, make_mesh
from introspection.text.hf_tokenizer import TEMPLATE
from introspection.weights.export import save_tensors, stored_tensors, write_folder
from introspection.weights.folder import (
    ADAPTER_CONFIG,
    ADAPTER_FOLDER,
    ADAPTER_WEIGHTS,
    kind_of,
    read_json_object,
)
from introspection.weights.load import check_tensors, load_tree
from introspection.weights.safetensors_files import SafetensorsFiles
from introspection.weights.tensor_names import TensorName, adapter_names, named_leaves, projection_module

# Fields of adapter_config.json that do not change what the adapter computes: its origin, its training, and
# details of options that must be off.
_WITHOUT_EFFECT = {
    "alora_invocation_string",
    "auto_mapping",
    "base_model_name_or_path",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",  # read off the tensors
    "task_type",
}
_READ = {"peft_type", "r", "lora_alpha", "bias", "layers_to_transform", "init_lora_weights"}
# Initialisations that do not change the base's weights.
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")


def load_adapters(
    folder: Path, config: ModelConfig, mesh: jax.sharding.Mesh | None = None
) -> tuple[LoraConfig, dict]:
    """A PEFT adapter for a model of this config: its settings and its float32 tree, the collection `lora`.

    Without a mesh the tree is on one device.

    Raises:
      InputError: the folder is not a LoRA adapter or uses unsupported options (all are named), or its tensors
        do not fit the model (all are named).
    """
    files, lora, abstract, names = _open(folder, config)
    return lora, load_tree(files, str(folder), abstract, names, mesh or make_mesh(MeshConfig()))


def check_adapters(folder: Path, config: ModelConfig) -> None:
    """Checks an adapter by its config and headers. Raises InputError as `load_adapters`."""
    files, _, abstract, names = _open(folder, config)
    check_tensors(files, str(folder), abstract, names)


def _open(
    folder: Path, config: ModelConfig
) -> tuple[SafetensorsFiles, LoraConfig, dict, dict[str, TensorName]]:
    if kind_of(folder) != ADAPTER_FOLDER:
        raise InputError(f"{folder} is not an adapter folder: {ADAPTER_CONFIG} is missing")
    path = folder / ADAPTER_CONFIG
    fields = read_json_object(path)
    check_adapter_fields(fields, config.layers, str(path))
    files = SafetensorsFiles([folder / ADAPTER_WEIGHTS])
    targets = tuple(
        part
        for part in PROJECTIONS
        if any(name.endswith(f".{projection_module(part)}.lora_A.weight") for name in files.shapes)
    )
    if not targets:
        raise InputError(f"{folder}: {ADAPTER_WEIGHTS} has no adapter of an attention or MLP projection")
    lora = LoraConfig(fields["r"], float(fields["lora_alpha"]), targets)
    abstract = jax.eval_shape(
        lambda key: initialize(dataclasses.replace(config, lora=lora), key)["lora"], jax.random.key(0)
    )
    return files, lora, abstract, adapter_names(named_leaves(abstract))


def check_adapter_fields(fields: Mapping[str, Any], layers: int, source: str) -> None:
    """Raises InputError, which names all unsupported options that would change what the adapter computes."""
    if fields.get("peft_type") != "LORA":
        raise InputError(f"{source}: peft_type is {fields.get('peft_type')!r}; only LORA is supported")
    for name, kinds in (("r", int), ("lora_alpha", (int, float))):
        if not isinstance(fields.get(name), kinds) or isinstance(fields[name], bool) or fields[name] <= 0:
            raise InputError(f"{source}: {name} is {fields.get(name)!r}; it must be a number above 0")
    known = _READ | _WITHOUT_EFFECT
    refused = [f"{name}={value!r}" for name, value in fields.items() if name not in known and value]
    if fields.get("bias", "none") != "none":
        refused.append(f"bias={fields['bias']!r}")
    chosen = fields.get("layers_to_transform")
    if chosen is not None and sorted([chosen] if isinstance(chosen, int) else chosen) != list(range(layers)):
        refused.append(f"layers_to_transform={chosen!r} (not all {layers} layers)")
    start = fields.get("init_lora_weights")
    if start not in _PLAIN_STARTS:
        refused.append(f"init_lora_weights={start!r} (it changes the base's weights)")
    if refused:
        raise InputError(f"{source}: unsupported options: {', '.join(refused)}")


def export_adapters(
    folder: Path, lora: LoraConfig, adapters: dict, base: str | None = None, template: str | None = None
) -> None:
    """Writes an adapter folder for PEFT, whole or not at all.

    Args:
      base: the base model's path or name.
      template: the adapters' chat template, if it is not their base's.

    Raises:
      InputError: the folder is not empty, or the adapters are spread over several hosts.
    """
    leaves = named_leaves(adapters)
    tensors = stored_tensors(leaves, adapter_names(leaves))
    modules = sorted(projection_module(part).rsplit(".", 1)[-1] for part in lora.targets)
    fields = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if float(lora.alpha).is_integer() else lora.alpha,
        "target_modules": modules,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }

    def write(target: Path) -> None:
        (target / ADAPTER_CONFIG).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        save_tensors({name: read() for name, read in tensors.items()}, target / ADAPTER_WEIGHTS)
        if template is not None:
            (target / TEMPLATE).write_text(template, encoding="utf-8")

    write_folder(folder, write)
