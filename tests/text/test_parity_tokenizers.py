"""Token for token what transformers and sentencepiece give, for every family's tokenizer and template."""

import json

import pytest
from chat_tokenizers import write_hf_tokenizer
from peers_environment import run_peer

from introspection.errors import InputError
from introspection.text.chat_template import ChatOptions
from introspection.text.gguf_tokenizer import read_gguf_tokenizer
from introspection.text.hf_tokenizer import read_hf_tokenizer
from introspection.text.tokenizer import phrase_tokenizer

pytestmark = pytest.mark.parity

FAMILIES = ("smollm2", "gpt2", "llama3", "qwen25", "qwen3", "llama2", "mistral", "mistral_v3", "gemma")
IN_GGUF = ("smollm2", "gpt2", "llama3", "qwen25", "qwen3", "llama2", "gemma")
CONTROL = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<tool_call>", "</tool_call>"),
    *(
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|fim_prefix|>",
        "<think>",
        "</think>",
    ),
    *("<|start_header_id|>", "<|end_header_id|>", "<s>", "</s>", "<unk>", "<bos>", "<eos>", "<pad>"),
    *("<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]"),
]
CASES = [(family, "hf") for family in FAMILIES] + [(family, "gguf") for family in IN_GGUF]
CHATS = [case for case in CASES if case[0] != "gpt2"]
WITH_SYSTEM = [case for case in CHATS if case[0] not in ("mistral", "mistral_v3", "gemma")]
cases = pytest.mark.parametrize(("family", "form"), CASES)
chats = pytest.mark.parametrize(("family", "form"), CHATS)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return run_peer("tokenizers_reference.py", tmp_path_factory.mktemp("tokenizers"))


@pytest.fixture(scope="session")
def texts(folder):
    return json.loads((folder / "texts.json").read_text())["texts"]


def reference(folder, family):
    return json.loads((folder / family / "reference.json").read_text())


def read(folder, family, form, chat=None):
    if form == "hf":
        return read_hf_tokenizer(folder / family, chat)
    return read_gguf_tokenizer(json.loads((folder / family / "gguf.json").read_text()), chat)


def plain(tokenizer, texts):
    """The indices of the texts that hold no control token of this tokenizer."""
    return [i for i, text in enumerate(texts) if not tokenizer.literal.control.search(text)]


def different(found, expected, texts, indices):
    return [texts[i] for i in indices if found(i) != expected(i)]


@cases
def test_ids_of_texts(folder, texts, family, form):
    tokenizer, expected = read(folder, family, form), reference(folder, family)["ids"]
    indices = plain(tokenizer, texts)
    assert len(indices) >= 2000

    def found(i):
        return tokenizer.literal.encode("", texts[i], "")

    assert different(found, expected.__getitem__, texts, indices) == []
    # Read as a template's own text, control tokens are what they are to transformers.
    every = range(len(texts))
    assert different(
        lambda i: tokenizer.literal.encode(texts[i], "", ""), expected.__getitem__, texts, every
    ) == []  # fmt: skip


@pytest.mark.parametrize(("family", "form"), [("llama2", "hf"), ("llama2", "gguf"), ("gemma", "gguf")])
def test_ids_of_texts_are_sentencepieces(folder, texts, family, form):
    tokenizer, expected = read(folder, family, form), reference(folder, family)["sentencepiece"]
    indices = plain(tokenizer, texts)
    assert len(indices) >= 2000
    assert (
        different(lambda i: tokenizer.literal.encode("", texts[i], ""), expected.__getitem__, texts, indices)
        == []
    )


@chats
def test_prompts_are_those_of_apply_chat_template(folder, texts, family, form):
    tokenizer, expected = read(folder, family, form), reference(folder, family)["prompts"]
    indices = plain(tokenizer, texts)
    assert len(indices) >= 2000
    assert different(lambda i: tokenizer.encode_prompt(texts[i]), expected.__getitem__, texts, indices) == []


@chats
def test_control_tokens_in_a_users_text_are_pieces_and_the_templates_are_not(folder, texts, family, form):
    tokenizer, expected = read(folder, family, form), reference(folder, family)["prompt_texts"]
    steering = {tokenizer.tokenizer.token_to_id(token) for token in CONTROL} - {None}
    ours = [token for token in tokenizer.encode_prompt("x") if token in steering]
    indices = sorted(set(range(len(texts))) - set(plain(tokenizer, texts)))
    assert len(indices) >= 40
    for i in indices:
        tokens = tokenizer.encode_prompt(texts[i])
        assert [token for token in tokens if token in steering] == ours
        if family != "smollm2":  # its vocabulary lacks some bytes
            decoded = tokenizer.literal.decode(tokens).replace("<s> ", "<s>")
            assert decoded == tokenizer.literal.canonical(expected[i]).lstrip(" ").replace("<s> ", "<s>")


@chats
def test_a_prompt_and_its_reply_are_the_whole_conversation(folder, texts, family, form):
    tokenizer, known = read(folder, family, form), reference(folder, family)
    expected, replies = known["conversations"], known["replies"]
    lost, compared, wrong = 0, 0, []
    for i in plain(tokenizer, texts):
        if tokenizer.literal.control.search(replies[i]):
            continue
        try:
            reply = tokenizer.encode_reply(replies[i])
        except InputError:  # SmolLM2's vocabulary lacks some bytes
            lost += 1
            continue
        found = tokenizer.encode_prompt(texts[i]) + reply
        if family == "mistral":  # a reply is a text of its own, as in mistral-common: it begins with a space
            found, whole = reply, read_first(tokenizer, replies[i])
        else:
            whole = expected[i][: len(found)]
        compared += 1
        if found != whole:
            wrong.append(texts[i])
    assert wrong == []
    assert compared >= 1800
    assert lost == 0 or family == "smollm2"


def read_first(tokenizer, text):
    """A text alone, after the start token: how the family's own code encodes a reply."""
    ids = tokenizer.tokenizer.encode(text, add_special_tokens=False).ids
    return [*ids, tokenizer.end_id]


@pytest.mark.parametrize(("family", "form"), WITH_SYSTEM)
def test_a_system_prompt(folder, texts, family, form):
    known = json.loads((folder / "texts.json").read_text())
    tokenizer = read(folder, family, form, ChatOptions(system=known["system"]))
    expected = reference(folder, family)["with_system"]
    indices = [i for i in plain(tokenizer, texts) if i < len(expected) and texts[i].strip()]
    assert len(indices) > 150
    assert different(lambda i: tokenizer.encode_prompt(texts[i]), expected.__getitem__, texts, indices) == []


def test_transformers_reads_the_files_written_here(folder, tmp_path):
    words = phrase_tokenizer(["Oslo", "Norway"], ["What is the capital of", "?"])
    written = {"words": (words, ["What is the capital of Norway ?", "Oslo ?"])}
    for family in ("smollm2", "qwen25", "llama2", "mistral", "gemma"):
        written[family] = (
            read(folder, family, "hf"),
            ["What is the capital of Norway?", " 12  é\n\n😀 ", "I"],
        )
    for family, (tokenizer, texts) in written.items():
        write_hf_tokenizer(tmp_path / family, tokenizer)
        (tmp_path / family / "texts.json").write_text(json.dumps(texts))
    run_peer("tokenizer_files.py", tmp_path)
    for family, (tokenizer, texts) in written.items():
        found = json.loads((tmp_path / family / "ids.json").read_text())
        assert found["prompts"] == [tokenizer.encode_prompt(text) for text in texts], family
        assert found["pad"] == tokenizer.padding_id
        end = tokenizer.stop_ids[0] if family == "gemma" else tokenizer.end_id  # Gemma's turn ends otherwise
        assert found["eos"] == end


@pytest.fixture(scope="session")
def declared(tmp_path_factory):
    return run_peer("declared_tokens.py", tmp_path_factory.mktemp("declared"))


def test_tokens_are_those_that_transformers_reads_wherever_they_are_declared(declared):
    texts = json.loads((declared / "texts.json").read_text())
    folders = sorted(path.parent for path in declared.glob("*/reference.json"))
    assert len(folders) > 25
    for folder in folders:
        tokenizer, known = read_hf_tokenizer(folder), json.loads((folder / "reference.json").read_text())
        assert [tokenizer.encode_prompt(text) for text in texts] == known["prompts"], folder.name
        added = tokenizer.tokenizer.get_added_tokens_decoder()
        assert {token.content: index for index, token in added.items()} == known["tokens"], folder.name
        assert tokenizer.template.special_tokens == known["named"], folder.name
        assert {*known["stops"]} <= {tokenizer.end_id, *tokenizer.stop_ids}, folder.name
        # A reply of older Mistral is a text of its own, and a word that takes in white space at the start of
        # a reply would take in the prompt's.
        if folder.name not in ("words_mistral", "other_flags"):
            ask = tokenizer.encode_prompt("Why?")
            for text, whole in zip(texts, known["conversations"], strict=True):
                found = ask + tokenizer.encode_reply(text.strip())
                assert found == whole[: len(found)], (folder.name, text)
