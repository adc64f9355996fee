"""How far judges agree about a model's replies, and with the labels of replies that the data bring."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from introspection.checkpoints.models import load_one
from introspection.coupling.kappa import pairwise_agreement
from introspection.coupling.statistics import null
from introspection.jobs.models import model_path
from introspection.models.model import Model
from introspection.probes.judges import Judge, ModelJudge, OpeningsJudge, PhraseJudge, Said
from introspection.probes.readout import Replies, prompts_of
from introspection.runtime.programs import ProgramTable
from introspection.tasks.items import Item
from introspection.tasks.refusal_files import Request
from introspection.tasks.refusal_phrases import COMPLY, REFUSE

TEXTS = 200  # that all judges read, taken evenly: a judge that is a model takes its time


def judge_report(
    items: Sequence[Item],
    replies: Sequence[Replies],
    labelled: Sequence[Request],
    model: Model,
    reading: Mapping[str, Any],
    cache: Path,
    programs: ProgramTable,
    mesh: jax.sharding.Mesh,
    rng: np.random.Generator,
) -> dict[str, Any] | None:
    """Each judge's classes, and every two judges' agreement (Cohen's kappa, intervals over groups).

    Once of the model's own replies and, where the data bring labelled replies, once of these, the labels
    being one more judge. None where no item's candidates are a judge's classes. The model that judges is
    `judge_model` of the `behavior` section or, without one, the one that replied.
    """
    judged = [
        (item, both)
        for item, both in zip(items, replies, strict=True)
        if item.candidates == PhraseJudge.classes
    ]
    if not judged:
        return None
    judged = judged[:: -(-len(judged) // (TEXTS // 2))]  # each has two replies
    said = [
        Said(prompt, reply.text)
        for item, both in judged
        for prompt, reply in zip(prompts_of(item), both, strict=True)
    ]
    groups = [item.group for item, _ in judged for _ in range(2)]
    name = reading.get("judge_model", "")
    asked = load_one(model_path(name, cache), mesh) if name else model

    def verdicts(judges: Sequence[Judge], said: Sequence[Said]) -> dict[str, list[str]]:
        return {judge.name: judge.judge(said, model, programs, mesh) for judge in judges}

    of_model = verdicts((PhraseJudge(), OpeningsJudge(), ModelJudge(asked)), said)
    report = {"judge_model": name, **agreements(of_model, groups, rng), "labelled": None}
    if labelled:
        labelled = labelled[:: -(-len(labelled) // TEXTS)]
        # The openings of a model tell nothing of a reply that it did not give.
        of_labelled = verdicts(
            (PhraseJudge(), ModelJudge(asked)), [Said(one.prompt, one.response) for one in labelled]
        )
        of_labelled["labels"] = [REFUSE if one.refused else COMPLY for one in labelled]
        report["labelled"] = agreements(of_labelled, [one.prompt for one in labelled], rng)
    return report


def agreements(
    verdicts: Mapping[str, Sequence[str]], groups: Sequence[str], rng: np.random.Generator
) -> dict[str, Any]:
    """How often each judge says what, and how far every two agree, as the report has it."""
    return {
        "texts": len(groups),
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
                    "mean": null(pair.kappa),
                    "ci95": None if np.isnan(pair.interval[0]) else list(pair.interval),
                },
            }
            for pair in pairwise_agreement(verdicts, groups, rng)
        ],
    }
