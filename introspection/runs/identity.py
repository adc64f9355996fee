"""What tells a run's workdir from another's: its config, but for where it computes and what is traced."""

from typing import Any

from introspection.errors import InputError
from introspection.runs.config import RunConfig, read_config
from introspection.runtime.config import plain


def completed(stored: dict[str, Any]) -> dict[str, Any]:
    """A workdir's config, with defaults for fields added since it was written; older ones have a mesh."""
    try:
        return identity(read_config(stored))
    except InputError:
        return stored


def identity(config: RunConfig) -> dict[str, Any]:
    """What a workdir's `config.json` holds: everything but where the run computes and what is traced of it,
    which may change."""
    return {name: value for name, value in plain(config).items() if name not in ("mesh", "profile")}
