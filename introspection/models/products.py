"""Rows of tokens times a matrix, with a backward pass that copies as little as possible."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

OVER_TOKENS = (((0, 1), (0, 1)), ((), ()))  # contracts rows and time of both operands


@jax.custom_vjp
def product(
    x: Float[Array, "rows time inner"], matrix: Float[Array, "inner outer"]
) -> Float[Array, "rows time outer"]:
    """Every token of `x` times `matrix`, in x's dtype.

    The backward pass keeps the matrix as it is, and no copy in x's dtype.

    The matrix's gradient is a product over tokens, and XLA writes a transposed copy of its left operand. JAX
    would put the incoming gradient there; here it is the narrower operand: for the second matrix of a LoRA
    adapter, `rank` numbers per token instead of the layer's width.
    """
    return jnp.einsum("rti,io->rto", x, matrix.astype(x.dtype))


def _forward(x, matrix):
    return product(x, matrix), (x, matrix)


def _backward(kept, gradient):
    x, matrix = kept
    if matrix.shape[0] <= matrix.shape[1]:
        of_matrix = jax.lax.dot_general(x, gradient, OVER_TOKENS)
    else:
        of_matrix = jax.lax.dot_general(gradient, x, OVER_TOKENS).T
    of_x = jnp.einsum("rto,io->rti", gradient, matrix.astype(x.dtype))
    return of_x, of_matrix.astype(matrix.dtype)


product.defvjp(_forward, _backward)
