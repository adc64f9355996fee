"""Shape buckets: few, large enough, and a function of the request alone."""

from hypothesis import given
from hypothesis import strategies as st

from introspection.text import buckets
from introspection.text.buckets import bucket, score_shape


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
