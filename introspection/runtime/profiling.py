"""A trace of some training steps by JAX's profiler."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from introspection.errors import InputError


@dataclasses.dataclass(frozen=True)
class ProfileConfig:
    """A trace, written to the workdir's `profile/`: `tensorboard --logdir=WORKDIR/profile` (with the plugin
    tensorboard-plugin-profile) and xprof show it."""

    steps: int = 0  # training steps to trace, at least, once their program is compiled; 0: none

    def __post_init__(self):
        if self.steps < 0:
            raise InputError(f"config.profile.steps is {self.steps}; give 0 for none, or such as 20")


class Profile:
    """Traces `steps` training steps, once: those after the first call, which compiles."""

    def __init__(self, folder: Path | None = None, steps: int = 0):
        self._folder, self._wanted = folder, folder is not None and steps > 0
        self._steps, self._known, self._began = steps, False, -1

    def reached(self, step: int, state: Any) -> None:
        """Starts or ends the trace at a step whose `state` is given; it waits for the state then."""
        if self._wanted and self._known and self._began < 0:
            jax.block_until_ready(state)
            jax.profiler.start_trace(str(self._folder))
            self._began, self._wanted = step, False
        elif self._began >= 0 and step - self._began >= self._steps:
            self.end(state)
        self._known = True

    def end(self, state: Any) -> None:
        """Ends the trace, if one is going on."""
        if self._began >= 0:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
            self._began = -1
        self._known = False  # what trains next is compiled first
