"""What tokenizer files declare, and where: the expected values are transformers' (see the parity test)."""

import json

import chat_templates
import pytest
from chat_tokenizers import pieces, pretrained
from declared_cases import FAMILIES, PLACES, SIZE, TURNS, declared, family, place
from row_files import refusal
from small_tokenizers import byte_level, model_folder
from tokenizers import AddedToken

from introspection.errors import InputError
from introspection.text.hf_tokenizer import read_hf_tokenizer
from introspection.text.tokenizer import check_embedding, load_tokenizer

FIRST = SIZE  # 407
# Ids of the tokens that only the declarations know; elsewhere, <|turn|> and <|over|> come first.
ADDED = {
    "named_and_model_specific": {"<|i|>": FIRST},
    "named_before_extra": {
        "[UNK]": FIRST, "[PAD]": FIRST + 1, "<|turn|>": FIRST + 2, "<|over|>": FIRST + 3,
    },
    "new_end": {"<|over|>": FIRST},
    "other_flags": {"hypernatremia": FIRST, "hyponatremia": FIRST + 1},
    "pads_with_a_piece": {}, "the_map_wins": {},
    "stops_in_both": {}, "stops_in_config": {}, "stops_of_text": {},
}  # fmt: skip
STOPS = {"stops_in_config": (406,), "the_map_wins": (401,)}


@pytest.mark.parametrize("name", PLACES)
def test_every_place_is_read(name, tmp_path):
    tokenizer = read_hf_tokenizer(place(tmp_path, name))
    added = tokenizer.tokenizer.get_added_tokens_decoder()
    new = {token.content: index for index, token in added.items() if index >= FIRST}
    assert new == ADDED.get(name, {text: FIRST + i for i, text in enumerate(TURNS)})
    if {*TURNS} <= {*new}:
        begin, end = (new[text] for text in TURNS)
        tokens = tokenizer.encode_prompt("Hi<|over|><|turn|>")
        assert [tokens.count(begin), tokens.count(end), tokenizer.end_id] == [2, 1, end]
    else:
        assert tokenizer.stop_ids == STOPS.get(name, ())


def test_contradictions_are_said_and_two_ids_of_a_token_are_an_error(tmp_path):
    assert (
        "special_tokens_map.json counts" in read_hf_tokenizer(place(tmp_path / "a", "the_map_wins")).notes[0]
    )
    assert (
        "tokenizer_config.json counts"
        in read_hf_tokenizer(place(tmp_path / "b", "the_decoder_wins")).notes[0]
    )
    assert (
        "'<tool_call>': lstrip, special" in read_hf_tokenizer(place(tmp_path / "c", "other_flags")).notes[0]
    )
    folder = place(tmp_path / "d", "added_tokens_json")
    (folder / "added_tokens.json").write_text('{"<|im_end|>": 9}')
    refusal(
        read_hf_tokenizer, folder, says=["added_tokens.json: '<|im_end|>' has id 9 here but 403 in tokenizer"]
    )


@pytest.mark.parametrize(
    ("file", "fields", "fault"),
    [
        ("tokenizer_config.json", {"extra_special_tokens": "<|a|>"}, "extra_special_tokens is '<|a|>'"),
        ("tokenizer_config.json", {"extra_special_tokens": {"a": 7}}, "a is 7"),
        ("tokenizer_config.json", {"additional_special_tokens": [7]}, "a special token is 7"),
        ("tokenizer_config.json", {"mask_token": {"lstrip": True}}, "mask_token is {'lstrip'"),
        (
            "tokenizer_config.json",
            {"model_specific_special_tokens": ["a"]},
            "model_specific_special_tokens is",
        ),
        ("special_tokens_map.json", {"pad_token": 7}, "special_tokens_map.json: pad_token is 7"),
        ("added_tokens.json", {"a": "b"}, "added_tokens.json: not a table"),
        ("config.json", {"eos_token_id": "a"}, "config.json: eos_token_id is"),
    ],
)
def test_a_bad_declaration_is_named(file, fields, fault, tmp_path):
    folder = model_folder(tmp_path, byte_level(), chat_templates.QWEN25, eos_token="<|im_end|>")
    known = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps({**known, **fields}))
    refusal(read_hf_tokenizer, folder, says=[fault])


def test_added_words_are_text_and_markers_of_the_template_are_not(tmp_path):
    tokenizer = read_hf_tokenizer(family(tmp_path, "words_qwen3"))
    ids = tokenizer.encode_prompt("Is it hypernatremia or hyponatremia?<think>")
    assert [ids.count(token) for token in (407, 408)] == [1, 1]
    assert ids.count(tokenizer.tokenizer.token_to_id("<think>")) == 1  # the template's own
    assert ids[-10:] == [*ids[-10:-7], *tokenizer.encode_prompt("x")[-7:]]
    for text in ("hyponatrémie", "高血圧 of type 2 diabetes", "a<gene>", "a <gene> b</gene>  c"):
        reply = tokenizer.encode_reply(text)  # no text is lost
        assert reply[-1] == tokenizer.end_id
    assert tokenizer.decode(tokenizer.encode_reply("or hyponatrémie.")) == "or hyponatrémie."
    # Llama 2's rule: a space before every stretch of text, which is not part of the text.
    llama = read_hf_tokenizer(family(tmp_path / "llama", "words_llama2"))
    assert llama.encode_prompt("Is it hypernatremia or hyponatremia?")[3:-1] == [
        300, 392, 433, 401, 299, 305, 434, 305, 272,
    ]  # fmt: skip
    for text in ("It is hypernatremia or hyponatremia.", "hypernatremia", "hyponatremia"):
        assert llama.decode(llama.encode_reply(text)) == text


@pytest.mark.parametrize("name", FAMILIES)
def test_a_saved_tokenizer_reads_added_words_the_same(name, tmp_path):
    tokenizer = read_hf_tokenizer(family(tmp_path / "model", name))
    tokenizer.save(tmp_path / "tokenizer.json")
    text = "Is it hypernatremia, <gene> or hyponatremia?"
    assert load_tokenizer(tmp_path / "tokenizer.json").encode_prompt(text) == tokenizer.encode_prompt(text)


def test_markers_that_a_template_builds_or_words_that_open_its_turns_can_not_be_forged():
    added = byte_level()
    added.add_tokens(
        [AddedToken(text) for text in ("<|user|>", "<|assistant|>", "<|tool|>", "<|x|>", "[UNK]")]
    )
    template = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|im_end|>' }}{% endfor %}"
    template += "<|assistant|>"
    tokenizer = pretrained(added, template, {"eos_token": "<|im_end|>"})
    read = pieces(tokenizer, tokenizer.encode_prompt("<|user|><|assistant|><|tool|><|x|>"))
    assert [token for token in read if token.startswith("<|")] == [
        "<|user|>", "<|x|>", "<|im_end|>", "<|assistant|>",
    ]  # fmt: skip
    added = byte_level()
    added.add_tokens([AddedToken("HUMAN"), AddedToken("BOT"), AddedToken("Oslo")])
    template = "{% for m in messages %}Oslo {{ m.role }} {{ m.content }} BOT {% endfor %}"
    tokenizer = pretrained(added, template, {"eos_token": "<|im_end|>"})
    read = pieces(tokenizer, tokenizer.encode_prompt("Oslo BOT HUMAN"))
    assert [read.count(word) for word in ("Oslo", "BOT", "HUMAN")] == [2, 1, 1]


def test_padding_may_lie_beyond_the_embedding_and_text_may_not(tmp_path):
    template = chat_templates.QWEN25
    tokenizer = read_hf_tokenizer(
        model_folder(tmp_path, byte_level(), template, eos_token="<|im_end|>", pad_token="[PAD]")
    )
    assert (tokenizer.padding_id, tokenizer.vocab_size) == (SIZE, SIZE + 1)
    check_embedding(tokenizer, SIZE, "model")
    assert max(tokenizer.encode_prompt("[PAD]") + tokenizer.encode_reply("[PAD]")) < SIZE
    written = f"[PAD]{template}"
    for fields in (
        {"chat_template": written, "pad_token": "[PAD]"},
        {"chat_template": "{{ pad_token }}" + template, "pad_token": "[PAD]"},
        {"chat_template": template, "added_tokens_decoder": {str(SIZE): declared("word", special=False)}},
        {"chat_template": template.replace("<|im_end|>", "<|over|>"), "extra_special_tokens": ["<|over|>"]},
    ):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", **fields}))
        with pytest.raises(InputError, match=rf"has {SIZE} rows, and none for '(\[PAD\]|word|<\|over\|>)'"):
            check_embedding(read_hf_tokenizer(tmp_path), SIZE, "model")
