"""The time of only the matrix products on this machine: the limit for a model's speed."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from introspection.models.config import ModelConfig


class Product(NamedTuple):
    """`count` products of a rows × inner by an inner × columns matrix."""

    rows: int
    inner: int
    columns: int
    count: int = 1

    @property
    def flops(self) -> int:
        return 2 * self.rows * self.inner * self.columns * self.count


def forward_products(config: ModelConfig, tokens: int, scored: int) -> list[Product]:
    """The products with the model's matrices in a forward pass of `tokens`, of which `scored` reach the head.

    Attention's own products are left out; for short rows they are a few percent.
    """
    attended, keys = config.query_heads * config.head_dim, config.kv_heads * config.head_dim
    sizes = {
        "query": (config.width, attended),
        "key": (config.width, keys),
        "value": (config.width, keys),
        "output": (attended, config.width),
        "gate": (config.width, config.mlp_width),
        "up": (config.width, config.mlp_width),
        "down": (config.mlp_width, config.width),
    }
    products = [Product(tokens, inner, columns, config.layers) for inner, columns in sizes.values()]
    if config.lora is not None:
        for inner, columns in (sizes[name] for name in config.lora.targets):
            products.append(Product(tokens, inner, config.lora.rank, config.layers))
            products.append(Product(tokens, config.lora.rank, columns, config.layers))
    return [*products, Product(scored, config.width, config.vocab_size)]


def product_limit(products: Sequence[Product], runs: int = 5) -> float:
    """GFLOP/s of plain jitted float32 products of these sizes, each size timed separately: the best run."""
    seconds = {shape: _best_seconds(*shape, runs) for shape in {product[:3] for product in products}}
    total = sum(product.flops for product in products)
    return total / sum(seconds[product[:3]] * product.count for product in products) / 1e9


def _best_seconds(rows: int, inner: int, columns: int, runs: int) -> float:
    rng = np.random.default_rng(0)
    left = jnp.asarray(rng.standard_normal((rows, inner), np.float32))
    right = jnp.asarray(rng.standard_normal((inner, columns), np.float32))
    multiply = jax.jit(jnp.matmul)
    jax.block_until_ready(multiply(left, right))
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        jax.block_until_ready(multiply(left, right))
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def limit_numbers(achieved: float, limit: float) -> dict[str, float]:
    return {
        "gflops": round(achieved, 1),
        "gflops_of_plain_products": round(limit, 1),
        "share_of_limit": round(achieved / limit, 3),
    }
