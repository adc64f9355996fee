"""What `--mesh` says."""

import dataclasses
import re

from introspection.errors import InputError
from introspection.runtime.mesh import MeshConfig


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
