"""What a sweep's figures and its table, held out by trained, take from the points' results."""

import dataclasses

import pytest
from report_workdir import synthetic_arm

from introspection.coupling.run_results import NOT_RECORDED, ArmResults
from introspection.errors import InputError
from introspection.runtime.json_values import from_json
from introspection.sweeps.arms import arms_of
from introspection.sweeps.figures import factor_levels, factor_numbers, knee_of, knee_points
from introspection.sweeps.page import more_figures
from introspection.sweeps.summary import read_beside
from introspection.sweeps.table import SweepPoint, held_out_table

PLAIN = {"kl_weight": 1.0, "kl_groups": "explained", "shuffle_labels": False, "foreign_to": ""}
ARMS = {
    "kl": {},
    "no_kl": {"kl_weight": 0.0},
    "kl200": {"kl_weight": 2.0},
    "kl400": {"kl_weight": 4.0},
    "kl_other": {"kl_groups": "other"},
    "odd": {"kl_weight": 3.0, "kl_groups": "other"},
    "shuffled": {"shuffle_labels": True},
    "foreign_kl": {"foreign_to": "kl"},
}


def point(base, arms=ARMS, part="regularization", **fields):
    """An arm's drift and agreement tell which it is and of which base."""
    found = []
    for place, name in enumerate(arms):
        results = synthetic_arm(0.01 * place, 0.03)
        results["drift"] = 0.1 * place + 0.01 * base
        results["update_norm"] = 1.0 + place
        results["agreement"]["mean"] = 0.9 - 0.05 * place - 0.001 * base
        found.append(dataclasses.replace(from_json(ArmResults, results), name=name))
    return SweepPoint(
        name=f"{part}-{base}",
        base=f"base{base}",
        fields={},
        tiny=False,
        arms=tuple(found),
        askable=NOT_RECORDED,
        report="",
        label=f"{part}-{base}",
        sweep="a sweep",
        part=part,
        arm_fields={name: PLAIN | changes for name, changes in arms.items()},
        **fields,
    )


def test_a_factors_levels_are_the_arms_that_differ_in_it_alone():
    alone = point(2, {"labels_at10": {}})  # the recipe of kl, on other labels
    levels = factor_levels([point(0), point(1), alone])
    assert list(levels) == ["kl_weight"]
    numbers = factor_numbers(levels["kl_weight"])
    assert {(row["kl_weight"], row["arm"]) for row in numbers} == {
        (0.0, "no_kl"),
        (1.0, "kl"),
        (2.0, "kl200"),
        (4.0, "kl400"),
    }
    assert len(numbers) == 8
    assert [row["drift"] for row in numbers if row["arm"] == "no_kl"] == pytest.approx([0.1, 0.11])
    two = {name: ARMS[name] for name in ("kl", "no_kl", "kl_other")}
    assert factor_levels([point(0, two)]) == {}  # two values are no curve


def test_gaps_stand_against_agreement_without_the_reference_emitters():
    points = knee_points(arms_of([point(0), point(1, part="another")]), "static")
    assert len(points) == 2 * (len(ARMS) - 2)
    one = next(p for p in points if p["arm"] == "another: kl_other")
    assert one["agreement"] == pytest.approx(0.9 - 0.05 * 4 - 0.001)
    assert one["reference"] == "majority"  # the best static emitter of the synthetic arms
    assert one["gap"] == pytest.approx(0.04 + 0.002 * 3)
    assert knee_points(arms_of([point(0)]), "foreign") == []  # nothing was held against one
    fit = knee_of(points)["fit"]
    assert (fit["n"], fit["bases"], fit["arms"]) == (12, 2, 12)


def test_a_page_has_a_figure_a_factor_and_a_reference_with_enough_arms():
    both = [point(0), point(1)]
    assert set(more_figures(both, arms_of(both))) == {"factor_kl_weight", "gap_on_agreement_static"}
    few = {name: ARMS[name] for name in ("kl", "no_kl", "kl_other")}
    own, beside = [point(0, few)], point(0, few, part="beside")
    assert more_figures(own, arms_of(own)) == {}
    assert "gap_on_distance" in more_figures([*own, point(0, few, part="b")], [])
    assert set(more_figures(own, arms_of([*own, beside]))) == {"gap_on_agreement_static"}


def test_held_out_by_trained_is_the_mean_over_bases():
    few = {"kl": {}, "no_kl": {"kl_weight": 0.0}}
    assert held_out_table([point(0, few)]) is None
    where = {"explained_where": ("cue_kind!=firm guess",)}
    table = held_out_table([point(0, few, **where), point(1, few, **where)])
    assert table.columns[:3] == ("Trained", "Arm", "unsure guess")
    assert [[str(cell) for cell in row[:3]] for row in table.rows] == [
        ["regularization", "kl", "52.0 / 0.0 [0.0, 0.0]"],
        ["regularization", "no_kl", "52.0 / +1.0 [+1.0, +1.0]"],
    ]


def test_a_folder_beside_must_be_a_sweeps(tmp_path):
    with pytest.raises(InputError, match=r"--beside: .* has no finished point of a sweep"):
        read_beside(tmp_path)
