"""The report of a synthetic run: self-contained, escaped, honest about what is missing, the same every time.

The browser tests drive a headless Chromium without any driver: the item table's state is in the address's
fragment, so a test opens an address and reads the document as the scripts left it.
"""

import base64
import csv
import json
import random
import re
import shutil
import typing
from pathlib import Path
from typing import Any

import pytest
from chat_tokenizers import TOKENIZERS
from pages import Elements, open_page
from report_workdir import (
    ARMS,
    CONTROLS,
    HOSTILE,
    MATRIX,
    SEEDS,
    synthetic_record,
    synthetic_results,
    write_workdir,
)

from introspection.coupling.records import PredictionRecord
from introspection.coupling.run_results import ArmResults
from introspection.errors import InputError
from introspection.reports.curves import shift_figure
from introspection.reports.findings import arm_finding
from introspection.reports.item_data import script_json, verdict
from introspection.reports.numbers import points
from introspection.reports.page import write_report
from introspection.reports.run_files import ExplainedItem, read_run
from introspection.tasks.spans import prompt_difference
from introspection.tasks.subsets import kept_places


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_workdir(tmp_path_factory.mktemp("run"), steps=1000)
    write_report(folder)
    return folder


def assert_inert(page: str) -> None:
    """The page's own two scripts are all there are, images are its figures, and nothing handles events."""
    elements = Elements(page)
    assert len(elements.all("script")) == 2
    assert all(image["src"].startswith("data:image/svg+xml;base64,") for image in elements.all("img"))
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]


def test_page_needs_nothing_else(workdir: Path) -> None:
    page = (workdir / "report.html").read_text(encoding="utf-8")
    elements = Elements(page)
    for _, attributes in elements.found:
        for name in ("src", "href", "srcset", "data", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), attributes
    assert "@import" not in page
    assert "url(" not in page
    assert {tag for tag, _ in elements.found}.isdisjoint({"iframe", "object", "embed", "base"})
    for image in elements.all("img"):
        drawing = base64.b64decode(image["src"].split(",")[1]).decode("utf-8")
        assert "<text" in drawing
        assert re.findall(r'href="(?!#)', drawing) == []
        assert image["alt"]
    names = {"gap", "levels", "disagreement", "cue_kinds", "training", "reliability", "matrix"}
    files = {path.name for path in (workdir / "figures").iterdir()}
    assert files == {f"{n}.{k}" for n in names for k in ("svg", "png", "csv")}
    assert not list(workdir.rglob("*.tmp"))


def test_the_page_says_how_prompts_are_written_without_a_chat_template(workdir: Path, tmp_path: Path) -> None:
    assert "without a chat template" not in (workdir / "report.html").read_text(encoding="utf-8")
    folder = write_workdir(tmp_path, steps=2)
    TOKENIZERS["byte-level base"].save(folder / "tokenizer.json")
    assert "without a chat template" in write_report(folder).read_text(encoding="utf-8")


def test_the_numbers_of_a_figure_are_those_of_the_results(workdir: Path) -> None:
    def rows(name: str) -> list[dict[str, str]]:
        with (workdir / "figures" / f"{name}.csv").open(encoding="utf-8", newline="") as lines:
            return list(csv.DictReader(lines))

    results = json.loads((workdir / "results.json").read_text())
    gaps = {(row["arm"], row["control"]): row for row in rows("gap")}
    for name, arm in results["arms"].items():
        gap = arm["gap"]["exact_match"]
        found = [float(gaps[name, ""][column]) for column in ("gap", "gap_lo", "gap_hi")]
        assert found == [gap["mean"], *gap["ci95"]]
        assert gaps[name, ""]["arm_minus_control"] == ""
    own = next(row for row in rows("matrix") if row["emitter"] == row["teacher"] == "kl@400")
    assert [float(own[f"exact_match{end}"]) for end in ("", "_lo", "_hi")] == [0.73, 0.69, 0.76]
    levels = {(row["arm"], row["control"]): row for row in rows("levels")}
    assert set(levels) == set(gaps) == {(arm, control) for arm in ARMS for control in ("", *CONTROLS)}
    assert {row["arm"] for row in rows("training")} <= set(ARMS)


def test_every_arm_and_control_is_in_the_table(workdir: Path) -> None:
    page = (workdir / "report.html").read_text(encoding="utf-8").replace("<wbr>", "")
    table = page[page.index('<table class="levels">') : page.index("</table>")]
    assert re.findall(r'<tr class="arm"><th scope="row"><bdi>(.*?)</bdi>', table) == list(ARMS)
    controls = re.findall(r'<tr class="control"><th scope="row"><bdi>(.*?)</bdi>', table)
    assert controls == list(CONTROLS) * len(ARMS)
    for shown in ("73.0", "[69.0, 77.0]", "+11.0", "[+7.0, +15.0]", "−5.0", "1,200", "+23.0"):
        assert f">{shown}<" in table
    # A raw gap has no colour, however far from 0; its difference from a control's has.
    shown = '<td class="number{}"><bdi>{}</bdi> <span class="interval">{}</span></td>'
    assert shown.format("", "+11.0", "[+7.0, +15.0]") in table
    assert shown.format(" coupled", "+11.2", "[+7.2, +15.2]") in table


def test_plain_words_follow_what_the_gap_is_held_against(workdir: Path, tmp_path: Path) -> None:
    assert [arm_finding(arm).verdict for arm in read_run(workdir).arms] == [
        "coupled",
        "reversed",
        "undecided",
    ]
    page = (workdir / "report.html").read_text(encoding="utf-8")
    assert "Of 3 arms, 1 coupled, 1 undecided and 1 reversed." in page
    assert "no evidence" not in page.replace("is no evidence beside", "")
    tiny = write_report(write_workdir(tmp_path, items=4, config={"tiny": True})).read_text(encoding="utf-8")
    assert "Tiny run." in tiny
    assert tiny.count("but no evidence (tiny)") == len(ARMS)


def without_numbers(cls: Any, value: dict[str, Any]) -> dict[str, Any]:
    """What a file of this class may hold with everything undefined that can be."""
    value, kinds = dict(value), typing.get_type_hints(cls)
    for key in value.keys() & kinds.keys():
        inner, parts = value[key], typing.get_args(kinds[key])
        if isinstance(inner, dict):
            of_entries = parts and parts[0] is str
            entry = parts[1] if of_entries else next(iter(parts), kinds[key])
            many = {name: without_numbers(entry, one) for name, one in inner.items()} if of_entries else {}
            value[key] = many or without_numbers(entry, inner)
        elif type(None) in parts:
            value[key] = None
    return value


def test_nulls_are_dashes(tmp_path: Path) -> None:
    arms = synthetic_results()["arms"]
    results = {"arms": {name: without_numbers(ArmResults, arm) for name, arm in arms.items()}, "controls": {}}
    write_workdir(tmp_path, items=1, results=results, organism={"rows": [{"name": "x"}]})
    (tmp_path / "metrics.jsonl").write_text('{"arm": "kl", "seed": 0, "step": 0}\n{"arm": "kl", "se')
    page = write_report(tmp_path).read_text(encoding="utf-8")
    words = " ".join(Elements(page).text)
    assert re.findall(r".{20}\b(?:None(?! of the)|nan|null)\b.{20}", words) == []
    assert "Undecided: no gap was measured." in words
    assert len(re.findall(r'<td class="number( undecided)?"><bdi>–</bdi></td>', page)) > 20


def test_the_same_run_gives_the_same_bytes(workdir: Path) -> None:
    def contents() -> dict[str, bytes]:
        files = [workdir / "report.html", *sorted((workdir / "figures").iterdir())]
        return {path.name: path.read_bytes() for path in files}

    before = contents()
    write_report(workdir)
    assert contents() == before


def test_a_comparison_alone_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "matrix.json").write_text(json.dumps(MATRIX))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "the diagonal stands out" in page
    assert page.count('class="number own"') == 3
    assert 'id="items"' not in page
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "matrix.csv",
        "matrix.png",
        "matrix.svg",
    ]


def test_what_is_missing_or_damaged_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results\.json is missing.*experiments\.run") as error:
        write_report(tmp_path)
    assert "\n" not in str(error.value)
    for name, content in (
        ("results.json", "{"),
        ("results.json", "[]"),
        ("results.json", '{"arms": 3}'),
        ("matrix.json", '{"emitters": ["a"], "teachers": ["b"]}'),
        ("config.json", '{"report": {"max_items": 0}}'),
        ("predictions.jsonl", '{"arm": "kl"}\n'),
    ):
        folder = tmp_path / "damaged"
        folder.mkdir()
        (folder / "results.json").write_text('{"arms": {}}')
        (folder / name).write_text(content)
        with pytest.raises(InputError, match=re.escape(name)) as error:
            write_report(folder)
        assert "\n" not in str(error.value)
        assert not (folder / "report.html").exists()
        shutil.rmtree(folder)


def hostile_workdir(folder: Path) -> Path:
    """A run in which every name and every text is hostile."""
    renamed = json.loads(json.dumps(synthetic_results()).replace('"kl"', json.dumps(HOSTILE)))
    renamed["controls"][HOSTILE] = renamed["controls"].pop("majority")
    renamed["arms"][HOSTILE]["by_cue_kind"] = {HOSTILE: {"n": 3, "self": 0.5, "orig": 0.4}}
    renamed["versions"] = {HOSTILE: HOSTILE}
    names = [HOSTILE, "b"]
    matrix = {"emitters": names, "teachers": names, "exact_match": [[0.5, 0.4], [0.3, 0.2]], "n": 2}
    organism = {"rows": [{"kind": HOSTILE, "name": HOSTILE}]}
    config = {"name": HOSTILE, "task": HOSTILE, HOSTILE: HOSTILE}
    write_workdir(folder, items=2, results=renamed, matrix=matrix, organism=organism, config=config)
    record = synthetic_record(HOSTILE, 0, 0, random.Random(0))
    for name in ("id", "group", "cue_kind", "gold", "cued", "prompt_with_cue"):
        record[name] = HOSTILE
    record |= {"candidates": [HOSTILE], "prompt_without_cue": f"{HOSTILE}!"}
    record["current"] = {"with_cue": HOSTILE, "without_cue": HOSTILE}
    record["explanation"] = {"text": HOSTILE, "changed": False, "answer": HOSTILE}
    for name, extra in (("predictions.jsonl", {}), ("controls.jsonl", {"control": HOSTILE})):
        (folder / name).write_text(json.dumps({**record, **extra}) + "\n")
    metrics = [{"arm": HOSTILE, "seed": 0, "step": step, "live_self": 0.5} for step in (0, 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in metrics))
    return folder


def test_data_cannot_become_markup(tmp_path: Path) -> None:
    page = write_report(hostile_workdir(tmp_path)).read_text(encoding="utf-8")
    assert_inert(page)
    assert page.count("<title>") == page.count("</title>") == page.count("</style>") == 1
    assert "&lt;img src=x onerror=" in page
    block = page[page.index('id="item-data">') + len('id="item-data">') :]
    data = json.loads(block[: block.index("</script>")])
    assert data["rows"][0]["text"] == HOSTILE.replace("\ud800", "\ufffd")
    assert set(script_json({"<": HOSTILE})).isdisjoint("<>&\u2028\ud800")


def test_prompts_are_told_apart_and_whole() -> None:
    pairs = [
        ("What? I think it is Oslo.\nAnswer:", "What?\nAnswer:"),
        ("My sister did it, and she is right.", "My sister did it, and who is right?"),
        ("東京だと思う。首都は?", "首都は?"),
        ("", "a b"),
        ("same", "same"),
    ]
    for with_cue, without_cue in pairs:
        segments = prompt_difference(with_cue, without_cue)
        assert "".join(text for kind, text in segments if kind != "-") == with_cue
        assert "".join(text for kind, text in segments if kind != "+") == without_cue
    assert [text for kind, text in prompt_difference(*pairs[0]) if kind == "+"] == [" I think it is Oslo."]
    assert [text for kind, text in prompt_difference(*pairs[2]) if kind == "+"] == ["東京だと思う。"]


def test_large_runs_are_thinned_evenly_and_say_so(workdir: Path, tmp_path: Path) -> None:
    items = read_run(workdir).predictions
    kept = [items[place] for place in kept_places([item.record.id for item in items], 100)]
    assert 90 <= len(kept) <= 100
    assert {(i.record.arm, i.record.seed) for i in kept} == {(a, s) for a in ARMS for s in SEEDS}
    ids = sorted({i.record.id for i in kept})
    assert (ids[0], ids[-1] > "capital-0050") == ("capital-0000", True)
    config = {"report": {"max_items": 30, "max_control_items": 12}}
    page = write_report(write_workdir(tmp_path, items=20, config=config)).read_text(encoding="utf-8")
    assert "30 of 120 explanations by the arms and 12 of 96 by controls, taken evenly" in page


def test_points_carry_their_sign() -> None:
    assert [points(value) for value in (0.111, -0.05, 0.0, -0.0001, None)] == [
        "+11.1",
        "−5.0",
        "0.0",
        "0.0",
        "–",
    ]


def shown_verdicts(document: str) -> list[str]:
    return re.findall(r'<tr data-verdict="(\w+)" data-row="">', document)


@pytest.mark.browser
def test_browser_filters_by_the_fragment(workdir: Path) -> None:
    def wanted(item: ExplainedItem) -> bool:
        record: PredictionRecord = item.record
        parts = (record.prompt_with_cue, record.explanation_text, record.group, *record.candidates)
        return record.arm == "kl" and any("oslo" in part.lower() for part in parts)

    verdicts = [verdict(item.record) for item in read_run(workdir).predictions if wanted(item)]
    page = workdir / "report.html"
    document = open_page(page, "q=oSLO&arm=kl&verdict=current")
    assert shown_verdicts(document) == ["current"] * verdicts.count("current") != []
    assert f"all  {len(verdicts)}</button>" in document
    assert "<mark>I think it is Bergen, but I am not sure.</mark>" in document
    second = open_page(page, "seed=1&page=2")
    assert len(shown_verdicts(second)) == read_run(workdir).settings.page_size
    assert "21 to 40 of 180" in second
    controls = open_page(page, "control=*&kind=firm%20guess&seed=0&page=99")
    assert "explained by" in controls
    assert set(re.findall(r">cue</span> <bdi>(.*?)</bdi>", controls)) == {"firm guess"}
    assert "Nothing matches these filters." in open_page(page, "q=nowhere+to+be+found")


@pytest.mark.browser
def test_browser_finds_hostile_text_inert(tmp_path: Path) -> None:
    path = write_report(hostile_workdir(tmp_path))
    for fragment in ("", "control=*"):
        document = open_page(path, fragment)
        assert_inert(document)
        assert "pwned" not in document[document.index("<title>") : document.index("</title>")].split(";")[-1]
        assert len(shown_verdicts(document)) == 1
        assert '<p class="said">&lt;/script&gt;&lt;script&gt;' in document


@pytest.mark.browser
def test_browser_opens_a_comparison(tmp_path: Path) -> None:
    (tmp_path / "matrix.json").write_text(json.dumps(MATRIX))
    assert "Who explains whom" in open_page(write_report(tmp_path))


def test_a_shifts_figure_draws_kept_behavior_of_both_parts_and_has_their_numbers(tmp_path: Path) -> None:
    folder = write_workdir(tmp_path / "run", steps=2)
    arm, curves_of = next(iter(ARMS)), ((0, 0.0), (20, 0.25))
    lines = [
        {"arm": arm, "seed": 0, "step": step, **{f"{part}_{key}": value for part in ("shifted", "unshifted")
         for key, value in (("drift", drift), ("cued", 0.4), ("self", 0.8), ("orig", 0.8 - drift))}}
        for step, drift in curves_of
    ]  # fmt: skip
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        metrics.writelines(json.dumps(line) + "\n" for line in lines)
    write_report(folder)
    with (folder / "figures" / "shift.csv").open(encoding="utf-8", newline="") as rows:
        found = list(csv.DictReader(rows))
    assert [(row["arm"], row["step"], row["shifted_drift"], row["unshifted_self"]) for row in found] == [
        (arm, "0", "0.0", "0.8"),
        (arm, "20", "0.25", "0.8"),
    ]
    assert "Beside a shift, step by step" in (folder / "report.html").read_text(encoding="utf-8")
    figure = shift_figure(lines, list(ARMS))
    behavior, explanations = figure.axes  # one arm logged it
    drawn = [list(line.get_ydata()) for line in behavior.lines if list(line.get_xdata()) == [0, 20]]
    assert drawn == [[1.0, 0.75], [1.0, 0.75], [0.4, 0.4], [0.4, 0.4]]
    assert [list(line.get_ydata()) for line in explanations.lines] == [[0.8, 0.8]] * 2 + [[0.8, 0.55]] * 2
