"""Pretrained tokenizers of several families with their chat templates, made on the spot."""

from pathlib import Path

import chat_templates
import pytest
from small_tokenizers import CHATML, MARKERS, byte_level, sentencepiece_like

from introspection.text.chat_template import ChatOptions
from introspection.text.hf_tokenizer import hf_tokenizer_files
from introspection.text.pretrained_tokenizer import pretrained_tokenizer
from introspection.text.tokenizer import ChatTokenizer

END = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
KINDS = {
    "qwen2.5": (byte_level, chat_templates.QWEN25, {"eos_token": "<|im_end|>"}),
    "qwen3": (byte_level, chat_templates.QWEN3, {"eos_token": "<|im_end|>"}),
    "byte-level base": (byte_level, None, {"eos_token": "<|endoftext|>"}),
    "llama2": (lambda: sentencepiece_like("prepend"), chat_templates.LLAMA2, END),
    "mistral": (lambda: sentencepiece_like("first"), chat_templates.MISTRAL, END),
    "gemma": (lambda: sentencepiece_like("none"), chat_templates.GEMMA, END),
    "sentencepiece base": (lambda: sentencepiece_like("prepend"), None, END),
}


def pretrained(tokenizer, template, special, **options):
    return pretrained_tokenizer(tokenizer, template, special, ChatOptions(**options), "model", [])


def make(kind, **options):
    tokenizer, template, special = KINDS[kind]
    return pretrained(tokenizer(), template, special, **options)


def pieces(tokenizer, tokens):
    return [tokenizer.tokenizer.id_to_token(token) for token in tokens]


def assert_same_ids(tokenizer, other, texts):
    for text in texts:
        assert tokenizer.encode_prompt(text) == other.encode_prompt(text)
        assert tokenizer.encode_reply(text) == other.encode_reply(text)


TOKENIZERS = {kind: make(kind) for kind in KINDS}
every_kind = pytest.mark.parametrize("kind", KINDS)
CONTROL = [*CHATML, *MARKERS, "<s>", "</s>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<0x41>", "[INST]"]


def write_hf_tokenizer(folder: Path, tokenizer: ChatTokenizer) -> None:
    """Writes `hf_tokenizer_files` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in hf_tokenizer_files(tokenizer).items():
        (folder / name).write_bytes(content)
