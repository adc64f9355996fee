"""What a run would need of devices, before any is at hand: parameters as a mesh splits them, and programs
compiled ahead of time for a named TPU slice. Nothing is allocated.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType
from rich.console import Console

from introspection.errors import InputError
from introspection.runs.config import RunConfig
from introspection.runs.plan_table import what_fits
from introspection.runs.planned_batch import planned_arm
from introspection.runs.planned_programs import PROGRAMS, model_of, planned_programs, train_state
from introspection.runs.program_plan import LeafPlan, ProgramPlan, leaf_plans, plan_program
from introspection.runtime.mesh import AXES, MeshConfig, make_mesh
from introspection.runtime.mesh_flag import read_mesh
from introspection.runtime.topology import EXAMPLES, chip_of, compile_only_devices

OPTIMIZER = "state/optimizer"
SHORTEST = 128  # tokens of a row: a prompt, and the longest of what follows it


@dataclasses.dataclass(frozen=True)
class PlanRequest:
    """The flags of `experiments.plan`."""

    config: RunConfig
    mesh: str = ""
    topology: str = ""
    tokens: tuple[str, ...] = ("512",)
    programs: tuple[str, ...] = ("train",)
    out: str = ""

    def __post_init__(self):
        for length in self.tokens:
            if not length.isdecimal() or int(length) < SHORTEST:
                raise InputError(f"--tokens has {length!r}; give row lengths of at least {SHORTEST}")
        if unknown := [name for name in self.programs if name not in PROGRAMS]:
            raise InputError(f"--programs has {unknown[0]!r}; choose from {', '.join(PROGRAMS)}")


def plan(request: PlanRequest, console: Console) -> list[ProgramPlan]:
    """Prints the plan of a run's largest arm, and returns the compiled programs' figures.

    Raises:
      InputError: `request.out` can't be written, or as `make_mesh`, `compile_only_devices`, `model_of` and
        `planned_programs`.
      RunError: as `plan_program`.
    """
    config = request.config
    shape = read_mesh(request.mesh) if request.mesh else config.mesh
    chip = chip_of(request.topology) if request.topology else None
    mesh: Any = _abstract_mesh(shape)
    if chip is not None:
        _check_out(request.out)
        # Executables for machines elsewhere can't be read back from the cache of this one's.
        jax.config.update("jax_enable_compilation_cache", False)
        mesh = make_mesh(shape, compile_only_devices(request.topology, shape.dcn_data))
    platform = "tpu" if chip else jax.default_backend()
    model = model_of(config)
    adapted = dataclasses.replace(model, lora=config.lora.lora).on(platform)
    state, frozen = train_state(config, adapted, mesh)
    leaves = leaf_plans({"state": state, "frozen": frozen})
    name = f"{config.name}, arm {planned_arm(config)},"
    console.print(f"{name} on {dict(mesh.shape)}; a line a leaf: shape, dtype, axes, bytes a device")
    for line in leaf_lines(leaves):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    console.print(
        f"{sum(leaf.device_bytes for leaf in leaves) / 1e9:.2f} GB a device, of {mesh.size}; products in "
        f"{adapted.compute_dtype}, attention by {adapted.attention}",
        highlight=False,
    )
    if chip is None:
        console.print(f"nothing is compiled; give --topology, such as {EXAMPLES}", highlight=False)
        return []
    made = []
    for tokens in map(int, request.tokens):
        makers = planned_programs(config, model, mesh, tokens, platform)
        for name in request.programs:
            made.append(plan_program(makers[name], tokens, mesh, chip))
            for line in program_lines(made[-1]):
                console.print(line, highlight=False, soft_wrap=True)
            if request.out:
                about = {"config": config.name, "topology": request.topology, "mesh": dict(mesh.shape)}
                about |= {"stack_seeds": config.train.stack_seeds, **dataclasses.asdict(made[-1])}
                with Path(request.out).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(about) + "\n")
    return made


def _check_out(out: str) -> None:
    """Raises InputError if a file can't be added to: better before minutes of compiling than after."""
    try:
        if out:
            Path(out).open("a", encoding="utf-8").close()
    except OSError as error:
        raise InputError(f"--out={out} can't be written ({error.strerror}): give another file") from error


def _abstract_mesh(shape: MeshConfig) -> AbstractMesh:
    """A mesh of no devices in particular; an axis of -1 is one long."""
    sizes = [max(size, 1) for size in (shape.dcn_data * shape.data, shape.fsdp, shape.tensor)]
    return AbstractMesh(tuple(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def leaf_lines(leaves: list[LeafPlan]) -> list[str]:
    """What a plan says of the arguments of a train step: a line a leaf, but for the optimizer's moments."""
    shown = [leaf for leaf in leaves if not leaf.name.startswith(OPTIMIZER)]
    width = max(len(leaf.name) for leaf in shown)
    lines = [
        f"{leaf.name:{width}}  {'×'.join(map(str, leaf.shape)):>16}  {leaf.dtype:8}  {leaf.sharding:16}"
        f"  {leaf.device_bytes / 1e6:8.1f} MB"
        for leaf in shown
    ]
    moments = sum(leaf.device_bytes for leaf in leaves if leaf.name.startswith(OPTIMIZER))
    return [
        *lines,
        f"{'optimizer: two moments of all that is trained':{width + 46}}  {moments / 1e6:8.1f} MB",
    ]


def program_lines(made: ProgramPlan) -> list[str]:
    """What a plan says of one program."""
    seeds = f"{made.runs} × " if made.runs > 1 else ""
    title = f"{made.program}, {seeds}{made.rows} rows of {made.tokens} tokens"
    needed = f"{made.device_bytes / 2**30:.1f} GiB a chip"
    if not made.fits:
        fitting = f"{what_fits(made.most_rows, made.most_tokens)} would fit"
        return [f"{title}: does not fit, needs {needed}; {fitting} ({made.compile_seconds:.0f} s)"]
    lines = [f"{title}: fits, {needed} ({made.compile_seconds:.0f} s to compile)"]
    lines.append(
        f"  {made.flops:.3g} operations of matrix products; the mathematics needs {made.model_flops:.3g}"
    )
    lines += [
        f"  {kind}: {one.calls:,.0f} calls, {one.bytes / 1e9:.2f} GB a chip"
        for kind, one in made.collectives.items()
    ]
    if made.estimate:
        time = made.estimate
        lines.append(
            f"  estimate: at least {time.seconds:.3g} s, bound by {time.bound_by}; MFU at most {time.mfu:.0%}"
        )
        if time.slices > 1:
            lines.append(
                f"  between its {time.slices} slices is a slower network, which the estimate rates as links"
            )
    return lines
