"""Self, Orig, Initial and their gap of records, with intervals: means and bootstrap over groups and seeds.

An item's counts add up, so every score is a function of summed counts and a resample is one product. Values
that are undefined are None, as in `results.json`, once they leave this module.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from introspection.coupling import metrics, statistics
from introspection.coupling.metrics import MATCH_COUNTS, METRICS, divide, match_metrics
from introspection.coupling.records import PredictionRecord
from introspection.coupling.seed_intervals import Statistic
from introspection.coupling.statistics import as_estimates, hierarchical_bootstrap, null

TARGETS: dict[str, metrics.Target] = {"self": "current", "orig": "teacher", "initial": "initial"}
SCORES = (*TARGETS, "gap")
WEIGHTS = 400_000  # numbers in one array of weights; with five times as many it takes twice as long
# What `score_outputs` returns, in its order.
OUTPUTS = (*((score, metric) for score in SCORES for metric in METRICS), ("disagreement", "current_share"))


def item_counts(records: Sequence[PredictionRecord]) -> Float[np.ndarray, "items statistics"]:
    """Each item's `match_counts` for all of `TARGETS`, then its matches with current and teacher in D."""
    said = [r.explanation for r in records]
    true = {target: [getattr(r, target).explanation for r in records] for target in TARGETS.values()}
    by_target = [metrics.match_counts(said, explanations) for explanations in true.values()]
    in_disagreement = np.array([a != b for a, b in zip(true["current"], true["teacher"], strict=True)])
    exact = MATCH_COUNTS.index("exact_match")
    matches = [in_disagreement * by_target[index][:, exact] for index in (0, 1)]
    return np.column_stack([*by_target, *matches])


def score_outputs(sums: Float[np.ndarray, "resamples statistics"]) -> Float[np.ndarray, "resamples outputs"]:
    """`OUTPUTS` of sums of `item_counts`; NaN where one is undefined."""
    *by_target, current_matches, teacher_matches = np.split(
        sums, np.cumsum([len(MATCH_COUNTS)] * len(TARGETS) + [1]), axis=1
    )
    score = {name: match_metrics(part) for name, part in zip(TARGETS, by_target, strict=True)}
    score["gap"] = {metric: score["self"][metric] - score["orig"][metric] for metric in METRICS}
    current_share = divide(current_matches, current_matches + teacher_matches)[:, 0]
    return np.column_stack([*(score[s][metric] for s in SCORES for metric in METRICS), current_share])


def estimates(
    records: Sequence[PredictionRecord],
    counts: Float[np.ndarray, "items statistics"],
    statistic: Statistic,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Each output of `statistic` as {"mean", "ci95"}: its value on all items, and its interval, groups and
    seeds resampled."""
    groups, seeds = (np.array([getattr(r, name) for r in records]) for name in ("group", "seed"))
    interval = hierarchical_bootstrap(counts, groups, statistic, rng, seeds=seeds)
    return as_estimates(statistic(counts.sum(0, keepdims=True))[0], interval)


def weighted_estimates(
    groups_of: Sequence[str],
    outputs: Callable[[Float[np.ndarray, "resamples items"]], Float[np.ndarray, "resamples outputs"]],
    rng: np.random.Generator,
    seeds_of: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """Likewise of outputs of the items' weights, for what does not add up over items.

    Args:
      groups_of, seeds_of: each item's; without seeds, all items are of one.

    A resample of seeds and groups weighs each (seed, group) cell by the product of the two. So a cell counts
    for its seed and for its group, and the sums of these counts give the weights back.
    """
    seed_names, seeds = np.unique(seeds_of or [0] * len(groups_of), return_inverse=True)
    group_names, groups = np.unique(groups_of, return_inverse=True)
    cell_seeds, cell_groups = np.indices((len(seed_names), len(group_names))).reshape(2, -1)
    counts = np.concatenate(
        [np.eye(len(seed_names))[cell_seeds], np.eye(len(group_names))[cell_groups]], axis=1
    )

    def statistic(sums: Float[np.ndarray, "resamples statistics"]) -> Float[np.ndarray, "resamples outputs"]:
        chunk = max(1, WEIGHTS // len(groups_of))
        return np.concatenate([outputs(weights(sums[i : i + chunk])) for i in range(0, len(sums), chunk)])

    def weights(sums: Float[np.ndarray, "resamples statistics"]) -> Float[np.ndarray, "resamples items"]:
        by_seed, by_group = sums[:, : len(seed_names)], sums[:, len(seed_names) :]
        return by_seed[:, seeds] * by_group[:, groups] / by_seed.sum(1, keepdims=True)

    interval = hierarchical_bootstrap(counts, cell_groups, statistic, rng, seeds=cell_seeds)
    return as_estimates(statistic(counts.sum(0, keepdims=True))[0], interval)


def scores_of(values: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The estimates of `score_outputs` as {score: {metric: {"mean", "ci95"}}}."""
    scores: dict[str, dict[str, Any]] = {}
    for (score, metric), value in zip(OUTPUTS, values, strict=True):
        scores.setdefault(score, {})[metric] = value
    return scores


def record_scores(records: Sequence[PredictionRecord], rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """`OUTPUTS` of records as {score: {metric: {"mean", "ci95"}}}."""
    return scores_of(estimates(records, item_counts(records), score_outputs, rng))


def disagreement_results(
    records: Sequence[PredictionRecord], current_share: Mapping[str, Any], rng: np.random.Generator
) -> dict[str, Any]:
    """The disagreement set of records: levels, current share, and the sign-flip test with its note.

    `sign_flip_p` is null where there is nothing to test or the test says that it can't be made; the reason
    then stands in `sign_flip_note`, which is null otherwise.
    """
    counts = item_counts(records)
    n = sum(metrics.disagrees(r) for r in records)
    current_matches, teacher_matches = counts[:, -2:].sum(0)
    p, note = None, "the behaviours differ on no item"
    if n:
        p, note = statistics.seeds_sign_flip_test(_cell_sums(records, counts[:, -2] - counts[:, -1]), rng)
    return {
        "n": n,
        "self": null(divide(current_matches, n)),
        "orig": null(divide(teacher_matches, n)),
        "current_share": current_share["mean"],
        "current_share_ci95": current_share["ci95"],
        "sign_flip_p": p,
        "sign_flip_note": note or None,
        "groups": len({r.group for r in records if metrics.disagrees(r)}),
    }


def measures(
    records: Sequence[PredictionRecord], scores: Mapping[str, Mapping[str, Any]], rng: np.random.Generator
) -> dict[str, Any]:
    """What is reported of an arm and of any part of its items: scores with what stands beside them.

    Args:
        scores: of these records, as `scores_of` or `record_scores` has them.
        rng: of the sign-flip test.
    """
    decided = {model: [getattr(r, model) for r in records] for model in ("teacher", "current")}
    gold = [r.gold for r in records]
    return {
        **{name: scores[name] for name in ("self", "orig", "gap")},
        "disagreement": disagreement_results(records, scores["disagreement"]["current_share"], rng),
        "drift": metrics.drift(records),
        "changed_rate": {model: metrics.changed_rate(of) for model, of in decided.items()},
        "behavior_accuracy": {model: metrics.behavior_accuracy(of, gold) for model, of in decided.items()},
        "invalid_rate": metrics.invalid_rate([r.explanation for r in records]),
        "n": len(records),
    }


def _cell_sums(
    records: Sequence[PredictionRecord], values: Float[np.ndarray, " items"]
) -> Float[np.ndarray, "seeds groups"]:
    seeds, seed_index = np.unique([r.seed for r in records], return_inverse=True)
    groups, group_index = np.unique([r.group for r in records], return_inverse=True)
    sums = np.zeros((len(seeds), len(groups)))
    np.add.at(sums, (seed_index, group_index), values)
    return sums
