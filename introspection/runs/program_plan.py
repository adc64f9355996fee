"""One program of a run, compiled ahead of time: its memory, operations and collectives, and its least time.

The step time is an estimate from these and the chip's published figures.
"""

import dataclasses
import re
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.errors import JaxRuntimeError
from jax.sharding import Mesh

from introspection.errors import RunError
from introspection.models.useful_flops import useful_flops
from introspection.runs.planned_programs import PlannedProgram
from introspection.runtime.collectives import Collective, collectives
from introspection.runtime.flops import matrix_flops
from introspection.runtime.mesh import row_parts, slice_count
from introspection.runtime.topology import Chip

TOKENS_STEP = 128  # lengths are named in steps of this


@dataclasses.dataclass(frozen=True)
class LeafPlan:
    """A parameter, adapter or moment of the optimizer."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    sharding: str  # the axes that split each dimension
    device_bytes: int


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A lower bound of a program's time from the chip's peaks, and the share of its peak that is useful work
    at that time. An estimate: nothing was run."""

    seconds: float
    bound_by: str  # "compute", "memory" or "links"
    mfu: float
    slices: int = 1  # what these send each other is rated as links within one, which are faster


@dataclasses.dataclass(frozen=True)
class ProgramPlan:
    """One program, compiled."""

    program: str
    tokens: int  # of every row
    rows: int  # of every run, over all devices
    runs: int
    argument_bytes: int  # of a device
    flops: float  # of matrix products, all devices together, by our own count
    model_flops: float  # that the mathematics needs: nothing computed twice, attention to the past alone
    # Arguments, results, temporaries and the program itself on a device, or what the compiler asked for.
    device_bytes: int = 0
    fits: bool = False
    # If it does not fit: about how many rows, or how long ones, would; temporaries grow with either.
    most_rows: int | None = None
    most_tokens: int | None = None
    compile_seconds: float = 0.0
    collectives: dict[str, Collective] = dataclasses.field(default_factory=dict)
    estimate: Estimate | None = None


def leaf_plans(tree: Any) -> list[LeafPlan]:
    """Every leaf of a tree of placed shapes, by name."""

    def plan(path: Any, leaf: Any) -> LeafPlan:
        part = leaf.sharding.shard_shape(leaf.shape)
        axes = [
            name or "-" for name in map(_axis_name, (*leaf.sharding.spec, *[None] * leaf.ndim)[: leaf.ndim])
        ]
        return LeafPlan(
            name=jax.tree_util.keystr(path, simple=True, separator="/"),
            shape=tuple(leaf.shape),
            dtype=str(leaf.dtype),
            sharding=" ".join(axes),
            device_bytes=int(np.prod(part)) * leaf.dtype.itemsize,
        )

    return jax.tree.leaves(
        jax.tree_util.tree_map_with_path(plan, tree), is_leaf=lambda leaf: isinstance(leaf, LeafPlan)
    )


def _axis_name(axes: str | tuple[str, ...] | None) -> str:
    return axes if isinstance(axes, str) else "×".join(axes or ())


def plan_program(make: Callable[[], PlannedProgram], tokens: int, mesh: Mesh, chip: Chip) -> ProgramPlan:
    """Traces and compiles a program for the mesh's devices.

    Raises:
      InputError: its rows can't be split over the mesh.
      RunError: it can't be compiled, other than for want of memory.
    """
    planned = make()
    traced = planned.traced(mesh)
    made = ProgramPlan(
        program=planned.name,
        tokens=tokens,
        rows=planned.rows,
        runs=planned.runs,
        argument_bytes=sum(leaf.device_bytes for leaf in leaf_plans(planned.arguments)),
        flops=matrix_flops(traced.jaxpr, planned.loop_steps),
        model_flops=model_flops(planned, tokens),
    )
    started = time.perf_counter()
    try:
        with jax.set_mesh(mesh):
            compiled = traced.lower().compile()
    except JaxRuntimeError as error:
        asked = needed_bytes(str(error))
        if asked is None:
            raise RunError(f"{planned.name} can't be compiled: {str(error).splitlines()[0][:300]}") from error
        needed = round(asked[0]) + (0 if asked[1] else made.argument_bytes)
        share = (chip.memory_bytes - made.argument_bytes) / max(needed - made.argument_bytes, 1)
        parts = row_parts(mesh)
        return dataclasses.replace(
            made,
            device_bytes=needed,
            most_rows=max(int(planned.rows * share) // parts * parts, 0),
            most_tokens=max(int(tokens * share) // TOKENS_STEP * TOKENS_STEP, 0),
            compile_seconds=time.perf_counter() - started,
        )
    memory: Any = compiled.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    sizes = (memory.argument_size_in_bytes, results, memory.temp_size_in_bytes)
    sent = collectives(compiled.as_text(), planned.loop_steps)
    return dataclasses.replace(
        made,
        device_bytes=sum(sizes) + memory.generated_code_size_in_bytes,
        fits=True,
        compile_seconds=time.perf_counter() - started,
        collectives=sent,
        estimate=estimated(planned, made.flops, made.model_flops, sent, mesh, chip),
    )


def needed_bytes(message: str) -> tuple[float, bool] | None:
    """What a compiler asked for in vain, by its message, and whether that is all or temporaries alone; None
    if the message says something else."""
    for pattern, is_all in (
        (r"Used ([\d.]+)([KMGT]) of", True),
        (r"temporaries \(([\d.]+)([KMGT])\)", False),
    ):
        if found := re.search(pattern, message):
            return float(found[1]) * 1024.0 ** ("KMGT".index(found[2]) + 1), is_all
    return None


def model_flops(planned: PlannedProgram, tokens: int) -> float:
    """Operations that a program's mathematics needs; decoding counts every token up to its limit."""
    read = tokens + (planned.loop_steps if planned.name == "decode" else 0)
    texts = planned.rows * planned.runs
    return useful_flops(planned.model, texts * read, texts * read * read / 2, planned.name == "train")


def estimated(
    planned: PlannedProgram,
    flops: float,
    useful: float,
    sent: dict[str, Collective],
    mesh: Mesh,
    chip: Chip,
) -> Estimate:
    """The longest of what the products, the weights' way from memory and the links need at their peaks.

    Float32 products (probes) take six passes of the bfloat16 units. A chip reads all weights that its part of
    the tensor axis has: once to read a prompt, three times to train (backward, and again if it recomputes);
    to decode a token, only those that it holds.
    """
    passes = 6 if planned.model.compute_dtype == "float32" else 1
    computed = planned.model.dtype.itemsize
    first, second = planned.arguments[:2]
    read_weights = (first.trainable, second) if planned.name == "train" else first
    weights = sum(leaf.size * min(leaf.dtype.itemsize, computed) for leaf in jax.tree.leaves(read_weights))
    tensor, held = mesh.shape["tensor"], mesh.shape["tensor"] * mesh.shape["fsdp"]
    read = {"train": 3 / tensor, "score": 1 / tensor, "decode": 1 / tensor + planned.loop_steps / held}
    bound = {
        "compute": passes * flops / mesh.size / chip.flops,
        "memory": read[planned.name] * weights / chip.memory_bandwidth,
        "links": sum(one.bytes for one in sent.values()) / chip.link_bandwidth,
    }
    slowest = max(bound, key=lambda name: bound[name])
    seconds = bound[slowest]
    slices = slice_count(list(mesh.devices.flat))
    return Estimate(seconds, slowest, useful / mesh.size / chip.flops / seconds, slices)
