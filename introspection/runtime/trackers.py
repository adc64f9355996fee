"""Trackers of experiments, beside metrics.jsonl and TensorBoard; imported only where a project is named."""

import dataclasses
import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

from introspection.errors import InputError


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """Projects that training metrics are also logged to; "" is none. A run of a tracker is one arm."""

    trackio: str = ""  # a project of Trackio
    wandb: str = ""  # a project of Weights & Biases

    @property
    def projects(self) -> dict[str, str]:
        """The chosen trackers, by the module's name, with their projects."""
        return {name: project for name, project in dataclasses.asdict(self).items() if project}


def check_trackers(log: LogConfig) -> None:
    """Raises InputError if a chosen tracker is not installed."""
    for name in log.projects:
        if importlib.util.find_spec(name) is None:
            raise InputError(f"config.log.{name} names a project, but {name} is missing: pip install {name}")


class Trackers:
    """An arm's runs in all chosen trackers."""

    def __init__(self, log: LogConfig, group: str, name: str, config: Mapping[str, Any]):
        self._runs = [
            importlib.import_module(module).init(project=project, group=group, name=name, config=dict(config))
            for module, project in log.projects.items()
        ]

    def write(self, seed: int, step: int, metrics: Mapping[str, float]) -> None:
        """Logs a seed's metrics as `seed0/NAME`: all seeds of an arm train together."""
        for run in self._runs:
            run.log({f"seed{seed}/{name}": value for name, value in metrics.items()}, step=step)

    def close(self) -> None:
        for run in self._runs:
            run.finish()
