"""GGUF vocabularies as tokenizers: byte-level BPE and SentencePiece-like, with their chat template.

Both are rebuilt to match the original's `tokenizer.json` (GGUF stores the pieces, not the rules around them).
Field names, token types and pre-tokenizer names follow the GGUF specification and llama.cpp's
`llama-vocab.cpp`.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from introspection.errors import InputError, brief, shortened
from introspection.text.chat_template import ChatOptions
from introspection.text.literal_text import library_faults
from introspection.text.pretrained_tokenizer import PretrainedTokenizer, pretrained_tokenizer
from introspection.text.tokenizer_trial import tried_gguf

# tokenizer.ggml.token_type
_UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 2, 3, 4, 5, 6

_MOST_CHARACTERS = 1000  # of a token: finding its merges takes the square of that

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def _by_pattern(pattern: str) -> list[pre_tokenizers.PreTokenizer]:
    return [
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


# By tokenizer.ggml.pre: how text is split before merging, whether a whole word in the vocabulary skips the
# merges, and whether text is normalised. "smollm" splits off digits one by one *before* GPT-2's pattern sees
# the rest, so a space before a digit is its own piece: the order of the original (Digits, then ByteLevel) and
# of llama.cpp.
_PRE_TOKENIZERS = {
    "gpt-2": (lambda: [_gpt2()], False, False),
    "smollm": (lambda: [pre_tokenizers.Digits(individual_digits=True), _gpt2()], False, False),
    "llama-bpe": (lambda: _by_pattern(_LLAMA3), True, False),
    "qwen2": (lambda: _by_pattern(_QWEN2), False, True),
}


def build_gguf_tokenizer(fields: Mapping[str, Any], source: str) -> tokenizers.Tokenizer:
    """The tokenizer of `read_gguf_tokenizer` without its chat format, from fields that may be hostile."""
    tokens, types = _pieces(fields, source)
    special = _special(fields, tokens, types, source)
    # Unused rows only pad the embedding.
    vocabulary = {
        token: i for i, (token, kind) in enumerate(zip(tokens, types, strict=True)) if kind != _UNUSED
    }
    model = _field(fields, "tokenizer.ggml.model", str, source)
    if model == "gpt2":
        tokenizer = _byte_level(fields, vocabulary, source)
    elif model == "llama":
        tokenizer = _sentencepiece_like(fields, vocabulary, types, source)
    else:
        raise InputError(
            f"{source}: tokenizer.ggml.model is {brief(model)}; only gpt2 and llama are supported"
        )
    named = special.values()
    added = [
        AddedToken(token, normalized=False, special=types[i] != _USER_DEFINED or token in named)
        for token, i in vocabulary.items()
        if types[i] in (_CONTROL, _USER_DEFINED) or (types[i] == _UNKNOWN and model == "llama")
    ]
    tokenizer.add_tokens(added)
    # llama.cpp's defaults.
    begins = model == "llama" or fields.get("tokenizer.ggml.pre") == "llama-bpe"
    if fields.get("tokenizer.ggml.add_bos_token", begins) and "bos_token" in special:
        bos = special["bos_token"]
        with library_faults(source, f"its bos_token {brief(bos)}"):
            tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
                single=f"{bos} $A", special_tokens=[(bos, vocabulary[bos])]
            )
    return tokenizer


def _pieces(fields: Mapping[str, Any], source: str) -> tuple[list[str], list[int]]:
    """The texts of all tokens and their types."""
    tokens = list(_field(fields, "tokenizer.ggml.tokens", Sequence, source))
    types = [1] * len(tokens)
    if "tokenizer.ggml.token_type" in fields:
        types = list(_field(fields, "tokenizer.ggml.token_type", Sequence, source))
    if len(types) != len(tokens) or not all(isinstance(token, str) for token in tokens):
        raise InputError(
            f"{source}: there are {len(tokens)} tokens but {len(types)} token types, or a token is not text; "
            "convert the model to GGUF again"
        )
    if (longest := max(map(len, tokens), default=0)) > _MOST_CHARACTERS:
        raise InputError(f"{source}: a token has {longest:,} characters, more than {_MOST_CHARACTERS:,}")
    return tokens, types


def _special(
    fields: Mapping[str, Any], tokens: Sequence[str], types: Sequence[int], source: str
) -> dict[str, str]:
    """The texts of bos_token, eos_token and so on, as far as the file names them."""
    special = {}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        index = fields.get(f"tokenizer.ggml.{key}_token_id")
        if index is None:
            continue
        if not isinstance(index, int) or not 0 <= index < len(tokens) or types[index] == _UNUSED:
            raise InputError(
                f"{source}: tokenizer.ggml.{key}_token_id is {brief(index)}, which is not the index of a "
                "token"
            )
        special[f"{name}_token"] = tokens[index]
    return special


def read_gguf_tokenizer(
    fields: Mapping[str, Any], chat: ChatOptions | None = None, source: str = "the GGUF file"
) -> PretrainedTokenizer:
    """The tokenizer of a GGUF file's metadata.

    Args:
      fields: names to plain values; only those that start with `tokenizer.` are read.
      source: the file, for messages.

    Raises:
      InputError: a field is missing or malformed, the kind of tokenizer is unsupported, or the chat template
        is unusable.
    """
    tokens, types = _pieces(fields, source)
    special = _special(fields, tokens, types, source)
    own = {name: value for name, value in fields.items() if name.startswith("tokenizer.ggml.")}
    with library_faults(source, "its own vocabulary"):
        tokenizer = tokenizers.Tokenizer.from_str(tried_gguf(own, source))
    template = fields.get("tokenizer.chat_template")
    if template is not None and not isinstance(template, str):
        raise InputError(f"{source}: tokenizer.chat_template is {type(template).__name__}; it must be text")
    stops = [fields.get(f"tokenizer.ggml.{end}_token_id") for end in ("eot", "eom")]
    stops = [end for end in stops if isinstance(end, int) and 0 <= end < len(tokens)]
    chat = ChatOptions() if chat is None else chat
    return pretrained_tokenizer(tokenizer, template, special, chat, source, stops)


def _field(fields: Mapping[str, Any], name: str, kind: type, source: str) -> Any:
    value = fields.get(name)
    if not isinstance(value, kind):
        found = "missing" if value is None else f"{type(value).__name__}, not {kind.__name__}"
        raise InputError(f"{source}: the field {name} is {found}; convert the model to GGUF again")
    return value


def _byte_level(fields: Mapping[str, Any], vocabulary: dict[str, int], source: str) -> tokenizers.Tokenizer:
    pre = _field(fields, "tokenizer.ggml.pre", str, source)
    if pre not in _PRE_TOKENIZERS:
        known = ", ".join(_PRE_TOKENIZERS)
        raise InputError(f"{source}: tokenizer.ggml.pre is {pre!r}; only {known} are supported")
    split, ignore_merges, normalized = _PRE_TOKENIZERS[pre]
    merges = _field(fields, "tokenizer.ggml.merges", Sequence, source)
    if not all(isinstance(merge, str) for merge in merges):
        raise InputError(f"{source}: an entry of tokenizer.ggml.merges is not text")
    merges = [tuple(merge.split(" ", 1)) for merge in merges]
    model = _bpe(source, vocab=vocabulary, merges=merges, ignore_merges=ignore_merges)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC() if normalized else None
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split())
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece_like(
    fields: Mapping[str, Any], vocabulary: dict[str, int], types: Sequence[int], source: str
) -> tokenizers.Tokenizer:
    """BPE with byte pieces for unknown characters.

    Unless `add_space_prefix` is false, a space is put before every stretch of text between control tokens, as
    in llama.cpp and the original (`Prepend`).
    """
    scores = _field(fields, "tokenizer.ggml.scores", Sequence, source)
    if len(scores) != len(types):
        raise InputError(f"{source}: {len(types)} tokens but {len(scores)} scores")
    unknown = [token for token, i in vocabulary.items() if types[i] == _UNKNOWN]
    model = _bpe(
        source,
        vocab=vocabulary,
        merges=_merges(vocabulary, types, scores),
        unk_token=unknown[0] if unknown else None,
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = tokenizers.Tokenizer(model)
    spaces = normalizers.Replace(" ", "▁")
    read_spaces = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if fields.get("tokenizer.ggml.add_space_prefix", True):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
        read_spaces.append(decoders.Strip(" ", 1, 0))
    else:
        tokenizer.normalizer = spaces
    tokenizer.decoder = decoders.Sequence(read_spaces)
    return tokenizer


def _merges(
    vocabulary: Mapping[str, int], types: Sequence[int], scores: Sequence[float]
) -> list[tuple[str, str]]:
    """The merges implied by a SentencePiece vocabulary: any two pieces that form a piece, best score first.

    SentencePiece joins the neighbours whose joint piece scores best; a BPE model applies the merges in that
    order (transformers converts the same way).
    """
    apart = {_UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE}
    pieces = {token: i for token, i in vocabulary.items() if types[i] not in apart}
    pairs = []
    for piece, i in pieces.items():
        halves = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        found = [(left, right) for left, right in halves if left in pieces and right in pieces]
        found.sort(key=lambda pair: (pieces[pair[0]], pieces[pair[1]]))
        pairs.append((-scores[i], found))
    pairs.sort(key=lambda entry: entry[0])
    return list(itertools.chain.from_iterable(found for _, found in pairs))


def _bpe(source: str, **arguments: Any) -> models.BPE:
    try:
        return models.BPE(**arguments)
    except Exception as error:  # the library raises bare Exception
        fault = shortened(" ".join(str(error).split()))
        raise InputError(f"{source}: the vocabulary does not fit its merges ({fault})") from error
