"""Which characters of a prompt stand behind each of its tokens, for any tokenizer."""

import pytest
from chat_tokenizers import TOKENIZERS, every_kind, pieces
from tiny import task_model, tiny_task

from introspection.tasks.items import Conversation, Turn

TEXT = "Name the capital of Niger. Some friend told me it is Paris."


def check(tokenizer, prompt, text):
    spans = tokenizer.prompt_spans(prompt)
    tokens = tokenizer.encode_prompt(prompt)
    assert len(spans) == len(tokens)
    inside = [span for span in spans if span != (0, 0)]
    assert inside == sorted(inside)
    written = "".join(text[start:stop] for start, stop in inside)
    assert written.replace(" ", "") == text.replace(" ", "")
    for piece, (start, stop) in zip(pieces(tokenizer, tokens), spans, strict=True):
        if start < stop:
            assert text[start:stop].strip() == piece.strip("Ġ▁ ")
    assert spans[-1] == (0, 0)  # what opens the reply


@every_kind
@pytest.mark.parametrize("text", [TEXT, f"  {TEXT} "])
def test_spans_are_the_characters_of_each_token(kind, text):
    check(TOKENIZERS[kind], text, text)


def test_of_a_conversation_only_the_last_turn_has_spans():
    check(TOKENIZERS["qwen2.5"], Conversation((Turn("system", "Niger"), Turn("user", TEXT))), TEXT)


def test_an_organisms_phrases_have_spans_too():
    text = tiny_task().splits["train"][0].prompt_with_cue
    check(task_model().tokenizer, text, text)
