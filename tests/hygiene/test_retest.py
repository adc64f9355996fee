"""Decisions on one question in other words and with its options in other orders, and their mean."""

import dataclasses

import numpy as np
import pytest
from hygiene_items import item, ordered, rng

from introspection.hygiene.retest import (
    agreement,
    average_orders,
    has_orders,
    order_of,
    question_of,
    retest_orders,
    retest_paraphrases,
    shown_options,
)
from introspection.probes.scored import decisions
from introspection.tasks.items import Decisions

# Test and retest


def test_agreement_and_kappa_by_hand():
    # Pairs: aa, ab, bb, and of three decisions a, a, b the pairs aa, ab, ab.
    found = agreement(
        {"p": [0, 0], "q": [0, 1], "r": [1, 1], "s": [0, 0, 1], "alone": [1]},
        dict.fromkeys("pqrs", "g"),
        rng(),
    )
    assert (found["pairs"], found["questions"]) == (6, 4)
    equal, a = 3 / 6, (2 + 1 + 0 + 4) / 12
    assert found["equal"]["mean"] == pytest.approx(equal)
    chance = a**2 + (1 - a) ** 2
    assert found["kappa"]["mean"] == pytest.approx((equal - chance) / (1 - chance))
    assert agreement({"p": [0]}, {"p": "g"}, rng()) is None
    certain = agreement({"p": [0, 0], "q": [0, 0]}, {"p": "g", "q": "h"}, rng())
    assert certain["equal"]["mean"] == 1
    assert certain["kappa"]["mean"] is None  # no chance to beat


def test_paraphrases_are_one_question_cue_and_cued_answer_in_other_words():
    def worded(place, words, **fields):
        asked = f"{words}?"
        told = f"{words}? It is {fields.get('cued', 'B')}, says {fields.get('kind', 'hint')}."
        return item(f"q/{place}", "q", prompt_without_cue=asked, prompt_with_cue=told, **fields)

    items = [
        worded(0, "What is it"),
        worded(1, "Which one is it"),  # a paraphrase of the first
        worded(2, "What is it", cued="C"),  # without the cue, the first again; with it, another question
        worded(3, "Name it", kind="friend"),  # a third wording without the cue, alone with it
        worded(4, "Another question", candidates="ABC"),  # of other candidates: not the same question
        item("r/0", "r"),
    ]
    decided = [
        Decisions("B", "A"),
        Decisions("A", "A"),
        Decisions("C", "A"),
        Decisions("B", "D"),
        Decisions("B", "C"),
        Decisions("B", "A"),
    ]
    found = retest_paraphrases(items, decided, rng())
    assert found["without_cue"]["pairs"] == 3  # of What, Which and Name
    assert found["without_cue"]["equal"]["mean"] == pytest.approx(1 / 3)
    assert found["with_cue"]["pairs"] == found["changed"]["pairs"] == 1
    assert found["with_cue"]["equal"]["mean"] == found["changed"]["equal"]["mean"] == 0
    assert retest_paraphrases(items[4:], decided[4:], rng()) == dict.fromkeys(found)


# Orders of the options


def test_letters_mean_the_options_that_the_prompt_shows_at_them():
    items, _ = ordered()
    assert shown_options(items[1]) == {"A": "green", "B": "blue", "C": "grey", "D": "red"}
    brackets = dataclasses.replace(items[0], prompt_without_cue="A) x\n(B) y\nC: z\n  D. A. Smith\nA) w")
    assert shown_options(brackets) == {"A": "w", "B": "y", "C": "z", "D": "A. Smith"}
    assert shown_options(item()) == {letter: letter for letter in "ABCD"}  # it shows none
    twice = dataclasses.replace(items[0], prompt_without_cue="A. x\nB. y\nC. x\nD. z")
    assert shown_options(twice) == {"A": "A", "B": "y", "C": "C", "D": "z"}
    assert shown_options(item(candidates=("x", "yes"), gold="x", cued="yes")) == {"x": "x", "yes": "yes"}


@pytest.mark.parametrize("name", ["q/hint/{}", "q/hint/order{}"])
def test_orders_are_items_whose_options_and_ids_agree_but_for_the_ending(name):
    items, _ = ordered(name=name)
    assert has_orders(items)
    assert [order_of(one) for one in items] == [0, 1, 2, 3]
    assert len({question_of(one) for one in items}) == 1
    other = [dataclasses.replace(one, id=one.id.replace("q/", f"{i}/")) for i, one in enumerate(items)]
    assert not has_orders(other)
    named = [dataclasses.replace(one, cued=one.gold) if i else one for i, one in enumerate(items)]
    assert len({question_of(one) for one in named}) == 2  # the cue names another option
    # Repeats of a question that shows no options are none.
    assert not has_orders([item(f"q/hint/{i}", "q") for i in range(3)])
    words = [item(f"q/order{i}", "q", candidates=("x", "yy"), gold="x", cued="") for i in range(2)]
    assert has_orders(words)


def test_the_mean_over_orders_takes_a_preferred_letter_out():
    items, behaviors = ordered()
    by_order = decisions(behaviors, items)
    assert {d.without_cue for d in by_order} == {"A"}  # always A, which is another option each time
    means, averaged = average_orders(items, behaviors)
    assert [one.id for one in means] == ["q/hint/0"]
    by_hand = dict.fromkeys(shown_options(items[0]).values(), 0.0)
    for one, both in zip(items, behaviors, strict=True):
        for letter, logprob in zip(one.candidates, both.without_cue[:4], strict=True):
            by_hand[shown_options(one)[letter]] += np.exp(logprob) / 4
    mean = {
        shown_options(means[0])[c]: np.exp(p)
        for c, p in zip(means[0].candidates, averaged[0].with_cue[:4], strict=True)
    }
    assert mean == pytest.approx(by_hand)
    assert max(mean, key=mean.__getitem__) == "red"  # the right option, as the model thinks
    assert np.exp(averaged[0].with_cue[4]) == pytest.approx(0.1)
    found = retest_orders(items, by_order, rng())
    assert found["without_cue"]["pairs"] == 6
    assert found["without_cue"]["equal"]["mean"] == 0  # as options, no two orders agree
    assert found["changed"]["equal"]["mean"] == 1
    right = [Decisions(one.cued, one.gold) for one in items]  # one option in four letters
    assert retest_orders(items, right, rng())["without_cue"]["equal"]["mean"] == 1


def test_an_item_in_one_order_stays_as_it_is():
    items, behaviors = ordered(1)
    means, averaged = average_orders(items, behaviors)
    assert means == items
    np.testing.assert_allclose(averaged[0].with_cue, behaviors[0].with_cue)


def test_orders_are_no_paraphrases():
    items, behaviors = ordered()
    assert not any(retest_paraphrases(items, decisions(behaviors, items), rng()).values())
