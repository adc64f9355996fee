"""LoRA adapters in PEFT's layout, adapter_config.json and adapter_model.safetensors: reading and writing."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from introspection.errors import InputError
from introspection.models.config import PROJECTIONS, LoraConfig, ModelConfig
from introspection.models.decoder import initialize
from introspection.runtime.mesh import MeshConfig, make_mesh
from introspection.runtime.processes import is_first
from introspection.weights.adapter_config import MERGE_FIRST, check_adapter_fields, saved_leaves
from introspection.weights.adapter_modules import Adapted, adapted_modules
from introspection.weights.export import save_tensors, stored_tensors, write_folder
from introspection.weights.folder import (
    ADAPTER_CONFIG,
    ADAPTER_FOLDER,
    ADAPTER_WEIGHTS,
    kind_of,
    read_json_object,
)
from introspection.weights.load import abstract_parameters, check_shapes, load_tree
from introspection.weights.safetensors_files import SafetensorsFiles
from introspection.weights.tensor_names import (
    ADAPTER_PREFIX,
    adapter_names,
    module_of_layer,
    named_leaves,
    projection_module,
    saved_names,
)


@dataclasses.dataclass(frozen=True)
class AdapterFolder:
    """An adapter's open files. It is read as adapters of one rank and scale.

    A smaller rank is filled up with zeros; a scale of a module's own is multiplied into its B; a module
    without an adapter, in a layer where others have one, gets zeros.
    """

    path: Path
    files: SafetensorsFiles
    adapted: Mapping[str, Adapted]  # of the modules that have tensors
    lora: LoraConfig
    folded: bool  # whether scales are multiplied into B
    shapes: dict[str, tuple[int, ...]]  # of the tensors as they are read
    saved: tuple[str, ...]  # leaves of the base's parameters that the adapter replaces
    without_tensors: tuple[str, ...]  # modules that the config adapts; as in PEFT, they stay the base's

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """A slice of a tensor in float32; as `SafetensorsFiles.read`."""
        module, side = name.removeprefix(ADAPTER_PREFIX).removesuffix(".weight").rsplit(".lora_", 1)
        shape = self.shapes[name]
        part = np.zeros(
            [len(range(*own.indices(n))) for own, n in zip(index, shape, strict=True)], np.float32
        )
        if module not in self.adapted:
            return part
        own, axis = self.adapted[module], "AB".index(side)
        start, stop, _ = index[axis].indices(shape[axis])
        stop = min(stop, own.rank)
        if start < stop:
            stored = list(index)
            stored[axis] = slice(start, stop)
            filled = (slice(0, stop - start), slice(None))
            part[filled if axis == 0 else filled[::-1]] = self.files.read(name, tuple(stored))
        return part * np.float32(own.alpha / own.rank) if self.folded and side == "B" else part

    def unreadable(self, names: Any) -> list[str]:
        return self.files.unreadable(names)


def load_adapters(
    folder: Path, config: ModelConfig, mesh: jax.sharding.Mesh | None = None
) -> tuple[LoraConfig, dict]:
    """A PEFT adapter for a model of this config: its settings and its float32 tree, the collection `lora`.

    Without a mesh the tree is on one device.

    Raises:
      InputError: the folder is not a LoRA adapter or uses unsupported options (all are named), or its tensors
        do not fit the model (all are named).
    """
    opened = open_adapters(folder, config)
    return opened.lora, _load_lora(opened, config, mesh or make_mesh(MeshConfig()))


def with_adapters(
    folder: Path, config: ModelConfig, params: dict, mesh: jax.sharding.Mesh
) -> tuple[ModelConfig, dict]:
    """A model's config and variables with an adapter; `params` are the base's.

    An embedding or a head that the adapter saved replaces the base's, and a head tied to the embedding is
    untied then: PEFT replaces only the one that was saved.

    Raises:
      InputError: as `load_adapters`.
    """
    opened = open_adapters(folder, config)
    adapters = _load_lora(opened, config, mesh)
    if opened.saved:
        names = {leaf: saved_names()[leaf] for leaf in opened.saved}
        like = jax.ShapeDtypeStruct(params["embedding"].shape, params["embedding"].dtype)  # of the head too
        abstract = dict.fromkeys(opened.saved, like)
        others = opened.files.shapes.keys() - {name.pattern for name in names.values()}
        saved = load_tree(opened.files, str(folder), abstract, names, mesh, others)
        params = {"head": params["embedding"], **params, **saved}
        config = dataclasses.replace(config, tied_head=False)
    return dataclasses.replace(config, lora=opened.lora), {"params": params, "lora": adapters}


def open_adapters(folder: Path, config: ModelConfig) -> AdapterFolder:
    """Checks an adapter by its config and headers. Raises InputError as `load_adapters`."""
    if kind_of(folder) != ADAPTER_FOLDER:
        raise InputError(f"{folder} is not an adapter folder: {ADAPTER_CONFIG} is missing")
    source = str(folder / ADAPTER_CONFIG)
    fields = read_json_object(folder / ADAPTER_CONFIG)
    check_adapter_fields(fields, source)
    files = SafetensorsFiles([folder / ADAPTER_WEIGHTS])
    meant, params = adapted_modules(fields, config.layers, source), abstract_parameters(config)
    stored = {
        part: [
            module
            for module in (module_of_layer(part, layer) for layer in range(config.layers))
            if any(f"{ADAPTER_PREFIX}{module}.lora_{side}.weight" in files.shapes for side in "AB")
        ]
        for part in PROJECTIONS
    }
    targets = tuple(part for part in PROJECTIONS if stored[part])
    if not targets:
        raise InputError(
            f"{folder}: {ADAPTER_WEIGHTS} has no adapter of an attention or MLP projection{MERGE_FIRST}"
        )
    found = [module for part in targets for module in stored[part]]
    if left := [module for module in found if module not in meant]:
        raise InputError(
            f"{folder}: {ADAPTER_WEIGHTS} has adapters of {len(left)} modules that {ADAPTER_CONFIG} leaves "
            f"out, {left[0]} first; PEFT would ignore them: correct target_modules, exclude_modules or "
            "layers_to_transform"
        )
    adapted = {module: meant[module] for module in found}
    whole, folded = _common(adapted.values())
    lora = LoraConfig(whole.rank, whole.alpha, targets)
    saved = _saved(fields, files, config.tied_head, source)
    # What the file must hold, and what is read as it: every layer, at one rank.
    wanted = {saved_names()[leaf].pattern: params["embedding"].shape for leaf in saved}
    shapes = {}
    for part in targets:
        _, inner, outer = params["layers"][part]["kernel"].shape
        for layer in range(config.layers):
            module = module_of_layer(part, layer)
            below, above = (f"{ADAPTER_PREFIX}{module}.lora_{side}.weight" for side in "AB")
            shapes |= {below: (lora.rank, inner), above: (outer, lora.rank)}
            if module in adapted:
                wanted |= {below: (adapted[module].rank, inner), above: (outer, adapted[module].rank)}
    try:
        check_shapes(files, str(folder), wanted)
    except InputError as error:
        raise InputError(f"{error}{MERGE_FIRST if files.shapes.keys() - wanted else ''}") from error
    absent = tuple(module for module in meant if module not in adapted)
    return AdapterFolder(folder, files, adapted, lora, folded, shapes, saved, absent)


def _common(adapted: Iterable[Adapted]) -> tuple[Adapted, bool]:
    """One rank and alpha for all modules, and whether each module's scale must be multiplied into its B."""
    different = set(adapted)
    if len(different) == 1:
        return different.pop(), False
    rank = max(one.rank for one in different)
    return Adapted(rank, float(rank)), True


def _load_lora(opened: AdapterFolder, config: ModelConfig, mesh: jax.sharding.Mesh) -> dict:
    adapted = dataclasses.replace(config, lora=opened.lora)
    abstract = jax.eval_shape(lambda key: initialize(adapted, key)["lora"], jax.random.key(0))
    return load_tree(opened, str(opened.path), abstract, adapter_names(named_leaves(abstract)), mesh)


def _saved(fields: Mapping[str, Any], files: SafetensorsFiles, tied: bool, source: str) -> tuple[str, ...]:
    """The base's leaves that the adapter replaces: those in `modules_to_save`, and those that are stored
    without it (PEFT's `save_embedding_layers`).

    Raises:
      InputError: it has one of two tied leaves, and doesn't say whether the other stays the base's.
    """
    listed = saved_leaves(fields)
    saved = {leaf for leaf, name in saved_names().items() if name.pattern in files.shapes} | listed
    if tied and len(saved) == 1 and (not listed or fields.get("ensure_weight_tying")):
        raise InputError(
            f"{source}: the base's head is tied to its embedding, and the adapter has only its own "
            f"{saved.pop()}: unclear whether it replaces both{MERGE_FIRST}"
        )
    return tuple(sorted(saved))


def export_adapters(
    folder: Path,
    lora: LoraConfig,
    adapters: dict,
    base: str | None = None,
    other_files: Mapping[str, bytes] | None = None,
) -> None:
    """Writes an adapter folder for PEFT, whole or not at all.

    Args:
      base: the base model's path or name.
      other_files: written by name, such as the adapters' chat template, if it is not their base's.

    Raises:
      InputError: the folder is not empty.
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
        "modules_to_save": None,
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }

    def write(target: Path) -> None:
        save_tensors({name: read() for name, read in tensors.items()}, target / ADAPTER_WEIGHTS)
        if not is_first():
            return
        (target / ADAPTER_CONFIG).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        for name, content in (other_files or {}).items():
            (target / name).write_bytes(content)

    write_folder(folder, write)
