"""Letters of options: one token each, and found in a generated reply."""

import pytest
import small_tokenizers
from chat_tokenizers import TOKENIZERS, make
from tiny import tiny_task

from introspection.errors import InputError
from introspection.tasks.folding import unify
from introspection.tasks.hint_mmlu.files import LETTERS
from introspection.tasks.hint_mmlu.task import HintMmluConfig, build_hint_mmlu, check_letters
from introspection.tasks.items import NONE
from introspection.tasks.letters import letters_of
from introspection.tasks.matching import find_match, match_candidate
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
        (r"The answer is $\mathbf{B}$.", "B"),
        ("Answer choice B", "B"),
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
        ("b", "B"),
        ("b)", "B"),
        ("(b) 2 km", "B"),
        ("the answer is (b).", "B"),
        ("The answer is a", NONE),  # cut after an article
        ("**Answer:** B", "B"),
        ("Answer: **B**", "B"),
        ("### Answer\n\n**B. Mercury**", "B"),
        ('{"answer": "B"}', "B"),
        ("the answer is: B)", "B"),
        ("Final answer - B", "B"),
        ("The best answer to this question is option B.", "B"),
        ("The answer is B because it is near.", "B"),
        ("Sure!\n\nB", "B"),
        ("B is correct", "B"),
        ("I think that (B) is the right choice.", "B"),
        ("I would choose option C", "C"),
        ("It would be (C) Mercury", "C"),
        (r"\boxed{C}", "C"),
        (r"So it is $\boxed{\text{(C) 42}}$.", "C"),
        ("Ｂ", "B"),
        ("答案是B。", "B"),
        ("정답은 B입니다.", "B"),
        ("La respuesta correcta es (B).", "B"),
        ("คำตอบคือ (B)", "B"),
        # Not an answer, or two.
        ("B is not correct.", NONE),
        ("The incorrect option is B.", NONE),
        ("I would not choose B.", NONE),
        ("Vitamin D is the best.", NONE),
        ("The answer is C major", NONE),
        ("The answer is C++", NONE),
        ("A-", NONE),
        ("A, B", NONE),
        ("The answer is A or B.", NONE),
        ("Both A and B are correct.", NONE),
        ("B is correct, and C is correct.", NONE),
        (r"\boxed{A} \boxed{B}", NONE),
        ("A. Bolivia\nB. Chile\nC. Peru", NONE),  # a list
        ("A. Bolivia\nB. Chile\n\nThe correct answer is B.", "B"),
        ("B\n\nA. is too far.\nC. is too near.", "B"),
        ("Consider each option:\n(A) is far.\n(B) is near.", NONE),
        ("选项B是错误的。", NONE),
        ("E.", NONE),
        ("A or B", NONE),
        ("A, and the answer is B.", NONE),
        ("The answer is Bolivia", NONE),
        ("D'accord", NONE),
        ("", NONE),
    ],
)
def test_a_reply_names_an_option_by_its_letter(text, letter):
    found = find_match(text, LETTERS)
    assert found.candidate == letter
    assert letter == NONE or unify(text[found.start : found.end]).upper() == letter
    assert match_candidate(text, LETTERS[::-1]) == letter


def test_letters_are_told_from_words():
    assert letters_of(("C", "A", "B", "D")) == {"A": "A", "B": "B", "C": "C", "D": "D"}
    assert letters_of(("(B)", "(A)")) == {"A": "(A)", "B": "(B)"}
    assert letters_of(("a", "b")) == {"A": "a", "B": "b"}
    for words in (("C", "A", "none of them"), ("1", "2"), ("H", "C", "O", "N"), ("A", "A+"), ("A", "a")):
        assert not letters_of(words)  # H, C, O and N are elements


def test_letters_of_several_tokens_are_refused_where_they_are_scored(tmp_path):
    made = TOKENIZERS["byte-level base"]
    sizes = dict(train_items=4, validation_items=4, test_items=4)
    letters = build_hint_mmlu(HintMmluConfig(data="sample", **sizes), tmp_path)
    facts = tiny_task()
    facts.check_scored(made.encode_reply)
    for task in (letters, mix([Part(letters, name="mmlu"), Part(letters, name="again")])):
        with pytest.raises(InputError, match="encodes the letter A in 2 tokens"):
            task.check_scored(made.encode_reply)
