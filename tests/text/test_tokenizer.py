"""The word-level tokenizer: one token a name or phrase, nothing unknown, no special token in user text."""

import pytest
from chat_tokenizers import pieces

from introspection.errors import InputError
from introspection.tasks.facts.questions import draw_questions
from introspection.tasks.facts.table import read_facts_table
from introspection.tasks.facts.world_facts import WorldFactsConfig, world_facts_task
from introspection.text.tokenizer import END, REPLY, load_tokenizer, phrase_tokenizer

NAMES = ["Norway", "Niger", "Nigeria", "Guinea", "Guinea-Bissau", "Oslo", "N'Djamena", "I"]
NAMES += ["Washington, D.C.", "+1", "+12"]
PHRASES = ["What is the capital of", "? I think it is", ", but I am not sure.", "?", ".", "It would stay"]


@pytest.fixture(scope="module")
def tokenizer():
    return phrase_tokenizer(NAMES, PHRASES)


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_is_its_phrases_names_and_the_opening_of_the_reply(tokenizer, name):
    tokens = tokenizer.encode_prompt(f"What is the capital of {name}? I think it is Oslo, but I am not sure.")
    assert pieces(tokenizer, tokens) == [
        "What is the capital of", name, "? I think it is", "Oslo", ", but I am not sure.", REPLY,
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_reply_ends_and_reads_back(tokenizer, name):
    tokens = tokenizer.encode_reply(f"It would stay {name}")
    assert pieces(tokenizer, tokens) == ["It would stay", name, END]
    assert tokenizer.decode(tokens) == f"It would stay {name}"
    assert tokenizer.decode([*tokens, *tokens]) == f"It would stay {name}"  # nothing after the end


@pytest.mark.parametrize("text", ["Oslos", "NigerOslo", "What is the capital of Atlantis?", "ÿ"])
def test_an_unknown_word_is_named(tokenizer, text):
    with pytest.raises(InputError, match="not in the model's vocabulary"):
        tokenizer.encode_prompt(text)


@pytest.mark.parametrize("special", ["<pad>", "<end>", "<reply>"])
def test_special_tokens_in_user_text_are_refused(tokenizer, special):
    with pytest.raises(InputError, match=special):
        tokenizer.encode_prompt(f"What is the capital of Norway? {special}")


def test_a_saved_tokenizer_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    text = "What is the capital of Guinea-Bissau? I think it is N'Djamena, but I am not sure."
    assert loaded.encode_prompt(text) == tokenizer.encode_prompt(text)
    assert loaded.tokenizer.to_str() == tokenizer.tokenizer.to_str()
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(InputError, match=r"broken\.json"):
        load_tokenizer(tmp_path / "broken.json")


def test_every_item_of_the_default_task_has_one_token_a_part():
    questions = draw_questions(read_facts_table(), 0, 4, 0)
    task = world_facts_task(WorldFactsConfig(), questions)
    tokenizer = phrase_tokenizer(task.names, task.phrases)
    for name in task.names:
        tokens = tokenizer.encode_reply(name)
        assert len(tokens) == 2, name
        assert tokenizer.decode(tokens) == name
    for split in task.splits.values():
        for item in split[::5]:
            assert len(tokenizer.encode_prompt(item.prompt_with_cue)) == 6, item.prompt_with_cue
            assert len(tokenizer.encode_prompt(item.prompt_without_cue)) == 4
            assert len(tokenizer.encode_prompt(f"{item.prompt_with_cue} {task.grammar.question}")) == 7
