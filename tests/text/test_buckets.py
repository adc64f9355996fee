"""Shape buckets: few, large enough, and a function of the request alone."""

from hypothesis import given
from hypothesis import strategies as st

from introspection.text import buckets
from introspection.text.buckets import batches, bucket, joined_batches, score_shape


@given(st.integers(1, 100_000), st.integers(1, 64))
def test_a_bucket_holds_its_length_with_little_padding(length, smallest):
    size = bucket(length, smallest)
    assert size >= max(length, smallest)
    assert size < 1.5 * max(length, smallest)


def test_there_are_few_buckets_and_they_grow():
    sizes = [bucket(length) for length in range(1, 8193)]
    assert sizes == sorted(sizes)
    assert sorted(set(sizes))[:8] == [1, 2, 3, 4, 6, 8, 12, 16]
    assert len(set(sizes)) == 26  # two an octave: a program compiles at most so often


@given(st.integers(1, 20_000), st.integers(1, 64), st.integers(1, 64))
def test_the_shape_holds_the_request_and_divides_over_a_mesh(prompt_length, continuations, length):
    shape = score_shape(prompt_length, continuations, length)
    assert shape.prompt_length >= prompt_length
    assert shape.continuations >= continuations
    assert shape.continuation_length >= length
    assert shape.prompts >= 8
    assert shape.prompts & (shape.prompts - 1) == 0
    # Any request that fits into the bucket gets the same one.
    assert score_shape(shape.prompt_length, shape.continuations, shape.continuation_length) == shape


def test_an_accelerator_gets_larger_batches_of_the_same_lengths(monkeypatch):
    here = score_shape(100, 4, 5)
    monkeypatch.setattr(buckets.jax, "default_backend", lambda: "gpu")
    there = score_shape(100, 4, 5)
    assert there.prompts == 8 * here.prompts
    assert there[1:] == here[1:]


SHAPE = score_shape(48, 4, 4)  # 128 rows


@given(st.integers(0, 1000), st.integers(0, 10**10), st.integers(1, 16))
def test_batches_hold_every_request_once_in_order(count, parameters, least_rows):
    requests = list(range(count))
    made = list(batches(requests, SHAPE, max(parameters, 1), 1, least_rows))
    assert [one for chunk, _ in made for one in chunk] == requests
    assert all(shape[1:] == SHAPE[1:] for _, shape in made)
    rows = [shape.prompts for _, shape in made]
    assert rows == sorted(rows, reverse=True)
    assert all(least_rows <= size <= SHAPE.prompts for size in rows)
    assert all(0 < len(chunk) <= shape.prompts for chunk, shape in made)
    assert len(set(rows)) <= 4


def test_only_a_large_models_last_batches_are_small():
    def rows(count, parameters, least_rows=1):
        return [shape.prompts for _, shape in batches(range(count), SHAPE, parameters, 1, least_rows)]

    assert rows(300, 250_000) == [128, 128, 128]
    assert rows(300, 135_000_000) == [128, 128, 32, 8, 2, 2]
    assert rows(3, 135_000_000) == [2, 2]
    assert rows(3, 135_000_000, least_rows=8) == [8]


def test_an_accelerator_needs_more_arithmetic_for_a_batch(monkeypatch):
    monkeypatch.setattr(buckets.jax, "default_backend", lambda: "gpu")
    shape = score_shape(48, 4, 4)
    assert [made.prompts for _, made in batches(range(3), shape, 135_000_000, 1)] == [64]


@given(st.lists(st.integers(1, 200), max_size=400), st.sampled_from([250_000, 135_000_000]))
def test_joined_batches_hold_every_request_once_and_pad_to_its_length(lengths, parameters):
    by_shape = {}
    for index, length in enumerate(lengths):
        by_shape.setdefault(score_shape(length, 1, 24), []).append(index)
    made = list(joined_batches(by_shape, parameters, 1, 8))
    assert sorted(index for chunk, _ in made for index in chunk) == list(range(len(lengths)))
    assert all(lengths[i] <= shape.prompt_length for chunk, shape in made for i in chunk)
    assert all(0 < len(chunk) <= shape.prompts for chunk, shape in made)


def test_a_large_models_last_requests_wait_for_a_longer_bucket():
    short, long = score_shape(48, 1, 24), score_shape(64, 1, 24)  # 64 rows each
    asked = {long: range(100, 120), short: range(70)}
    large = [(len(chunk), tuple(shape[:2])) for chunk, shape in joined_batches(asked, 135_000_000, 1, 8)]
    assert large == [(64, (64, 48)), (16, (16, 64)), (10, (16, 64))]
    far = {short: range(70), score_shape(96, 1, 24): range(100, 120)}  # 64 rows, too
    apart = [(len(chunk), tuple(shape[:2])) for chunk, shape in joined_batches(far, 135_000_000, 1, 8)]
    assert apart == [(64, (64, 48)), (6, (16, 48)), (16, (16, 96)), (4, (16, 96))]
    small = [(len(chunk), tuple(shape[:2])) for chunk, shape in joined_batches(asked, 250_000, 1, 8)]
    assert small == [(64, (64, 48)), (6, (64, 48)), (20, (64, 64))]
