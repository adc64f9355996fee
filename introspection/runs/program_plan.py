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
from introspection.models.config import ModelConfig
from introspection.models.decoder import count_parameters
from introspection.runs.planned_programs import PlannedProgram
from introspection.runtime.collectives import Collective, collectives
from introspection.runtime.flops import matrix_flops
from introspection.runtime.mesh import row_parts
from introspection.runtime.topology import Chip


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


@dataclasses.dataclass(frozen=True)
class ProgramPlan:
    """One program, compiled."""

    program: str
    tokens: int  # of every row
    rows: int  # of every run, over all devices
    runs: int
    fits: bool
    device_bytes: float  # arguments, results and temporaries, or as many as the compiler asked for
    argument_bytes: float | None
    most_rows: int | None  # if it does not fit: about how many rows would, as temporaries grow with rows
    flops: float  # of matrix products, all devices together, by our own count
    model_flops: float  # that the mathematics needs: nothing computed twice, attention to the past alone
    collectives: dict[str, Collective]
    compile_seconds: float
    estimate: Estimate | None


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


def plan_program(
    make: Callable[[], PlannedProgram], tokens: int, mesh: Mesh, chip: Chip | None
) -> ProgramPlan:
    """Traces and compiles a program for the mesh's devices.

    Raises:
      InputError: its rows can't be split over the mesh.
      RunError: it can't be compiled, other than for want of memory.
    """
    planned = make()
    traced = planned.traced(mesh)
    flops = matrix_flops(traced.jaxpr, planned.loop_steps)
    useful = model_flops(planned, tokens)
    started = time.perf_counter()
    try:
        with jax.set_mesh(mesh):
            compiled = traced.lower().compile()
    except JaxRuntimeError as error:
        needed = needed_bytes(str(error))
        if needed is None:
            raise RunError(f"{planned.name} can't be compiled: {str(error).splitlines()[0][:300]}") from error
        seconds = time.perf_counter() - started
        most = _most_rows(planned, needed, chip, mesh)
        return ProgramPlan(
            *(planned.name, tokens, planned.rows, planned.runs, False, needed, None, most),
            *(flops, useful, {}, seconds, None),
        )
    seconds = time.perf_counter() - started
    memory: Any = compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    total = held + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
    sent = collectives(compiled.as_text())
    estimate = None if chip is None else estimated(planned, flops, useful, sent, mesh, chip)
    return ProgramPlan(
        *(planned.name, tokens, planned.rows, planned.runs, chip is None or total <= chip.memory_bytes),
        *(total, memory.argument_size_in_bytes, None, flops, useful, sent, seconds, estimate),
    )


def needed_bytes(message: str) -> float | None:
    """The memory that a compiler asked for in vain, from its message; None if that is not what it says."""
    found = re.search(r"Used ([\d.]+)([KMGT]) of [\d.]+[KMGT]? hbm", message)
    return float(found[1]) * 1024.0 ** ("KMGT".index(found[2]) + 1) if found else None


def _most_rows(planned: PlannedProgram, needed: float, chip: Chip | None, mesh: Mesh) -> int | None:
    if chip is None:
        return None
    held = sum(leaf.device_bytes for leaf in leaf_plans(planned.arguments[:2]))
    share = (chip.memory_bytes - held) / (needed - held) if needed > held else 0.0
    parts = row_parts(mesh)
    return max(int(planned.rows * share) // parts * parts, 0)


def model_flops(planned: PlannedProgram, tokens: int) -> float:
    """Operations that a program's mathematics needs (Kaplan et al. 2020, Appendix B; attention to the past
    halved): 2 a parameter and token to read, 2 to send a gradient back, 2 more for the parameter's gradient.

    A frozen base has no gradients of its parameters. Decoding counts every token up to its limit.
    """
    model, training = planned.model, planned.name == "train"
    matrices = model.layers * (
        model.width * model.head_dim * 2 * (model.query_heads + model.kv_heads)
        + 3 * model.width * model.mlp_width
    )
    adapters = _adapter_parameters(model)
    base_passes = (2 if model.lora else 3) if training else 1
    read = tokens + (planned.loop_steps if planned.name == "decode" else 0)
    attention = 2 * model.layers * model.query_heads * model.head_dim * read
    per_token = 2 * base_passes * matrices + 2 * (3 if training else 1) * adapters
    per_token += (3 if training else 1) * attention
    return float(per_token) * planned.rows * planned.runs * read


def _adapter_parameters(model: ModelConfig) -> int:
    if model.lora is None:
        return 0
    heads, kv = model.query_heads * model.head_dim, model.kv_heads * model.head_dim
    sides = {
        "query": model.width + heads, "key": model.width + kv, "value": model.width + kv,
        "output": heads + model.width, "gate": model.width + model.mlp_width,
        "up": model.width + model.mlp_width, "down": model.mlp_width + model.width,
    }  # fmt: skip
    return model.layers * model.lora.rank * sum(sides[name] for name in model.lora.targets)


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
    the tensor axis has, in the compute dtype: once to read, three times to train (backward, and again if it
    recomputes), once a token to decode.
    """
    passes = 6 if planned.model.compute_dtype == "float32" else 1
    weights = count_parameters(planned.arguments[1] if planned.name == "train" else planned.arguments[0])
    read = {"train": 3, "score": 1, "decode": 1 + planned.loop_steps}[planned.name]
    bound = {
        "compute": passes * flops / mesh.size / chip.flops,
        "memory": read
        * weights
        * planned.model.dtype.itemsize
        / mesh.shape["tensor"]
        / chip.memory_bandwidth,
        "links": sum(one.bytes for one in sent.values()) / chip.link_bandwidth,
    }
    slowest = max(bound, key=lambda name: bound[name])
    seconds = bound[slowest]
    return Estimate(seconds, slowest, useful / mesh.size / chip.flops / seconds)
