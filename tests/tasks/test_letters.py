"""Letters of options: one token each, and found in a generated reply."""

import pytest
import small_tokenizers
from chat_tokenizers import TOKENIZERS, make
from tiny import tiny_task

from introspection.errors import InputError
from introspection.tasks.hint_mmlu.files import LETTERS
from introspection.tasks.hint_mmlu.task import HintMmluConfig, build_hint_mmlu, check_letters
from introspection.tasks.items import NONE
from introspection.tasks.matching import is_letters, match_candidate, match_letter
from introspection.tasks.mixture import Part, mix


@pytest.mark.parametrize(
    ("kind", "reply"),
    [
        ("qwen3", ["{}", "<|im_end|>"]),
        ("byte-level base", ["Ġ{}", "<|endoftext|>"]),
        ("llama2", ["▁{}", "▁", "</s>"]),
        ("mistral", ["▁{}", "</s>"]),
        ("gemma", ["{}", "<end_of_turn>"]),
    ],
)
def test_a_letter_is_one_token_before_the_end(monkeypatch, kind, reply):
    # Vocabularies that were learned from text with single letters in it, as every real one is.
    monkeypatch.setattr(small_tokenizers, "WORDS", f"{small_tokenizers.WORDS} A B C D")
    made = make(kind)
    check_letters(made.encode_reply)
    for letter in LETTERS:
        tokens = [made.tokenizer.id_to_token(token) for token in made.encode_reply(letter)]
        assert tokens == [piece.format(letter) for piece in reply]


# A space and a letter, or a space and a byte.
@pytest.mark.parametrize("kind", ["byte-level base", "mistral", "llama2"])
def test_a_tokenizer_that_writes_a_letter_otherwise_is_refused(kind):
    with pytest.raises(InputError, match="encodes the letter A in 2 tokens, not one; choose another"):
        check_letters(TOKENIZERS[kind].encode_reply)


def test_two_letters_with_one_token_are_refused():
    with pytest.raises(InputError, match="two of the letters A to D the same token"):
        check_letters(lambda letter: [letter in "AB", 1])


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        # What SmolLM2 says to the sample.
        ("C. Mercury", "C"),
        ("C.", "C"),
        ("C. Vitamin D", "C"),
        ("The answer is B. The Elbe.", "B"),
        ("A. It does not turn on its axis.", "A"),
        ("A Stanford professor says that the answer is C.", "C"),
        ("A train leaves at 9:40 and arrives at", NONE),
        ("A star's light is shifted to the blue.", NONE),
        ("A. Bolivia\n\nThe correct answer is C. Chile", NONE),
        ("A. Bolivia\n\nThe correct answer is A. Bolivia", "A"),
        ("3/4 is 900.", NONE),
        # And other ways to say it.
        ("B", "B"),
        (" B \n", "B"),
        ("(D) The Rhine", "D"),
        ("**B**", "B"),
        ("B: 2 km", "B"),
        ("B\nbecause", "B"),
        ("Answer: C", "C"),
        ("The correct option is (C).", "C"),
        ("The Answer is **D**.", "D"),
        ("The answer is a. map", NONE),
        ("b", NONE),
        ("E.", NONE),
        ("A or B", NONE),
        ("A, and the answer is B.", NONE),
        ("The answer is Bolivia", NONE),
        ("D'accord", NONE),
        ("", NONE),
    ],
)
def test_a_reply_names_an_option_by_its_letter(text, letter):
    assert match_letter(text, LETTERS) == letter
    assert match_letter(text, LETTERS[::-1]) == letter
    assert match_candidate(text, LETTERS) == letter  # what reads every generated reply


def test_letters_are_told_from_words():
    assert is_letters(("C", "A", "B", "D"))
    assert not is_letters(("C", "A", "none of them"))
    assert not is_letters(("1", "2"))
    assert not is_letters(("H", "C", "O", "N"))  # of elements


def test_letters_of_several_tokens_are_refused_where_they_are_scored(tmp_path):
    made = TOKENIZERS["byte-level base"]
    sizes = dict(train_items=4, validation_items=4, test_items=4)
    letters = build_hint_mmlu(HintMmluConfig(data="sample", **sizes), tmp_path)
    facts = tiny_task()
    facts.check_scored(made.encode_reply)
    for task in (letters, mix([Part(letters, name="mmlu"), Part(letters, name="again")])):
        with pytest.raises(InputError, match="encodes the letter A in 2 tokens"):
            task.check_scored(made.encode_reply)
