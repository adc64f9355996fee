"""The tasks that are read from files or made by rule, by name. (Worlds of facts: jobs/items.py.)"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from introspection.tasks import aita, hint_mmlu, jabberwocky, jsonl, refusal
from introspection.tasks.aita_items import AitaConfig
from introspection.tasks.refusal_items import RefusalConfig
from introspection.tasks.task import Task


class TaskKind(NamedTuple):
    """How a task's section of a config becomes its items."""

    config: type  # a frozen dataclass: the section's fields
    build: Callable[[Any, Path], Task]  # from the fields and the folder of data sets


TASKS: dict[str, TaskKind] = {
    hint_mmlu.NAME: TaskKind(hint_mmlu.HintMmluConfig, hint_mmlu.build_hint_mmlu),
    aita.NAME: TaskKind(AitaConfig, aita.build_aita),
    refusal.NAME: TaskKind(RefusalConfig, refusal.build_refusal),
    jabberwocky.NAME: TaskKind(jabberwocky.JabberwockyConfig, jabberwocky.build_jabberwocky),
    jsonl.NAME: TaskKind(jsonl.JsonlConfig, jsonl.build_jsonl),
}
