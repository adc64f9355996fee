"""The models that a config or a command names, fetched ones by a short name, and how they are addressed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from introspection.checkpoints.models import StoredModel, find_models, load_one
from introspection.checkpoints.pretrained import PretrainedModel, base_and_adapters
from introspection.errors import InputError
from introspection.jobs.organism import MODEL_FIELDS, is_organism
from introspection.jobs.settings import settings
from introspection.models.merging import merge_adapters
from introspection.models.model import Model
from introspection.text.chat_template import ChatOptions
from introspection.weights.smollm2 import smollm2_path

FETCHED = {"smollm2": smollm2_path}  # by the name that `experiments.fetch` knows
STARTED_FROM = ("initial", "foreign")  # what training starts from; it has no adapters


def model_path(name: str, cache: Path) -> str:
    """A model's name with the short name of a fetched one, with or without adapters, replaced by its path.

    Raises:
      InputError: that model has not been fetched.
    """
    base, adapters = base_and_adapters(name)
    if base not in FETCHED or Path(base).exists():
        return name
    path = FETCHED[base](cache)
    if not path.is_file():
        raise InputError(f"{base} is not in {path.parent}: python -m experiments.fetch --model={base}")
    return f"{path}+{adapters}" if adapters else str(path)


def chat_options(config: Any) -> ChatOptions:
    """How a config addresses pretrained models."""
    return settings(ChatOptions, config["chat"])


def check_addressed(found: Sequence[StoredModel | PretrainedModel], chat: ChatOptions, given: str) -> None:
    """Raises InputError if options of a chat are `given` and none of the models is addressed by them."""
    if chat != ChatOptions() and not any(isinstance(one, PretrainedModel) for one in found):
        raise InputError(
            f"{given} says how a model made elsewhere is addressed, and there is none here: what a run left "
            "is addressed as it was trained"
        )


def stored_models(config: Any, cache: Path, mesh: jax.sharding.Mesh) -> dict[str, Model]:
    """The models that a config names by path or checkpoint, by the field that names them.

    Adapters of a model that training starts from are merged into it.

    Raises:
      InputError: there is no such model, a name means several, it can't be read, or `config.chat` is given
        and would address none of them.
    """
    stored, found, chat = {}, [], chat_options(config)
    for field in (*MODEL_FIELDS, "foreign"):
        others = {"initial": (), "foreign": ("none", "neighbor")}.get(field, ("initial",))
        if config[field] not in others and (field == "foreign" or not is_organism(config[field])):
            try:
                path = model_path(config[field], cache)
                found += find_models(path, chat)
                model = load_one(path, mesh, chat)
            except InputError as error:
                raise InputError(f"config.{field}: {error}") from error
            stored[field] = merge_adapters(model) if field in STARTED_FROM else model
    check_addressed(found, chat, "config.chat")
    return stored
