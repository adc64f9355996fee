"""Fingerprints: hashes of a configuration and of every number in a tree."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from introspection.runtime.processes import gather

LARGEST_PART = 2**28  # bytes of a leaf that a host holds at a time


def fingerprint_json(value: Any) -> str:
    """16 hex digits of a JSON-like value; dataclasses count as their fields."""
    text = json.dumps(value, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint_tree(tree, configuration: Any = None) -> str:
    """16 hex digits of a tree of arrays (names, shapes, dtypes, bytes) and a configuration.

    bfloat16 counts as the float32 numbers that it stands for, so that a model has one name in both.
    """
    digest = hashlib.sha256(fingerprint_json(configuration).encode())
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    for path, leaf in leaves:
        array = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        dtype = np.dtype(np.float32) if array.dtype == jnp.bfloat16 else array.dtype
        digest.update(f"{name} {dtype} {array.shape}".encode())
        for part in _parts(array):
            digest.update(np.ascontiguousarray(gather(part), dtype).tobytes())
    return digest.hexdigest()[:16]


def _parts(array: Any) -> Iterator[Any]:
    """An array in parts whose bytes follow each other; one on several devices is never on the host whole, if
    it is large."""
    if array.nbytes <= LARGEST_PART or isinstance(array, np.ndarray) or len(array.sharding.device_set) == 1:
        yield array
        return
    rows = max(1, LARGEST_PART * array.shape[0] // array.nbytes)
    for start in range(0, array.shape[0], rows):
        part = jax.lax.dynamic_slice_in_dim(array, start, min(rows, array.shape[0] - start))
        yield from _parts(part if array.shape[0] > 1 else part[0])


def _plain(value):
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} is not JSON-serialisable")
