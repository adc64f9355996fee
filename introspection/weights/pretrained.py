"""External models, by path: a Hugging Face folder, a GGUF file, or PEFT adapters with their base.

`PATH` names a model; `BASE+ADAPTERS` a model with a folder of adapters (an adapter folder by itself uses the
base that its config names, if that path exists here). Only numbers and text are read; no code of a model is
run.
"""

import dataclasses
import functools
import re
from pathlib import Path

import jax

from introspection.errors import InputError, brief
from introspection.models.config import ModelConfig
from introspection.models.model import Model
from introspection.text.chat_template import ChatOptions
from introspection.text.gguf_tokenizer import read_gguf_tokenizer
from introspection.text.hf_tokenizer import (
    check_special_tokens,
    has_tokenizer,
    own_template,
    read_adapters_tokenizer,
    read_hf_tokenizer,
)
from introspection.text.special_tokens import GENERATION, read_fields
from introspection.text.tokenizer import ChatTokenizer, check_embedding
from introspection.weights.adapters import AdapterFolder, open_adapters, with_adapters
from introspection.weights.folder import (
    ADAPTER_CONFIG,
    ADAPTER_FOLDER,
    ADAPTER_WEIGHTS,
    CONFIG,
    GGUF_FILE,
    SNAPSHOTS,
    WEIGHTS,
    WEIGHTS_INDEX,
    exists,
    has_whole_model,
    kind_of,
    read_json_object,
    snapshot_of,
)
from introspection.weights.gguf import GGUFFile
from introspection.weights.hf_config import WITH_VISION, model_config
from introspection.weights.load import (
    check_folder,
    check_gguf_tensors,
    is_bfloat16,
    load_folder,
    load_gguf_tensors,
)


@dataclasses.dataclass(frozen=True)
class PretrainedModel:
    """An external model: its files and its chat options. Its properties are read on first access."""

    name: str  # as given by the user
    path: Path  # a model folder (of the Hugging Face cache: the snapshot) or a GGUF file
    adapters: Path | None
    chat: ChatOptions

    @functools.cached_property
    def gguf(self) -> GGUFFile | None:
        """The open GGUF file, if it is one; parsing a large vocabulary takes seconds."""
        return GGUFFile(self.path) if kind_of(self.path) == GGUF_FILE else None

    @functools.cached_property
    def config(self) -> ModelConfig:
        """The model's config without adapters. Raises InputError if it is not supported."""
        if self.gguf is not None:
            return self.gguf.config
        return model_config(read_json_object(self.path / CONFIG), str(self.path / CONFIG))

    @functools.cached_property
    def keeps_bfloat16(self) -> bool:
        """Whether its matrices can stay bfloat16, as its files have them."""
        return self.gguf is None and self.adapters is None and is_bfloat16(self.path)

    @functools.cached_property
    def tokenizer(self) -> ChatTokenizer:
        """The model's tokenizer: that of the adapters' folder, if it has one, or else the base's.

        A folder of adapters may also have a chat template alone, which is used with the base's tokenizer.

        Raises:
          InputError: it can't be read, or has tokens without a row of the embedding that a model may read.
        """
        if self.adapters is not None and has_tokenizer(self.adapters):
            gguf = None if self.gguf is None else self.gguf.fields
            base = self.path if gguf is None else read_gguf_tokenizer(gguf, self.chat, str(self.path))
            template = own_template(self.path) if gguf is None else gguf.get("tokenizer.chat_template")
            tokenizer = read_adapters_tokenizer(self.adapters, base, template, self.chat)
            source = f"{self.adapters}, with the base {self.path}"
        else:
            tokenizer, source = self._base_tokenizer(), str(self.path)
        check_embedding(tokenizer, self.config.vocab_size, source)
        return tokenizer

    def _base_tokenizer(self) -> ChatTokenizer:
        """The base's tokenizer, with the chat template of the adapters' folder, if it has one."""
        chat, template = self.chat, None
        if self.adapters is not None and not chat.template:
            template = own_template(self.adapters)
            chat = dataclasses.replace(chat, template=template)
        try:
            if self.gguf is not None:
                tokenizer = read_gguf_tokenizer(self.gguf.fields, chat, str(self.path))
            else:
                tokenizer = read_hf_tokenizer(self.path, chat)
            if template and self.adapters is not None:
                check_special_tokens(self.adapters, tokenizer)
        except InputError as error:
            if template is None:
                raise
            raise InputError(f"{self.adapters}, which has a chat template of its own: {error}") from error
        return tokenizer

    @functools.cached_property
    def opened_adapters(self) -> AdapterFolder | None:
        """The adapters' open files, if there are adapters. Raises InputError as `open_adapters`."""
        return None if self.adapters is None else open_adapters(self.adapters, self.config)

    @property
    def replaced(self) -> tuple[str, ...]:
        """Leaves of the base's parameters that the adapters replace. Raises InputError as `open_adapters`."""
        return () if self.opened_adapters is None else self.opened_adapters.saved

    @property
    def notes(self) -> list[str]:
        """What a user should know of how the files are read. Raises InputError as `open_adapters`."""
        notes = []
        if self.path.parent.name == SNAPSHOTS:
            notes.append(f"{self.name} is read as its snapshot {self.path.name}")
        if self.gguf is None and has_vision(self.path):
            notes.append(f"{self.name} is read as its text model alone, without vision")
        given = read_fields(self.path / GENERATION) if self.gguf is None else {}
        left_out = [f"{name}={brief(given[name])}" for name in _PROCESSORS if given.get(name) not in _NEUTRAL]
        if left_out:
            notes.append(
                f"{self.name}: replies are plainly greedy, without its {GENERATION}'s "
                f"{' and '.join(left_out)}"
            )
        for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
            if (self.path / file).is_file():
                notes.append(f"{self.path} is read as the whole model that it holds; {file} is ignored")
        if self.adapters is not None and self.opened_adapters is not None:
            told = read_json_object(self.adapters / ADAPTER_CONFIG).get("base_model_name_or_path")
            if isinstance(told, str) and not _is_called(self.path, told):
                notes.append(
                    f"{self.adapters} was made for the base {brief(told)} and is read with {self.path}: if "
                    "these are different models, its numbers mean nothing"
                )
            absent = self.opened_adapters.without_tensors
            if absent:
                notes.append(
                    f"{self.adapters} has no tensors for {len(absent)} of the modules that its config adapts "
                    f"({absent[0]} first); these stay the base's"
                )
        return notes


# What may follow a model's name in its file's: how its numbers are kept.
_SAME_MODEL = re.compile(r"(?:[-._](?:i?q\d\w*|f16|f32|bf16|fp16|gguf|hf))*")
# What changes a greedy reply in transformers, but for these values.
_PROCESSORS = ("repetition_penalty", "no_repeat_ngram_size", "suppress_tokens", "bad_words_ids")
_NEUTRAL = (None, 0, 1.0, [])


def _is_called(path: Path, name: str) -> bool:
    """Whether a path is a model of this name: its file or folder (in the cache, the model's) has it."""
    own = path.absolute()
    own = own.parent.parent if own.parent.name == SNAPSHOTS else own
    before, told, after = own.name.casefold().rpartition(Path(name).name.casefold())
    called = bool(told) and not before[-1:].isalnum() and _SAME_MODEL.fullmatch(after) is not None
    return path == Path(name) or called


def has_vision(path: Path) -> bool:
    """Whether a model folder holds a text model beside one that sees."""
    return (path / CONFIG).is_file() and read_json_object(path / CONFIG).get("model_type") == WITH_VISION


def base_and_adapters(name: str) -> tuple[str, str]:
    """The two sides of BASE+ADAPTERS; an existing path, or a workdir's, may contain a +."""
    if exists(Path(re.split("[:@]", name)[0]).expanduser()):
        return name, ""
    splits = [(name[:at], name[at + 1 :]) for at, character in enumerate(name) if character == "+"]
    before, _, after = name.partition("+")
    return next((split for split in splits if exists(Path(split[0]).expanduser())), (before, after))


def is_pretrained(name: str) -> bool:
    """Whether a name is a path to an external model rather than to a workdir."""
    base, adapters = base_and_adapters(name)
    path = Path(base).expanduser()
    if adapters or not exists(path):
        return bool(adapters)
    path = snapshot_of(path)
    return path.is_file() or (path.is_dir() and not is_workdir(path) and _configured(path))


def is_workdir(path: Path) -> bool:
    """Whether a folder is a run's, whose config.json is of another kind and has no weights beside it."""
    if any((path / file).is_file() for file in (WEIGHTS, WEIGHTS_INDEX, ADAPTER_CONFIG)):
        return False
    if (path / "checkpoints").is_dir():
        return True
    # Perhaps a run interrupted before its first checkpoint. An unreadable config is treated as a model's,
    # which reports the error.
    try:
        return "model_type" not in read_json_object(path / CONFIG)
    except InputError:
        return False


def _configured(path: Path) -> bool:
    return any((path / file).is_file() for file in (CONFIG, ADAPTER_CONFIG, WEIGHTS, WEIGHTS_INDEX))


def find_pretrained(name: str, chat: ChatOptions | None = None) -> PretrainedModel:
    """The model that a name means; reads only file names and small JSON files.

    Raises:
      InputError: a path is not a model, or the base of adapters is not found.
    """
    base, adapters = base_and_adapters(name)
    path, chat = snapshot_of(Path(base).expanduser()), chat or ChatOptions()
    if path.is_dir() and is_workdir(path):
        raise InputError(
            f"{name}: {path} is a run's workdir; add adapters to a model folder or a GGUF file "
            "(experiments.export writes a run's model as a folder)"
        )
    if kind_of(path) != ADAPTER_FOLDER:
        added = snapshot_of(Path(adapters).expanduser()) if adapters else None
        if added is not None and kind_of(added) != ADAPTER_FOLDER:
            raise InputError(f"{name}: {added} is not a folder of adapters")
        return PretrainedModel(name, path, added, chat)
    if adapters:
        raise InputError(f"{name}: {path} is a folder of adapters; give BASE+ADAPTERS")
    if has_whole_model(path):
        raise InputError(
            f"{name} has both a whole model and adapters: move {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS} away "
            f"to read the model, or give BASE+{name} to read the adapters"
        )
    told = read_json_object(path / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not isinstance(told, str) or not exists(Path(told)):
        raise InputError(f"{name}: the adapters' base {brief(told)} is not a path here; give BASE+{name}")
    own = snapshot_of(Path(told))
    if kind_of(own) == ADAPTER_FOLDER:
        raise InputError(
            f"{name}: the adapters' base {told} is a folder of adapters itself; give BASE+{name}"
        )
    return PretrainedModel(name, own, path, chat)


def check_pretrained(source: PretrainedModel) -> None:
    """Checks a model by its files' headers: names and shapes, no numbers.

    Raises:
      InputError: as `load_pretrained_model`.
    """
    if source.gguf is not None:
        check_gguf_tensors(source.gguf)
    else:
        check_folder(source.path, source.config)
    _ = source.opened_adapters  # checked as it is opened


def load_pretrained_model(
    source: PretrainedModel, mesh: jax.sharding.Mesh, keep_bfloat16: bool = False
) -> Model:
    """Reads the model, each device only its part, and places it on the mesh.

    Matrices are float32, or with `keep_bfloat16`, where that loses nothing, bfloat16.

    Raises:
      InputError: a file is damaged, or its tensors do not match its config.
    """
    config, tokenizer = source.config, source.tokenizer
    if source.gguf is not None:
        params = load_gguf_tensors(source.gguf, mesh)
    else:
        if keep_bfloat16 and source.keeps_bfloat16:
            config = dataclasses.replace(config, parameter_dtype="bfloat16")
        _, params = load_folder(source.path, mesh, config.parameter_dtype)
    if source.adapters is None:
        return Model(config, tokenizer, {"params": params}, source.name)
    config, variables = with_adapters(source.adapters, config, params, mesh)
    return Model(config, tokenizer, variables, source.name)
