"""How far judges agree about what a model replied: the same texts, put into classes by each of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from introspection.checkpoints.models import load_one
from introspection.coupling.hygiene import null_if_undefined
from introspection.coupling.kappa import pairwise_agreement
from introspection.jobs.models import model_path
from introspection.models.model import Model
from introspection.probes.judges import Judge, ModelJudge, OpeningsJudge, PhraseJudge, Said
from introspection.probes.readout import Replies, prompts_of
from introspection.runtime.programs import ProgramTable
from introspection.tasks.items import Item

ITEMS = 100  # whose replies, two each, all judges read, taken evenly: a judge that is a model takes its time


def judge_report(
    items: Sequence[Item],
    replies: Sequence[Replies],
    model: Model,
    reading: Mapping[str, Any],
    cache: Path,
    programs: ProgramTable,
    mesh: jax.sharding.Mesh,
    rng: np.random.Generator,
) -> dict[str, Any] | None:
    """Each judge's classes, and every two judges' agreement (Cohen's kappa, intervals over groups).

    None where no item's candidates are a judge's classes. The model that judges is `judge_model` of the
    `behavior` section or, without one, the one that replied.
    """
    judged = [
        (item, both)
        for item, both in zip(items, replies, strict=True)
        if item.candidates == PhraseJudge.classes
    ]
    if not judged:
        return None
    judged = judged[:: -(-len(judged) // ITEMS)]
    said = [
        Said(prompt, reply.text)
        for item, both in judged
        for prompt, reply in zip(prompts_of(item), both, strict=True)
    ]
    groups = [item.group for item, _ in judged for _ in range(2)]
    name = reading.get("judge_model", "")
    asked = load_one(model_path(name, cache), mesh) if name else model
    judges: tuple[Judge, ...] = (PhraseJudge(), OpeningsJudge(), ModelJudge(asked))
    verdicts = {judge.name: judge.judge(said, model, programs, mesh) for judge in judges}
    return {
        "texts": len(said),
        "judge_model": name,
        "classes": {
            judge: {verdict: found.count(verdict) for verdict in sorted(set(found))}
            for judge, found in verdicts.items()
        },
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                "n": pair.n,
                "share": pair.share,
                "kappa": {
                    "mean": null_if_undefined(pair.kappa),
                    "ci95": None if np.isnan(pair.interval[0]) else list(pair.interval),
                },
            }
            for pair in pairwise_agreement(verdicts, groups, rng)
        ],
    }
