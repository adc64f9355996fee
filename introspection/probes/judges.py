"""Judges: which class of behaviour a reply is, read off its text or asked of a model."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import jax

from introspection.models.model import Model
from introspection.runtime.programs import ProgramTable
from introspection.tasks.items import Prompt


class Said(NamedTuple):
    """A prompt and what a model replied to it."""

    prompt: Prompt
    text: str


@runtime_checkable
class Judge(Protocol):
    """Puts replies into classes; `NONE` where a reply is of none."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    def judge(
        self, said: Sequence[Said], model: Model, programs: ProgramTable, mesh: jax.sharding.Mesh
    ) -> list[str]:
        """One class a reply; `model` is the one that said them."""
        ...
