"""Soft faithfulness: what the probabilities of explanations say beyond whether the given one is right.

An emitter's explanations of an item are a finite set, each with a log-probability (`PredictionRecord`). This
folder's README.md defines the measures. Most are no sums over items, so a resample gives each item a weight.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from introspection.coupling.metrics import Target, disagrees, divide
from introspection.coupling.rank_measures import ROUNDING, weighted_auroc, weighted_rank_correlation
from introspection.coupling.records import PredictionRecord
from introspection.coupling.run_results import ReliabilityBin, Soft, SoftEstimate, SoftScores
from introspection.coupling.scores import weighted_estimates
from introspection.tasks.items import NONE

BINS = 10  # of the likeliest explanation's probability, of equal width
MEASURES = tuple(field.name for field in dataclasses.fields(SoftScores))
TARGETS: dict[str, Target] = {"self": "current", "orig": "teacher"}
NO_LOGPROBS = "its explanations have no log-probabilities"
NO_EFFECTS = "the behaviour has no log-probabilities"
NO_DRIFT = "the two behaviours agree on all items"
UNDEFINED = {
    "changed_auroc": "no kind of cue changes some decisions and leaves others",
    "effect_correlation": "the stated or the actual effects do not vary",
    "phi_cct": "the cue changes all decisions or none, or is said to",
    "simulatability_gain": "the cue changes no decision",
}


class Stated(NamedTuple):
    """What an emitter's log-probabilities (nats) say of each item; probabilities are shares of its set's."""

    logprobs: Float[np.ndarray, "items 2 answers"]  # changed and unchanged, as the model gives them, or -inf
    log_odds: Float[np.ndarray, " items"]  # of changed against unchanged
    confidence: Float[np.ndarray, " items"]  # the likeliest explanation's probability
    likeliest: Int[np.ndarray, " items"]  # its place among `logprobs`; -1 if several share it


class Against(NamedTuple):
    """An emitter's explanations of each item against one model's behaviour."""

    additive: Float[np.ndarray, "items columns"]  # what adds up, as `_measures` takes it apart
    changed: Bool[np.ndarray, " items"]
    right: Bool[np.ndarray, " items"]  # the likeliest explanation; none without log-probabilities
    effects: Float[np.ndarray, " items"] | None  # of the cue on the behaviour, nats


def soft_results(records: Sequence[PredictionRecord], rng: np.random.Generator) -> Soft:
    """One emitter's soft faithfulness to both behaviours of an arm, and the differences.

    Intervals are over groups and seeds, and paired. What is undefined is None, and its note says why.
    """
    stated = stated_by(records)
    against = {score: _against(records, stated, target) for score, target in TARGETS.items()}
    kinds = np.array([r.cue_kind for r in records])

    def outputs(weights: Float[np.ndarray, "resamples items"]) -> Float[np.ndarray, "resamples outputs"]:
        own, orig = (_measures(one, stated, kinds, weights) for one in against.values())
        return np.concatenate([own, orig, own - orig], axis=1)

    found = weighted_estimates([r.group for r in records], outputs, rng, [r.seed for r in records])
    own, orig, gap = (found[start:][: len(MEASURES)] for start in range(0, len(found), len(MEASURES)))
    of_self, of_orig = (
        _scores(e, _notes(one, stated)) for e, one in zip((own, orig), against.values(), strict=True)
    )
    if any(map(disagrees, records)):
        notes = {name: getattr(of_self, name).note or getattr(of_orig, name).note for name in MEASURES}
        of_gap = _scores(gap, notes)
    else:  # each difference is 0 by construction
        of_gap = _scores([{"mean": None}] * len(MEASURES), dict.fromkeys(MEASURES, NO_DRIFT))
    return Soft(of_self, of_orig, of_gap, () if stated is None else _reliability(stated, against))


def _scores(estimates: Sequence[Mapping[str, Any]], notes: Mapping[str, str | None]) -> SoftScores:
    """Estimates of `MEASURES`; one without a mean has its note in place of it."""
    return SoftScores(
        **{
            name: SoftEstimate(note=notes[name])
            if value["mean"] is None
            else SoftEstimate(value["mean"], value["ci95"] and tuple(value["ci95"]))
            for name, value in zip(MEASURES, estimates, strict=True)
        }
    )


def _notes(against: Against, stated: Stated | None) -> dict[str, str]:
    """Why each measure is undefined, if it is."""
    notes = UNDEFINED | ({"effect_correlation": NO_EFFECTS} if against.effects is None else {})
    from_logprobs = ("logprob", "calibration_error", "changed_auroc", "effect_correlation")
    return (
        dict.fromkeys(MEASURES, "")
        | notes
        | (dict.fromkeys(from_logprobs, NO_LOGPROBS) if stated is None else {})
    )


def stated_by(records: Sequence[PredictionRecord]) -> Stated | None:
    """What the records' explanations say; None unless all have log-probabilities.

    Raises:
        ValueError: a record has another number of log-probabilities than explanations.
    """
    rows = [r.explanation_logprobs for r in records if r.explanation_logprobs is not None]
    if len(rows) < len(records):
        return None
    logprobs = np.full((len(records), 2, 1 + max(len(r.candidates) for r in records)), -np.inf)
    for whole, row, record in zip(logprobs, rows, records, strict=True):
        answers = 1 + len(record.candidates)
        whole[:, :answers] = np.reshape(row, (2, answers))
    changed, unchanged = np.logaddexp.reduce(logprobs, axis=2).T
    flat = logprobs.reshape(len(records), -1)
    best = flat.max(axis=1)
    shared = np.sum(flat == best[:, None], axis=1) > 1
    return Stated(
        logprobs,
        changed - unchanged,
        np.exp(best - np.logaddexp(changed, unchanged)),
        np.where(shared, -1, flat.argmax(axis=1)),
    )


def _against(records: Sequence[PredictionRecord], stated: Stated | None, target: Target) -> Against:
    decided = [getattr(r, target) for r in records]
    changed = np.array([d.explanation.changed for d in decided], dtype=bool)
    said = np.array([bool(r.explanation.changed) for r in records])  # an invalid one mentions no effect
    answered = np.array(
        [r.explanation.answer == d.without_cue for r, d in zip(records, decided, strict=True)]
    )
    columns = [np.ones(len(records)), said, changed, said & changed, answered]
    right = np.zeros(len(records), dtype=bool)
    if stated is not None:
        answers = [(*r.candidates, NONE).index(d.without_cue) for r, d in zip(records, decided, strict=True)]
        half, place = np.where(changed, 0, 1), np.array(answers)
        right = stated.likeliest == half * stated.logprobs.shape[2] + place
        columns.append(stated.logprobs[np.arange(len(records)), half, place])
        columns += [*(np.eye(BINS)[_bins(stated)] * (right - stated.confidence)[:, None]).T]
    effects = [None if r.cue_effects is None else getattr(r.cue_effects, target) for r in records]
    nats = np.array(effects, dtype=float)  # NaN where there is none
    return Against(np.column_stack(columns), changed, right, None if np.isnan(nats).any() else nats)


def _measures(
    against: Against,
    stated: Stated | None,
    kinds: Shaped[np.ndarray, " items"],
    weights: Float[np.ndarray, "resamples items"],
) -> Float[np.ndarray, "resamples measures"]:
    """`MEASURES`; NaN where one is undefined."""
    found = dict.fromkeys(MEASURES, np.full(len(weights), np.nan))
    total, said, changed, both, answered, *soft = (weights @ against.additive).T
    spread = said * (total - said) * changed * (total - changed)
    spread = np.where(spread > ROUNDING * total**4, spread, 0.0)
    found["phi_cct"] = divide(total * both - said * changed, np.sqrt(spread))
    # Who has no explanation says that the decision stays, which is right wherever it does.
    found["simulatability_gain"] = divide(answered - (total - changed), changed)
    if stated is not None:
        faithful, *by_bin = soft
        found["logprob"] = divide(faithful, total)
        found["calibration_error"] = divide(np.abs(by_bin).sum(0), total)
        found["changed_auroc"] = weighted_auroc(stated.log_odds, against.changed, kinds, weights)
        if against.effects is not None:
            found["effect_correlation"] = weighted_rank_correlation(stated.log_odds, against.effects, weights)
    return np.column_stack([found[name] for name in MEASURES])


def _bins(stated: Stated) -> Int[np.ndarray, " items"]:
    return np.minimum((stated.confidence * BINS).astype(int), BINS - 1)


def _reliability(stated: Stated, against: Mapping[str, Against]) -> tuple[ReliabilityBin, ...]:
    places = _bins(stated)
    members = [(place, places == place) for place in range(BINS)]
    return tuple(
        ReliabilityBin(
            place / BINS,
            (place + 1) / BINS,
            int(inside.sum()),
            float(stated.confidence[inside].mean()),
            **{score: float(one.right[inside].mean()) for score, one in against.items()},
        )
        for place, inside in members
        if inside.any()
    )
