"""Folders that declare tokens in different places, and words added to several kinds of tokenizers."""

import json
from pathlib import Path

import chat_templates
from small_tokenizers import byte_level, model_folder, sentencepiece_like
from tokenizers import AddedToken

TEXTS = [
    "Is it hypernatremia or hyponatremia?",
    "hypernatremia",
    " hypernatremias,  Hyponatremia and hyponatre\u0301mie ",
    "The 高血圧 of type 2 diabetes; type 2  diabetes",
    "a  <gene>  BRCA1</gene> and a helpful assistant, user!!",
    "plain   words\n\nOslo",
    "x<mask> y <mask>z",
    "wordy word sword word",
]
WORDS = [
    AddedToken("hypernatremia"),  # as add_tokens makes it: found in normalised text
    AddedToken("hyponatremia", normalized=False),
    AddedToken("hyponatrémie"),
    AddedToken("高血圧"),
    AddedToken("type 2 diabetes"),
    AddedToken("assistant"),  # which the template writes, too
    AddedToken("word", single_word=True),
    AddedToken("<gene>", lstrip=True),
    AddedToken("</gene>", rstrip=True),
]
CLASS = {"tokenizer_class": "PreTrainedTokenizerFast"}  # the files as they are
NAMES = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", **CLASS}
TURNS = ["<|turn|>", "<|over|>"]  # which only the declarations know
TURN_TEMPLATE = (
    "{% for m in messages %}{{ '<|turn|>' + m.role + '\n' + m.content + '<|over|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn|>assistant\n' }}{% endif %}"
)
SIZE = byte_level().get_vocab_size()
FLAGS = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}


def declared(text: str, **flags) -> dict:
    return {"content": text, **FLAGS, **flags}


DECODER = {str(SIZE + i): declared(text) for i, text in enumerate(TURNS)}
ADDED = {text: SIZE + i for i, text in enumerate(TURNS)}
AS_OBJECTS = [{"__type": "AddedToken", **declared(text, rstrip=True)} for text in TURNS]
# By folder: fields of tokenizer_config.json, and other files.
PLACES = {
    "decoder": ({"added_tokens_decoder": DECODER}, {}),
    "additional": ({"additional_special_tokens": TURNS}, {}),
    "additional_in_the_map": ({}, {"special_tokens_map.json": {"additional_special_tokens": TURNS}}),
    "extra_list": ({"extra_special_tokens": TURNS}, {}),
    "extra_objects": ({"extra_special_tokens": AS_OBJECTS}, {}),
    "extra_in_the_map": (
        {"extra_special_tokens": TURNS[:1]},
        {"special_tokens_map.json": {"extra_special_tokens": TURNS, "additional_special_tokens": ["<|no|>"]}},
    ),
    "extra_named": ({"extra_special_tokens": {"turn_token": TURNS[0], "over_token": TURNS[1]}}, {}),
    "model_specific": ({"model_specific_special_tokens": {"a": TURNS[0], "b": TURNS[1]}}, {}),
    "named": ({"turn_token": TURNS[0], "over_token": TURNS[1], "add_bos_token": False}, {}),
    "named_before_extra": ({"extra_special_tokens": TURNS, "pad_token": "[PAD]", "unk_token": "[UNK]"}, {}),
    "named_and_model_specific": (
        {"image_token": "<|i|>", "model_specific_special_tokens": {"audio": "<|a|>"}},
        {},
    ),
    "additional_and_extra": (
        {"additional_special_tokens": ["<|no|>"], "extra_special_tokens": TURNS},
        {"special_tokens_map.json": {"additional_special_tokens": ["<|neither|>"]}},
    ),
    "added_tokens_json": ({}, {"added_tokens.json": ADDED}),
    "added_tokens_json_and_extra": ({"extra_special_tokens": TURNS}, {"added_tokens.json": ADDED}),
    "new_end": ({"eos_token": "<|over|>"}, {}),
    "the_map_wins": ({}, {"special_tokens_map.json": {"eos_token": declared("<|endoftext|>")}}),
    "the_decoder_wins": (
        {"added_tokens_decoder": DECODER},
        {"special_tokens_map.json": {"eos_token": "<|endoftext|>", "additional_special_tokens": ["<|no|>"]}},
    ),
    "other_flags": (
        {
            "added_tokens_decoder": {
                str(SIZE - 1): declared("<tool_call>", lstrip=True),
                str(SIZE): declared("hypernatremia", lstrip=True, rstrip=True, special=False),
                str(SIZE + 1): declared("hyponatremia", single_word=True, special=False),
            }
        },
        {},
    ),
    "pads_with_a_piece": ({"pad_token": "!"}, {}),
    "stops_in_config": ({}, {"config.json": {"model_type": "llama", "eos_token_id": [SIZE - 1, SIZE - 4]}}),
    "stops_in_both": (
        {},
        {
            "config.json": {"model_type": "llama", "eos_token_id": 5},
            "generation_config.json": {"eos_token_id": SIZE - 4},
        },
    ),
    "stops_of_text": (
        {},
        {"config.json": {"model_type": "gemma3", "text_config": {"eos_token_id": [SIZE - 4]}}},
    ),
}
# By folder: the tokenizer, its template and fields of tokenizer_config.json.
ENDS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", **CLASS}
FAMILIES = {
    "words": (byte_level, chat_templates.QWEN25, NAMES),
    "words_qwen3": (byte_level, chat_templates.QWEN3, NAMES),
    "words_llama2": (lambda: sentencepiece_like("prepend"), chat_templates.LLAMA2, ENDS),
    "words_mistral": (lambda: sentencepiece_like("first"), chat_templates.MISTRAL, ENDS),
    "words_gemma": (lambda: sentencepiece_like("none"), chat_templates.GEMMA, ENDS),
}


def place(folder: Path, name: str) -> Path:
    """The folder of one of PLACES."""
    fields, files = PLACES[name]
    tokenizer = byte_level()
    if name == "other_flags":
        tokenizer.add_tokens(WORDS[:2])
    ordinary = name.startswith(("stops", "other", "pads", "named_and", "the_map"))
    template = chat_templates.QWEN25 if ordinary else TURN_TEMPLATE
    model_folder(folder, tokenizer, template, **{**NAMES, **fields})
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content), "utf-8")
    return folder


def family(folder: Path, name: str) -> Path:
    """The folder of one of FAMILIES, with WORDS."""
    made, template, fields = FAMILIES[name]
    tokenizer = made()
    tokenizer.add_tokens(WORDS)
    return model_folder(folder, tokenizer, template, **fields)
