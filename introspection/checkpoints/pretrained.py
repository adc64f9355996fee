"""Models made elsewhere, by path: a Hugging Face folder, a GGUF file, PEFT adapters with their base.

`PATH` names a model; `BASE+ADAPTERS` a model with a folder of adapters on it (an adapter folder alone takes
the base that it names itself, if that is a path here). What is read is numbers and text: no code of a model
runs.
"""

import dataclasses
from pathlib import Path

import jax

from introspection.errors import InputError
from introspection.models.config import ModelConfig
from introspection.models.model import Model
from introspection.text.chat_template import ChatOptions
from introspection.text.gguf_tokenizer import read_gguf_tokenizer
from introspection.text.hf_tokenizer import read_hf_tokenizer
from introspection.text.tokenizer import ChatTokenizer, check_embedding
from introspection.weights.adapters import load_adapters
from introspection.weights.folder import (
    ADAPTER_CONFIG,
    ADAPTER_FOLDER,
    CONFIG,
    GGUF_FILE,
    kind_of,
    read_json_object,
)
from introspection.weights.gguf_file import GGUFFile
from introspection.weights.hf_config import model_config
from introspection.weights.load import load_folder, load_gguf


@dataclasses.dataclass(frozen=True)
class PretrainedModel:
    """A model of elsewhere: where its numbers are and how it is addressed."""

    name: str  # as it was given
    path: Path  # a model folder or a GGUF file
    adapters: Path | None
    chat: ChatOptions


def is_pretrained(name: str) -> bool:
    """Whether a name is a path to a model of elsewhere, rather than to a workdir."""
    path = Path(name.partition("+")[0]).expanduser()
    if path.is_file():
        return True
    configured = any((path / file).is_file() for file in (CONFIG, ADAPTER_CONFIG))
    return configured and not (path / "checkpoints").is_dir()  # which a workdir has beside its config.json


def find_pretrained(name: str, chat: ChatOptions | None = None) -> PretrainedModel:
    """What a name means. Nothing but file names and small JSON files is read.

    Raises:
      InputError: a path is no model, or adapters stand alone and their base is not here.
    """
    base, _, adapters = name.partition("+")
    path, chat = Path(base).expanduser(), chat or ChatOptions()
    if kind_of(path) != ADAPTER_FOLDER:
        added = Path(adapters).expanduser() if adapters else None
        if added is not None and kind_of(added) != ADAPTER_FOLDER:
            raise InputError(f"{name}: {added} is no folder of adapters")
        return PretrainedModel(name, path, added, chat)
    if adapters:
        raise InputError(f"{name}: {path} is a folder of adapters; give BASE+ADAPTERS")
    told = read_json_object(path / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not isinstance(told, str) or not Path(told).exists():
        raise InputError(f"{name} holds adapters of {told!r}, which is no path here; give BASE+{name}")
    return PretrainedModel(name, Path(told), path, chat)


def pretrained_config(source: PretrainedModel) -> ModelConfig:
    """The shape of the model without its adapters. Raises InputError if this code can't run it."""
    if kind_of(source.path) == GGUF_FILE:
        return GGUFFile(source.path).config
    return model_config(read_json_object(source.path / CONFIG), str(source.path / CONFIG))


def pretrained_tokenizer_of(source: PretrainedModel) -> ChatTokenizer:
    """Its tokenizer. Raises InputError if it can't be read, or has more tokens than the model has rows."""
    if kind_of(source.path) == GGUF_FILE:
        tokenizer = read_gguf_tokenizer(GGUFFile(source.path).fields, source.chat, str(source.path))
    else:
        tokenizer = read_hf_tokenizer(source.path, source.chat)
    check_embedding(tokenizer, pretrained_config(source).vocab_size, str(source.path))
    return tokenizer


def load_pretrained_model(source: PretrainedModel, mesh: jax.sharding.Mesh, dtype: str = "float32") -> Model:
    """Reads the model, each device's part straight from its file, and places it on the mesh.

    Raises:
      InputError: a file is damaged, or its tensors are not those of its config.
    """
    tokenizer = pretrained_tokenizer_of(source)
    load = load_gguf if kind_of(source.path) == GGUF_FILE else load_folder
    config, params = load(source.path, mesh, dtype)
    if source.adapters is None:
        return Model(config, tokenizer, {"params": params})
    lora, adapters = load_adapters(source.adapters, config)
    return Model(dataclasses.replace(config, lora=lora), tokenizer, {"params": params, "lora": adapters})
