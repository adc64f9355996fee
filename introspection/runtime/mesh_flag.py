"""Where a command computes: `--mesh`, else what its config says, else all devices of several processes."""

import dataclasses
import re

import jax
from jax.sharding import Mesh

from introspection.errors import InputError
from introspection.runtime import processes
from introspection.runtime.mesh import MeshConfig, data_mesh, make_mesh


def read_mesh(text: str) -> MeshConfig:
    """The mesh that a text such as `data=2,fsdp=-1` names; axes that it leaves out have size 1.

    Raises:
      InputError: it names an unknown axis, one twice, or a size that is no number.
    """
    axes = [field.name for field in dataclasses.fields(MeshConfig)]
    sizes: dict[str, int] = {}
    for part in filter(None, text.replace(" ", "").split(",")):
        found = re.fullmatch(r"(\w+)=(-?\d+)", part)
        if found is None or found[1] not in axes or found[1] in sizes:
            raise InputError(f"--mesh has {part!r}; give AXIS=SIZE of {', '.join(axes)}, each at most once")
        sizes[found[1]] = int(found[2])
    return MeshConfig(**sizes)


def chosen_mesh(mesh: str, configured: MeshConfig | None = None, devices: int = 1) -> Mesh:
    """The mesh of a command.

    Args:
      mesh: the flag `--mesh`; "" leaves the choice to the others.
      configured: `config.mesh`, of commands with a config.
      devices: the flag `--devices`, of commands without one.

    Raises:
      InputError: the flags contradict each other, there are too few devices, or a process would have none.
    """
    if mesh and devices != 1:
        raise InputError(f"--mesh={mesh} and --devices={devices} contradict each other: give one of them")
    if mesh:
        chosen = make_mesh(read_mesh(mesh))
    elif configured is not None and configured != MeshConfig():
        chosen = make_mesh(configured)
    else:
        chosen = data_mesh(-1 if processes.count() > 1 and devices == 1 else devices)
    without = set(range(processes.count())) - {device.process_index for device in chosen.devices.flat}
    if without:
        raise InputError(
            f"the mesh uses {chosen.size} of {jax.device_count()} devices, and none of process "
            f"{', '.join(map(str, sorted(without)))}: give a larger --mesh, or fewer --processes"
        )
    return chosen
