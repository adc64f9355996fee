"""Every emitter's explanations against every teacher's behaviour; coupling is a diagonal that stands out."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from introspection.coupling.estimates import Estimate
from introspection.coupling.matrix_results import Diagonal, Excess, Lead, Matrix, Permutation
from introspection.coupling.metrics import (
    METRICS,
    divide,
    invalid_rate,
    match_counts,
    match_metrics,
    none_rate,
)
from introspection.coupling.pair_disagreement import pair_disagreements, seed_pairs
from introspection.coupling.permutation import (
    groups_permutation_test,
    models_permutation_test,
    picks_test,
)
from introspection.coupling.statistics import hierarchical_bootstrap
from introspection.tasks.items import Decisions, Explanation


@dataclasses.dataclass(frozen=True)
class Control:
    """A row of the matrix that no model of the diagonal gives."""

    recipe: str
    of: tuple[str, ...]  # the models whose gap is held against its


def coupling_matrix(
    explanations: Mapping[str, Sequence[Explanation]],
    decisions: Mapping[str, Sequence[Decisions]],
    groups: Shaped[np.ndarray, " items"] | Sequence[str],
    rng: np.random.Generator,
    *,
    members: Mapping[str, Sequence[str]] | None = None,
    controls: Mapping[str, Control] | None = None,
    starts: Mapping[str, str] | None = None,
    seeds: Sequence[int] | None = None,
    resamples: int = 2_000,
) -> Matrix:
    """Scores emitters (rows) against teachers (columns) on the same items.

    Args:
        explanations: of each emitter, one an item.
        decisions: of each teacher, one pair an item, in the same order.
        groups: of the items; intervals resample groups, the same ones for all cells, and take the models with
            their seeds as given.
        rng: for intervals and tests.
        members: the names in `explanations` and `decisions` that a shown name stands for: the seeds of an
            arm. By default each stands for itself.
        controls: the shown emitters that are no models of the diagonal.
        starts: the shown teacher that a model of the diagonal started from, for its gap.
        seeds: of the items, if several training runs answered the same ones; intervals are over these, too.
        resamples: of the intervals.
    """
    controls, starts, groups = controls or {}, starts or {}, np.asarray(groups)
    alone = {name: (name,) for name in (*explanations, *decisions)}
    emitters = _given(explanations, members)
    teachers = _given(decisions, members)
    members = alone if members is None else members
    if not emitters or not teachers or len(groups) == 0:
        raise ValueError("the matrix needs an emitter, a teacher and an item")
    for name, values in (*explanations.items(), *decisions.items()):
        if len(values) != len(groups):
            raise ValueError(f"{name} has {len(values)} items, the groups {len(groups)}")
    models = [name for name in emitters if name in teachers and name not in controls]

    counts = np.zeros((len(emitters), len(teachers), 10))
    matches = np.zeros((len(emitters), len(teachers), len(groups)))
    for row, emitter in enumerate(emitters):
        for column, teacher in enumerate(teachers):
            both = seed_pairs(members[emitter], members[teacher], emitter == teacher)
            for one, other in both:
                found = match_counts(explanations[one], [d.explanation for d in decisions[other]])
                counts[row, column] += found.sum(0) / len(both)
                matches[row, column] += found[:, 1] / len(both)
    measures = match_metrics(counts)
    shares = measures["exact_match"]

    contrasts = _contrasts(emitters, teachers, models, controls, starts)
    weights = np.array([*np.eye(shares.size), *(contrast.ravel() for contrast in contrasts.values())])

    def statistic(
        sums: Float[np.ndarray, "resamples cells_and_items"],
    ) -> Float[np.ndarray, "resamples outputs"]:
        return divide(sums[:, :-1], sums[:, -1:]) @ weights.T

    sums = np.column_stack([matches.reshape(-1, len(groups)).T, np.ones(len(groups))])
    of_seeds = None if seeds is None else np.asarray(seeds)
    bounds = hierarchical_bootstrap(sums, groups, statistic, rng, seeds=of_seeds, resamples=resamples)
    ends = [None if np.isnan(low) else (float(low), float(high)) for low, high in bounds.T]
    cells = [tuple(ends[row * len(teachers) :][: len(teachers)]) for row in range(len(emitters))]
    estimate = {
        name: Estimate(float(np.sum(contrast * shares)), interval)
        for (name, contrast), interval in zip(contrasts.items(), ends[shares.size :], strict=True)
    }

    def drifted_groups(rows: Sequence[str]) -> int:
        moved = {name for row in rows for name in controls[row].of if starts.get(name, name) != name}
        differs = np.zeros(len(groups), bool)
        for name in moved:
            for one, other in itertools.product(members[name], members[starts[name]]):
                both = zip(decisions[one], decisions[other], strict=True)
                differs |= np.array([own.explanation != before.explanation for own, before in both])
        return len(set(groups[differs]))

    places = [np.array([names.index(name) for name in models], int) for names in (emitters, teachers)]
    _, group = np.unique(groups, return_inverse=True)
    by_group = np.zeros((int(group.max()) + 1, len(models), len(models)))
    np.add.at(by_group, group, np.moveaxis(matches[np.ix_(*places)], 2, 0))
    by_metric: Any = {metric: tuple(map(tuple, measures[metric].tolist())) for metric in METRICS}
    return Matrix(
        tuple(emitters),
        tuple(teachers),
        len(groups),
        **by_metric,
        ci95=tuple(cells),
        diagonal=_diagonal(estimate),
        invalid_rate=tuple(
            _mean(invalid_rate(explanations[one]) for one in members[name]) for name in emitters
        ),
        none_rate=tuple(_mean(none_rate(decisions[one]) for one in members[name]) for name in teachers),
        groups=len(np.unique(groups)),
        controls={name: control.recipe for name, control in controls.items()},
        leads=_leads(models, estimate, by_group, rng),
        permutation=_permutation(by_group, rng),
        pairs=tuple(pair_disagreements(explanations, decisions, members, emitters, teachers, groups, rng)),
        excess=tuple(
            Excess(recipe, tuple(rows), estimate["excess", recipe], drifted_groups(rows))
            for recipe, rows in _by_recipe(controls).items()
            if ("excess", recipe) in estimate
        ),
    )


def _contrasts(
    emitters: Sequence[str],
    teachers: Sequence[str],
    models: Sequence[str],
    controls: Mapping[str, Control],
    starts: Mapping[str, str],
) -> dict[tuple[str, str], Float[np.ndarray, "emitters teachers"]]:
    """What is estimated beside the cells, as weights of the cells."""

    def cell(emitter: str, teacher: str) -> Float[np.ndarray, "emitters teachers"]:
        weights = np.zeros((len(emitters), len(teachers)))
        weights[emitters.index(emitter), teachers.index(teacher)] = 1
        return weights

    found: dict[tuple[str, str], np.ndarray] = {}
    if len(models) > 1:
        own = {name: cell(name, name) for name in models}
        for name in models:
            others = [other for other in models if other != name]
            found["row", name] = own[name] - np.mean([cell(name, other) for other in others], axis=0)
            found["column", name] = own[name] - np.mean([cell(other, name) for other in others], axis=0)
        found["diagonal", "own"] = np.mean([*own.values()], axis=0)
        found["diagonal", "difference"] = np.mean([found["row", name] for name in models], axis=0)
    for recipe, rows in _by_recipe(controls).items():
        differences = [
            cell(name, name) - cell(name, starts[name]) - cell(row, name) + cell(row, starts[name])
            for row in rows
            for name in controls[row].of
            if name in starts and starts[name] != name
        ]
        if differences:
            found["excess", recipe] = np.mean(differences, axis=0)
    return found


def _by_recipe(controls: Mapping[str, Control]) -> dict[str, list[str]]:
    recipes = dict.fromkeys(control.recipe for control in controls.values())
    return {
        recipe: [row for row, control in controls.items() if control.recipe == recipe] for recipe in recipes
    }


def _diagonal(estimates: Mapping[tuple[str, str], Estimate]) -> Diagonal | None:
    difference, own = estimates.get(("diagonal", "difference")), estimates.get(("diagonal", "own"))
    if difference is None or own is None or own.mean is None or difference.mean is None:
        return None
    return Diagonal(own.mean, own.mean - difference.mean, difference)


def _leads(
    models: Sequence[str],
    estimates: Mapping[tuple[str, str], Estimate],
    by_group: Float[np.ndarray, "groups models models"],
    rng: np.random.Generator,
) -> tuple[Lead, ...]:
    if len(models) < 2:
        return ()

    def p(matches: Float[np.ndarray, "groups models"], place: int) -> float:
        """That a group's matches with its own behaviour are those with any model's."""
        return picks_test(np.roll(matches, -place, axis=1), rng)

    return tuple(
        Lead(
            name,
            estimates["row", name],
            estimates["column", name],
            p(by_group[:, place], place),
            p(by_group[:, :, place], place),
        )
        for place, name in enumerate(models)
    )


def _permutation(
    by_group: Float[np.ndarray, "groups models models"], rng: np.random.Generator
) -> Permutation | None:
    count = by_group.shape[1]
    if count < 2:
        return None
    return Permutation(
        models_permutation_test(by_group.sum(0), rng),
        1 / math.factorial(count),
        groups_permutation_test(by_group, rng),
    )


def _given(of: Mapping[str, Any], members: Mapping[str, Sequence[str]] | None) -> list[str]:
    """The shown names that have all of theirs."""
    return [*of] if members is None else [name for name, own in members.items() if {*own} <= {*of}]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean([*values]))
