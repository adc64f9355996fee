"""Adding arms to a workdir: those that ran there stay as they are, and keep their places."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from introspection.errors import InputError
from introspection.runs.config import RunConfig
from introspection.runs.identity import completed, identity
from introspection.runtime.json_files import read_object


def arms_in_place(config: RunConfig, workdir: Path) -> RunConfig:
    """The config with all arms to run named, the workdir's own first: an arm's place seeds its intervals."""
    try:
        earlier = _run_arms(read_object(workdir / "config.json"))
    except (InputError, TypeError):  # `check_workdir` says what is wrong with it
        earlier = []
    chosen = config.chosen_arms
    placed = dict.fromkeys([*(name for name in earlier if name in chosen), *chosen])
    return dataclasses.replace(config, run_arms=tuple(placed))


def with_arms_added(config: RunConfig) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What a workdir's config, completed, would be with the arms that this config adds to it.

    Arms that did not run there may be changed or left out, metrics be logged elsewhere and other sites be
    patched. Without every arm
    that did run, no arm is added.
    """

    def added(stored: dict[str, Any]) -> dict[str, Any]:
        there, here = completed(stored), identity(config)
        there = {**there, "log": here["log"], "patching": here["patching"]}
        ran = _run_arms(there)
        if not set(ran) <= config.chosen_arms.keys():
            return there
        kept = {name: there["arms"][name] for name in ran if name in there["arms"]}
        return {**there, "run_arms": here["run_arms"], "arms": here["arms"] | kept}

    return added


def _run_arms(stored: dict[str, Any]) -> list[str]:
    return list(stored.get("run_arms") or stored.get("arms") or ())
