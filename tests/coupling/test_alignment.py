"""Whether a distilled model agrees with its teacher, counted by hand."""

import dataclasses

import pytest
from hygiene_items import item

from introspection.coupling.alignment import alignment, shortfall
from introspection.tasks.items import Decisions

ITEMS = [item(f"q{number}", f"q{number}", "friend", "a", "b", ("a", "b", "c")) for number in range(4)]
TEACHER = [Decisions("a", "a"), Decisions("b", "a"), Decisions("a", "b"), Decisions("a", "b")]
# The third item's decision with the cue differs and earns the same explanation; both of the fourth's do.
NOW = [Decisions("a", "a"), Decisions("b", "a"), Decisions("c", "b"), Decisions("b", "a")]
BEFORE = [Decisions("a", "b")] * 4


def found(held_out, threshold=0.7):
    return alignment(ITEMS, TEACHER, BEFORE, NOW, held_out, 40, threshold)


def test_agreement_is_the_share_of_items_with_both_decisions_the_same():
    one = found({ITEMS[0].prompt_with_cue, ITEMS[2].prompt_without_cue})
    assert one.trained == 1 / 2  # of the second and fourth item
    assert one.held_out == 1 / 2  # of the first and third
    assert one.before == 2 / 4
    assert (one.steps, one.threshold, one.reached) == (40, 0.7, False)


@pytest.mark.parametrize(
    ("held_out", "threshold", "reached"),
    [
        ((0, 2), 0.5, True),  # 1/2 and 1/2, at the threshold
        ((2, 3), 0.5, False),  # the held-out ones, 0/2, fall short
        ((0, 1), 0.5, False),  # the distilled ones do
    ],
)
def test_it_suffices_only_if_both_reach_the_threshold(held_out, threshold, reached):
    one = found({ITEMS[place].prompt_with_cue for place in held_out}, threshold)
    assert one.reached == reached
    assert (shortfall(one) is None) == reached


def test_what_falls_short_is_said_with_the_lower_of_the_two():
    one = dataclasses.replace(found({ITEMS[0].prompt_with_cue}), trained=0.931, held_out=0.97, threshold=0.95)
    assert shortfall(one) == "its start decides as config.initial on 93.1% of items, and alignment needs 95%"
