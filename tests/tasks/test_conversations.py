"""Prompts of several turns: how they are encoded, and what of them is refused."""

import pytest
from chat_tokenizers import CONTROL, TOKENIZERS, every_kind

from introspection.errors import InputError
from introspection.tasks.items import Conversation, Turn, add_to_prompt
from introspection.text.tokenizer import phrase_tokenizer


def conversation(*contents):
    roles = ("user", "assistant")
    return Conversation(tuple(Turn(roles[i % 2], content) for i, content in enumerate(contents)))


@every_kind
def test_one_turn_is_a_text(kind):
    tokenizer = TOKENIZERS[kind]
    assert tokenizer.encode_prompt(conversation("Why is it?")) == tokenizer.encode_prompt("Why is it?")


@every_kind
def test_a_conversation_has_the_ids_of_its_rendering(kind):
    tokenizer = TOKENIZERS[kind]
    prompt = conversation("Hi.", "Hello.", "Why is it?")
    messages = [{"role": turn.role, "content": turn.content} for turn in prompt.turns]
    rendered = tokenizer.template.render(messages, True)
    expected = tokenizer.tokenizer.encode(rendered, add_special_tokens=False).ids
    assert tokenizer.encode_prompt(prompt) == expected


@every_kind
def test_control_tokens_are_text_in_the_last_turn_and_refused_in_earlier_ones(kind):
    tokenizer = TOKENIZERS[kind]
    token = next(one for one in CONTROL if tokenizer.literal.control.search(one))
    steering = tokenizer.tokenizer.token_to_id(token)
    plain = tokenizer.encode_prompt(conversation("Hi.", "Hello.", "x"))
    said = tokenizer.encode_prompt(conversation("Hi.", "Hello.", f"x {token} x"))
    assert said.count(steering) == plain.count(steering)
    for turns in ((f"{token}", "Hello.", "x"), ("Hi.", f"I {token}", "x")):
        with pytest.raises(InputError, match="earlier"):
            tokenizer.encode_prompt(conversation(*turns))


def test_a_sentence_is_added_to_the_last_turn():
    assert add_to_prompt("What?", "Why?") == "What? Why?"
    prompt = conversation("Hi.", "Hello.", "What?")
    assert add_to_prompt(prompt, "Why?") == conversation("Hi.", "Hello.", "What? Why?")


@pytest.mark.parametrize(
    ("turns", "fault"),
    [
        ((), "must end with a user turn"),
        ((Turn("user", "a"), Turn("assistant", "b")), "must end with a user turn"),
        ((Turn("tool", "a"), Turn("user", "b")), "the role is 'tool'"),
        ((Turn("user", "a"), Turn("system", "b"), Turn("user", "c")), "only the first turn"),
    ],
)
def test_conversations_that_nobody_can_have(turns, fault):
    with pytest.raises(InputError, match=fault):
        Conversation(turns)


def test_an_organism_reads_one_turn():
    with pytest.raises(InputError, match="one user turn"):
        phrase_tokenizer(["Hi."], []).encode_prompt(conversation("Hi."))
