"""What the page says of a run: its verdicts, what they rest on, and whether they may be given at all."""

import re
from pathlib import Path
from typing import Any

import pytest
from report_workdir import (
    ARMS,
    ASKABLE,
    synthetic_arm,
    synthetic_references,
    synthetic_results,
    write_workdir,
)

from introspection.coupling.estimates import Estimate
from introspection.coupling.run_results import ArmResults, Askable, RunResults
from introspection.reports.findings import arm_finding, gap_verdict
from introspection.reports.page import write_report
from introspection.reports.tables import details_table
from introspection.runtime.json_values import from_json


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(write_workdir(tmp_path_factory.mktemp("run"), items=4)).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.01, 0.2), "coupled"),
        ((-0.2, -0.01), "reversed"),
        ((0.0, 0.2), "undecided"),
        (None, "undecided"),
    ],
)
def test_an_interval_that_touches_0_decides_nothing(
    interval: tuple[float, float] | None, expected: str
) -> None:
    assert gap_verdict(Estimate(0.1, interval)) == expected


def test_a_gap_without_drift_and_a_broken_behaviour_are_called_out() -> None:
    fields = synthetic_arm(0.0, 0.0) | {"drift": 0.0, "seeds": [0], "invalid_rate": 0.4}
    fields |= {"behavior_accuracy": {"teacher": 0.9, "current": 0.4}, "agreement": {"min": 0.1, "mean": 0.5}}
    fields["commonest_explanation"] = {"share": 0.8, "self": 0.42, "orig": 0.21}
    finding = arm_finding(arm_of("x", fields))
    assert any("0 by construction" in sentence for sentence in finding.sentences)
    assert finding.words == "Undecided, with cautions"
    for caution in (
        "40.0% of its explanations can't be parsed",
        "behaviour itself got worse",
        "80.0% of its explanations are the same one",
        "50.0% of its trained labels held",
        "One seed",
    ):
        assert any(caution in found for found in finding.cautions)


def arm_of(name: str, fields: dict[str, Any]) -> ArmResults:
    return from_json(RunResults, {"arms": {name: fields}, "controls": {}}).arms[name]


def with_references(**changed: dict[str, Any] | None) -> dict[str, Any]:
    """An arm with a raw gap of 11 points; `changed` replaces references, or leaves them out."""
    references = synthetic_references(0.11, 0.04) | changed
    kept = {name: fields for name, fields in references.items() if fields is not None}
    return synthetic_arm(0.11, 0.04) | {"references": kept}


def test_a_verdict_rests_on_the_references_and_never_on_the_side_of_0() -> None:
    across = {**synthetic_references(0.01, 0.04)["majority"], "orig": 0.6}
    for fields, expected, reason in (
        (with_references(), "coupled", "Coupled: the gap lies above that of every reference"),
        (
            with_references(shuffled=across),
            "undecided",
            "not distinguishable from that of \u2068shuffled\u2069",
        ),
        (
            with_references(**{"foreign explainer": None, "shuffled labels": None}),
            "undecided",
            "no reference",
        ),
        (synthetic_arm(0.11, 0.04) | {"references": {}}, "undecided", "there is no reference emitter"),
        (synthetic_arm(-0.3, 0.04) | {"references": synthetic_references(0.05, 0.01)}, "coupled", "Coupled"),
        (
            synthetic_arm(0.3, 0.04) | {"references": synthetic_references(-0.05, 0.01)},
            "reversed",
            "Reversed",
        ),
    ):
        finding = arm_finding(arm_of("kl", fields))
        assert (finding.verdict, reason in finding.sentences[0]) == (expected, True), finding.sentences
    sentences = arm_finding(arm_of("kl", with_references())).sentences
    named = "\u2068shuffled labels\u2069 (Orig 61.0%): +11.2 points [+7.2, +15.2]"
    assert any(named in sentence for sentence in sentences)
    assert any("Not held against" in s and "initial\u2069 (97.0% not valid)" in s for s in sentences)


def test_no_verdict_rests_on_an_alignment_that_fell_short() -> None:
    short = "its start decides as config.initial on 93.1% of items, and alignment needs 95%"
    # The aligned explainer's gap alone would leave it undecided.
    across = {**synthetic_references(0.01, 0.04)["majority"], "orig": 0.6}
    assert arm_finding(arm_of("kl", with_references(aligned=across))).verdict == "undecided"
    unused = across | {"usable": False, "no_verdict": short}
    finding = arm_finding(arm_of("kl", with_references(aligned=unused)))
    assert finding.verdict == "coupled"
    assert f"Not held against \u2068aligned\u2069: {short}." in finding.sentences
    assert not any("for want of valid explanations" in s and "aligned" in s for s in finding.sentences)
    # Nor does its own gap.
    own = arm_finding(arm_of("aligned_kl", with_references() | {"no_verdict": short}))
    assert (own.verdict, own.sentences[0]) == ("undecided", f"Undecided: {short}.")


def test_a_coupled_arm_that_no_shuffled_one_stands_beside_is_called_out() -> None:
    fields = with_references(**{"shuffled labels": None})
    arms = [arm_of(name, fields) for name in ("kl", "shuffled")]
    assert "not held against the arm" in arm_finding(arms[0], arms).cautions[0]
    assert not arm_finding(arms[0], arms[:1]).cautions
    assert not arm_finding(arm_of("kl", with_references()), arms).cautions


def test_where_labels_did_not_teach_there_is_no_verdict(tmp_path: Path) -> None:
    missed = "not askable: labels did not teach (kl: Orig +1.0 points above shuffled)"
    results = synthetic_results() | {"askable": ASKABLE | {"askable": False, "words": missed}}
    page = write_report(write_workdir(tmp_path, items=4, results=results)).read_text(encoding="utf-8")
    findings = page[page.index('<section id="findings">') : page.index("</section>")]
    assert findings.index(missed) < findings.index('class="lead"') < findings.index("<article")
    assert findings.count('<span class="verdict">Not askable: labels did not teach</span>') == len(ARMS)
    assert re.findall("[Cc]oupled|[Rr]eversed|[Uu]ndecided", findings) == []
    assert "so there is no verdict on 3 arms." in findings
    assert "<strong>+11.0</strong> points" in findings  # the numbers stay


def test_the_page_says_first_whether_labels_teach(page: str, tmp_path: Path) -> None:
    findings = page[page.index("<h2>What this run shows</h2>") :].removeprefix("<h2>What this run shows</h2>")
    assert findings.lstrip().startswith(f'<p class="askable met">{ASKABLE["words"]}</p>')
    unknown = Askable(words="askable: not known: no arm with shuffled labels ran")
    finding = arm_finding(arm_of("kl", with_references()), askable=unknown)
    assert (finding.verdict, finding.words) == ("undecided", "Undecided: not known whether labels teach")
    old = synthetic_results()
    del old["askable"]
    for arm in old["arms"].values():
        for name in ("references", "best_static", "kept_behavior"):
            del arm[name]
        del arm["agreement"]["mean"]
    older = write_report(write_workdir(tmp_path, items=4, results=old)).read_text(encoding="utf-8")
    assert "askable: not recorded" in older
    assert "Of 3 arms, 0 coupled, 3 undecided and 0 reversed." in older


def test_a_shift_is_shown_by_group_and_its_difference_named(page: str) -> None:
    table = page[page.index("By whether the shift trains the group") :]
    assert re.findall(r'<th scope="row"><bdi>(.*?)</bdi>', table)[:2] == ["shifted", "unshifted"]
    assert "trains minus that on the others: −6.0 points [−11.0, −1.0]; above what" in page
    assert "which the shift moves too: +1.0 [−4.0, +6.0]." in page
    assert "<bdi>−8.0</bdi> <span" in table


def test_trained_and_clean_labels_both_have_their_course(page: str) -> None:
    for label, shown in (
        ("Agreement (trained labels), mean", "83.0"),
        ("Kept behaviour (clean labels), mean", "87.0"),
        ("Kept behaviour, start → end (lowest)", "99.0 → 81.0 (77.0)"),
    ):
        assert f'{label}</bdi></th><td class="number"><bdi>{shown}</bdi>' in page


def test_why_there_is_no_p_value_is_said() -> None:
    fields = synthetic_arm(0.11, 0.04)
    fields["disagreement"] |= {"sign_flip_p": None, "sign_flip_note": "two seeds < too few"}
    shown = {}
    for values in (fields, synthetic_arm(0.11, 0.04)):
        table = details_table([arm_of("kl", values)])
        shown |= {row.cells[1].text: row.cells[0].text for row in table.lines if len(row.cells) == 2}
    assert shown["two seeds < too few"] == shown["0.004"] == "Sign-flip test, p"
