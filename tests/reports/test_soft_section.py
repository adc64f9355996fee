"""The page's section on soft faithfulness: every number, every reason for a missing one, and older runs."""

import csv
import json
import re
from pathlib import Path

from pages import Elements
from report_workdir import ARMS, CONTROLS, synthetic_results, write_workdir

from introspection.reports.page import write_report

REASON = "its explanations have no log-probabilities"


def section(page: str) -> str:
    return page[page.index('<section id="soft"') :].partition("</section>")[0].replace("<wbr>", "")


def test_every_measure_of_arms_and_controls_is_shown_or_says_why_not(tmp_path: Path) -> None:
    text = section(write_report(write_workdir(tmp_path)).read_text(encoding="utf-8"))
    main, *by_measure = text.split("</table>")[:-1]
    words = " ".join(Elements(main).text)
    for shown in ("−1.090", "[−1.130, −1.050]", "0.500", "+0.110", "[+0.070, +0.150]", "−0.050"):
        assert shown in words
    assert REASON not in main
    assert len(by_measure) == 6
    for table in by_measure:
        assert re.findall(r'<tr class="arm"><th scope="row"><bdi>(.*?)</bdi>', table) == list(ARMS)
        assert table.count('<tr class="control">') == len(ARMS) * len(CONTROLS)
    # Three of the four controls have no log-probabilities; two measures don't need them.
    assert [table.count(REASON) for table in by_measure] == [3 * len(ARMS)] * 4 + [0, 0]


def test_a_difference_on_few_groups_has_no_interval(tmp_path: Path) -> None:
    results = synthetic_results()
    results["arms"]["kl"]["disagreement"]["groups"] = 4
    page = write_report(write_workdir(tmp_path, results=results)).read_text(encoding="utf-8")
    (gap,) = set(re.findall(r"<bdi>\+0\.110</bdi> <span class=\"interval\">(.*?)</span>", section(page)))
    assert gap == "too few (4)"


def test_the_reliability_figure_has_its_bins_beside_it(tmp_path: Path) -> None:
    results = synthetic_results()
    write_report(write_workdir(tmp_path, results=results))
    with (tmp_path / "figures" / "reliability.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert {(row["arm"], row["control"]) for row in rows} == {(a, c) for a in ARMS for c in ("", CONTROLS[0])}
    first = results["arms"]["kl"]["soft"]["reliability"][0]
    assert {name: float(rows[0][name]) for name in first} == first


def test_a_run_without_it_has_no_such_section(tmp_path: Path) -> None:
    results = synthetic_results()
    for entry in (
        *results["arms"].values(),
        *(c for by in results["controls"].values() for c in by.values()),
    ):
        del entry["soft"]
    page = write_report(write_workdir(tmp_path, results=results)).read_text(encoding="utf-8")
    assert 'id="soft"' not in page
    assert not (tmp_path / "figures" / "reliability.svg").exists()
    assert json.loads((tmp_path / "results.json").read_text()) == results
