"""Which runs (seeds of an arm, or of several) share an executable, and how several executables run at the
same time."""

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

# Parameters. Matrix products this small gain little from a second core: at 0.35 M, ten steps of two seeds
# took 0.5 to 0.6 s with one seed per core, and 0.5 to 1.0 s with both cores on each product. Larger models
# were not measured: their products split better, and each seed needs memory of its own.
SMALL_MODEL = 1_000_000


def run_parts(runs: int, stack_seeds: str, trainable: Any, frozen: Any, mesh: Mesh) -> list[slice]:
    """The runs of each executable: all of them, or one each where a small model loops over them on a CPU.

    Args:
      trainable: parameters, with a leading run axis; `frozen` ones have none.
    """
    is_small = count_parameters(trainable) // runs + count_parameters(frozen) <= SMALL_MODEL
    is_one_cpu = mesh.size == 1 and mesh.devices.flat[0].platform == "cpu"
    if stack_seeds == "loop" and is_small and is_one_cpu:
        return [slice(run, run + 1) for run in range(runs)]
    return [slice(0, runs)]


def take_runs(tree, part: slice, axis: int = 0):
    """A part's runs of every leaf; the run axis stays."""
    return jax.tree.map(lambda leaf: leaf[(slice(None),) * axis + (part,)], tree)


def split_runs(state, parts: Sequence[slice], mesh: Mesh) -> list[Any]:
    """The state of each part; a single part is the state itself, not a copy. Undone by `join_runs`."""
    if len(parts) == 1:
        return [state]
    return [put_parameters(take_runs(state, part), mesh) for part in parts]


def join_runs(states: Sequence[Any], mesh: Mesh):
    """The state of all runs."""
    if len(states) == 1:
        return states[0]
    return put_parameters(jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *states), mesh)


def call_together(program: Callable, calls: Sequence[tuple]) -> list[Any]:
    """The program's results, one per call. A single call returns before its result is computed.

    On a CPU, XLA runs one after another what one thread dispatches, so each of several calls gets a thread,
    which also waits for the result: otherwise two calls would share the cores as one does. Dispatches take
    turns, since the first compiles for all.
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
