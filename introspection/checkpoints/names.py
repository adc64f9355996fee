"""Models by name: `WORKDIR[:ARM[:SEED]][@STEP]` for checkpoints of runs, a path for external models."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console

from introspection.checkpoints.fingerprint import fingerprint_tree
from introspection.checkpoints.store import CheckpointStore, is_step
from introspection.errors import InputError, listed
from introspection.models.config import ModelConfig
from introspection.models.decoder import initialize
from introspection.models.model import Model, select_seed
from introspection.runtime.config import cache_dir
from introspection.runtime.json_files import parsed, read_object
from introspection.runtime.json_values import from_json, to_json
from introspection.runtime.mesh import parameter_shardings
from introspection.runtime.places import URL
from introspection.runtime.processes import check_shared, first
from introspection.runtime.storage import fetched_parts
from introspection.runtime.workdir import write_whole
from introspection.text.chat_template import ChatOptions
from introspection.text.tokenizer import ChatTokenizer, load_tokenizer, reading_notes
from introspection.weights.folder import exists
from introspection.weights.pretrained import (
    PretrainedModel,
    base_and_adapters,
    check_pretrained,
    find_pretrained,
    is_pretrained,
    load_pretrained_model,
)
from introspection.weights.smollm2 import smollm2_path

CHECKPOINTS, CARD, TOKENIZER = "checkpoints", "model.json", "tokenizer.json"
STARTS = ("initial", "foreign", "aligned")  # stores of the models that arms start from
FETCHED = {"smollm2": smollm2_path}  # by their names in `experiments.fetch`


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """The contents of a checkpoint store; written beside its steps."""

    model: ModelConfig
    seeds: tuple[int, ...]  # along the stacked axis of every leaf
    base: str | None = None  # the store, in the same workdir, of the model that adapters are added to

    def write(self, store: Path) -> None:
        def write() -> None:
            store.mkdir(parents=True, exist_ok=True)
            write_whole(store / CARD, json.dumps(dataclasses.asdict(self), indent=1))

        first(write)

    @classmethod
    def read(cls, store: Path) -> "ModelCard":
        """The card of a store; older ones lack some fields of the model.

        Raises:
          InputError: it is missing, or a value in it is unknown, of another type, or none that a run writes.
        """
        path = store / CARD

        def parse() -> ModelCard:
            card = from_json(cls, fields)
            # A field that we don't know may change what the model computes.
            if unknown := sorted(_fields(fields["model"]) - _fields(to_json(card.model))):
                raise ValueError(f"model.{unknown[0]} is no field of a model")
            if not card.seeds or len(set(card.seeds)) < len(card.seeds):
                raise ValueError(f"seeds are {list(card.seeds)}; they must be different, and at least one")
            if card.base not in (None, *STARTS):
                raise ValueError(f"base is {card.base!r:.60}; it must be one of {', '.join(STARTS)}")
            return card

        fields = read_object(path, "is it a workdir's store?")
        return parsed(path, parse, "is it a workdir's store?")


def _fields(section: Mapping[str, Any]) -> set[str]:
    """The names of a JSON object's fields, `a.b` for those of an object in it."""
    inner = {name: _fields(value) for name, value in section.items() if isinstance(value, Mapping)}
    return {*section, *(f"{name}.{field}" for name, fields in inner.items() for field in fields)}


@dataclasses.dataclass(frozen=True)
class StoredModel:
    workdir: Path
    arm: str
    seed: int
    step: int

    @property
    def store(self) -> Path:
        return self.workdir / CHECKPOINTS / self.arm

    @property
    def name(self) -> str:
        return f"{self.workdir.name}:{self.arm}:{self.seed}@{self.step}"


def stored_steps(store: Path) -> list[int]:
    """The steps of a store by its folder names; opens nothing."""
    return sorted(int(child.name) for child in store.iterdir() if is_step(child.name) and child.is_dir())


def address(model: "StoredModel | PretrainedModel") -> str:
    """The name that means only this model."""
    if isinstance(model, StoredModel):
        return f"{model.workdir}:{model.arm}:{model.seed}@{model.step}"
    return model.name


def meant_steps(models: Iterable["StoredModel | PretrainedModel"]) -> list[str]:
    """What names of models in workdirs mean now: without a step the newest, and a run may have gone on."""
    return [f"{one.arm}:{one.seed}@{one.step}" for one in models if isinstance(one, StoredModel)]


def find_models(name: str, chat: ChatOptions | None = None) -> list[StoredModel | PretrainedModel]:
    """All models that a name means: in a workdir, or an external one with the options `chat`.

    Raises:
      InputError: as `find_stored` and `find_pretrained`, or a folder can't be read.
    """
    try:
        return [find_pretrained(name, chat)] if is_pretrained(name) else [*find_stored(name)]
    except OSError as error:  # above all a folder that one may not list
        raise InputError(f"{name}: {error.filename or 'it'} can't be read: {error.strerror}") from error


def find_common(
    name: str, cache: Path, chat: ChatOptions | None = None
) -> list[StoredModel | PretrainedModel]:
    """`find_models` of a name as the user gives it, by the first process for all.

    A run may store its next step, and a bucket may change, before another process looks.

    Raises:
      InputError: as `find_models` and `model_path`, or the processes do not share a bucket's copy.
    """
    if URL.search(name):
        check_shared(cache_dir())
    return first(lambda: find_models(model_path(name, cache), chat))


def find_stored(name: str) -> list[StoredModel]:
    """All stored models that a name means: every arm and seed unless it names one, and the newest step.

    Raises:
      InputError: no such workdir, arm, seed or step; the message lists the existing ones.
    """
    match = re.fullmatch(r"(?P<path>.+?)(:(?P<arm>[^:@/]+))?(:(?P<seed>\d+))?(@(?P<step>\d+))?", name)
    if match is None:
        raise InputError("the name of a model is empty; give WORKDIR[:ARM[:SEED]][@STEP]")
    workdir = Path(match["path"]).expanduser()
    root = workdir / CHECKPOINTS
    if not exists(root) or not root.is_dir():
        absent = "" if exists(workdir) else " (it does not exist)"
        raise InputError(
            f"{name}: {workdir} is neither a workdir with checkpoints nor a model{absent}; give "
            "WORKDIR[:ARM[:SEED]][@STEP], or the path of a model folder (config.json and safetensors), of a "
            "GGUF file, or BASE+ADAPTERS"
        )
    arms = sorted(child.name for child in root.iterdir() if (child / CARD).is_file())
    trained = [arm for arm in arms if arm not in STARTS]
    chosen = [match["arm"]] if match["arm"] else trained or arms
    found, steps = [], set()
    for arm in chosen:
        if arm not in arms:
            raise InputError(f"{name}: {workdir} has no arm {arm!r}; choose from {listed(arms, most=20)}")
        card, arm_steps = ModelCard.read(root / arm), stored_steps(root / arm)
        seeds = [int(match["seed"])] if match["seed"] else list(card.seeds)
        if not set(seeds) <= set(card.seeds):
            raise InputError(f"{name}: arm {arm!r} has no seed {seeds[0]}; choose from {card.seeds}")
        steps |= set(arm_steps)
        step = int(match["step"]) if match["step"] else max(arm_steps, default=None)
        if step in arm_steps:
            found += [StoredModel(workdir, arm, seed, step) for seed in seeds]
    if not found:
        has = listed(sorted(steps), most=20) or "none"
        raise InputError(f"{name}: no checkpoint at that step; the steps are: {has}")
    return found


def check_loadable(found: StoredModel | PretrainedModel) -> None:
    """Checks quickly whether a model can be loaded; a run's checkpoints are complete or absent.

    Raises:
      InputError: as `check_pretrained`, or its tokenizer can't be read.
    """
    tokenizer_of(found)
    if isinstance(found, PretrainedModel):
        check_pretrained(found)


def notes_of(found: StoredModel | PretrainedModel) -> list[str]:
    """What a user should know of how a model's files and texts are read."""
    read = reading_notes(tokenizer_of(found))
    if not isinstance(found, PretrainedModel):
        return list(read)
    return [*found.notes, *(f"{found.name}: {note}" for note in read)]


def print_notes(found: Sequence[StoredModel | PretrainedModel], console: Console) -> None:
    """Prints the models' notes, each once."""
    for note in dict.fromkeys(note for model in found for note in notes_of(model)):
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)


def context_length(found: StoredModel | PretrainedModel) -> int:
    """Tokens that the model can read; loads no weights."""
    if isinstance(found, PretrainedModel):
        return found.config.context_length
    return ModelCard.read(found.store).model.context_length


def tokenizer_of(found: StoredModel | PretrainedModel) -> ChatTokenizer:
    if isinstance(found, PretrainedModel):
        return found.tokenizer
    return load_tokenizer(found.workdir / TOKENIZER)


def keeps_bfloat16(found: StoredModel | PretrainedModel) -> bool:
    """Whether a model's matrices can stay bfloat16, as they are stored."""
    if isinstance(found, PretrainedModel):
        return found.keeps_bfloat16
    card = ModelCard.read(found.store)
    return card.base is None and card.model.parameter_dtype == "bfloat16"


def load_model(
    stored: StoredModel | PretrainedModel,
    mesh: jax.sharding.Mesh,
    held: dict[Path, Any] | None = None,
    keep_bfloat16: bool = False,
) -> Model:
    """Loads a model onto the mesh.

    Args:
      held: by its store, the frozen base of the adapters that were loaded before, which adapters of the same
        base share; holds this model's afterwards.
      keep_bfloat16: whether an external model's matrices stay bfloat16 if its files have them so. A
        checkpoint's are as they are stored.

    Raises:
      InputError, CorruptCheckpointError: as `CheckpointStore.restore` and `load_pretrained_model`.
    """
    if isinstance(stored, PretrainedModel):
        return load_pretrained_model(stored, mesh, keep_bfloat16)
    card = ModelCard.read(stored.store)
    tokenizer = load_tokenizer(stored.workdir / TOKENIZER)
    variables = abstract_variables(card.model)
    collection = "lora" if card.base else "params"
    loaded = _restore(stored.store, stored.step, {collection: variables[collection]}, len(card.seeds), mesh)
    loaded = select_seed(loaded, card.seeds.index(stored.seed))
    if card.base:
        store, held = stored.workdir / CHECKPOINTS / card.base, {} if held is None else held
        if store not in held:
            held.clear()  # one base in memory at a time
            held[store] = select_seed(_restore(store, 0, {"params": variables["params"]}, 1, mesh), 0)
        loaded |= held[store]
    return Model(card.model, tokenizer, loaded, address(stored))


def load_one(
    name: str, mesh: jax.sharding.Mesh, chat: ChatOptions | None = None, cache: Path | None = None
) -> Model:
    """`load_found` of the models that a name means; arguments as `find_common`."""
    return load_found(name, find_common(name, cache or cache_dir(), chat), mesh)


def load_found(
    name: str,
    found: Sequence[StoredModel | PretrainedModel],
    mesh: jax.sharding.Mesh,
    keep_bfloat16: bool = False,
) -> Model:
    """The single model that was found by a name; arguments as `load_model`.

    Raises InputError if there are several different models.
    """
    models = [load_model(stored, mesh, keep_bfloat16=keep_bfloat16) for stored in found]
    if len({model_fingerprint(model) for model in models}) > 1:
        choices = listed(map(address, found), most=20)
        raise InputError(f"{name} means {len(found)} different models; name one of: {choices}")
    return models[0]


def model_fingerprint(model: Model) -> str:
    """16 hex digits of what the model computes: its config and every number.

    Adapters that add nothing (B is zero, as at step 0) do not count, so a run's step 0 equals its initial
    model. Only config fields that differ from their defaults count, so that new fields rename no model.
    """
    variables, config = dict(model.variables), model.config
    if "lora" in variables and not any(
        jnp.any(leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(variables["lora"])[0]
        if jax.tree_util.keystr(path, simple=True, separator="/").endswith("/B")
    ):
        del variables["lora"]
    if "lora" not in variables:
        config = dataclasses.replace(config, lora=None)
    # These change how it is kept and computed, not what.
    config = dataclasses.replace(config, remat="none", scan_unroll=1, compute_dtype="auto", attention="auto")
    config = dataclasses.replace(config, parameter_dtype="float32")
    return fingerprint_tree(variables, changed_fields(config))


def changed_fields(config: Any) -> dict[str, Any]:
    """A dataclass's fields that are not at their defaults, nested dataclasses included."""
    changed = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default  # always true without a default
    }
    return {
        name: changed_fields(value) if dataclasses.is_dataclass(value) else value
        for name, value in changed.items()
    }


def abstract_variables(config: ModelConfig) -> Any:
    return jax.eval_shape(lambda key: initialize(config, key), jax.random.key(0))


def _restore(store: Path, step: int, abstract, seeds: int, mesh: jax.sharding.Mesh):
    stacked = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((seeds, *leaf.shape), leaf.dtype), abstract)
    placed = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        stacked,
        parameter_shardings(stacked, mesh),
    )
    with CheckpointStore(store, read_only=True) as opened:
        return opened.restore(step, placed)[0]


def model_path(name: str, cache: Path) -> str:
    """A model's name with the short name of a fetched model and URLs, if any, replaced by local paths.

    Raises:
      InputError: that model has not been fetched, or as `fetched_parts`.
    """
    name = fetched_parts("a model", name)
    base, adapters = base_and_adapters(name)
    if base not in FETCHED or Path(base).exists():
        return name
    path = FETCHED[base](cache)
    if not path.is_file():
        raise InputError(f"{path} is missing; run python -m experiments.fetch --model={base}")
    return f"{path}+{adapters}" if adapters else str(path)


def check_addressed(found: Sequence[StoredModel | PretrainedModel], chat: ChatOptions, given: str) -> None:
    """Raises InputError if chat options are `given` but no model is external."""
    if chat != ChatOptions() and not any(isinstance(model, PretrainedModel) for model in found):
        raise InputError(
            f"{given} applies to external models, and there is none here; a run's model keeps the chat"
            " format that it was trained with"
        )
