"""The judge of a run's generated replies, from the `behavior` section of its config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from introspection.checkpoints.models import load_one
from introspection.errors import InputError
from introspection.jobs.models import model_path
from introspection.probes.judges import Judge, ModelJudge, PhraseJudge, judge_of
from introspection.tasks.task import Task


def load_judge(behavior: Mapping[str, Any], task: Task, cache: Path, mesh: jax.sharding.Mesh) -> Judge | None:
    """The judge that a config names; none named, the phrase rules for a task of refusals and none for others.

    Raises:
      InputError: there is no such judge, the model that it asks is not there, or items to be judged are to be
        scored, which would take the classes for what is said.
    """
    name, asked = behavior.get("judge", ""), behavior.get("judge_model", "")  # older runs have neither
    scored = behavior["readout"] == "score"
    if scored and any(item.candidates == PhraseJudge.classes for of in task.splits.values() for item in of):
        raise InputError(
            f"{task.name}: {' and '.join(PhraseJudge.classes)} are what a judge reads in a reply, no texts "
            "to score: set config.behavior.readout to generate"
        )
    if not name:
        judged = any(item.candidates == PhraseJudge.classes for item in task.splits["test"])
        return PhraseJudge() if judged and behavior["readout"] == "generate" else None
    model = load_one(model_path(asked, cache), mesh) if name == ModelJudge.name and asked else None
    return judge_of(name, model)
