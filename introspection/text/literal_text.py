"""Tokenizers that read a user's text as text only.

A tokenizer finds control tokens (`<|im_end|>`, `<s>`, `<think>`) by their text, whatever its origin. So each
is renamed to a shielded form, its text between two Unicode noncharacters: text of the template is shielded
before encoding; text of the user is not and becomes ordinary pieces. Ids and white-space rules stay the same,
so a text without control tokens keeps its ids. Other added tokens, such as words of a field, stay tokens in
anybody's text, as in transformers.
"""

import contextlib
import dataclasses
import json
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import tokenizers

from introspection.errors import InputError, brief, shortened

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_PREFIXES = ("none", "first", "unspaced", "always")
_NOTHING = "(?!)"  # a pattern that never matches


@dataclasses.dataclass(frozen=True)
class LiteralTokenizer:
    """A shielded tokenizer, and its variant for text that continues a prompt."""

    whole: tokenizers.Tokenizer
    continuing: tokenizers.Tokenizer  # adds no space before its text and strips none from it
    control: re.Pattern[str]  # every control token, longest first
    shielded: re.Pattern[str]
    # Where a space is put before a stretch of text between control tokens: "always"; "unspaced": if it starts
    # with none; "first": only at the start of the whole text; "none".
    prefix: str
    pieces_of_spaces: bool  # SentencePiece-like: a space is written ▁
    words: Mapping[int, str]  # added tokens that are text, as the decoder should read them
    spaced: frozenset[int]  # of these, those that a space is put after
    swallowed: re.Pattern[str]  # white space that such a token takes in, by its flags lstrip and rstrip
    source: str  # the model's file, for messages

    def encode(self, before: str, literal: str, after: str) -> list[int]:
        """Ids of a text whose middle is the user's and the rest the template's.

        Raises:
          InputError: the user's text has a shielded token or an unpaired surrogate, or the library fails.
        """
        return self._encode(self.whole, before, literal, after)

    def encode_continuation(self, before: str, literal: str, after: str) -> list[int]:
        """As `encode`, for a text that continues a prompt."""
        return self._encode(self.continuing, before, literal, after)

    def _encode(self, tokenizer: tokenizers.Tokenizer, before: str, literal: str, after: str) -> list[int]:
        self._check(literal)
        text = self._shield(before) + literal + self._shield(after)
        begins = self.prefix == "always" and text[:1] == " " and text[1:].strip() and _OPEN not in text
        if begins and any(word in text for word in self.words.values()):
            # Every stretch between words gets a space, also the first.
            tokenizer, text = self.whole, text[1:]
        with library_faults(self.source, f"the text {brief(literal)}"):
            return tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a continuation; control tokens and unknown ids stay visible."""
        text, run, spaced = "", [], False
        with library_faults(self.source, "a reply's tokens"):
            for token in [*ids, None]:
                known = token is not None and self.continuing.id_to_token(token) is not None
                if known and token not in self.words:
                    run.append(token)
                    continue
                read = self.continuing.decode(run, skip_special_tokens=False)
                text += read.removeprefix(" ") if spaced else read
                run, spaced = [], token in self.spaced
                if token is not None:
                    text += self.words[token] if known else f"<no token {token}>"
        return self.shielded.sub(lambda match: match[0][1:-1], text)

    def canonical(self, text: str) -> str:
        """The text up to differences that the tokenizer's own normalisation makes."""
        normalizer, text = self.continuing.normalizer, self.swallowed.sub("", text)
        with library_faults(self.source, f"the text {brief(text)}"):
            text = normalizer.normalize_str(text) if normalizer is not None else text
        return text.replace("▁", " ") if self.pieces_of_spaces else text

    def _shield(self, text: str) -> str:
        return self.control.sub(lambda match: _shielded(match[0]), text)

    def _check(self, text: str) -> None:
        if self.shielded.search(text):
            raise InputError(
                f"the text {brief(text)} has a control token between U+FDD0 and U+FDD1; remove these"
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"the text {brief(text)} has an unpaired surrogate, which can't be encoded"
            ) from error


def literal_tokenizer(
    tokenizer: tokenizers.Tokenizer, written: str, opening: str, source: str
) -> LiteralTokenizer:
    """Builds the shielded tokenizers from a tokenizer and what its chat template writes.

    Args:
      written: all text that the template may write.
      opening: the text that it writes between a prompt and its reply.
      source: the template's file, for messages.

    Raises:
      InputError: the tokenizer's model is not BPE, or the library fails.
    """
    definition = json.loads(tokenizer.to_str())
    if definition["model"]["type"] != "BPE":
        raise InputError(
            f"{source}: the tokenizer's model is {definition['model']['type']}; only BPE is supported"
        )
    control = control_tokens(definition, written, opening)
    _rename(definition, control)
    definition["post_processor"] = None
    kinds = list(components(definition, "pre_tokenizer", "normalizer"))
    whole = _from_definition(definition, source)
    prefix = max((_prefix(kind) for kind in kinds), key=_PREFIXES.index, default="none")
    _continue(definition)
    longest_first = "|".join(map(re.escape, sorted(control, key=len, reverse=True))) or _NOTHING
    byte_level = _is_byte_level(definition)
    words = [token for token in definition["added_tokens"] if token["content"][:1] != _OPEN]
    spaced = [token["id"] for token in words if prefix == "always" and not token["normalized"]]
    swallowed = [rf"\s+(?={re.escape(token['content'])})" for token in words if token["lstrip"]]
    swallowed += [rf"(?<={re.escape(token['content'])})\s+" for token in words if token["rstrip"]]
    literal = LiteralTokenizer(
        whole=whole,
        continuing=_from_definition(definition, source),
        control=re.compile(longest_first),
        shielded=re.compile(f"{_OPEN}(?:{longest_first}){_CLOSE}"),
        prefix=prefix,
        pieces_of_spaces=not byte_level,
        words={token["id"]: _read(token, prefix) for token in words if byte_level or prefix == "always"},
        spaced=frozenset(spaced),
        swallowed=re.compile("|".join(swallowed) or _NOTHING),
        source=source,
    )
    for token in control:
        if whole.token_to_id(_shielded(token)) != tokenizer.token_to_id(token):
            raise InputError(
                f"{source}: the token {token!r} has an id out of order; save the tokenizer again"
            )
    return literal


def control_tokens(definition: dict[str, Any], written: str, opening: str) -> frozenset[str]:
    """The added tokens that control a model, as opposed to text with its own id.

    These are all special tokens, and the markers that the template writes (`<think>`, `<|user|>`, `[INST]`),
    special or not. The rest are text: words that were added for a field, even if the template's own sentences
    have them; markers that the template doesn't know; SentencePiece's user-defined pieces, such as Gemma's
    line breaks and HTML tags; and runs of spaces. If words alone open a reply (`USER` and `ASSISTANT`), a
    text could forge a turn with them, so they control too.

    Args: as `literal_tokenizer`.
    """
    special = {token["content"]: token["special"] for token in definition["added_tokens"]}
    control = {text for text in special if special[text] or (is_marker(text) and text in written)}
    if not any(text in opening for text in control):
        words = (text for text in special if text.strip() and re.search(rf"\b{re.escape(text)}\b", opening))
        control.update(words)
    return frozenset(control)


def is_marker(text: str) -> bool:
    """Whether a token is written like a marker: letters or digits, and signs that words do not have."""
    signs = re.sub(r"[\w\s▁.'’-]", "", unicodedata.normalize("NFC", text))
    signs = [sign for sign in signs if not unicodedata.category(sign).startswith("M")]
    return bool(signs) and any(map(str.isalnum, text))


@contextlib.contextmanager
def library_faults(source: str, what: str) -> Iterator[None]:
    """Makes any error of the tokenizers' library, its panics too, an InputError."""
    try:
        yield
    except (InputError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic is not an Exception
        fault = shortened(" ".join(str(error).split()))
        raise InputError(f"{source}: the model's tokenizer fails on {what} ({fault})") from error


def _read(word: dict[str, Any], prefix: str) -> str:
    """An added token's text. Found in normalised text, it has the space that this begins with in its own."""
    return " " + word["content"] if prefix == "always" and word["normalized"] else word["content"]


def _shielded(token: str) -> str:
    return f"{_OPEN}{token}{_CLOSE}"


def _rename(definition: dict[str, Any], control: Collection[str]) -> None:
    """Shields control tokens wherever the definition names them, and drops merges that produce them."""
    for token in definition["added_tokens"]:
        if token["content"] in control:
            token["content"] = _shielded(token["content"])
    model = definition["model"]
    model["vocab"] = {
        _shielded(piece) if piece in control else piece: index for piece, index in model["vocab"].items()
    }
    if model["unk_token"] in control:
        model["unk_token"] = _shielded(model["unk_token"])
    pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"])
    model["merges"] = [pair for pair in pairs if not {*pair, "".join(pair)} & set(control)]


def components(definition: dict[str, Any], *names: str) -> Any:
    """Every component under these fields, including those inside sequences."""
    for name in names:
        queue = [definition[name]]
        while queue:
            component = queue.pop()
            if component is not None:
                yield component
                for nested in ("normalizers", "pretokenizers", "decoders"):
                    queue += component.get(nested, [])


def _is_byte_level(definition: dict[str, Any]) -> bool:
    return any(kind["type"] == "ByteLevel" for kind in components(definition, "pre_tokenizer", "decoder"))


def _prefix(component: dict[str, Any]) -> str:
    if component["type"] == "Metaspace":
        return {"always": "unspaced", "first": "first", "never": "none"}[component["prepend_scheme"]]
    if component["type"] == "ByteLevel" and component["add_prefix_space"]:
        return "unspaced"
    return "always" if component["type"] == "Prepend" else "none"


def _continue(definition: dict[str, Any]) -> None:
    """Removes from a definition what adds a space before a text, and what strips it in decoding."""
    for component in components(definition, "pre_tokenizer", "decoder"):
        if component["type"] == "Metaspace":
            component["prepend_scheme"] = "never"
        if component["type"] == "ByteLevel":
            component["add_prefix_space"] = False
    for name, nested, dropped in (("normalizer", "normalizers", "Prepend"), ("decoder", "decoders", "Strip")):
        component = definition[name]
        if component is not None and component["type"] == dropped:
            definition[name] = None
        elif component is not None and nested in component:
            component[nested] = [kind for kind in component[nested] if kind["type"] != dropped]


def _from_definition(definition: dict[str, Any], source: str) -> tokenizers.Tokenizer:
    with library_faults(source, "its own vocabulary"):
        return tokenizers.Tokenizer.from_str(json.dumps(definition, ensure_ascii=False))
