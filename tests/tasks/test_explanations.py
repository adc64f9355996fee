"""The explanation grammar: rendering and strict parsing are inverse."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.items import INVALID, NONE, Explanation

GRAMMARS = (
    ExplanationGrammar(),
    ExplanationGrammar(
        changed="Without it I would refuse:", unchanged="Without it I would", neither="neither"
    ),
)
CANDIDATES = ("Oslo", "New York", "A")

names = st.text(min_size=1, max_size=12).filter(lambda name: name == name.strip() and name != NONE)


@given(
    grammar=st.sampled_from(GRAMMARS),
    candidates=st.lists(names, min_size=1, max_size=5, unique=True).map(tuple),
    changed=st.booleans(),
    choice=st.integers(-1, 4),
)
@example(GRAMMARS[0], ("would change to", "It would stay", "It would change to x"), False, 1)
def test_parsing_a_rendered_explanation_gives_it_back(grammar, candidates, changed, choice):
    assume(grammar.neither not in candidates)
    # "unchanged" plus a space may begin like "changed": then a candidate can make the sentences equal.
    assume(not any(f"{grammar.unchanged} {name}".startswith(grammar.changed) for name in candidates))
    answer = candidates[choice % len(candidates)] if choice >= 0 else NONE
    explanation = Explanation(changed, answer)
    assert grammar.parse(grammar.render(explanation)) == explanation


def test_sentences_as_they_are_read():
    grammar = ExplanationGrammar()
    assert grammar.render(Explanation(True, "Oslo")) == "It would change to Oslo"
    assert grammar.render(Explanation(False, "New York")) == "It would stay New York"
    assert grammar.render(Explanation(False, NONE)) == "It would stay something else"


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_the_finite_set_has_distinct_sentences_that_parse_back(grammar):
    explanations = grammar.all_explanations(CANDIDATES)
    assert len(explanations) == 2 * len(CANDIDATES)
    sentences = [grammar.render(e) for e in explanations]
    assert len(set(sentences)) == len(sentences)
    assert tuple(grammar.parse(s) for s in sentences) == explanations


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "It would change to",
        "It would change to ",
        "It would stay",
        "It would stay ",
        "It would stay  Oslo",
        "It would stay Oslo ",
        "It would stay Oslo\n",
        " It would stay Oslo",
        "\nIt would stay Oslo",
        "it would stay Oslo",
        "It would stay\nOslo",
        "It would stayOslo",
        "It would change Oslo",
        "It would change to\tOslo",
        "It will stay Oslo",
        "Oslo",
        "<think></think>It would stay Oslo",
        "Sure! It would stay Oslo",
    ],
)
def test_near_misses_are_invalid(text):
    assert ExplanationGrammar().parse(text) == INVALID


@given(st.text(max_size=20))
def test_text_without_a_verb_phrase_is_invalid(text):
    assert ExplanationGrammar().parse("?" + text) == INVALID


@given(names, st.booleans(), st.sampled_from([" ", "\n", "\t", "  ", "\u00a0"]))
def test_space_around_the_answer_is_invalid(name, changed, space):
    grammar = ExplanationGrammar()
    sentence = grammar.render(Explanation(changed, name))
    verb = grammar.changed if changed else grammar.unchanged
    assert grammar.parse(sentence + space) == INVALID
    assert grammar.parse(f"{verb} {space}{name}") == INVALID


@pytest.mark.parametrize("answer", ["oslo", "Oslo.", "Rome", "Oslo or Rome"])
def test_another_text_is_kept_and_matches_no_decision(answer):
    assert ExplanationGrammar().parse(f"It would stay {answer}") == Explanation(False, answer)


def test_only_the_neither_phrase_means_none():
    assert ExplanationGrammar().parse("It would stay something else") == Explanation(False, NONE)
    assert ExplanationGrammar().parse(f"It would stay {NONE}") == INVALID


def test_an_invalid_explanation_has_no_sentence():
    assert not INVALID.valid
    with pytest.raises(ValueError, match="no sentence"):
        ExplanationGrammar().render(INVALID)
