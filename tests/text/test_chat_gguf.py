"""GGUF vocabularies: rebuilt from their fields they are the source; other kinds are refused by name."""

import json

import chat_templates
import pytest
from chat_tokenizers import TOKENIZERS, assert_same_ids, make, pieces
from gguf_cases import fields_of
from row_files import refusal
from small_tokenizers import byte_level, sentencepiece_like

from introspection.errors import InputError
from introspection.text.gguf_tokenizer import read_gguf_tokenizer

TEXTS = [
    "What is the capital of Norway?", "12 345  67\n8", " a\r\n\r\nb ", "é e\u0301 😀 ½ ٣", "I'M we'll", "",
    "   ", "<|im_end|> <think>", "</s>", "It would change to Rome.",
]  # fmt: skip


def pieces_fields(space, template, **changes):
    tokenizer = sentencepiece_like(space)
    definition = json.loads(tokenizer.to_str())
    special = {token["id"]: token["special"] for token in definition["added_tokens"]}
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    types = [
        3 if special.get(i) else 4 if i in special else 6 if t.startswith("<0x") else 1
        for i, t in enumerate(tokens)
    ]
    types[0] = 2
    joined = {"".join(merge): -float(rank) for rank, merge in enumerate(definition["model"]["merges"])}
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.scores": [joined.get(token, -1e9) for token in tokens],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_space_prefix": space == "prepend",
        "tokenizer.chat_template": template,
        **changes,
    }


def test_a_byte_level_vocabulary_is_its_source():
    source = make("qwen2.5")
    rebuilt = read_gguf_tokenizer(fields_of(byte_level()))
    assert_same_ids(rebuilt, source, TEXTS)
    # Rows that fill the embedding up are no tokens.
    assert (
        rebuilt.vocab_size == source.vocab_size == len(fields_of(byte_level())["tokenizer.ggml.tokens"]) - 2
    )


@pytest.mark.parametrize(
    ("kind", "space", "template"),
    [("llama2", "prepend", chat_templates.LLAMA2), ("gemma", "none", chat_templates.GEMMA)],
)
def test_a_sentencepiece_like_vocabulary_is_its_source(kind, space, template):
    rebuilt = read_gguf_tokenizer(pieces_fields(space, template))
    assert_same_ids(rebuilt, TOKENIZERS[kind], [*TEXTS, "two\n\nlines <h1>"])


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("smollm", ["a", "Ġ", "1", "2", "ĠĠ", "3", "Ġ", "z"]),
        ("gpt-2", ["a", "Ġ", "12", "Ġ", "Ġ", "3", "Ġ", "z"]),
        ("llama-bpe", ["a", "Ġ", "12", "Ġ", "Ġ", "3", "Ġ", "z"]),
        ("qwen2", ["a", "Ġ", "1", "2", "Ġ", "Ġ", "3", "Ġ", "z"]),
    ],
)
def test_digits_and_the_space_before_them(pre, expected):
    """As "smollm", digits go before GPT-2's pattern is asked: two spaces before one stay together."""
    fields = fields_of(byte_level(), pre)
    fields["tokenizer.ggml.merges"] = ["Ġ Ġ", "1 2"]
    fields["tokenizer.ggml.tokens"][-2:] = ["ĠĠ", "12"]
    fields["tokenizer.ggml.token_type"][-2:] = [1, 1]
    rebuilt = read_gguf_tokenizer(fields)
    assert pieces(rebuilt, rebuilt.encode_reply("a 12  3 z")[:-1]) == expected


def test_a_base_model_and_its_first_token():
    fields = pieces_fields("prepend", None)
    assert read_gguf_tokenizer(fields).encode_prompt("Why?")[0] == 1
    fields["tokenizer.ggml.add_bos_token"] = False
    assert read_gguf_tokenizer(fields).encode_prompt("Why?")[0] != 1


@pytest.mark.parametrize(("pre", "begins"), [("llama-bpe", True), ("qwen2", False)])
def test_a_first_token_that_the_file_does_not_tell_of_is_llama_cpps(pre, begins):
    fields = fields_of(byte_level()) | {"tokenizer.ggml.pre": pre, "tokenizer.ggml.bos_token_id": 1}
    del fields["tokenizer.chat_template"]
    fields.pop("tokenizer.ggml.add_bos_token", None)
    assert (read_gguf_tokenizer(fields).encode_prompt("Why?")[0] == 1) == begins


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("tokenizer.ggml.model", None, "the field tokenizer.ggml.model is missing"),
        ("tokenizer.ggml.model", "bert", "tokenizer.ggml.model is 'bert'; only gpt2 and llama are supported"),
        ("tokenizer.ggml.pre", None, "the field tokenizer.ggml.pre is missing"),
        ("tokenizer.ggml.pre", "default", "tokenizer.ggml.pre is 'default'; only gpt-2"),
        ("tokenizer.ggml.pre", "tekken", "tokenizer.ggml.pre is 'tekken'; only gpt-2"),
        ("tokenizer.ggml.tokens", None, "the field tokenizer.ggml.tokens is missing"),
        ("tokenizer.ggml.token_type", [1, 1], "but 2 token types"),
        ("tokenizer.ggml.token_type", 1, "the field tokenizer.ggml.token_type is int"),
        ("tokenizer.ggml.merges", [7], "an entry of tokenizer.ggml.merges is not text"),
        ("tokenizer.ggml.merges", ["nothing"], "the vocabulary does not fit its merges"),
        ("tokenizer.ggml.merges", ["no thing"], "the vocabulary does not fit its merges"),
        ("tokenizer.ggml.eos_token_id", 10**6, "tokenizer.ggml.eos_token_id is 1000000"),
        ("tokenizer.ggml.eos_token_id", "2", "tokenizer.ggml.eos_token_id is '2'"),
        ("tokenizer.chat_template", 7, "tokenizer.chat_template is int"),
        ("tokenizer.chat_template", "{{ ''.__class__.__mro__ }}", "accesses something forbidden"),
    ],
)
def test_bad_fields_are_one_line_that_names_them(field, value, fault):
    fields = fields_of(byte_level()) | {field: value}
    message = refusal(read_gguf_tokenizer, fields, source="model.gguf", says=[fault])
    assert message.startswith("model.gguf: ")


def test_scores_are_as_many_as_tokens():
    fields = pieces_fields("prepend", chat_templates.LLAMA2)
    with pytest.raises(InputError, match="but 1 scores"):
        read_gguf_tokenizer(fields | {"tokenizer.ggml.scores": [0.0]})


def test_a_long_token_and_a_beginning_that_the_library_can_not_write_are_named():
    fields = fields_of(byte_level())
    tokens = fields["tokenizer.ggml.tokens"]
    long = fields | {"tokenizer.ggml.tokens": ["x" * 1001, *tokens[1:]]}
    refusal(read_gguf_tokenizer, long, source="model.gguf", says=["model.gguf: a token has 1,001 characters"])
    begins = {"tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.add_bos_token": True}
    spaced = fields | {"tokenizer.ggml.tokens": ["a b", *tokens[1:]], "tokenizer.ggml.merges": []} | begins
    refusal(read_gguf_tokenizer, spaced, source="model.gguf", says=["fails on its bos_token 'a b'"])
