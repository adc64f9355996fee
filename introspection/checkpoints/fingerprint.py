"""Fingerprints: hashes of a configuration and of every number in a tree."""

import dataclasses
import hashlib
import json
from typing import Any

import jax
import numpy as np

from introspection.runtime.processes import gather


def fingerprint_json(value: Any) -> str:
    """16 hex digits of a JSON-like value; dataclasses count as their fields."""
    text = json.dumps(value, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint_tree(tree, configuration: Any = None) -> str:
    """16 hex digits of a tree of arrays (names, shapes, dtypes, bytes) and a configuration."""
    digest = hashlib.sha256(fingerprint_json(configuration).encode())
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    for path, leaf in leaves:
        array = np.ascontiguousarray(gather(leaf))
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def _plain(value):
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} is not JSON-serialisable")
