"""What a command computes with: devices, compiled programs, a console and a cache folder."""

import dataclasses
from pathlib import Path

import jax
from rich.console import Console

from introspection.runtime.compiled import ProgramTable
from introspection.runtime.config import cache_dir
from introspection.runtime.mesh import MeshConfig, make_mesh


@dataclasses.dataclass(frozen=True)
class Session:
    """Passed down from a command to everything that computes; a session compiles each program once."""

    mesh: jax.sharding.Mesh = dataclasses.field(default_factory=lambda: make_mesh(MeshConfig()))
    programs: ProgramTable = dataclasses.field(default_factory=ProgramTable)
    console: Console = dataclasses.field(default_factory=lambda: Console(quiet=True))
    cache: Path = dataclasses.field(default_factory=cache_dir)
