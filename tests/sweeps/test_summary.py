"""A finished sweep's summary: tables and page."""

import base64
import csv
import json
import re
import sys
import types

import pytest
import sweep_cases
from pages import Elements, open_page
from programs import read_json, snapshot
from report_workdir import ARMS, CONTROLS, HOSTILE, synthetic_results
from sweep_cases import FOUR, points_of

from introspection.errors import InputError
from introspection.sweeps.summary import read_beside, summarize
from introspection.sweeps.sweep import run_sweep


def test_the_summary_is_the_numbers_of_the_results(finished_sweep, console):
    said = console.export_text()
    assert "not finished, so not in the summary: rate1 (new)" in said
    with (finished_sweep / "summary.csv").open(encoding="utf-8", newline="") as lines:
        rows = {(row["point"], row["arm"]): row for row in csv.DictReader(lines)}
    assert list(rows) == [(f"rate{i}", arm) for i in (0, 2, 3) for arm in ARMS]
    for (point, arm), row in rows.items():
        results = read_json(finished_sweep / "points" / point / "results.json")
        entry = results["arms"][arm]
        expected = {
            "n": entry["n"],
            "self": entry["self"]["exact_match"]["mean"],
            "orig": entry["orig"]["exact_match"]["mean"],
            "gap": entry["gap"]["exact_match"]["mean"],
            "gap_lo": entry["gap"]["exact_match"]["ci95"][0],
            "gap_hi": entry["gap"]["exact_match"]["ci95"][1],
            "static_gap": entry["references"]["majority"]["gap"],
            "drift": entry["drift"],
            "current_share": entry["disagreement"]["current_share"],
            "update_norm": entry.get("update_norm"),
            "agreement_mean": entry["agreement"]["mean"],
            "agreement_end": entry["agreement"]["end"],
            "invalid_rate": entry["invalid_rate"],
            "accuracy_teacher": entry["behavior_accuracy"]["teacher"],
            "accuracy_current": entry["behavior_accuracy"]["current"],
            "config.arms.kl.learning_rate": 0.01 * (1 + int(point[-1])),
        }
        for name in ("static", "shuffled", "foreign"):  # none is held against the last two
            held = entry["references"]["majority"]["gap_difference"] if name == "static" else {}
            low, high = held.get("ci95", (None, None))
            expected |= {f"gap_minus_{name}": held.get("mean")}
            expected |= {f"gap_minus_{name}_lo": low, f"gap_minus_{name}_hi": high}
        for name in CONTROLS:
            control = results["controls"][name][arm]
            for score in ("self", "orig"):
                expected[f"control.{name}.{score}"] = control[score]["exact_match"]["mean"]
            paired = control["paired"]["self"]["exact_match"]
            expected[f"control.{name}.paired_self"] = paired["mean"]
            expected[f"control.{name}.paired_self_lo"], expected[f"control.{name}.paired_self_hi"] = paired[
                "ci95"
            ]
        words = {"point": point, "base": "seed 0", "arm": arm, "seeds": "0 1", "best_static": "majority"}
        words |= {"sweep": "quickstart-tiny", "part": "quickstart-tiny"}
        words |= {"tiny": "False", "is_reference": "False"}
        assert {name: row.pop(name) for name in words} == words
        assert {name: float(value) if value else None for name, value in row.items()} == expected
    assert {row["current_share"] for (_, arm), row in rows.items() if arm == "no_kl"} == {""}
    assert {float(row["drift"]) for row in rows.values()} == {0.01 / 3, 0.03 / 3, 0.04 / 3}


def test_the_summary_for_people_has_the_same_rows(finished_sweep):
    text = (finished_sweep / "summary.md").read_text(encoding="utf-8")
    assert "Not finished: rate1 (new)." in text
    assert not {"\u2068", "\u2069"} & set(text)  # marks that keep a name to itself on a page
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    ]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]
    assert [(row["Point"], row["Arm"]) for row in rows] == [
        (f"rate{i}", arm) for i in (0, 2, 3) for arm in ARMS
    ]
    first = rows[0]
    assert [first[name] for name in ("Self %", "Orig %", "Gap, points", "n")] == [
        *("74.0", "62.0", "+11.0 [+7.0, +15.0]", "1,200"),
    ]
    assert (first["arms.kl.learning_rate"], rows[1]["Current share %"]) == ("0.01", "–")


def test_the_page_has_every_point_and_needs_nothing_else(finished_sweep):
    page = (finished_sweep / "summary.html").read_text(encoding="utf-8")
    table = page[page.index('<table class="sortable">') : page.index("</table>")]
    body = table[table.index("<tbody>") :].replace("<wbr>", "")
    rows = [re.findall(r"<t[hd].*?</t[hd]>", row) for row in re.findall("<tr>(.*?)</tr>", body, re.DOTALL)]
    shown = [
        (re.search("<bdi>(.*?)</bdi>", row[0])[1], re.search("<bdi>(.*?)</bdi>", row[2])[1]) for row in rows
    ]
    assert shown == [(f"rate{i}", arm) for i in (0, 2, 3) for arm in ARMS]
    # A raw gap has no colour: it is not judged against 0.
    gap = '<bdi>+11.0</bdi> <span class="interval">[+7.0, +15.0]</span>'
    assert rows[0][7] == f'<td class="number" data-order="0.11">{gap}</td>'
    elements = Elements(page)
    assert [link["href"] for link in elements.all("a") if not link["href"].startswith("#")] == [
        *["points/rate0/report.html"] * 3,
        *["points/rate2/report.html"] * 3,
    ]
    assert "rate1 (new)" in page
    (image,) = elements.all("img")
    drawing = base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,")).decode("utf-8")
    assert (finished_sweep / "figures" / "sweep_gap.svg").read_text(encoding="utf-8") == drawing
    for label in ("rate0", "rate2", "rate3", *ARMS):
        assert label.split("_")[0] in drawing
    assert drawing.count("[+7.0, +15.0]") == 3
    assert "url(" not in page
    assert not list(finished_sweep.rglob("*.tmp"))


def test_hostile_names_stay_text(config, console, fake_run, tmp_path, monkeypatch):
    config = config.unlock()
    # Of what a run can write: JSON files hold no lone surrogate.
    hostile = HOSTILE.replace("\ud800", "")
    config.base, config.name = f"{hostile} | a", "<b>|`sweep"
    renamed = json.loads(json.dumps(synthetic_results()).replace('"kl"', json.dumps(hostile)))
    renamed["controls"][hostile] = renamed["controls"].pop("majority")
    monkeypatch.setattr(sweep_cases, "results_of", lambda config: renamed)
    points = points_of({"point": "a", "arms.kl.labels": ""}, {"arms.kl_shift.shift.source": hostile})
    run_sweep(config, points, tmp_path, None, console)
    summarize(config, points, tmp_path, console)
    page = (tmp_path / "summary.html").read_text(encoding="utf-8")
    elements = Elements(page)
    assert len(elements.all("script")) == 1
    assert [image["src"][:26] for image in elements.all("img")] == ["data:image/svg+xml;base64,"]
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    assert page.count("<title>") == page.count("</title>") == page.count("</style>") == 1
    assert "&lt;img src=x onerror=" in page
    assert "<b>" not in page
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "<" not in text
    rows = [line for line in text.split("\n") if line.startswith("| ")]
    assert len(rows) == 2 + 2 * len(ARMS)
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as lines:
        assert next(csv.DictReader(lines))["base"] == config.base


def test_without_a_finished_point_there_is_no_summary(config, console, tmp_path):
    with pytest.raises(InputError, match="none of the sweep's 4 points is finished"):
        summarize(config, FOUR, tmp_path / "sweep", console)
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("damage", ["{", "[]", "{}", '{"arms": {"kl": 3}}'])
def test_damaged_results_are_named(config, console, finished_sweep, damage):
    path = finished_sweep / "points" / "rate2" / "results.json"
    path.write_text(damage)
    before = snapshot(finished_sweep)
    with pytest.raises(InputError, match=str(path)):
        summarize(config, FOUR, finished_sweep, console)
    assert snapshot(finished_sweep) == before


@pytest.mark.parametrize(
    "damage",
    [
        '{"initial": "pretrain"}',
        '{"base": "b", "train": 3}',
        '{"base": "b", "train": {"explained_where": null}}',
        '{"base": "b", "arms": ["kl"]}',
        '{"base": "b", "arms": {"kl": 3}}',
    ],
)
def test_a_damaged_config_is_named(config, console, finished_sweep, damage):
    path = finished_sweep / "points" / "rate2" / "config.json"
    path.write_text(damage)
    for read in (
        lambda: summarize(config, FOUR, finished_sweep, console),
        lambda: read_beside(finished_sweep),
    ):
        with pytest.raises(InputError, match=str(path)):
            read()


def test_a_study_is_written_for_configs_that_are_part_of_one(config, console, finished_sweep, monkeypatch):
    calls = []
    study = types.ModuleType("introspection.study.study")
    study.write_study = lambda *arguments: calls.append(arguments)
    monkeypatch.setitem(sys.modules, study.__name__, study)
    summarize(config, FOUR, finished_sweep, console)
    assert calls == []
    config = config.unlock()
    config.part = "main"
    summarize(config, FOUR, finished_sweep, console)
    # The unfinished one too, which the study lists.
    folders = [(f"rate{i}", finished_sweep / "points" / f"rate{i}") for i in range(4)]
    assert calls == [(finished_sweep, folders, console)]


@pytest.mark.browser
def test_browser_sorts_by_the_fragment(finished_sweep):
    def column(fragment, key):
        document = open_page(finished_sweep / "summary.html", fragment)
        place = re.findall(r'<th [^>]*data-key="(\w+)"', document).index(key)
        body = document[document.index("<tbody>") : document.index("</tbody>")]
        rows = [
            re.findall(r"<t[hd].*?</t[hd]>", row) for row in re.findall("<tr>(.*?)</tr>", body, re.DOTALL)
        ]
        return document, [re.sub("<.*?>", "", row[place]) for row in rows]

    document, gaps = column("sort=gap&order=descending", "gap")
    assert [gap.split()[0] for gap in gaps] == ["+11.0"] * 3 + ["+2.0"] * 3 + ["−5.0"] * 3
    assert re.findall(r'<th [^>]*data-key="(\w+)"[^>]*aria-sort="descending"', document) == ["gap"]
    _, drifts = column("sort=drift&order=ascending", "drift")
    assert drifts == ["0.3"] * 3 + ["1.0"] * 3 + ["1.3"] * 3
    for order in ("ascending", "descending"):
        _, shares = column(f"sort=current_share&order={order}", "current_share")
        assert shares[-3:] == ["–"] * 3
    _, planned = column("", "point")
    assert planned == [f"rate{i}" for i in (0, 0, 0, 2, 2, 2, 3, 3, 3)]
