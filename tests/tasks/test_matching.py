"""The strict matcher of freely said answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from introspection.tasks.items import NONE
from introspection.tasks.matching import fold, match_candidate

CITIES = ("Paris", "Lyon", "New York", "York", "São Paulo")
NAMED = {
    CITIES: [
        ("The capital of France is Paris.", "Paris"),
        ("paris", "Paris"),
        ("It is PARIS, of course: Paris!", "Paris"),
        ("Paris, not Lyon.", NONE),  # two are named: not guessed at
        ("I don't know.", NONE),
        ("", NONE),
        ("Parisians say so.", NONE),  # whole words only
        ("The Paris-based paper", NONE),  # a part of a longer word
        ("**Paris**", "Paris"),
        ('"Paris"', "Paris"),
        ("New York", "New York"),  # the longest that fits in its place
        ("New\n  York", "New York"),
        ("York", "York"),
        ("New York and York", NONE),
        ("sao paulo", "São Paulo"),
        ("Sa\u0303o Paulo.", "São Paulo"),
    ],
    # Numbers are whole.
    ("1", "2", "+1"): [
        ("1", "1"),
        ("It is 1.", "1"),
        ("10", NONE),
        ("1.5", NONE),
        ("2.1", NONE),
        ("+1", "+1"),
        ("Group 1, period 2", NONE),
    ],
    # The case of a symbol counts.
    ("Li", "In", "As", "He"): [
        ("The symbol of lithium in the periodic table is Li.", "Li"),
        ("As of 2024, it is Li", NONE),  # two symbols
        ("It is li.", NONE),
        ("In", "In"),
        ("It is in.", NONE),
        ("Lithium, as he said.", NONE),
    ],
    ("Niger", "Nigeria"): [("Nigeria", "Nigeria"), ("Niger", "Niger")],
    ("Niger", "Chad"): [("Niger's neighbour", NONE)],  # a possessive is another word
}


@pytest.mark.parametrize(
    ("candidates", "text", "named"),
    [(candidates, *case) for candidates, cases in NAMED.items() for case in cases],
)
def test_what_is_named(candidates, text, named):
    assert match_candidate(text, candidates) == named


@given(st.lists(st.text("abcXYZ äß-", min_size=1, max_size=8), min_size=1, max_size=5), st.randoms())
def test_a_candidate_by_itself_names_itself(candidates, random):
    # Candidates that fold to the same text can't be told apart; tasks refuse them.
    distinct = {fold(c): c for c in candidates if fold(c).strip("- ") == fold(c) != ""}
    if distinct:
        chosen = random.choice(sorted(distinct.values()))
        assert match_candidate(chosen, tuple(distinct.values())) == chosen
