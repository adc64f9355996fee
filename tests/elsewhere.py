"""Tiny external models, and a run's workdir: what users give commands as the names of models."""

import dataclasses
import functools
import json
from pathlib import Path

import chat_templates
import jax
from gguf_cases import fields_of, write_gguf
from small_tokenizers import byte_level, model_folder
from tiny import task_model, tiny_config, tiny_variables

from introspection.checkpoints.names import CHECKPOINTS, TOKENIZER, ModelCard, find_models
from introspection.checkpoints.store import CheckpointStore
from introspection.models.config import LoraConfig
from introspection.weights.adapters import export_adapters
from introspection.weights.export import export_model
from introspection.weights.pretrained import PretrainedModel

LORA = LoraConfig(rank=3, alpha=5.0, targets=("query", "value", "down"))
CONTEXT = 512  # tokens; prompts of tiny tasks take about 200 of these vocabularies


@functools.cache
def vocabulary():
    return byte_level()


def chat_config(**changes):
    """Of Qwen's kind, as `chat_folder` writes it."""
    size = vocabulary().get_vocab_size()
    return tiny_config(**(dict(vocab_size=size, context_length=CONTEXT, qkv_bias=True) | changes))


def chat_folder(
    folder: Path, seed=0, template=chat_templates.QWEN25, tokenizer=None, shard_bytes=1 << 30, **changes
) -> Path:
    """A Hugging Face model folder with a chat template."""
    config = chat_config(**changes)
    export_model(folder, config, tiny_variables(config, seed)["params"], {}, {}, shard_bytes)
    special = dict(eos_token="<|im_end|>", pad_token="<|endoftext|>")
    model_folder(folder, tokenizer or vocabulary(), template, **special)
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [vocabulary().token_to_id("<|endoftext|>")]})
    )
    return folder


def adapter_folder(folder: Path, base: Path | str | None = None, seed=0, **changes) -> Path:
    """PEFT adapters for a model of `chat_folder`."""
    adapters = tiny_variables(chat_config(lora=LORA, **changes), seed)["lora"]
    export_adapters(folder, LORA, adapters, base=None if base is None else str(base))
    return folder


def gguf_model(path: Path, architecture="llama", **changes) -> Path:
    """A GGUF file with a tokenizer."""
    fields = fields_of(vocabulary())
    size = len(fields["tokenizer.ggml.tokens"])
    write_gguf(path, architecture, tokenizer=fields, vocab_size=size, context_length=CONTEXT, **changes)
    return path


def run_workdir(folder: Path, config=None, seeds=(0, 1), tokenizer=None) -> Path:
    """What a run leaves of its models: `initial`, the arm `full`, and `lora`, adapters on `initial`.

    `config` is its config.json, as far as tests need it; None leaves that out. Its models are organisms, or
    of `chat_config`'s shape with the `tokenizer` that is given.
    """
    plain = task_model().config if tokenizer is None else chat_config()
    adapted = dataclasses.replace(plain, lora=LORA)
    base, whole = (stacked([tiny_variables(plain, one) for one in ids]) for ids in ((0,), seeds))
    adapters = stacked([{"lora": tiny_variables(adapted, seed)["lora"]} for seed in seeds])
    for name, card, trees in (
        ("initial", ModelCard(plain, (0,)), {0: base}),
        ("full", ModelCard(plain, seeds), {4: whole}),
        ("lora", ModelCard(adapted, seeds, base="initial"), {4: adapters}),
    ):
        card.write(folder / CHECKPOINTS / name)
        with CheckpointStore(folder / CHECKPOINTS / name) as store:
            for step, tree in trees.items():
                store.save(step, tree, None, {})
            store.wait()
    (tokenizer or task_model().tokenizer).save(folder / TOKENIZER)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def stacked(trees):
    """One tree with a leading axis of seeds."""
    return jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *trees)


def with_adapters(folder: Path) -> str:
    """The name BASE+ADAPTERS of a model written below a folder."""
    return f"{chat_folder(folder / 'base')}+{adapter_folder(folder / 'adapters')}"


def found(name) -> PretrainedModel:
    """The one external model that a name means."""
    (one,) = find_models(str(name))
    assert isinstance(one, PretrainedModel)
    assert one.name == str(name)
    return one


def cut(file: Path, keep: int) -> None:
    """Leaves the first `keep` bytes of a file, or all but the last ones."""
    file.write_bytes(file.read_bytes()[:keep])
