"""The matrix: leads, permutation tests, disagreement sets, seeds and controls by hand; p under the null."""

import itertools
import json

import numpy as np
import pytest
from results_records import ANSWERS

from introspection.coupling.matrix import Control, coupling_matrix
from introspection.coupling.matrix_results import Matrix
from introspection.coupling.permutation import groups_permutation_test, models_permutation_test, picks_test
from introspection.runtime.json_values import from_json, to_json
from introspection.tasks.items import INVALID, Decisions, Explanation

E = Explanation
STAYS = [Decisions(answer, answer) for answer in ANSWERS[:3]]  # Oslo, Rome, Bern whatever is said


def rng(seed=0):
    return np.random.default_rng(seed)


def says(behaviors):
    return [d.explanation for d in behaviors]


def behaviors(*places):
    return [STAYS[place] for place in places]


def three_models():
    """On four items: a and b explain themselves, c explains a on three of them."""
    does = {"a": behaviors(0, 0, 0, 0), "b": behaviors(0, 1, 1, 1), "c": behaviors(2, 2, 2, 0)}
    said = {"a": says(does["a"]), "b": says(does["b"]), "c": [*says(does["a"][:3]), INVALID]}
    return said, does


def test_leads_and_p_values_by_hand():
    matrix = coupling_matrix(*three_models(), list("ghij"), rng())
    assert matrix.exact_match == ((1.0, 0.25, 0.25), (0.25, 1.0, 0.0), (0.75, 0.25, 0.0))
    rows, columns = ([getattr(one, side).mean for one in matrix.leads] for side in ("row", "column"))
    assert rows == pytest.approx([1 - 0.25, 1 - 0.125, 0 - 0.5])
    assert columns == pytest.approx([1 - 0.5, 1 - 0.25, 0 - 0.125])
    assert matrix.diagonal.difference.mean == pytest.approx(np.mean(rows)) == pytest.approx(np.mean(columns))
    # Of the six orders of the teachers, the actual one and c, b, a have a diagonal of 2.
    assert matrix.permutation.models_p == pytest.approx(2 / 6)
    assert matrix.permutation.least_models_p == pytest.approx(1 / 6)
    # a's row: item g matches a and b, h and i a alone, j a and c. 2 * 1 * 1 * 2 of 3^4 picks match on all.
    assert matrix.leads[0].row_p == pytest.approx(4 / 81)
    # c's column: nobody matches c but a on item j, whose own match is not there: every pick has 0 or more.
    assert matrix.leads[2].column_p == 1


def test_groups_are_permuted_whole():
    """Two items of one group count as one: with one group of two models an order in two is as good."""
    said, does = three_models()
    two = {name: values for name, values in said.items() if name != "c"}, {n: does[n] for n in "ab"}
    assert coupling_matrix(*two, list("gggg"), rng()).permutation.groups_p == 0.5
    # Items h to j tell the two apart, each in a group of its own: 1 of 2^3.
    assert coupling_matrix(*two, list("ghij"), rng()).permutation.groups_p == pytest.approx(1 / 8)


def test_the_groups_test_against_all_orders():
    by_group = rng(1).integers(3, size=(3, 3, 3)).astype(float)
    orders = [*itertools.permutations(range(3))]
    diagonals = [
        sum(by_group[g, i, order[i]] for g, order in enumerate(picked) for i in range(3))
        for picked in itertools.product(orders, repeat=3)
    ]
    actual = sum(np.trace(one) for one in by_group)
    assert groups_permutation_test(by_group, rng()) == pytest.approx(np.mean(np.array(diagonals) >= actual))


def test_more_models_and_groups_are_drawn_at_random():
    exact = picks_test(np.tile([[1.0, 0.0]], (12, 1)), rng())
    assert exact == 2**-12
    drawn = picks_test(np.tile([[1.0, 0.0]], (40, 1)), rng())
    assert drawn == pytest.approx(1 / 10_001)
    assert models_permutation_test(np.eye(9), rng()) == pytest.approx(1 / 10_001)
    assert models_permutation_test(np.eye(7), rng()) == pytest.approx(1 / 5040)
    assert models_permutation_test(np.ones((3, 3)), rng()) == 1
    assert picks_test(np.ones((5, 3)), rng()) == 1


@pytest.mark.parametrize("models", [2, 3])
def test_p_is_uniform_under_the_null(models):
    """Explanations that fit some models better than others, and items alike, but not their own more."""
    random = rng(7)
    found = []
    for _ in range(300):
        rates = random.uniform(0.3, 0.7, size=(40, models, 1))  # of an emitter on a group
        matches = random.random((40, models, models)) < rates
        found.append(groups_permutation_test(matches.astype(float), random))
    for level in (0.05, 0.2, 0.5):
        share = np.mean(np.array(found) <= level)
        assert abs(share - level) < 3 * np.sqrt(level * (1 - level) / 300) + 0.03, level


def test_a_permutation_of_models_has_uniform_p_whatever_rows_and_columns_are_like():
    random = rng(3)
    matrices = (
        random.normal(size=(400, 4, 4)) + random.normal(size=(400, 4, 1)) + random.normal(size=(400, 1, 4))
    )
    found = np.sort([models_permutation_test(matrix, random) for matrix in matrices])
    assert np.abs(found - (np.arange(400) + 0.5) / 400).max() < 0.09  # Kolmogorov: 1.63 / sqrt(400) at 1%


def test_disagreement_sets_by_hand():
    said, does = three_models()
    said["d"] = says(behaviors(0, 1, 0, 2))
    matrix = coupling_matrix(said, does, list("ghij"), rng())
    pairs = {(one.first, one.second): one for one in matrix.pairs}
    assert {pair: (one.n, one.groups) for pair, one in pairs.items()} == {
        ("a", "b"): (3, 3), ("a", "c"): (3, 3), ("b", "c"): (4, 4),
    }  # fmt: skip
    found = {one.emitter: (one.first, one.second) for one in pairs["a", "b"].matches}
    assert found == {"a": (1, 0), "b": (0, 1), "c": (pytest.approx(2 / 3), 0), "d": (1 / 3, 1 / 3)}
    by_name = {one.emitter: one.difference for one in pairs["a", "b"].matches}
    assert (by_name["b"].mean, by_name["b"].ci95) == (-1, (-1, -1))
    assert by_name["d"].low < 0 < by_name["d"].high
    assert pairs["a", "b"].few == 3
    same = coupling_matrix(said, {"a": does["a"], "b": does["a"]}, list("ghij"), rng())
    assert [(one.n, one.groups, one.matches) for one in same.pairs] == [(0, 0, ())]


def test_a_cell_averages_over_seeds():
    """An arm's own cell is each seed with itself; the others are all pairs of seeds."""
    does = {"x:0": behaviors(0, 0), "x:1": behaviors(1, 1), "y": behaviors(0, 1)}
    said = {"x:0": says(behaviors(0, 0)), "x:1": says(behaviors(1, 2)), "y": says(behaviors(0, 0))}
    members = {"x": ("x:0", "x:1"), "y": ("y",)}
    matrix = coupling_matrix(said, does, ["g", "h"], rng(), members=members)
    assert matrix.emitters == matrix.teachers == ("x", "y")
    # x with x: seed 0 on both items, seed 1 on one. x with y: seed 0 on one, seed 1 on none.
    assert matrix.exact_match == ((0.75, 0.25), (0.5, 0.5))
    (pair,) = matrix.pairs
    # Seed 0 of x differs from y on item h, seed 1 on item g.
    assert (pair.n, pair.groups) == (1, 2)
    found = {one.emitter: (one.first, one.second) for one in pair.matches}
    # Seed 0 says itself on h, seed 1 itself on g; neither says there what y does.
    assert found == {"x": (1.0, 0.0), "y": (0.5, 0.5)}


def test_a_seed_that_is_added_twice_changes_nothing():
    said, does = three_models()
    once = coupling_matrix(said, does, list("ghij"), rng())
    members = {"a": ("a", "a"), "b": ("b",), "c": ("c",)}
    assert coupling_matrix(said, does, list("ghij"), rng(), members=members) == once


def test_controls_are_rows_apart_and_the_gap_is_held_against_theirs():
    does = {"a": behaviors(0, 1, 2, 0), "start": behaviors(0, 0, 0, 0)}
    said = {"a": says(does["a"]), "start": [INVALID] * 4, "majority": says(behaviors(0, 0, 0, 1))}
    controls = {"start": Control("initial", ("a",)), "majority": Control("majority", ("a",))}
    matrix = coupling_matrix(said, does, list("ghij"), rng(), controls=controls, starts={"a": "start"})
    assert matrix.models == ("a",)
    assert matrix.diagonal is matrix.permutation is None
    assert matrix.leads == ()
    excess = {one.control: (one.emitters, one.gap_difference.mean) for one in matrix.excess}
    # a: itself 1, its start 1/2. The majority says a on 1 item, the start on 3.
    assert excess == {"initial": (("start",), 0.5), "majority": (("majority",), pytest.approx(1.0))}
    assert {one.groups for one in matrix.excess} == {2}  # where a differs from its start
    assert matrix.controls == {"start": "initial", "majority": "majority"}
    written = json.loads(json.dumps(to_json(matrix), allow_nan=False))
    assert from_json(Matrix, written) == matrix


def test_models_without_a_valid_word():
    does = {"a": behaviors(0, 1), "b": behaviors(1, 1)}
    mute = {name: [INVALID, INVALID] for name in "ab"}
    matrix = coupling_matrix(mute, does, ["g", "h"], rng())
    assert matrix.permutation.groups_p == matrix.permutation.models_p == 1
    assert [one.row.mean for one in matrix.leads] == [0, 0]
    assert matrix.invalid_rate == (1, 1)
