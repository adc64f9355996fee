"""The head in chunks: the same numbers and gradients as whole, and the KL as by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import entropy

from introspection.models.head import target_logprobs, vocabulary_kl

VOCABULARY, WIDTH, TOKENS = 37, 8, 11


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    head, other_head = rng.normal(size=(2, VOCABULARY, WIDTH)).astype(np.float32)
    hidden, other_hidden = rng.normal(size=(2, TOKENS, WIDTH)).astype(np.float32)
    return jnp.array(head), jnp.array(hidden), jnp.array(other_head), jnp.array(other_hidden)


# 11 tokens: one chunk, equal chunks, a last chunk that is not full.
CHUNKS = (64, 11, 10, 4, 1)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_target_logprobs_are_those_of_the_whole_softmax(arrays, chunk):
    head, hidden, _, _ = arrays
    targets = jnp.array(np.random.default_rng(1).integers(VOCABULARY, size=(TOKENS, 3)))
    weights = jnp.arange(1.0, TOKENS * 3 + 1).reshape(TOKENS, 3)

    def loss(head, hidden):
        return jnp.sum(weights * target_logprobs(head, hidden, targets, chunk))

    def whole(head, hidden):
        return jnp.sum(weights * jnp.take_along_axis(jax.nn.log_softmax(hidden @ head.T), targets, axis=1))

    expected = np.take_along_axis(log_softmax(np.asarray(hidden @ head.T), axis=1), np.asarray(targets), 1)
    np.testing.assert_allclose(target_logprobs(head, hidden, targets, chunk), expected, atol=1e-5)
    for got, right in zip(
        jax.grad(loss, (0, 1))(head, hidden), jax.grad(whole, (0, 1))(head, hidden), strict=True
    ):
        np.testing.assert_allclose(got, right, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("reverse", [False, True])
def test_vocabulary_kl_is_scipys(arrays, chunk, reverse):
    head, hidden, other_head, other_hidden = arrays
    current = np.exp(log_softmax(np.asarray(hidden @ head.T, np.float64), axis=1))
    reference = np.exp(log_softmax(np.asarray(other_hidden @ other_head.T, np.float64), axis=1))
    expected = entropy(current, reference, axis=1) if reverse else entropy(reference, current, axis=1)
    got = vocabulary_kl(head, hidden, other_head, other_hidden, chunk, reverse)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_kl_to_itself_is_zero_and_flat(arrays):
    head, hidden, _, _ = arrays
    gradient = jax.grad(lambda h: vocabulary_kl(head, h, head, hidden, 4).sum())(hidden)
    np.testing.assert_allclose(vocabulary_kl(head, hidden, head, hidden, 4), 0, atol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_the_reference_gets_no_gradient(arrays):
    gradients = jax.grad(lambda *a: vocabulary_kl(*a, chunk=4).sum(), argnums=(2, 3))(*arrays)
    assert all(not jnp.any(gradient) for gradient in gradients)


def test_full_logits_of_a_batch_never_exist(arrays):
    """No array of the compiled loss and gradient is as large as all tokens' logits."""
    tokens, vocabulary, chunk = 512, 1000, 64
    head, hidden = jnp.ones((vocabulary, WIDTH)), jnp.ones((tokens, WIDTH))
    targets = jnp.zeros((tokens, 1), jnp.int32)

    def loss(head, hidden):
        return target_logprobs(head, hidden, targets, chunk).sum()

    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(head, hidden).compile()
    assert f"f32[{chunk},{vocabulary}]" in compiled.as_text()
    assert f"f32[{tokens},{vocabulary}]" not in compiled.as_text()
    assert f"f32[{tokens // chunk},{chunk},{vocabulary}]" not in compiled.as_text()
