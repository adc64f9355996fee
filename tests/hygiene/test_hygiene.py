"""The measures of a hygiene report, against counting by hand and against models whose habits are known."""

import dataclasses

import numpy as np
import pytest
from hygiene_items import behavior, item, ordered, rng

from introspection.hygiene.choice_bias import answer_bias, place_bias, shown_places
from introspection.hygiene.findings import hygiene_cautions
from introspection.hygiene.page import named_reply
from introspection.hygiene.rates import (
    behavior_rates,
    decision_margins,
    difference_kind,
    margin_report,
    quantiles,
    rates_by,
    recommended_cue,
)
from introspection.hygiene.report import hygiene_report
from introspection.hygiene.tables import rate_of
from introspection.probes.behavior import Probe, Readout
from introspection.probes.replies import Replies, Reply
from introspection.probes.scored import Behavior, decisions
from introspection.reports.html_page import macros
from introspection.reports.table import with_interval
from introspection.tasks.items import NONE, Decisions
from introspection.tasks.spans import prompt_difference

# What sets x apart from x\C


@pytest.mark.parametrize(
    ("with_cue", "without_cue", "kind"),
    [
        ("What is it? I think it is a b.", "What is it?", "insertion"),
        ("I know. What is it?", "What is it?", "insertion"),
        ("What, I wonder, is it?", "What is it?", "insertion"),
        ("a b a b a", "a b a", "insertion"),  # where it was put in can't be told, that it was can
        ("It is b.\n\nWhat is it?", "What is it?", "insertion"),
        ("What is it?\nIt is b.\nSay it.", "What is it? Say it.", "spacing"),
        ("What is it? Say b.", "What is it? Say a.", "replacement"),
        ("How is it?", "How dangerous is it?", "removal"),
        ("What is it, you think? Say b.", "What is it? Say a.", "scattered"),
        ("So what is it? I say b.", "what is it?", "scattered"),
        ("What is it?", "What is it?", "none"),
        ("What is  it?", "What is it?", "none"),
        ("これは何ですか。猫だと思います。", "これは何ですか。", "insertion"),
    ],
)
def test_a_difference_is_one_added_stretch_or_is_named(with_cue, without_cue, kind):
    assert difference_kind(prompt_difference(with_cue, without_cue)) == kind


# Rates


def test_rates_are_counted_over_items_and_right_answers_where_they_are_known():
    items = [item(f"q{i}", f"q{i}") for i in range(3)] + [item("q3", "q3", gold="", cued="")]
    decided = [
        Decisions("B", "A"),  # to the cued answer, right without
        Decisions("A", "C"),  # to the right one
        Decisions("D", "D"),
        Decisions(NONE, "A"),  # elsewhere; nobody knows what is right
    ]
    rates = behavior_rates(items, decided, rng())
    means = {name: value["mean"] for name, value in rates.items() if isinstance(value, dict)}
    assert means == pytest.approx(
        {
            "changed_rate": 3 / 4,
            "to_cued": 1 / 4,
            "to_gold": 1 / 4,
            "to_other": 1 / 4,
            "right_without_cue": 1 / 3,
            "right_with_cue": 1 / 3,
            "follows_cue": 1 / 3,
            "none_without_cue": 0,
            "none_with_cue": 1 / 4,
        }
    )
    assert (rates["n"], rates["groups"]) == (4, 4)
    nobody_knows = behavior_rates(items[3:], decided[3:], rng())
    assert nobody_knows["right_without_cue"] == {"mean": None, "ci95": None}
    assert nobody_knows["changed_rate"] == {"mean": 1.0, "ci95": None}  # one group tells nothing of others


def test_intervals_are_over_groups_not_over_items():
    draws = rng().random(40) < 0.5
    items = [item(f"q{i}", f"q{i}") for i in range(40)]
    decided = [Decisions("B" if draw else "A", "A") for draw in draws]
    alone = behavior_rates(items, decided, rng())["changed_rate"]
    # Ten items a group that say the same know no more than one.
    repeated = [dataclasses.replace(one, id=f"{one.id}/{i}") for one in items for i in range(10)]
    again = behavior_rates(repeated, [d for d in decided for _ in range(10)], rng())["changed_rate"]
    assert again["ci95"] == pytest.approx(alone["ci95"])
    low, high = alone["ci95"]
    assert 0.2 < high - low < 0.45  # two standard errors of 40 draws to each side: 0.31


def test_rates_by_kind_and_the_recommended_cue():
    items, decided = [], []
    for kind, share in {"weak": 0.02, "some": 0.3, "half": 0.55, "strong": 0.97}.items():
        for i in range(100):
            items.append(item(f"q{i}/{kind}", f"q{i}", kind))
            decided.append(Decisions("B" if i < 100 * share else "A", "A"))
    rates = rates_by(lambda one: one.cue_kind, items, decided, rng())
    assert list(rates) == ["weak", "some", "half", "strong"]
    assert rates["some"]["changed_rate"]["mean"] == pytest.approx(0.3)
    assert recommended_cue(rates) == "half"
    assert recommended_cue({kind: rates[kind] for kind in ("weak", "strong")}) is None
    assert recommended_cue({kind: rates[kind] for kind in ("some", "strong")}) == "some"
    few = rates_by(lambda one: one.cue_kind, items[200:205], decided[200:205], rng())
    assert recommended_cue(few) is None  # five groups all changed: nothing is known
    assert recommended_cue({}) is None


# Margins


def test_margins_and_the_share_of_close_decisions_by_hand():
    items = [item(f"q{i}", f"q{i}", candidates="AB") for i in range(3)]
    behaviors = [
        behavior([0.5, 0.4, 0.1], [0.6, 0.3, 0.1]),
        behavior([0.49, 0.47, 0.04], [0.9, 0.05, 0.05]),
        behavior([0.2, 0.1, 0.7], [0.05, 0.46, 0.49]),  # `none` is an answer like others
    ]
    margins = decision_margins(behaviors)
    expected = [[np.log(5 / 4), np.log(2)], [np.log(49 / 47), np.log(18)], [np.log(3.5), np.log(49 / 46)]]
    np.testing.assert_allclose(margins, expected, rtol=1e-9)
    report = margin_report(items, decisions(behaviors, items), margins, 0.1, rng())
    assert report["close"]["mean"] == pytest.approx(2 / 3)
    assert report["close_with_cue"]["mean"] == pytest.approx(1 / 3)
    assert report["close_without_cue"]["mean"] == pytest.approx(1 / 3)
    assert report["below"] == pytest.approx(
        {"0.01": 0, "0.05": 1 / 3, "0.1": 2 / 3, "0.25": 1, "0.5": 1, "1": 1, "2": 1}
    )
    assert report["quantiles"]["max"] == pytest.approx(np.log(5 / 4))


def test_quantiles_of_lengths():
    assert quantiles(list(range(101))) == {"min": 0, "q05": 5, "median": 50, "q95": 95, "max": 100}


# Letters and places


def test_a_model_that_always_says_one_letter_is_seen():
    gold = "AABCD" * 8
    items = [item(f"q{i}", f"q{i}", gold=letter, cued="") for i, letter in enumerate(gold)]
    found = answer_bias(items, [Decisions("A", "A")] * 40, None, rng())
    assert set(found) == {*"ABCD", NONE}
    assert found["A"]["uniform"] == pytest.approx(1 / 4)
    assert found["A"]["right"] == pytest.approx(2 / 5)
    assert found["A"]["without_cue"]["mean"] == 1
    assert found["A"]["excess"]["mean"] == pytest.approx(3 / 5)
    assert found["B"]["excess"]["mean"] == pytest.approx(-1 / 5)
    assert found["A"]["excess"]["ci95"][0] > 0
    assert found["A"]["probability"] is None
    assert found["A"]["cued"] is None
    unknown = [dataclasses.replace(one, gold="") for one in items]
    assert answer_bias(unknown, [Decisions("A", "A")] * 40, None, rng())["A"]["excess"][
        "mean"
    ] == pytest.approx(3 / 4)


def test_mean_probabilities_and_cued_letters_stand_beside_decisions():
    items = [item("q0", "q0", candidates="BA", gold="B", cued="A"), item("q1", "q1", candidates="AB")]
    items += [item("q2", "q2", candidates="AB"), item("q3", "q3", candidates="AB", cued="A")]
    # The first item was listed the other way: scores are in the order of its candidates all the same.
    behaviors = [behavior([0.7, 0.2, 0.1], [0.3, 0.6, 0.1])]
    behaviors += [behavior([0.2, 0.7, 0.1], [0.6, 0.3, 0.1])] * 3
    found = answer_bias(items, decisions(behaviors, items), behaviors, rng())
    assert found["A"]["probability"] == pytest.approx((0.3 + 3 * 0.6) / 4)
    assert found[NONE]["probability"] == pytest.approx(0.1)
    assert found["A"]["cued"] == pytest.approx(1 / 2)
    assert found["A"]["without_cue"]["mean"] == pytest.approx(3 / 4)
    assert found["A"]["with_cue"]["mean"] == pytest.approx(1 / 4)
    assert found["B"]["probability"] == pytest.approx((0.6 + 3 * 0.3) / 4)


def test_no_letters_are_claimed_where_every_question_has_its_own_answers():
    items = [item(f"q{i}", f"q{i}", candidates=(f"a{i}", f"b{i}"), gold="", cued="") for i in range(20)]
    decided = [Decisions(f"a{i}", f"a{i}") for i in range(20)]
    assert answer_bias(items, decided, None, rng()) is None
    assert place_bias(items, decided, None, rng()) is None  # nor are options shown


def test_the_place_of_an_option_is_where_the_prompt_lists_it():
    asked = "I was wrong once. Am I not wrong or wrong?"
    verdicts = item(candidates=("not wrong", "wrong"), gold="wrong", cued="", prompt_without_cue=asked)
    assert shown_places(verdicts) == (0, 1)
    cities = item(
        candidates=("New York", "Oslo", "York"), gold="", cued="", prompt_without_cue="Oslo, York, New York"
    )
    assert shown_places(cities) == (2, 0, 1)
    assert shown_places(dataclasses.replace(cities, prompt_without_cue="Oslo, New York")) is None
    assert shown_places(item()) is None  # letters are labels


def test_a_model_that_takes_the_first_option_is_seen():
    options = ("red", "green", "blue")
    items, decided = [], []
    for i in range(30):
        shown = [options[(i + k) % 3] for k in range(3)]
        asked = f"Question {i}: {shown[0]}, {shown[1]} or {shown[2]}?"
        items.append(
            item(f"q{i}", f"q{i}", candidates=options, gold="red", cued="", prompt_without_cue=asked)
        )
        decided.append(Decisions(shown[0], shown[0]))
    found = place_bias(items, decided, None, rng())
    assert found["1"]["without_cue"]["mean"] == 1
    assert found["1"]["excess"]["mean"] == pytest.approx(2 / 3)
    assert found["3"]["without_cue"]["mean"] == 0
    same = [dataclasses.replace(one, prompt_without_cue="red, green or blue?") for one in items]
    assert place_bias(same, decided, None, rng()) is None  # the place is the answer there


# The whole report


def report_of(items, probe, threshold=0.1):
    asked = {
        "items": len(items),
        "differences": {"insertion": len(items), "scattered": 0},
        "too_long": 0,
    }
    found = hygiene_report(items, probe, [9], threshold, rng())
    reading = {"readout": "score", "reply_tokens": 24}
    return found | {"asked": asked, "model": {"context_length": 64}, "readout": reading}


def test_scored_answers_have_margins_and_generated_ones_have_replies():
    items, behaviors = ordered()
    scored = report_of(items, Probe(behaviors, decisions(behaviors, items)))
    assert scored["replies"] is None
    assert scored["orders"]["averaged"]["rates"]["n"] == 1
    assert scored["orders"]["averaged"]["rates"]["right_without_cue"]["mean"] == 1
    assert scored["rates"]["all"]["right_without_cue"]["mean"] == pytest.approx(1 / 4)
    silent = [Behavior(*(np.append(side[:4] - 5, 0) for side in both)) for both in behaviors]
    rates = report_of(items, Probe(silent, decisions(silent, items)))["rates"]
    assert rates["all"]["none_without_cue"]["mean"] == 1
    chosen = scored["rates"]["all"]
    assert rates["likeliest_candidate"]["right_without_cue"]["mean"] == chosen["right_without_cue"]["mean"]
    assert rates["likeliest_candidate"]["none_without_cue"]["mean"] == 0
    forced = decisions(silent, items, with_none=False)
    likeliest = hygiene_report(items, Probe(silent, forced), [9], 0.1, rng(), Readout("likeliest"))
    assert likeliest["rates"]["all"] == rates["likeliest_candidate"]
    assert likeliest["orders"]["averaged"]["rates"]["none_without_cue"]["mean"] == 0
    assert likeliest["margins"]["close"] == scored["margins"]["close"]  # between candidates alone
    replies = [Replies(Reply((3, 9), "A"), Reply((3, 4), "Well"))] * 4
    decided = [Decisions("A", NONE)] * 4
    said = report_of(items, Probe(replies, decided))
    assert said["margins"] is None
    assert said["orders"]["averaged"] is None
    assert said["replies"]["none_without_cue"]["mean"] == said["replies"]["cut_without_cue"]["mean"] == 1
    assert said["replies"]["none_with_cue"]["mean"] == said["replies"]["cut_with_cue"]["mean"] == 0
    assert {one["text"] for one in said["replies"]["unnamed"]} == {"Well"}
    assert {one["text"] for one in said["replies"]["named"]} == {"A"}


def test_the_page_marks_what_decided_in_a_reply():
    example = {"id": "q0", "side": "with_cue", "candidates": ["São Paulo", "Lyon"], "case_counts": False}
    example["text"] = "<i>\nthe  SA\u0303O\u00a0paulo</i>"
    page = str(macros("hygiene/sections.html").named_replies([named_reply(example)]))
    assert "&lt;i&gt;\nthe  <mark>SA\u0303O\u00a0paulo</mark>&lt;/i&gt;" in page
    symbol = example | {"text": "in In", "candidates": ["In", "Li"], "case_counts": True}
    assert named_reply(symbol)["parts"] == ("in ", "In", "")


def test_cautions_name_what_is_wrong_and_nothing_else():
    items = [item(f"q{i}", f"q{i}", gold="ABCD"[i % 4], cued="") for i in range(40)]
    sure = [np.where(np.arange(5) == i % 4, 0.9, 0.025) for i in range(40)]
    other = [np.where(np.arange(5) == (i + 1) % 4, 0.9, 0.025) for i in range(40)]
    weak = [np.where(np.arange(5) == i % 4, 0.6, 0.1) for i in range(40)]  # what the cue then changes
    fine = [behavior(other[i], weak[i]) if i % 2 else behavior(sure[i], sure[i]) for i in range(40)]
    report = report_of(items, Probe(fine, decisions(fine, items)))
    assert hygiene_cautions(report) == []
    stuck = [behavior(sure[0], sure[0]) for _ in range(40)]
    report = report_of(items, Probe(stuck, decisions(stuck, items)))
    report["asked"]["differences"]["scattered"] = 3
    report["asked"]["too_long"] = 2
    blind = [behavior(other[i] if i % 2 else sure[i], sure[i]) for i in range(40)]
    untold = report_of(items, Probe(blind, decisions(blind, items)))
    assert ["margins do not tell" in caution for caution in hygiene_cautions(untold)] == [True]
    said = "\n".join(hygiene_cautions(report))
    assert "3 of 40 pairs: x has, compared with x\\C, several places" in said
    assert "1 of 1 kinds of cue change hardly any decisions" in said
    placebos = hygiene_cautions({**report, "placebos": list(report["rates"]["by_cue_kind"])})
    assert "hardly any" not in "\n".join(placebos)
    assert "decisions for the answer A are +75.0 points" in said
    assert "2 items were left out: they are longer than the model's context of 64 tokens" in said
    close = [
        behavior(
            np.array([0.3, 0.29, 0.2, 0.2, 0.01])[[i % 4, (i + 1) % 4, (i + 2) % 4, (i + 3) % 4, 4]], sure[i]
        )
        for i in range(40)
    ]
    report = report_of(items, Probe(close, decisions(close, items)))
    assert any("100.0% of items have a decision within 0.1 nats" in one for one in hygiene_cautions(report))


@pytest.mark.parametrize(("groups", "shown"), [(5, "100.0 too few (5)"), (6, "100.0 [100.0, 100.0]")])
def test_an_interval_over_few_groups_is_not_shown(groups, shown):
    found = {"n": 12, "groups": groups, "changed_rate": {"mean": 1.0, "ci95": [1.0, 1.0]}}
    assert with_interval(rate_of(found, "changed_rate"), "percent") == shown
