"""Small tokenizers in model folders, made on the spot: byte-level BPE and SentencePiece-like."""

import json
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

WORDS = (
    "What is the capital of Norway? I think it is Oslo, but I am not sure. It would stay Paris; it would"
    " change to Rome.\n\nYou are a helpful assistant. user assistant system model 12 345 [INST] [/INST]"
)
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKERS = ("<think>", "</think>", "<tool_call>")  # added tokens that are not marked special
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level() -> tokenizers.Tokenizer:
    """Qwen's kind: NFC, all bytes, ChatML's tokens, markers that are not special."""
    words = ["assistant", "user", "Norway", "Oslo", *(f"Ġ{word}" for word in WORDS.split())]
    chains = [(word[:length], word[length]) for word in words for length in range(1, len(word))]
    merges = list(dict.fromkeys(chains))
    names = dict.fromkeys([*sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, merges)])
    tokenizer = tokenizers.Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in CHATML])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in MARKERS])
    return tokenizer


def pieces() -> dict[str, int]:
    """A SentencePiece-like vocabulary: control tokens, bytes, letters, and the beginnings of WORDS' words."""
    names = ["<unk>", "<s>", "</s>", "<start_of_turn>", "<end_of_turn>", "\n\n", "<h1>"]
    names += [f"<0x{byte:02X}>" for byte in range(256)]
    names += sorted({letter for letter in WORDS.replace(" ", "▁") if not letter.isspace()})
    for word in sorted({f"▁{word}" for word in WORDS.split()}):
        names += [word[:length] for length in range(2, len(word) + 1)]
    return {name: i for i, name in enumerate(dict.fromkeys([*names, "▁▁"]))}


def sentencepiece_like(space: str) -> tokenizers.Tokenizer:
    """`space`: "prepend" (Llama 2's file), "first" (Mistral's) or "none" (Gemma's)."""
    vocabulary = pieces()
    cuts = [(name[:-1], name[-1]) for name in vocabulary if len(name) > 1]
    merges = [(left, right) for left, right in cuts if left in vocabulary and right in vocabulary]
    model = models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = tokenizers.Tokenizer(model)
    decoder = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if space == "first":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    elif space == "prepend":
        steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        tokenizer.normalizer = normalizers.Sequence(steps)
    else:
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
    if space != "none":
        decoder.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(decoder)
    control = ["<unk>", "<s>", "</s>"] + (["<start_of_turn>", "<end_of_turn>"] if space == "none" else [])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in control])
    if space == "none":
        tokenizer.add_tokens([AddedToken(token, normalized=False) for token in ("\n\n", "<h1>")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def model_folder(folder: Path, tokenizer: tokenizers.Tokenizer, template, **fields) -> Path:
    """A folder with `tokenizer.json` and a `tokenizer_config.json` of these fields."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {**fields, "chat_template": template} if template is not None else fields
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return folder
