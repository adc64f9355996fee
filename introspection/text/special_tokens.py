"""What a folder's files declare about tokens: every place that transformers reads, by its precedence.

1. `tokenizer.json`: the tokens added to the vocabulary.
2. `tokenizer_config.json`: `added_tokens_decoder`, whose flags replace those of `tokenizer.json`; names, such
   as `eos_token` or a model's own `image_token`; `extra_special_tokens` (a list, or tokens by name),
   `additional_special_tokens` and `model_specific_special_tokens`.
3. Only without an `added_tokens_decoder`: `special_tokens_map.json`, whose names replace those of 2, and
   `added_tokens.json`. Otherwise names that 2 leaves out are taken from the map.

The tokens that end a generation are in `generation_config.json`, or else in `config.json`.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from introspection.errors import InputError
from introspection.runtime.files import read_whole
from introspection.text.literal_text import is_marker

TOKENIZER, CONFIG, MODEL_CONFIG = "tokenizer.json", "tokenizer_config.json", "config.json"
SPECIAL_TOKENS, ADDED_TOKENS = "special_tokens_map.json", "added_tokens.json"
GENERATION = "generation_config.json"
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclasses.dataclass(frozen=True)
class DeclaredTokens:
    """The tokens that a folder's files declare, besides those of its `tokenizer.json`."""

    listed: tuple[tuple[int, AddedToken, Path], ...]  # with their ids, and the file
    named: Mapping[str, AddedToken]  # bos_token, eos_token, …; chat templates use the names
    unnamed: tuple[AddedToken, ...]  # more special tokens
    notes: tuple[str, ...]  # on files that contradict each other


def declared_tokens(folder: Path) -> DeclaredTokens:
    """Reads what a folder declares; a missing file declares nothing.

    Raises:
      InputError: a file is unreadable, or a declaration is malformed.
    """
    path, map_path = folder / CONFIG, folder / SPECIAL_TOKENS
    config, mapped = read_fields(path), read_fields(map_path)
    in_config = _standard(config, path)
    in_map = _standard(mapped, map_path)
    decoder, notes = config.get("added_tokens_decoder"), []
    winner, loser = (SPECIAL_TOKENS, CONFIG) if decoder is None else (CONFIG, SPECIAL_TOKENS)
    for name in in_config.keys() & in_map.keys():
        one, other = in_config[name].content, in_map[name].content
        if one != other:
            notes.append(
                f"{folder}: {name} is {one!r} in {CONFIG} and {other!r} in {SPECIAL_TOKENS}; as in "
                f"transformers, {winner} counts, not {loser}"
            )
    if decoder is None:
        named = {**in_config, **in_map}
    else:
        absent = {name: token for name, token in in_map.items() if name not in config}
        named, mapped = {**absent, **in_config}, {}
    named = {name: named[name] for name in _NAMES if name in named} | _of_this_model(config, mapped, path)
    unnamed = tuple(_token(token, "a special token", path) for token in _unnamed(config, mapped, path))
    special = {token.content for token in (*named.values(), *unnamed)}
    listed = _older(folder / ADDED_TOKENS, special) if decoder is None else _listed(decoder, path)
    return DeclaredTokens(tuple(listed), named, unnamed, tuple(sorted(notes)))


def add_declared(tokenizer: tokenizers.Tokenizer, declared: DeclaredTokens) -> list[str]:
    """Adds declared tokens to a tokenizer in transformers' order, and marks the special ones.

    Returns:
      Notes on flags that differ from those of `tokenizer.json`.

    Raises:
      InputError: a token has another id than declared.
    """
    known = _added(tokenizer)
    changed = [
        (token, path)
        for _, token, path in declared.listed
        if token.content not in known or _flags(token) != _flags(known[token.content])
    ]
    tokenizer.add_tokens([token for token, _ in changed])  # one that is there keeps its id, with these flags
    for index, token, path in declared.listed:
        if (found := tokenizer.token_to_id(token.content)) != index:
            raise InputError(f"{path}: {token.content!r} has id {index} here but {found} in {TOKENIZER}")
    differing = [(token, path) for token, path in changed if token.content in known]
    now, special = _added(tokenizer), []
    for token in (*declared.named.values(), *declared.unnamed):
        text = token.content
        # An ordinary piece that is declared (some models pad with "!") is a token wherever it is, but text.
        piece = tokenizer.model.token_to_id(text) is not None and not is_marker(text)
        special.append(
            AddedToken(text, **_flags(now.get(text, token)) | {"special": text in now or not piece})
        )
    tokenizer.add_tokens(special)
    if not differing:
        return []
    token, path = differing[0]
    flags = ", ".join(sorted(dict(_flags(token).items() - _flags(known[token.content]).items())))
    return [
        f"{path}: {len(differing)} tokens differ in flags from {TOKENIZER} ({token.content!r}: {flags}); "
        f"as in transformers, those of {path.name} count"
    ]


def stop_tokens(folder: Path) -> list[int]:
    """The ids that end a generation: those of `generation_config.json`, or else of `config.json`.

    Raises:
      InputError: a file is unreadable, or its `eos_token_id` is neither an id nor a list of them.
    """
    for path in (folder / GENERATION, folder / MODEL_CONFIG):
        fields = read_fields(path)
        inner = fields.get("text_config")  # of a model that also sees images
        inner = inner.get("eos_token_id") if isinstance(inner, dict) else None
        stops = inner if fields.get("eos_token_id") is None else fields["eos_token_id"]
        if stops is None:
            continue
        stops = stops if isinstance(stops, list) else [stops]
        if any(
            isinstance(stop, bool) or not isinstance(stop, int) or not 0 <= stop < 2**31 for stop in stops
        ):
            raise InputError(f"{path}: eos_token_id is {stops}; it must be a token's id or a list of them")
        return stops
    return []


def read_fields(path: Path) -> dict[str, Any]:
    """The fields of a JSON file; {} if there is nothing of that name.

    Raises:
      InputError: it is unreadable or not an object.
    """
    if not os.path.lexists(path):
        return {}
    data = read_whole(path)
    try:
        fields = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(fields, dict):
        raise InputError(f"{path}: contains {type(fields).__name__}, not an object with fields")
    return fields


def _added(tokenizer: tokenizers.Tokenizer) -> dict[str, AddedToken]:
    return {token.content: token for token in tokenizer.get_added_tokens_decoder().values()}


def _flags(token: AddedToken) -> dict[str, bool]:
    return {flag: getattr(token, flag) for flag in _FLAGS}


def _token(declared: Any, name: str, path: Path) -> AddedToken:
    """A special token, declared as its text or with flags."""
    fields = declared if isinstance(declared, dict) else {"content": declared}
    text, flags = fields.get("content"), {flag: fields[flag] for flag in _FLAGS if flag in fields}
    try:
        if isinstance(text, str):
            return AddedToken(text, **(flags | {"special": True}))
    except (TypeError, ValueError):  # a flag that is not true or false, or half a surrogate
        pass
    raise InputError(f"{path}: {name} is {declared!r}; it must be text or have a field content")


def _standard(fields: Mapping[str, Any], path: Path) -> dict[str, AddedToken]:
    return {name: _token(fields[name], name, path) for name in _NAMES if fields.get(name)}


def _of_this_model(config: Mapping[str, Any], mapped: Mapping[str, Any], path: Path) -> dict[str, AddedToken]:
    """Named tokens that only some models have, such as `image_token`."""

    def own(fields: Mapping[str, Any]) -> dict[str, Any]:
        # Not such as add_bos_token, which is true or false.
        ends = {name: fields[name] for name in fields if name.endswith("_token") and name not in _NAMES}
        more = fields.get("extra_special_tokens")
        kept = {
            name: token for name, token in ends.items() if isinstance(token, str | dict)
        }  # not add_bos_token
        return kept | (more if isinstance(more, dict) else {})

    # transformers reads the last place only if the others name none.
    in_config = own(config) or config.get("model_specific_special_tokens") or {}
    if not isinstance(in_config, dict):
        raise InputError(f"{path}: model_specific_special_tokens is not a table of tokens")
    found = {**in_config, **own(mapped)}
    return {name: _token(token, name, path) for name, token in found.items()}


def _unnamed(config: Mapping[str, Any], mapped: Mapping[str, Any], path: Path) -> list[Any]:
    """Special tokens without a name, of the first place that has some, and those that the map adds."""

    def lists(fields: Mapping[str, Any], name: str) -> list[Any]:
        found = fields.get(name) or []
        if isinstance(found, dict) and name == "extra_special_tokens":
            return []  # tokens by name
        if not isinstance(found, list):
            raise InputError(f"{path}: {name} is {found!r}; it must be a list of tokens")
        return found

    others = lists(config, "additional_special_tokens")
    named = isinstance(config.get("extra_special_tokens"), dict)
    first = lists(config, "extra_special_tokens") or ([] if named else others)
    more = [token for token in lists(mapped, "extra_special_tokens") if token not in first]
    return [*first, *more] or lists(mapped, "additional_special_tokens") or others


def _listed(decoder: Any, path: Path) -> list[tuple[int, AddedToken, Path]]:
    """The tokens of `added_tokens_decoder`, by id."""
    try:
        tokens = sorted(((int(index), token) for index, token in decoder.items()), key=lambda token: token[0])
        return [
            (index, AddedToken(token["content"], **{f: token[f] for f in _FLAGS if f in token}), path)
            for index, token in tokens
        ]
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: added_tokens_decoder is not a table of tokens ({error!r})") from error


def _older(path: Path, special: set[str]) -> list[tuple[int, AddedToken, Path]]:
    """The tokens of `added_tokens.json`, by id, which has no flags."""
    ids = read_fields(path)
    if any(isinstance(index, bool) or not isinstance(index, int) for index in ids.values()):
        raise InputError(f"{path}: not a table of tokens and their ids")
    return [
        (ids[text], AddedToken(text, normalized=text not in special, special=text in special), path)
        for text in sorted(ids, key=ids.__getitem__)
    ]
