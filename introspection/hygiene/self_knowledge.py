"""How far a model's own log-probabilities tell which of its decisions a cue changes: a ceiling for labels.

Explanation training can only teach what the model's states hold. If a model's margin without the cue does not
tell changed decisions from others, `changed` is hardly a function of what the model knows, and labels can
teach no more than the kind of cue.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from introspection.coupling.metrics import divide
from introspection.coupling.rank_measures import weighted_auroc
from introspection.coupling.scores import weighted_estimates
from introspection.probes.scored import Behavior
from introspection.tasks.items import Decisions, Item

FOLDS = 5
GROUPS_NEEDED = 2 * FOLDS  # below, a fold's prediction says nothing


def predictability(
    items: Sequence[Item],
    behaviors: Sequence[Behavior],
    decided: Sequence[Decisions],
    rng: np.random.Generator,
) -> dict[str, Any] | None:
    """Whether the cue changes a decision, predicted for groups that the predictor has not seen.

    A logistic regression (scikit-learn's, L2, C = 1) on the log-probabilities *without* the cue, separately
    for each kind of cue: the margin of the first answer over the second, that over the answer which the cue
    names, and the probability of `none`. Five folds, by group. Beside it, the more frequent class of each
    kind of cue, of all these items: no prediction, so that it is never too low where both are as frequent.

    Args:
      behaviors: of the items; the decisions may be read otherwise, such as from replies.
      rng: for the intervals and the folds.

    Returns:
      `accuracy`, `majority` and `difference` (shares of items) and `changed_auroc` (within kinds of cue, of
      predictor and outcome), each with its interval; None if there are fewer than ten groups, or if no kind
      of cue has both outcomes.
    """
    groups = np.array([item.group for item in items])
    kinds = np.array([item.cue_kind for item in items])
    changed = np.array([d.with_cue != d.without_cue for d in decided])
    mixed = any(len(set(changed[kinds == kind])) > 1 for kind in set(kinds))
    if len(set(groups)) < GROUPS_NEEDED or not mixed:
        return None
    folds = group_folds(groups, rng)
    features = knowledge(items, behaviors)
    odds, majority = np.zeros(len(items)), np.zeros(len(items), bool)
    for kind in set(kinds):
        majority[kinds == kind] = changed[kinds == kind].mean() > 0.5
        for fold in range(FOLDS):
            seen, unseen = (kinds == kind) & (folds != fold), (kinds == kind) & (folds == fold)
            odds[unseen] = _log_odds(features[seen], changed[seen], features[unseen])

    # Log-odds of one regression are comparable to each other alone. Ranked together, features that tell
    # nothing would lie below 50%, since a fold that has more changed items was predicted from fewer.
    strata = np.array([f"{fold} {kind}" for kind, fold in zip(kinds, folds, strict=True)])

    def outputs(weights: Float[np.ndarray, "resamples items"]) -> Float[np.ndarray, "resamples outputs"]:
        right = [weights @ (said == changed) for said in (odds > 0, majority)]
        own, most = (divide(one, weights.sum(1)) for one in right)
        return np.stack([own, most, own - most, weighted_auroc(odds, changed, strata, weights)], axis=1)

    names = ("accuracy", "majority", "difference", "changed_auroc")
    found = weighted_estimates(groups.tolist(), outputs, rng)
    return {"n": len(items), "groups": len(set(groups)), **dict(zip(names, found, strict=True))}


def knowledge(items: Sequence[Item], behaviors: Sequence[Behavior]) -> Float[np.ndarray, "items features"]:
    """What a model's log-probabilities without the cue say (nats; `none` as a share)."""
    rows = []
    for item, behavior in zip(items, behaviors, strict=True):
        candidates = np.asarray(behavior.without_cue[:-1], float)
        second, first = np.sort(candidates)[-2:]
        named = candidates[item.candidates.index(item.cued)] if item.cued in item.candidates else first
        rows.append((first - second, first - named, np.exp(float(behavior.without_cue[-1]))))
    return np.array(rows)


def group_folds(groups: np.ndarray, rng: np.random.Generator) -> Int[np.ndarray, " items"]:
    """Each item's fold; those of one group share it, and folds have equally many groups."""
    unique, places = np.unique(groups, return_inverse=True)
    return (rng.permutation(len(unique)) % FOLDS)[places]


def _log_odds(
    features: Float[np.ndarray, "seen features"],
    changed: Bool[np.ndarray, " seen"],
    asked: Float[np.ndarray, "unseen features"],
) -> Float[np.ndarray, " unseen"]:
    """The log-odds of a change; those of the only outcome seen, if there is one."""
    # Takes a second to import.
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not len(asked):
        return np.zeros(0)
    if len(set(changed)) < 2:
        return np.full(len(asked), 1.0 if changed.any() else -1.0)
    return (
        make_pipeline(StandardScaler(), LogisticRegression()).fit(features, changed).decision_function(asked)
    )
