"""What behaviour and explanation ask of the same weights, and what another model's matrices do to both."""

from collections.abc import Sequence

import numpy as np

from introspection.checkpoints.names import StoredModel, load_model
from introspection.models.model import Model
from introspection.patching.contrasts import Contrasts
from introspection.patching.maps import correlation
from introspection.patching.results import PartEffect, PartSimilarity, WeightSwap
from introspection.probes.weight_patching import (
    WeightPart,
    cosine,
    difference_gradients,
    patch_weights,
    trained_collection,
    weight_parts,
)
from introspection.runtime.session import Session


def gradient_similarity(
    patched: Sequence[tuple[Model, Contrasts]], session: Session, rng: np.random.Generator
) -> tuple[PartSimilarity, ...]:
    """Cosines of the two gradients by matrix, means over seeds; None where a gradient is 0 in all of them.

    Facts are split into two halves: the same items is the mean over the halves, other items crosses them.
    """
    rows: dict[WeightPart, list[tuple[float | None, ...]]] = {}
    for model, contrasts in patched:
        names, numbers = np.unique([item.group for item in contrasts.items], return_inverse=True)
        if len(names) < 2:
            continue
        first = np.isin(numbers, rng.permutation(len(names))[: len(names) // 2])
        halves = [contrasts.of(np.flatnonzero(half)) for half in (first, ~first)]
        behavior = [difference_gradients(model, half.behavior, session) for half in halves]
        explanation = [difference_gradients(model, half.explanation, session) for half in halves]
        for part in behavior[0]:
            b, e = ([gradients[part] for gradients in both] for both in (behavior, explanation))
            rows.setdefault(part, []).append(
                (
                    _mean([cosine(b[0], e[0]), cosine(b[1], e[1])]),
                    _mean([cosine(b[0], e[1]), cosine(b[1], e[0])]),
                    cosine(*b),
                    cosine(*e),
                )
            )
    return tuple(
        PartSimilarity(part.layer, part.module, *(_mean(column) for column in zip(*found, strict=True)))
        for part, found in rows.items()
    )


def swap(
    label: str,
    patched: Sequence[tuple[Model, Contrasts]],
    donors: Sequence[StoredModel],
    session: Session,
) -> WeightSwap:
    """Each matrix of a donor put into each seed of an arm; the donor of a seed stands at the same place."""
    changes: list[list[np.ndarray]] = [[], []]
    parts: list[WeightPart] = []
    for (model, contrasts), stored in zip(patched, donors, strict=True):
        donor = load_model(stored, session.mesh)
        parts = weight_parts(model.variables[trained_collection(model)])
        sets = [[], parts, *([part] for part in parts)]
        for found, of_kind in zip(changes, (contrasts.behavior, contrasts.explanation), strict=True):
            differences = patch_weights(model, donor, of_kind, sets, session)
            found.append(differences[:, 1:] - differences[:, :1])
    behavior, explanation = (np.concatenate(found).mean(axis=0) for found in changes)
    alike = float(correlation(behavior[None, 1:], explanation[None, 1:])[0])
    return WeightSwap(
        donor=label,
        behavior_change=float(behavior[0]),
        explanation_change=float(explanation[0]),
        correlation=None if np.isnan(alike) else alike,
        parts=tuple(
            PartEffect(part.layer, part.module, _share(b, behavior[0]), _share(e, explanation[0]))
            for part, b, e in zip(parts, behavior[1:], explanation[1:], strict=True)
        ),
    )


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
