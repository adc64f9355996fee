"""The ceiling of labels: `changed` predicted from the model's own log-probabilities."""

import numpy as np
import pytest
from hygiene_items import behavior, item, rng

from introspection.hygiene.self_knowledge import FOLDS, group_folds, knowledge, predictability
from introspection.tasks.items import Decisions

CANDIDATES = ("A", "B", "C", "D")


def world(known: bool, groups: int = 60):
    """Facts held with different margins; a cue changes those held weakly or, not `known`, a random half."""
    draw = np.random.default_rng(1)
    items, behaviors, decided = [], [], []
    for fact in range(groups):
        held = draw.uniform(0.3, 0.9)
        changed = (held < 0.6) if known else draw.random() < 0.5
        rest = (0.95 - held) / 3
        side = [held, rest, rest, rest, 0.05]
        for kind in ("hint", "other"):  # two items a group
            items.append(item(f"q{fact}/{kind}", f"q{fact}", kind))
            behaviors.append(behavior(side, side))
            decided.append(Decisions("B" if changed else "A", "A"))
    return items, behaviors, decided


def test_what_the_margin_tells_is_found_and_what_it_does_not_is_not():
    found = predictability(*world(known=True), rng())
    assert (found["n"], found["groups"]) == (120, 60)
    assert found["accuracy"]["mean"] > 0.9
    assert found["changed_auroc"]["mean"] > 0.95
    assert found["difference"]["ci95"][0] > 0
    unknown = predictability(*world(known=False, groups=200), rng())
    assert unknown["changed_auroc"]["mean"] < 0.6
    assert unknown["difference"]["ci95"][0] < 0


def test_features_that_tell_nothing_rank_as_by_chance():
    """Ranked over folds together they would lie near 43%: who is held out is not who was seen."""
    items, behaviors, _ = world(known=False, groups=30)
    draw, found = np.random.default_rng(0), []
    for _ in range(30):
        changed = dict(zip(dict.fromkeys(one.group for one in items), draw.random(30) < 0.5, strict=True))
        decided = [Decisions("B" if changed[one.group] else "A", "A") for one in items]
        found.append(predictability(items, behaviors, decided, draw)["changed_auroc"]["mean"])
    assert 0.46 < np.mean(found) < 0.54


def test_a_group_is_never_on_both_sides_of_a_fold():
    groups = np.repeat([f"g{i}" for i in range(23)], 3)
    folds = group_folds(groups, rng())
    assert all(len(set(folds[groups == name])) == 1 for name in set(groups))
    assert sorted(set(folds)) == list(range(FOLDS))


def test_the_majority_is_that_of_each_cue_kind_by_hand():
    items, behaviors, decided = world(known=True, groups=20)
    decided = [
        Decisions("B" if one.cue_kind == "hint" and int(one.group[1:]) > 0 else "A", "A") for one in items
    ]
    found = predictability(items, behaviors, decided, rng())
    assert found["majority"]["mean"] == pytest.approx(39 / 40)  # all but one hint changes, nothing else does


def test_features_by_hand():
    (row,) = knowledge([item(cued="C")], [behavior([1, 1, 1, 1, 1], [0.4, 0.3, 0.1, 0.1, 0.1])])
    np.testing.assert_allclose(row, [np.log(4 / 3), np.log(4), 0.1], rtol=1e-6)


@pytest.mark.parametrize("case", ["few groups", "one outcome"])
def test_nothing_is_said_without_data(case):
    items, behaviors, decided = world(known=True, groups=4 if case == "few groups" else 30)
    if case == "one outcome":
        decided = [Decisions("A", "A")] * len(items)
    assert predictability(items, behaviors, decided, rng()) is None
