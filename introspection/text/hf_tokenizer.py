"""Hugging Face tokenizer files: `tokenizer.json`, chat template and special tokens, read and written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from introspection.errors import InputError
from introspection.text.chat_template import MOST_CHARACTERS, ChatOptions
from introspection.text.child import check_tokenizer_file
from introspection.text.pretrained_tokenizer import PretrainedTokenizer, pretrained_tokenizer, read_tokenizer
from introspection.text.tokenizer import END, PADDING, REPLY, ChatTokenizer, from_tokenizer

TOKENIZER, CONFIG, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
SPECIAL_TOKENS, GENERATION = "special_tokens_map.json", "generation_config.json"
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")

# A word-level tokenizer's format as a template.
_WORD_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}"
    f"{{% if message['role'] == 'assistant' %}}{END}{{% else %}}{REPLY}{{% endif %}}{{% endfor %}}"
)


def read_hf_tokenizer(folder: Path, chat: ChatOptions | None = None) -> ChatTokenizer:
    """A model folder's tokenizer; `tokenizer.json` is used regardless of the class in the config.

    The chat template is `chat_template.jinja`, or else that of `tokenizer_config.json` (the `default` of
    several). Special tokens come from `tokenizer_config.json`, or else `special_tokens_map.json`; the tokens
    that may end a generation also from `generation_config.json`. An organism's tokenizer is word-level.

    Raises:
      InputError: a file is missing, unreadable or inconsistent with another; the template is unusable.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        raise InputError(f"{folder}: {TOKENIZER} is missing; save the model's fast tokenizer there")
    check_tokenizer_file(path)
    tokenizer = read_tokenizer(path)
    framing = [tokenizer.token_to_id(token) for token in (PADDING, END, REPLY)]
    if isinstance(tokenizer.model, tokenizers.models.WordLevel) and None not in framing:
        return from_tokenizer(tokenizer)
    config = _declared(folder)
    _add_tokens(tokenizer, config.get("added_tokens_decoder", {}), folder / CONFIG)
    special = {name: _token_text(config[name], name, folder) for name in _SPECIAL if config.get(name)}
    chat = ChatOptions() if chat is None else chat
    template, source = _template(folder, config)
    if chat.template is not None:
        source = "chat.template"
    stops = _read_json(folder / GENERATION).get("eos_token_id")
    stops = stops if isinstance(stops, list) else [] if stops is None else [stops]
    if any(isinstance(stop, bool) or not isinstance(stop, int) or not 0 <= stop < 2**31 for stop in stops):
        raise InputError(
            f"{folder / GENERATION}: eos_token_id is {stops}; it must be a token's id or a list of them"
        )
    return pretrained_tokenizer(tokenizer, template, special, chat, str(source), stops)


def own_template(folder: Path) -> str | None:
    """The chat template in a folder, if any. Raises InputError if it can't be read."""
    return _template(folder, _given(_read_json(folder / CONFIG)))[0]


def check_special_tokens(folder: Path, tokenizer: ChatTokenizer) -> None:
    """Checks that a folder's special tokens match a tokenizer from elsewhere.

    Raises:
      InputError: the folder declares another bos or eos token, or tokens that the tokenizer lacks.
    """
    if not isinstance(tokenizer, PretrainedTokenizer):
        return  # word-level tokenizers have no template
    config = _declared(folder)
    for name in ("bos_token", "eos_token"):
        own = _token_text(config[name], name, folder) if config.get(name) else None
        base = tokenizer.template.special_tokens.get(name)
        if own is not None and own != base:
            raise InputError(
                f"its {name} is {own!r}, but that of its base is {base!r}; give a base with the tokenizer "
                f"that the adapters were trained with, or delete {name} or the template there"
            )
    declared = config.get("added_tokens_decoder", {})
    tokens = declared.values() if isinstance(declared, dict) else ()
    texts = [token.get("content") for token in tokens if isinstance(token, dict)]
    missing = [text for text in texts if tokenizer.tokenizer.token_to_id(str(text)) is None]
    if missing:
        raise InputError(f"it declares the token {missing[0]!r}, which its base's tokenizer lacks")


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


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(fields, dict):
        raise InputError(f"{path}: contains {type(fields).__name__}, not an object with fields")
    return fields


def _declared(folder: Path) -> dict[str, Any]:
    """A folder's tokenizer settings: `tokenizer_config.json` overrides `special_tokens_map.json`."""
    return {**_read_json(folder / SPECIAL_TOKENS), **_given(_read_json(folder / CONFIG))}


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _token_text(token: Any, name: str, folder: Path) -> str:
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str):
        raise InputError(f"{folder / CONFIG}: {name} is {token!r}; it must be text or have a field content")
    return text


def _template(folder: Path, config: Mapping[str, Any]) -> tuple[str | None, Path]:
    """The chat template and its file; None for a model without one."""
    path = folder / TEMPLATE
    if path.is_file():
        if (size := path.stat().st_size) > 4 * MOST_CHARACTERS:  # bytes of one
            raise InputError(f"{path}: {size:,} bytes are too long for a chat template")
        try:
            return path.read_text(encoding="utf-8"), path
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not readable as text ({error})") from error
    path, template = folder / CONFIG, config.get("chat_template")
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


def _add_tokens(tokenizer: tokenizers.Tokenizer, declared: Any, path: Path) -> None:
    """Adds the config's tokens that `tokenizer.json` lacks, like transformers, and checks their ids."""
    try:
        tokens = sorted((int(index), token) for index, token in declared.items())
        flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
        added = [
            (index, tokenizers.AddedToken(token["content"], **{f: token[f] for f in flags if f in token}))
            for index, token in tokens
        ]
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: added_tokens_decoder is not a table of tokens ({error!r})") from error
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    for index, token in added:
        if token.content not in known:
            tokenizer.add_tokens([token])
        if tokenizer.token_to_id(token.content) != index:
            got = tokenizer.token_to_id(token.content)
            raise InputError(f"{path}: {token.content!r} has id {index} here but {got} in {TOKENIZER}")
