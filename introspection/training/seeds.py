"""Which seeds of an arm one executable holds, and how the executables of several run at the same time."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from introspection.models.decoder import count_parameters
from introspection.runtime.mesh import put_parameters

# Parameters. A small model's products gain little from several cores: of 0.35 M, ten steps of two seeds
# took two cores 0.5 to 0.6 s with a seed on each, and 0.5 to 1.0 s with both on every product. A larger
# model was not measured: its products split better, and each seed needs the memory of a step.
SMALL_MODEL = 1_000_000


def seed_parts(seeds: int, stack_seeds: str, trainable: Any, frozen: Any, mesh: Mesh) -> list[slice]:
    """The seeds that each executable holds: all of them, or one each where a small model loops on one CPU.

    Args:
      trainable: parameters, with a leading seed axis; `frozen` ones have none.
    """
    is_small = count_parameters(trainable) // seeds + count_parameters(frozen) <= SMALL_MODEL
    is_one_cpu = mesh.size == 1 and mesh.devices.flat[0].platform == "cpu"
    if stack_seeds == "loop" and is_small and is_one_cpu:
        return [slice(seed, seed + 1) for seed in range(seeds)]
    return [slice(0, seeds)]


def take_seeds(tree, part: slice, axis: int = 0):
    """The part's seeds of every leaf, which stay an axis."""
    return jax.tree.map(lambda leaf: leaf[(slice(None),) * axis + (part,)], tree)


def split_seeds(state, parts: Sequence[slice], mesh: Mesh) -> list[Any]:
    """The state of each part, to be joined by `join_seeds`; one part's is the state itself, and no copy."""
    if len(parts) == 1:
        return [state]
    return [put_parameters(take_seeds(state, part), mesh) for part in parts]


def join_seeds(states: Sequence[Any], mesh: Mesh):
    """The state of all seeds."""
    if len(states) == 1:
        return states[0]
    return put_parameters(jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *states), mesh)


def call_together(program: Callable, calls: Sequence[tuple]) -> list[Any]:
    """The program's results for every call's arguments; one call's alone may still be being computed.

    What one thread dispatches, XLA runs one after another on a CPU, so each of several calls has a
    thread, which also waits for its result: left to run on, two calls share cores as one does. Dispatches
    take turns, since the first compiles for all.
    """
    if len(calls) == 1:
        return [program(*calls[0])]
    dispatching = threading.Lock()

    def call(arguments: tuple) -> Any:
        with dispatching:
            result = program(*arguments)
        return jax.block_until_ready(result)

    with ThreadPoolExecutor(min(len(calls), os.cpu_count() or 1)) as threads:
        return list(threads.map(call, calls))
