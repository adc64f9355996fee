"""Splits by group: what is never on both sides, how large they are, which texts repeat each other."""

import collections
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from introspection.errors import InputError
from introspection.tasks.splits import (
    NearDuplicates,
    merge_near_duplicates,
    split_questions,
    words_of,
)

SIZES = {"train": 5, "validation": 2, "test": 3}
LAW = (
    "A man is charged with theft of a car from his neighbour after a party, and his lawyer asks the court to"
)
# Questions that are alike in every degree: few words, so that the same ones are drawn again.
texts = st.lists(st.sampled_from(["Which", "of", "these", "IS", "is", "a", "prime?", "é"]), max_size=6)
rows = st.lists(st.tuples(st.sampled_from("abcdefgh"), texts.map(" ".join)), min_size=12, max_size=40)
sizes = st.tuples(*[st.integers(0, 6)] * 3).map(lambda sizes: dict(zip(SIZES, sizes, strict=True)))


def split_groups(groups, sizes, seed):
    return split_questions(groups, groups, sizes, seed, NearDuplicates("exact")).rows


def sides(values, split):
    """The splits in which each value is."""
    found = collections.defaultdict(set)
    for name, chosen in split.items():
        for row in chosen:
            found[values[row]].add(name)
    return found


@settings(max_examples=60)
@given(rows=rows, sizes=sizes, seed=st.integers(0, 5), method=st.sampled_from(["minhash", "exact"]))
def test_no_group_and_no_question_is_on_two_sides(rows, sizes, seed, method):
    groups, questions = zip(*rows, strict=True)
    try:
        split = split_questions(groups, questions, sizes, seed, NearDuplicates(method))
    except InputError:
        return
    for values in (groups, split.groups, [words_of(question) for question in questions]):
        assert all(len(found) == 1 for found in sides(values, split.rows).values())
    chosen = [row for of in split.rows.values() for row in of]
    assert len(set(chosen)) == len(chosen)
    assert all(len(split.rows[name]) <= size for name, size in sizes.items() if size)


@settings(max_examples=40)
@given(rows=rows)
def test_similar_questions_are_on_one_side(rows):
    """Against every pair's similarity, computed one by one."""
    groups = [str(i) for i in range(len(rows))]
    questions = [f"{LAW} {text}" for _, text in rows]
    near = NearDuplicates("minhash", 0.9)
    name = merge_near_duplicates(groups, questions, near)

    def shingles(text):
        words = words_of(text).split()
        return {tuple(words[i : i + 3]) for i in range(len(words) - 2)}

    sets = [shingles(question) for question in questions]
    for i, one in enumerate(sets):
        for j, other in enumerate(sets[:i]):
            if len(one & other) / len(one | other) >= 0.9:
                assert name[groups[i]] == name[groups[j]]


def test_near_duplicates_are_found_by_minhash_alone_and_the_same_words_always():
    questions = [
        f"{LAW} set him free.",
        f"{LAW} set her free.",
        "Which of these is a prime?",
        "which OF these -- is a prime",
        "Which of these is not a prime?",
    ]
    groups = list("abcde")
    by_words = merge_near_duplicates(groups, questions, NearDuplicates("exact"))
    assert by_words == {"a": "a", "b": "b", "c": "c", "d": "c", "e": "e"}
    assert merge_near_duplicates(groups, questions, NearDuplicates()) == by_words | {"b": "a"}


def test_texts_without_words_are_told_apart():
    assert words_of("∀∃") != words_of("∃∀")
    assert words_of(" ∀ ") == words_of("∀")


def test_links_go_on_through_a_third_row_and_through_groups():
    groups = ["a", "b", "b", "c"]
    merged = merge_near_duplicates(groups, ["one", "One", "two", "TWO!"], NearDuplicates("exact"))
    assert merged == {"a": "a", "b": "a", "c": "a"}


def test_duplicates_and_moved_rows_are_counted():
    groups = [str(i) for i in range(40)]
    questions = [f"Question {i // 2} asks for {'this' if i % 2 else 'THIS'}." for i in range(40)]
    sizes = {"train": 20, "validation": 8, "test": 12}
    split = split_questions(groups, questions, sizes, 0, NearDuplicates("exact"))
    assert {name: len(chosen) for name, chosen in split.rows.items()} == sizes
    assert split.duplicates == 20
    plain = sides(groups, split_groups(groups, sizes, 0))
    moved = [group for group, found in sides(groups, split.rows).items() if plain[group] != found]
    assert split.moved == len(moved) > 0
    alone = split_questions(groups, groups, sizes, 0)
    assert (alone.duplicates, alone.moved, alone.groups) == (0, 0, tuple(groups))
    assert alone.rows == split_groups(groups, sizes, 0)


def test_sizes_are_met_and_the_test_split_does_not_depend_on_the_others():
    groups = [f"g{i // 3 if i < 30 else i}" for i in range(100)]
    small = split_groups(groups, {"train": 40, "validation": 10, "test": 25}, 3)
    assert {name: len(chosen) for name, chosen in small.items()} == {
        "train": 40,
        "validation": 10,
        "test": 25,
    }
    large = split_groups(groups, {"train": 0, "validation": 10, "test": 25}, 3)
    assert large["test"] == small["test"]
    assert large["validation"] == small["validation"]
    assert sum(map(len, large.values())) == 100
    assert split_groups(groups, {"train": 40, "validation": 10, "test": 25}, 4) != small


def test_the_order_of_the_rows_does_not_matter():
    groups = [f"g{i // 2}" for i in range(30)]
    order = np.random.default_rng(0).permutation(30)
    one = split_groups(groups, SIZES, 0)
    other = split_groups([groups[i] for i in order], SIZES, 0)
    assert sides(groups, one) == sides([groups[i] for i in order], other)


@pytest.mark.parametrize(
    ("groups", "sizes", "message"),
    [
        ("abcdefghi", SIZES, "10 questions are asked for .train 5, validation 2, test 3., there are 9"),
        ("abcdefghij", {"train": 0, "validation": 0, "test": 3}, "only one may be 0"),
        ("abcdefghij", {"train": -1, "validation": 1, "test": 3}, "none may be negative"),
        ("aaaaaaaaaa", SIZES, "no question is left for the train split"),
        ("abcde", {"train": 0, "validation": 2, "test": 3}, "no question is left for the train split"),
    ],
)
def test_sizes_that_cannot_be_met_are_refused(groups, sizes, message):
    with pytest.raises(InputError, match=message):
        split_groups(list(groups), sizes, 0)


def test_unknown_ways_to_find_duplicates_are_refused():
    with pytest.raises(InputError, match="choose from minhash, exact"):
        NearDuplicates("fuzzy")
    with pytest.raises(InputError, match=r"from 0\.5 to 1"):
        NearDuplicates(similarity=0.2)


@pytest.mark.slow
def test_as_many_questions_as_mmlu_has_take_well_under_a_minute():
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(20_000)])
    questions = [" ".join(words[rng.integers(0, len(words), 50)]) for _ in range(14_000)]
    questions[1:2000:2] = [f"{text} again" for text in questions[0:2000:2]]
    start = time.perf_counter()
    merged = merge_near_duplicates([str(i) for i in range(14_000)], questions, NearDuplicates())
    assert sum(name != group for group, name in merged.items()) == 1000
    assert time.perf_counter() - start < 60
