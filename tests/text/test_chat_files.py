"""Tokenizer files of model folders: the forms of chat templates and special tokens, and bad files."""

import json

import chat_templates
import pytest
from row_files import refusal
from small_tokenizers import byte_level, model_folder, sentencepiece_like

from introspection.errors import InputError
from introspection.text.chat_template import ChatOptions
from introspection.text.hf_tokenizer import read_hf_tokenizer

QWEN = chat_templates.QWEN25
ASK = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"


def text_of(tokenizer, user="Why?"):
    return tokenizer.literal.decode(tokenizer.encode_prompt(user))


@pytest.mark.parametrize("form", ["text", "list", "file"])
def test_the_forms_of_a_template(form, tmp_path):
    named = [{"name": "tool_use", "template": "{{ 1 }}"}, {"name": "default", "template": QWEN}]
    template = {"text": QWEN, "list": named, "file": "{{ 'not this one' }}"}[form]
    folder = model_folder(tmp_path, byte_level(), template, eos_token="<|im_end|>")
    if form == "file":
        (folder / "chat_template.jinja").write_text(QWEN)
    assert text_of(read_hf_tokenizer(folder)).endswith(ASK)


def test_special_tokens_as_text_as_object_and_from_the_map(tmp_path):
    eos = {"content": "<|im_end|>", "lstrip": False, "__type": "AddedToken"}
    folder = model_folder(tmp_path, byte_level(), QWEN, eos_token=eos, bos_token=None)
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<|endoftext|>"}))
    tokenizer = read_hf_tokenizer(folder)
    assert dict(tokenizer.template.special_tokens) == {
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
    }
    assert tokenizer.padding_id == tokenizer.tokenizer.token_to_id("<|endoftext|>")


def test_a_base_model_reads_a_plain_format_or_a_template_of_yours(tmp_path):
    folder = model_folder(tmp_path, byte_level(), None, eos_token="<|endoftext|>")
    tokenizer = read_hf_tokenizer(folder)
    assert text_of(tokenizer) == "Question: Why?\nAnswer:"
    assert ["no chat template" in note for note in tokenizer.notes] == [True]
    assert tokenizer.literal.decode(tokenizer.encode_reply("Oslo")) == " Oslo<|endoftext|>"
    tokenizer = read_hf_tokenizer(folder, ChatOptions(system="Be brief."))
    assert text_of(tokenizer) == "Be brief.\n\nQuestion: Why?\nAnswer:"
    own = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    tokenizer = read_hf_tokenizer(folder, ChatOptions(template=own))
    assert text_of(tokenizer) == "Why?\n"
    assert tokenizer.notes == ()
    # The template says nothing of an end, so the end of text is one.
    assert tokenizer.literal.decode(tokenizer.encode_reply("Oslo")) == "Oslo<|endoftext|>"
    with pytest.raises(InputError, match=r"^chat\.template: the chat template has an error in line 1"):
        read_hf_tokenizer(folder, ChatOptions(template="{% if %}"))


def test_a_base_model_that_begins_every_text_with_a_token_does_so_here(tmp_path):
    folder = model_folder(
        tmp_path, sentencepiece_like("first"), None, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokens = read_hf_tokenizer(folder).encode_prompt("Why?")
    assert tokens[0] == 1
    assert 1 not in tokens[1:]


def test_truncation_and_padding_of_the_file_do_not_apply(tmp_path):
    tokenizer = byte_level()
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=50)
    folder = model_folder(tmp_path, tokenizer, QWEN, eos_token="<|im_end|>")
    assert text_of(read_hf_tokenizer(folder)).endswith(ASK)


def test_tokens_that_only_the_config_declares_are_added(tmp_path):
    first, size = byte_level().token_to_id("<|endoftext|>"), byte_level().get_vocab_size()
    declared = {str(size): {"content": "<|eot|>", "special": True}, str(first): {"content": "<|endoftext|>"}}
    folder = model_folder(tmp_path, byte_level(), QWEN, eos_token="<|eot|>", added_tokens_decoder=declared)
    tokenizer = read_hf_tokenizer(folder)
    assert tokenizer.stop_ids == (size,)
    assert size not in tokenizer.encode_prompt("<|eot|>")
    declared["500"] = {"content": "<|later|>"}
    model_folder(tmp_path, byte_level(), QWEN, eos_token="<|im_end|>", added_tokens_decoder=declared)
    with pytest.raises(InputError, match=rf"'<\|later\|>' has id 500 here but {size + 1} in tokenizer\.json"):
        read_hf_tokenizer(folder)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"eos_token": 7}, "eos_token is 7; it must be text"),
        ({"eos_token": "<|im_end|>", "chat_template": 7}, "chat_template is int"),
        ({"eos_token": "<|im_end|>", "chat_template": [7]}, "needs a name and a template"),
        ({"eos_token": "<|im_end|>", "chat_template": [{"name": "rag", "template": ""}]}, "is named default"),
        ({"eos_token": "<|im_end|>", "chat_template": [{"name": 7, "template": ""}]}, "is named default"),
        ({"chat_template": None}, "needs an eos_token; declare it"),
        ({"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}, "nothing ends a reply"),
        ({"added_tokens_decoder": {"a": 1}}, "added_tokens_decoder is not a table of tokens"),
        ({"added_tokens_decoder": [1]}, "added_tokens_decoder is not a table of tokens"),
    ],
)
def test_a_bad_config_is_one_line_that_names_the_file(fields, fault, tmp_path):
    folder = model_folder(tmp_path, byte_level(), QWEN)
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": QWEN} | fields))
    refusal(read_hf_tokenizer, folder, says=[fault, str(folder / "tokenizer_config.json")])


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("tokenizer.json", None, "tokenizer.json is missing"),
        ("tokenizer.json", "{", "tokenizer.json: not a readable tokenizer"),
        ("tokenizer_config.json", "{", "tokenizer_config.json: not readable as JSON"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json: contains list"),
        ("tokenizer_config.json", '{"a":' + "[" * 200_000, "tokenizer_config.json: not readable as JSON"),
        ("generation_config.json", '{"eos_token_id": true}', "generation_config.json: eos_token_id is"),
        ("generation_config.json", '{"eos_token_id": 9999999999}', "generation_config.json: eos_token_id is"),
        ("generation_config.json", '{"eos_token_id": ["a"]}', "generation_config.json: eos_token_id is"),
        ("chat_template.jinja", b"\xff", "chat_template.jinja: not readable as text"),
    ],
)
def test_a_bad_file_is_named(name, content, fault, tmp_path):
    folder = model_folder(tmp_path, byte_level(), QWEN, eos_token="<|im_end|>")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=fault):
        read_hf_tokenizer(folder)


@pytest.mark.parametrize("fields", [{"unk_token": "<none>"}, {"continuing_subword_prefix": "é"}], ids=str)
def test_a_tokenizer_that_the_library_can_not_use_is_refused(fields, tmp_path):
    folder = model_folder(tmp_path, byte_level(), QWEN, eos_token="<|im_end|>")
    stored = json.loads((folder / "tokenizer.json").read_text())
    stored["model"] |= fields
    stored["pre_tokenizer"] = None  # so that text is unknown
    (folder / "tokenizer.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match=r"tokenizer\.json: not a readable tokenizer"):
        read_hf_tokenizer(folder)


def test_an_end_of_id_0_counts_and_a_dropout_does_not(tmp_path):
    folder = model_folder(tmp_path, byte_level(), QWEN, eos_token="<|im_end|>")
    (folder / "generation_config.json").write_text('{"eos_token_id": 0}')
    stored = json.loads((folder / "tokenizer.json").read_text())
    stored["model"]["dropout"] = 0.9
    (folder / "tokenizer.json").write_text(json.dumps(stored))
    tokenizer = read_hf_tokenizer(folder)
    assert 0 in tokenizer.stop_ids
    assert len({tuple(tokenizer.encode_prompt("What is the capital of France?")) for _ in range(20)}) == 1


def test_other_kinds_of_models_are_refused_by_name(tmp_path):
    import tokenizers

    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "</s>": 1}, unk_token="a"))
    folder = model_folder(tmp_path, words, QWEN, eos_token="</s>")
    with pytest.raises(InputError, match="the tokenizer's model is WordLevel; only BPE is supported"):
        read_hf_tokenizer(folder)
