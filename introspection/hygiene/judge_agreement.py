"""Agreement of judges with each other, and with the labels of replies in the data."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from introspection.checkpoints.names import load_one
from introspection.coupling.statistics import hierarchical_bootstrap, null
from introspection.errors import InputError
from introspection.models.model import Model
from introspection.probes.judges import Judge, ModelJudge, OpeningsJudge, PhraseJudge, Said
from introspection.probes.replies import Replies, prompts_of
from introspection.reports.console import say
from introspection.runtime.session import Session
from introspection.tasks.items import Item
from introspection.tasks.subsets import evenly
from introspection.tasks.task import LabelledReply

TEXTS = 200  # for each judge, taken evenly; asking a model is slow


def judge_report(
    items: Sequence[Item],
    replies: Sequence[Replies],
    labelled: Sequence[LabelledReply],
    model: Model,
    reading: Mapping[str, Any],
    session: Session,
    rng: np.random.Generator,
) -> dict[str, Any] | None:
    """Each judge's classes, and the agreement of every two judges (Cohen's kappa, intervals over groups).

    First on the model's own replies, then on the data's labelled replies, if any, with the labels as another
    judge. None if no item's candidates are a judge's classes. The model judge asks `judge_model` of the
    `behavior` section or, without one, the model that replied.
    """
    judged = [
        (item, both)
        for item, both in zip(items, replies, strict=True)
        if item.candidates == PhraseJudge.classes
    ]
    if not judged:
        return None
    judged = evenly(judged, TEXTS // 2)  # each has two replies
    said = [
        Said(prompt, reply.text)
        for item, both in judged
        for prompt, reply in zip(prompts_of(item), both, strict=True)
    ]
    groups = [item.group for item, _ in judged for _ in range(2)]
    name = reading.get("judge_model", "")
    asked = load_one(name, session.mesh, cache=session.cache) if name else model

    def verdicts(judges: Sequence[Judge], said: Sequence[Said]) -> dict[str, list[str]]:
        found = {}
        for judge in judges:
            try:
                found[judge.name] = judge.judge(said, model, session)
            except InputError as error:  # such as texts too long for the model that is asked
                say(session.console, f"the judge {judge.name} is left out of the report: {error}")
        return found

    of_model = verdicts((PhraseJudge(), OpeningsJudge(), ModelJudge(asked)), said)
    report = {"judge_model": name, **agreements(of_model, groups, rng), "labelled": None}
    if labelled:
        labelled = evenly(labelled, TEXTS)
        # A model's openings say nothing about another model's reply.
        of_labelled = verdicts(
            (PhraseJudge(), ModelJudge(asked)), [Said(reply.prompt, reply.reply) for reply in labelled]
        )
        of_labelled["labels"] = [reply.judged for reply in labelled]
        report["labelled"] = agreements(of_labelled, [reply.prompt for reply in labelled], rng)
    return report


def agreements(
    verdicts: Mapping[str, Sequence[str]], groups: Sequence[str], rng: np.random.Generator
) -> dict[str, Any]:
    """Each judge's counts of classes and the agreement of every two, for the report."""
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


class Agreement(NamedTuple):
    first: str
    second: str
    n: int
    share: float  # of texts in the same class
    kappa: float  # NaN if both judges use only one, equal class: then there is no chance level to beat
    interval: tuple[float, float]  # of kappa, 95% over groups; may be NaN


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """(observed - expected agreement) / (1 - expected), expected from the judges' own rates (Cohen, 1960).

    NaN if both judges use only one, equal class.

    Raises:
      ValueError: there are no texts.
    """
    if len(first) == 0:
        raise ValueError("kappa needs at least one text")
    return float(_kappas(_joint_counts(first, second).sum(axis=0)[None])[0, 0])


def agreement(
    first: str,
    second: str,
    verdicts: Mapping[str, Sequence[str]],
    groups: Sequence[str],
    rng: np.random.Generator,
    resamples: int = 2_000,
) -> Agreement:
    """The agreement of two judges, by their names in `verdicts`."""
    one, other = verdicts[first], verdicts[second]
    counts = _joint_counts(one, other)
    low, high = hierarchical_bootstrap(counts, np.asarray(groups), _kappas, rng, resamples=resamples)[:, 0]
    same = [a == b for a, b in zip(one, other, strict=True)]
    return Agreement(
        first, second, len(one), float(np.mean(same)), cohen_kappa(one, other), (float(low), float(high))
    )


def pairwise_agreement(
    verdicts: Mapping[str, Sequence[str]], groups: Sequence[str], rng: np.random.Generator
) -> list[Agreement]:
    """The agreement of every two judges on the same texts, whose groups are `groups`."""
    return [agreement(a, b, verdicts, groups, rng) for a, b in itertools.combinations(verdicts, 2)]


def _joint_counts(first: Sequence[str], second: Sequence[str]) -> Float[np.ndarray, "texts cells"]:
    """One row per text, with a 1 in the cell of its two classes."""
    classes, index = np.unique(np.array([*first, *second], dtype=str), return_inverse=True)
    rows, columns = index[: len(first)], index[len(first) :]
    counts = np.zeros((len(first), len(classes) ** 2))
    counts[np.arange(len(first)), rows * len(classes) + columns] = 1
    return counts


def _kappas(sums: Shaped[np.ndarray, "resamples cells"]) -> Float[np.ndarray, "resamples 1"]:
    size = round(np.sqrt(sums.shape[1]))
    table = sums.reshape(-1, size, size)
    total = table.sum(axis=(1, 2))
    observed = np.trace(table, axis1=1, axis2=2) / total
    expected = (table.sum(axis=1) * table.sum(axis=2)).sum(axis=1) / total**2
    # 1 if both judges use only one, equal class; otherwise at most 1 - 1 / total.
    certain = expected > 1 - 1 / total**2
    return np.where(certain, np.nan, (observed - expected) / np.where(certain, 1, 1 - expected))[:, None]
