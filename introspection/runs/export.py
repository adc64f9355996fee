"""Exporting a model: as a folder for transformers, or as adapters for PEFT."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console

from introspection.checkpoints.names import (
    ModelCard,
    StoredModel,
    find_common,
    load_found,
    model_fingerprint,
    model_path,
    print_notes,
)
from introspection.errors import InputError
from introspection.models.model import merge_adapters
from introspection.runs.model_card import model_card
from introspection.runtime.config import cache_dir, check_choice
from introspection.runtime.json_files import read_object
from introspection.runtime.mesh_flag import chosen_mesh
from introspection.runtime.processes import first
from introspection.text.chat_template import ChatOptions
from introspection.text.hf_tokenizer import TEMPLATE, has_tokenizer, hf_tokenizer_files, token_ids
from introspection.text.pretrained_tokenizer import PretrainedTokenizer
from introspection.weights.adapters import export_adapters
from introspection.weights.export import check_empty, check_makeable, export_model
from introspection.weights.pretrained import PretrainedModel, find_pretrained, has_vision, is_pretrained

FORMATS = ("hf", "peft")
DTYPES = ("float32", "bfloat16")
CARD = "README.md"


def export(name: str, folder: Path, kind: str, dtype: str, console: Console, mesh: str = "") -> None:
    """Writes the model called `name`.

    `mesh` is the flag `--mesh`, over whose devices the model is loaded.
    `kind` is `hf` (a model folder, with adapters merged into the weights) or `peft` (only the adapters).

    Raises:
      InputError: the folder is not empty; the name means no model or several; the format or dtype is unknown;
        `peft` for a model without adapters; or transformers has no model type for this model.
    """
    for flag, value, choices in (("format", kind, FORMATS), ("dtype", dtype, DTYPES)):
        check_choice(f"--{flag}", value, choices)
    folder = folder.expanduser().absolute()
    first(lambda: check_empty(folder))
    first(lambda: check_makeable(folder))
    cache = cache_dir()
    found = find_common(name, cache)
    print_notes(found, console)
    model = load_found(name, found, chosen_mesh(mesh))
    tokenizer = model.tokenizer
    options = tokenizer.template.options if isinstance(tokenizer, PretrainedTokenizer) else None
    if kind == "peft":
        if model.config.lora is None:
            raise InputError(f"{name} has no adapters; export it with --format=hf")
        base = first(lambda: base_path(found[0], cache))
        if base is not None and has_vision(base):
            raise InputError(
                f"{name}: its base {base} has vision, where PEFT doesn't find layers by the text model's "
                "names; export it with --format=hf"
            )
        if isinstance(found[0], PretrainedModel) and found[0].replaced:
            raise InputError(
                f"{name}: its adapters replace the base's {' and '.join(found[0].replaced)}, which adapters "
                "written here can't; export it with --format=hf"
            )
        lora = model.config.lora
        if lora.adapts_head:
            raise InputError(
                f"{name} has an adapter of its head, which PEFT is not given; export it with --format=hf"
            )
        called = base_name(found[0]) if base is None else str(base)  # readers expect text
        files = {CARD: model_card(name, found[0], called, lora).encode()}
        if options and options.template is not None:
            files[TEMPLATE] = options.template.encode()
        source = found[0].adapters if isinstance(found[0], PretrainedModel) else None
        if source is not None and has_tokenizer(source):
            files |= hf_tokenizer_files(tokenizer)
        export_adapters(folder, lora, _cast(model.variables["lora"], dtype), called, files)
        whose = str(base or "none that other programs read")
        if base is None or base.is_file():  # PEFT can't read GGUF
            whose += f"; for PEFT, --model={base_name(found[0])} exports it as a folder"
        console.print(f"{folder}: adapters of {name}; their base: {whose}", **_PLAIN)
    else:
        adapted, model = model.config.lora is not None, merge_adapters(model)
        params = _cast(model.variables["params"], dtype)
        base = first(lambda: base_path(found[0], cache)) if adapted else None
        card = model_card(name, found[0], None if base is None else str(base), None)
        files = {**hf_tokenizer_files(tokenizer), CARD: card.encode()}
        export_model(folder, model.config, params, files, token_ids(tokenizer))
        read_back = model.with_variables({"params": _cast(params, "float32")})
        console.print(f"{folder}: {name}, {dtype}, fingerprint {model_fingerprint(read_back)}", **_PLAIN)
    if options and options != ChatOptions(template=options.template):  # the files contain the template
        console.print(
            "note: the exported files lack the chat options (config.chat); set them again to use it"
        )


_PLAIN: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False}


def base_path(found: StoredModel | PretrainedModel, cache: Path) -> Path | None:
    """The external model that a model's adapters were trained on; None if it is not one or is missing."""
    if isinstance(found, PretrainedModel):
        return found.path.resolve()
    path, card = found.workdir / "config.json", ModelCard.read(found.store)
    if card.base is None or not path.is_file():
        return None
    name = read_object(path).get(card.base)  # "initial" or "foreign", field and store; "aligned" is no field
    if not isinstance(name, str):
        return None
    try:
        name = model_path(name, cache)
        base = find_pretrained(name) if is_pretrained(name) else None
    except InputError:
        return None
    if base is None or base.adapters is not None:  # the run merged these adapters into its base
        return None
    return base.path.resolve()


def base_name(found: StoredModel | PretrainedModel) -> str:
    """The `--model` name of the model that a model's adapters were trained on."""
    if isinstance(found, PretrainedModel):
        return str(found.path)
    return f"{found.workdir}:{ModelCard.read(found.store).base}"


def _cast(tree: dict, dtype: str) -> dict:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.dtype(dtype)), tree)
