"""The sentence that a comparison ends in: what the data exclude, for each verdict and edge."""

import dataclasses

import pytest

from introspection.coupling.estimates import Estimate
from introspection.coupling.matrix_results import Diagonal, Excess, Matrix, Permutation
from introspection.reports.conclusion import conclusion
from introspection.reports.tables import excess_table

NO_CONTROLS = "not asked, or mostly invalid: initial, few_shot, majority, input_only, shuffled, foreign"


def matrix(mean=0.08, ci95=(0.05, 0.11), groups_p=0.002, models_p=0.04, **fields) -> Matrix:
    names = ("a", "b", "c", "d")
    return Matrix(
        names,
        names,
        100,
        exact_match=((0.5,) * 4,) * 4,
        diagonal=Diagonal(0.6, 0.6 - mean, Estimate(mean, ci95)),
        permutation=Permutation(models_p, 1 / 24, groups_p),
        groups=50,
        **{"invalid_rate": (0.1, 0.0, 0.0, 0.0), **fields},
    )


def sentence(one: Matrix) -> str:
    found = conclusion(one).sentence
    assert found.endswith(".")
    assert "\n" not in found
    return found


def test_a_lead_excludes_chance_and_what_anyone_says():
    found = conclusion(matrix())
    assert found.sentence.startswith(
        "The diagonal leads (+8.0 points [+5.0, +11.0], p = 0.002), so the data exclude chance, explanations"
        " that are the same whoever gives them and luck in which models are compared; "
    )
    assert NO_CONTROLS in found.sentence
    assert len(found.excluded) == 3
    assert found.not_excluded == ()


def test_few_models_may_be_luck():
    found = conclusion(matrix(models_p=0.17))
    assert "but not luck in which models are compared (of 4: p = 0.170)" in found.sentence
    assert (len(found.excluded), len(found.not_excluded)) == (2, 1)


@pytest.mark.parametrize("changed", [{"ci95": (-0.01, 0.17)}, {"ci95": None}, {"groups_p": 0.06}])
def test_an_undecided_lead_excludes_nothing(changed):
    found = conclusion(matrix(**changed))
    assert "is not told from 0, so the data do not exclude chance or explanations that are" in found.sentence
    assert found.excluded == ()
    assert len(found.not_excluded) == 3


def test_a_diagonal_below_the_rest_has_no_lead():
    found = sentence(matrix(mean=-0.08, ci95=(-0.11, -0.05), groups_p=1.0))
    assert "The diagonal lies below the rest (−8.0 points [−11.0, −5.0], p = 1.000)" in found


def test_one_model_few_groups_and_no_valid_word():
    one = Matrix(("a",), ("a",), 10, ((0.5,),), groups=8, invalid_rate=(0.0,))
    assert sentence(one).startswith("With one model there is no lead, so the data exclude nothing about it")
    assert sentence(dataclasses.replace(matrix(), groups=5)).startswith(
        "Items of 5 groups are too few to tell"
    )
    mute = sentence(matrix(invalid_rate=(1.0,) * 4))
    assert mute.startswith("No explanation of the models can be parsed, so the data exclude nothing")


def test_the_gap_is_held_against_each_control():
    excess = [
        Excess("majority", ("m",), Estimate(0.06, (0.03, 0.09))),
        Excess("foreign", ("f",), Estimate(0.01, (-0.02, 0.04))),
        Excess("initial", ("a",), Estimate(0.5, (0.4, 0.6))),
    ]
    found = conclusion(matrix(excess=tuple(excess), invalid_rate=(0.9, 0.0, 0.0, 0.0)))
    assert (
        "as what makes the gap to the model before training, they exclude the majority of the labels, but not"
        " another base trained on the same labels; not asked, or mostly invalid: initial, few_shot,"
        " input_only, shuffled, aligned_foreign." in found.sentence
    )  # the untrained model says too little that is valid
    assert "majority" in found.excluded
    assert "foreign" in found.not_excluded
    reversed_gap = conclusion(matrix(excess=(Excess("majority", ("m",), Estimate(-0.06, (-0.09, -0.03))),)))
    assert "they do not exclude the majority of the labels;" in reversed_gap.sentence


def test_a_control_is_not_excluded_by_few_groups_or_by_models_that_say_nothing():
    one = Excess("majority", ("m",), Estimate(0.06, (0.03, 0.09)), 40)
    assert "majority" in conclusion(matrix(excess=(one,))).excluded
    few = matrix(excess=(dataclasses.replace(one, groups=4),))
    for found in (few, dataclasses.replace(few, groups=5), matrix(excess=(one,), invalid_rate=(1.0,) * 4)):
        told = conclusion(found)
        assert "majority" in told.not_excluded
        assert "exclude the majority" not in told.sentence.replace("not exclude the majority", "")
    assert "too few (4)" in str(excess_table(few).rows)
    assert matrix(excess=(one,), invalid_rate=(1.0,) * 4).shown_excess(one) == Estimate()
