"""Packs: every token sees there what it sees in its own row, and a shared start stands once."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from introspection.errors import InputError
from introspection.models.attention import span_mask
from introspection.text.packs import least_shape, pack_rows, texts_of
from introspection.text.rows import Rows, build_row, stack_rows

# Three tokens, so that texts often begin alike.
some_text = st.lists(st.integers(0, 2), min_size=1, max_size=6)
some_row = st.tuples(some_text, st.lists(some_text, min_size=1, max_size=3))
some_rows = st.lists(some_row, min_size=1, max_size=8)


def rows_of(texts):
    return stack_rows([build_row(prompt, continuations) for prompt, continuations in texts])


def seen_in_row(row, place):
    """What the token at a place sees, in order, itself included: tokens and positions."""
    segment = row.segments[: place + 1]
    places = np.flatnonzero((segment == 0) | (segment == segment[place]))
    return row.tokens[places].tolist(), row.positions[places].tolist()


def seen_in_pack(packs, pack, place):
    places = np.flatnonzero(packs.ends[pack, : place + 1] > place)
    return packs.tokens[pack, places].tolist(), packs.positions[pack, places].tolist()


def lengths(packs):
    return [int((ends > 0).sum()) for ends in packs.ends]


@settings(max_examples=40)
@given(some_rows, some_rows, st.integers(24, 40))
def test_a_scored_token_sees_in_its_pack_what_it_sees_in_its_row(one, other, time):
    parts = {"one": rows_of(one), "other": rows_of(other)}
    packs = pack_rows(parts, time)
    for name, rows in parts.items():
        for i, j in np.ndindex(rows.scored.shape):
            there = seen_in_pack(packs, *divmod(int(packs.places[name][i, j]), time))
            assert there == seen_in_row(Rows(*(array[i] for array in rows)), rows.scored[i, j])


def test_the_mask_is_that_of_spans():
    ends = jnp.array([[7, 7, 4, 4, 7, 7, 7, 9, 9, 0]])
    mask = np.asarray(span_mask(ends))[0].astype(int)
    assert ["".join(map(str, row)) for row in mask[[3, 6, 8, 9]]] == [
        "1111000000",
        "1100111000",
        "0000000110",
        "0000000000",
    ]


@settings(max_examples=40)
@given(some_rows)
def test_what_texts_have_in_common_stands_once(texts):
    rows = rows_of(texts)
    starts = set()
    for prompt, continuations in texts:
        for continuation in continuations:
            read = (*prompt, *continuation[:-1])
            starts |= {tuple(read[:n]) for n in range(1, len(read) + 1)}
    assert lengths(pack_rows({"rows": rows}, 400)) == [len(starts)]


def test_apart_rows_lie_first_fit_decreasing_by_their_lengths():
    sizes = [3, 6, 2, 5, 4, 1]
    firsts = iter(range(6))
    rows = rows_of([([next(firsts)] * size, [[9]]) for size in sizes])
    packs = pack_rows({"rows": rows}, 8)
    # 6 opens a pack, 5 a second; 4 fits in neither, 3 beside 5, 2 beside 6, 1 beside 4.
    assert [sorted(set(tokens[ends > 0])) for tokens, ends in zip(packs.tokens, packs.ends, strict=True)] == [
        [1, 2],
        [0, 3],
        [4, 5],
    ]


def test_a_row_goes_where_its_start_is():
    texts = [([0] * 8, [[9]]), ([1] * 7, [[9]]), ([1] * 4 + [2], [[9]])]
    packs = pack_rows({"rows": rows_of(texts)}, 14)
    assert lengths(packs) == [8, 8]  # though the first pack has room for it


def test_empty_packs_fill_up_the_shape():
    packs = pack_rows({"rows": rows_of([([1, 2], [[3]])])}, 4, packs=3)
    assert packs.tokens.shape == packs.positions.shape == packs.ends.shape == (3, 4)
    assert lengths(packs) == [2, 0, 0]


def test_packs_are_as_few_and_as_short_as_all_batches_allow():
    def batch(*sizes):  # of rows apart
        return texts_of({"rows": rows_of([([i] * size, [[9]]) for i, size in enumerate(sizes)])})

    assert least_shape([batch(10, 10, 9), batch(20, 3)], 50) == (1, 32)
    assert least_shape([batch(30, 30, 10)], 50) == (2, 40)
    assert least_shape([batch(30, 30, 10)], 50, multiple=4) == (4, 32)
    assert least_shape([batch(33, 33)], 35) == (2, 35)
    with pytest.raises(InputError, match="51 tokens, but a pack has room for 50"):
        least_shape([batch(51)], 50)


def test_rows_that_do_not_fit_are_refused():
    rows = rows_of([([1, 2, 3], [[4, 5]]), ([2] * 4, [[4]])])
    with pytest.raises(InputError, match="4 tokens, but a pack has room for 3"):
        pack_rows({"rows": rows}, 3)
    with pytest.raises(InputError, match="need 2 packs of 4 tokens; there are 1"):
        pack_rows({"rows": rows}, 4, packs=1)
