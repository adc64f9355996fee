"""Hugging Face tokenizer files: `tokenizer.json`, chat template and special tokens, read and written."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

import tokenizers

from introspection.errors import InputError
from introspection.runtime.files import read_whole
from introspection.text.chat_template import MOST_CHARACTERS, ChatOptions
from introspection.text.pretrained_tokenizer import PretrainedTokenizer, pretrained_tokenizer, read_tokenizer
from introspection.text.special_tokens import (
    CONFIG,
    GENERATION,
    SPECIAL_TOKENS,
    TOKENIZER,
    add_declared,
    declared_tokens,
    read_fields,
    stop_tokens,
)
from introspection.text.tokenizer import END, PADDING, REPLY, ChatTokenizer, from_tokenizer

TEMPLATE = "chat_template.jinja"

# A word-level tokenizer's format as a template.
_WORD_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}"
    f"{{% if message['role'] == 'assistant' %}}{END}{{% else %}}{REPLY}{{% endif %}}{{% endfor %}}"
)


def read_hf_tokenizer(
    folder: Path, chat: ChatOptions | None = None, stop_ids: Sequence[int] | None = None
) -> ChatTokenizer:
    """A model folder's tokenizer; `tokenizer.json` is used regardless of the class in the config.

    The chat template is `chat_template.jinja`, or else that of `tokenizer_config.json` (the `default` of
    several). Special tokens are read from every file that declares some (`declared_tokens`). An organism's
    tokenizer is word-level.

    Args:
      stop_ids: tokens that end a generation, instead of those that the folder declares.

    Raises:
      InputError: a file is missing, unreadable or inconsistent with another; the template is unusable.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        raise InputError(f"{folder}: {TOKENIZER} is missing; save the model's fast tokenizer there")
    tokenizer = read_tokenizer(path)
    framing = [tokenizer.token_to_id(token) for token in (PADDING, END, REPLY)]
    if isinstance(tokenizer.model, tokenizers.models.WordLevel) and None not in framing:
        return from_tokenizer(tokenizer)
    declared = declared_tokens(folder)
    notes = [*declared.notes, *add_declared(tokenizer, declared)]
    special = {name: token.content for name, token in declared.named.items()}
    chat = ChatOptions() if chat is None else chat
    template, source = _template(folder)
    if chat.template is not None:
        source = "chat.template"
    stops = stop_tokens(folder) if stop_ids is None else stop_ids
    return pretrained_tokenizer(tokenizer, template, special, chat, str(source), stops, notes)


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder of adapters has a whole tokenizer, which users of PEFT load instead of the base's."""
    return (folder / TOKENIZER).is_file() and (folder / CONFIG).is_file()


def read_adapters_tokenizer(
    folder: Path, base: ChatTokenizer | Path, base_template: str | None, chat: ChatOptions
) -> ChatTokenizer:
    """The tokenizer in a folder of adapters.

    Args:
      base: the base's tokenizer or its folder: a generation ends where the base's does.
      base_template: used if neither `chat` nor the adapters' folder has a chat template.

    Raises:
      InputError: as `read_hf_tokenizer`; or a token has another id in the base's tokenizer.
    """
    if not isinstance(base, Path):
        stops, ids = [base.end_id, *base.stop_ids], base.tokenizer.get_vocab()
    else:
        path = base / TOKENIZER
        stops, ids = stop_tokens(base), read_tokenizer(path).get_vocab() if path.is_file() else {}
    if own_template(folder) is None:
        chat = dataclasses.replace(chat, template=chat.template or base_template)
    tokenizer = read_hf_tokenizer(folder, chat, stops)
    for text, index in tokenizer.tokenizer.get_vocab().items():
        if ids.get(text, index) != index:
            where = base / TOKENIZER if isinstance(base, Path) else "the base"
            raise InputError(
                f"{folder / TOKENIZER}: {text!r} has id {index} here but {ids[text]} in {where}; "
                "give the base that the adapters were trained on"
            )
    return tokenizer


def own_template(folder: Path) -> str | None:
    """The chat template in a folder, if any. Raises InputError if it can't be read."""
    return _template(folder)[0]


def check_special_tokens(folder: Path, tokenizer: ChatTokenizer) -> None:
    """Checks that a folder's special tokens match a tokenizer from elsewhere.

    Raises:
      InputError: the folder declares another bos or eos token, or tokens that the tokenizer lacks.
    """
    if not isinstance(tokenizer, PretrainedTokenizer):
        return  # word-level tokenizers have no template
    declared = declared_tokens(folder)
    for name in ("bos_token", "eos_token"):
        own, base = declared.named.get(name), tokenizer.template.special_tokens.get(name)
        if own is not None and own.content != base:
            raise InputError(
                f"its {name} is {own.content!r}, but that of its base is {base!r}; give a base with the "
                f"tokenizer that the adapters were trained with, or delete {name} or the template there"
            )
    tokens = [*(token for _, token, _ in declared.listed), *declared.unnamed]
    missing = [token for token in tokens if tokenizer.tokenizer.token_to_id(token.content) is None]
    if missing:
        raise InputError(f"it declares the token {missing[0].content!r}, which its base's tokenizer lacks")


def token_ids(tokenizer: ChatTokenizer) -> dict[str, int]:
    """The special token ids for a model's config.json."""
    ids = {"eos_token_id": tokenizer.end_id, "pad_token_id": tokenizer.padding_id}
    if isinstance(tokenizer, PretrainedTokenizer) and "bos_token" in tokenizer.template.special_tokens:
        bos = tokenizer.template.special_tokens["bos_token"]
        if (token := tokenizer.tokenizer.token_to_id(bos)) is not None:
            ids["bos_token_id"] = token
    return ids


def hf_tokenizer_files(tokenizer: ChatTokenizer) -> dict[str, bytes]:
    """Files by name for transformers: tokenizer, chat template, and the tokens that end a generation."""
    if isinstance(tokenizer, PretrainedTokenizer):
        template, special = tokenizer.template.text, dict(tokenizer.template.special_tokens)
        padding = tokenizer.tokenizer.id_to_token(tokenizer.padding_id)
        if padding is not None:
            special.setdefault("pad_token", padding)
    else:
        template, special = _WORD_TEMPLATE, {"eos_token": END, "pad_token": PADDING}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        **special,
        "chat_template": template,
    }
    ends = [tokenizer.end_id, *tokenizer.stop_ids]
    generation = {**token_ids(tokenizer), "eos_token_id": ends, "do_sample": False}
    objects = {CONFIG: config, SPECIAL_TOKENS: special, GENERATION: generation}
    return {TOKENIZER: tokenizer.tokenizer.to_str(pretty=True).encode()} | {
        name: (json.dumps(fields, indent=1, ensure_ascii=False) + "\n").encode()
        for name, fields in objects.items()
    }


def _template(folder: Path) -> tuple[str | None, Path]:
    """The chat template and its file; None for a model without one."""
    path = folder / TEMPLATE
    if os.path.lexists(path):
        data = read_whole(path, 4 * MOST_CHARACTERS)
        try:
            return data.decode(), path
        except ValueError as error:
            raise InputError(f"{path}: not readable as text ({error})") from error
    path = folder / CONFIG
    template = read_fields(path).get("chat_template")
    if isinstance(template, list):
        try:
            named = {str(entry["name"]): entry["template"] for entry in template}
        except (TypeError, KeyError) as error:
            raise InputError(
                f"{path}: every chat_template in the list needs a name and a template"
            ) from error
        if "default" not in named:
            raise InputError(f"{path}: no chat_template is named default; the names are: {', '.join(named)}")
        template = named["default"]
    if template is not None and not isinstance(template, str):
        raise InputError(
            f"{path}: chat_template is {type(template).__name__}; it must be text or a list of templates"
        )
    return template, path
