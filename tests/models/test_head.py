"""The head in chunks gives what it gives at once; the divergence is the textbook's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_decoder import log_softmax
from scipy.special import rel_entr
from tiny import assert_trees_close

from introspection.models.head import KL_DIRECTIONS, target_logprobs, token_logits, vocabulary_kl

TOKENS, WIDTH, VOCABULARY = 11, 6, 13
CHUNKS = [1, 4, 5, 10, 11, 64]  # 4, 5 and 10 leave a last chunk that is not full


def normal(seed, *shape):
    return jnp.array(np.random.default_rng(seed).normal(size=shape), jnp.float32)


HEAD, HIDDEN = normal(0, VOCABULARY, WIDTH), normal(1, TOKENS, WIDTH)
REFERENCE_HEAD, REFERENCE_HIDDEN = normal(2, VOCABULARY, WIDTH + 2), normal(3, TOKENS, WIDTH + 2)
TARGETS = jnp.array(np.random.default_rng(4).integers(0, VOCABULARY, (TOKENS, 3)))


def logprobs_by_hand():
    return log_softmax(np.asarray(HIDDEN, np.float64) @ np.asarray(HEAD, np.float64).T)


def reference_logprobs_by_hand():
    return log_softmax(np.asarray(REFERENCE_HIDDEN, np.float64) @ np.asarray(REFERENCE_HEAD, np.float64).T)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_target_logprobs_and_their_gradients_do_not_depend_on_the_chunk(chunk):
    weights = normal(5, TOKENS, 3)

    def loss(head, hidden, chunk):
        logprobs = target_logprobs(head, hidden, TARGETS, chunk)
        return jnp.sum(weights * logprobs), logprobs

    run = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True), static_argnums=2)
    (_, logprobs), gradients = run(HEAD, HIDDEN, chunk)
    expected = np.take_along_axis(logprobs_by_hand(), np.asarray(TARGETS), axis=1)
    np.testing.assert_allclose(logprobs, expected, atol=1e-5)
    # By hand: d log p(target) / d logits is the target's indicator less the probabilities.
    probabilities = np.exp(logprobs_by_hand())
    at_logits = np.zeros((TOKENS, VOCABULARY))
    for token, target in np.ndindex(TOKENS, 3):
        indicator = np.eye(VOCABULARY)[TARGETS[token, target]]
        at_logits[token] += float(weights[token, target]) * (indicator - probabilities[token])
    by_hand = at_logits.T @ np.asarray(HIDDEN), at_logits @ np.asarray(HEAD)
    assert_trees_close(gradients, by_hand, atol=1e-5)


@pytest.mark.parametrize("direction", KL_DIRECTIONS)
@pytest.mark.parametrize("chunk", CHUNKS)
def test_the_divergence_is_scipys_in_every_direction_and_any_chunk(direction, chunk):
    run = jax.jit(vocabulary_kl, static_argnums=(4, 5))
    divergence = run(HEAD, HIDDEN, REFERENCE_HEAD, REFERENCE_HIDDEN, chunk, direction)
    current, reference = np.exp(logprobs_by_hand()), np.exp(reference_logprobs_by_hand())
    forward, backward = rel_entr(reference, current).sum(-1), rel_entr(current, reference).sum(-1)
    expected = dict(zip(KL_DIRECTIONS, (forward, backward, (forward + backward) / 2), strict=True))
    assert divergence.shape == (TOKENS,)
    np.testing.assert_allclose(divergence, expected[direction], rtol=1e-4)


def test_the_divergence_of_two_coins_worked_by_hand():
    # The current model says heads with 1/2, the reference with 1/4.
    hidden = jnp.ones((1, 1))
    current, reference = jnp.log(jnp.array([[0.5], [0.5]])), jnp.log(jnp.array([[0.25], [0.75]]))
    forward = vocabulary_kl(current, hidden, reference, hidden, 8)
    assert float(forward[0]) == pytest.approx(0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5))
    backward = vocabulary_kl(current, hidden, reference, hidden, 8, "current_to_reference")
    assert float(backward[0]) == pytest.approx(0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75))


@pytest.mark.parametrize("direction", KL_DIRECTIONS)
def test_only_the_current_model_gets_a_gradient_and_the_right_one(direction):
    def loss(hidden, head, reference_head, reference_hidden):
        return jnp.sum(vocabulary_kl(head, hidden, reference_head, reference_hidden, 4, direction))

    arguments = HIDDEN, HEAD, REFERENCE_HEAD, REFERENCE_HIDDEN
    gradients = jax.jit(jax.grad(loss, (0, 1, 2, 3)))(*arguments)
    assert all((leaf == 0).all() for leaf in gradients[2:])
    p, q = np.exp(reference_logprobs_by_hand()), np.exp(logprobs_by_hand())
    ratio = np.log(q / p)
    forward, backward = q - p, q * (ratio - (q * ratio).sum(axis=-1, keepdims=True))
    known = dict(zip(KL_DIRECTIONS, (forward, backward, (forward + backward) / 2), strict=True))
    at_logits = known[direction]
    by_hand = at_logits @ np.asarray(HEAD), at_logits.T @ np.asarray(HIDDEN)
    assert_trees_close(gradients[:2], by_hand, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("direction", KL_DIRECTIONS)
def test_a_model_does_not_diverge_from_itself(dtype, direction):
    hidden = HIDDEN.astype(dtype)
    kept = hidden.astype(jnp.float32)  # as a reference is stored
    divergence = vocabulary_kl(HEAD, hidden, HEAD, kept, 4, direction)
    np.testing.assert_array_equal(divergence, 0)


def test_logits_are_float32_whatever_the_hidden_states_are():
    assert token_logits(HEAD, HIDDEN.astype(jnp.bfloat16)).dtype == jnp.float32
    logprobs = target_logprobs(HEAD, HIDDEN.astype(jnp.bfloat16), TARGETS, 4)
    assert logprobs.dtype == jnp.float32


def test_logits_of_all_positions_never_exist():
    def largest(function, *arguments):
        sizes = []

        def visit(jaxpr):
            for equation in jaxpr.eqns:
                sizes.extend(variable.aval.size for variable in equation.outvars)
                for value in equation.params.values():
                    for inner in value if isinstance(value, tuple | list) else (value,):
                        inner = getattr(inner, "jaxpr", inner)
                        if hasattr(inner, "eqns"):
                            visit(inner)

        visit(jax.make_jaxpr(function)(*arguments).jaxpr)
        return max(sizes)

    head, hidden = jnp.zeros((1000, 4)), jnp.zeros((64, 4))
    targets = jnp.zeros((64, 1), jnp.int32)

    def loss(head, hidden):
        return jnp.sum(target_logprobs(head, hidden, targets, 8)) + jnp.sum(
            vocabulary_kl(head, hidden, head, hidden, 8)
        )

    assert largest(jax.grad(loss), head, hidden) == 8 * 1000
