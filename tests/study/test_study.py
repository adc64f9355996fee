"""A study from the workdirs of its points to its tables, claims, figures and page."""

import csv
import dataclasses
import html
import json
import re
import shutil

import numpy as np
import pytest
from programs import read_json
from rich.console import Console
from study_workdirs import STUDY_ARMS, random_records, write_controls, write_point, write_study_points

from introspection.coupling.estimates import Estimate
from introspection.coupling.records import read_records
from introspection.errors import InputError
from introspection.study import study as study_job
from introspection.study.claim_tables import claim_value
from introspection.study.study import write_study


def console():
    return Console(quiet=True)


@pytest.fixture(scope="module")
def study_root(tmp_path_factory):
    """A finished study of six bases and one point without results; never changed."""
    root = tmp_path_factory.mktemp("study")
    points = write_study_points(root)
    (root / "started").mkdir()
    assert write_study(root, [*points, ("started", root / "started")], console()) == root / "study.html"
    return root


@pytest.fixture(scope="module")
def study(study_root):
    return read_json(study_root / "study.json")


def points_of(root):
    return [(folder.name, folder) for folder in sorted(root.glob("main-*"))]


def test_pooled_numbers_can_be_recomputed_from_the_records(study, study_root):
    records = [
        record
        for _, folder in points_of(study_root)
        for record in read_records(folder / "arms" / "kl" / "records.jsonl")
    ]
    own = np.mean([r.explanation == r.current.explanation for r in records])
    orig = np.mean([r.explanation == r.teacher.explanation for r in records])
    kl = study["parts"]["main"]["arms"]["kl"]
    assert kl["self"]["exact_match"]["mean"] == pytest.approx(own)
    assert kl["gap"]["exact_match"]["mean"] == pytest.approx(own - orig)
    assert kl["n"] == len(records)
    assert kl["bases"] == [f"base{i}" for i in range(6)]
    assert sorted(kl["by_subset"]) == ["held_out", "seen"]
    events = [json.loads(line) for _, f in points_of(study_root) for line in (f / "metrics.jsonl").open()]
    logged = [event["agreement"] for event in events if event["arm"] == "kl"]
    assert kl["agreement"]["mean"] == pytest.approx(np.mean(logged))
    assert kl["agreement"]["end"] == pytest.approx(np.mean(logged[1::2]))
    assert kl["kept_behavior"]["end"] == pytest.approx(0.9)


def test_the_foreign_explainer_is_scored_against_the_arms_own_behaviour(study, study_root):
    agree = []
    for _, folder in points_of(study_root):
        own = {(r.seed, r.id): r for r in read_records(folder / "arms/kl/records.jsonl")}
        foreign = read_records(folder / "arms/foreign_kl/records.jsonl")
        agree += [r.explanation == own[r.seed, r.id].current.explanation for r in foreign]
    found = study["parts"]["main"]["controls"]["foreign"]
    assert found["kl"]["self"]["exact_match"]["second"] == pytest.approx(np.mean(agree))
    assert list(found) == ["kl"]


def test_shuffled_is_the_arm_of_that_name_scored_on_every_arms_behaviour(study, study_root):
    agree = []
    for _, folder in points_of(study_root):
        said = {(r.seed, r.id): r for r in read_records(folder / "arms/shuffled/records.jsonl")}
        own = read_records(folder / "arms/no_kl/records.jsonl")
        agree += [said[r.seed, r.id].explanation == r.current.explanation for r in own]
    found = study["parts"]["main"]["controls"]["shuffled"]
    # Not the control of that name, which repeats the arm in this fixture.
    assert found["no_kl"]["self"]["exact_match"]["second"] == pytest.approx(np.mean(agree))
    assert "shuffled" not in found
    assert found["kl"]["gap"]["exact_match"]["mean"] > 0


def test_controls_are_paired_with_their_arm(study):
    part = study["parts"]["main"]
    kl, majority = part["arms"]["kl"], part["controls"]["majority"]["kl"]
    for score in ("self", "orig", "gap"):
        value = majority[score]["exact_match"]
        assert value["first"] == pytest.approx(kl[score]["exact_match"]["mean"])
        assert value["mean"] == pytest.approx(value["first"] - value["second"])
    assert majority["orig"]["exact_match"]["second"] == pytest.approx(0.45, abs=0.03)
    assert kl["best_static"] == "bayes_optimal"
    initial = part["controls"]["initial"]["kl"]
    assert (initial["invalid_rate"], initial["used"]) == (1.0, False)


def test_a_shift_is_shown_by_shifted_groups(study):
    found = study["parts"]["main"]["arms"]["shift_less"]["by_shifted"]
    assert found["shifted"]["drift"] == pytest.approx(0.8, abs=0.05)
    assert found["unshifted"]["drift"] == pytest.approx(0.5, abs=0.05)
    difference = found["difference"][""]["gap"]["exact_match"]
    gaps = [found[half]["gap"]["exact_match"]["mean"] for half in ("shifted", "unshifted")]
    assert difference["mean"] == pytest.approx(gaps[0] - gaps[1])
    assert difference["ci95"][0] < difference["mean"] < difference["ci95"][1]
    held = found["difference"]["majority"]["gap"]["exact_match"]
    halves = [
        found[half]["minus_reference"]["majority"]["gap"]["exact_match"]["mean"]
        for half in ("shifted", "unshifted")
    ]
    assert held["mean"] == pytest.approx(halves[0] - halves[1])
    assert study["parts"]["main"]["arms"]["kl"]["by_shifted"] == {}


def test_claims_have_their_verdicts(study):
    verdicts = {claim["name"]: claim["verdict"] for claim in study["claims"]}
    assert verdicts["KL is needed"] == "confirmed"
    assert verdicts["It is not shared drift"] == "confirmed"
    assert verdicts["It is not the training as such"] == "confirmed"
    assert verdicts["Shifts are tracked"] == "confirmed"
    assert verdicts["Another base's labels still couple"] == "not run"
    assert verdicts["Coupling needs agreement above a knee"] == "undecided"


def test_the_markdown_holds_every_table(study_root, study):
    text = (study_root / "study.md").read_text(encoding="utf-8")
    for title in (
        "Claims",
        "Every reference",
        "Beside the claims",
        "main: arms over 6 bases",
        "main: gap minus best static's in each base",
        "main: by whether the arm's shift trains the group",
        "main: controls",
    ):
        assert f"**{title}**" in text
    for arm in STUDY_ARMS:
        assert f"| {arm} | 6 |" in text
    for claim in study["claims"]:
        assert claim["other_explanation"] in text
    # Whether labels taught comes first, then what did not run.
    assert text.splitlines()[2].startswith("- main: askable: labels teach (kl: Orig +")
    assert text.index("left out: started.") < text.index("## Claims")
    assert "Another base's labels still couple (labels_foreign100 did not run)" in text
    intervals = int(re.search(r"corrected for their number: (\d+) here", text)[1])
    assert intervals == sum(claim["ci95"] is not None for claim in study["claims"])
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_figures_and_the_page_hold_every_claim_that_ran(study_root, study):
    ran = [claim for claim in study["claims"] if claim["mean"] is not None]
    figures = sorted(path.name for path in (study_root / "figures").glob("*.svg"))
    assert len(figures) == len(ran) == 8
    page = (study_root / "study.html").read_text(encoding="utf-8")
    assert page.count("<figure ") == len(ran)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert '<p class="askable met">' in page
    for claim in study["claims"]:
        assert claim["name"] in html.unescape(page)
    assert "$" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    knee = (study_root / "figures" / "claim_coupling_needs_agreement_above_a_knee_main.svg").read_text()
    assert "the paper" in knee
    assert "mean agreement of trained labels" in knee
    slope = (study_root / "figures" / "claim_coupling_comes_with_explaining_well_main.svg").read_text()
    assert "over training" in slope


def test_every_figure_has_its_numbers_beside_it(study_root, study):
    folder = study_root / "figures"
    assert {path.stem for path in folder.glob("*.csv")} == {path.stem for path in folder.glob("*.svg")}

    def numbers(claim) -> list[dict[str, str]]:
        with (folder / f"{study_job._figure_name(claim)}.csv").open(encoding="utf-8") as file:
            return list(csv.DictReader(file))

    forest, knee, slope = (
        next(claim for claim in study["claims"] if claim["estimand"] == kind and claim["mean"] is not None)
        for kind in ("minus_reference", "slope_change", "slope")
    )
    pooled, *rows = numbers(forest)
    ends = [float(pooled[name]) for name in ("difference_lo", "difference_hi")]
    assert (float(pooled["difference"]), ends) == (forest["mean"], forest["ci95"])
    bases = {row["row"]: float(row["difference"]) for row in rows if row["kind"] == "base"}
    assert bases == {base: value["mean"] for base, value in forest["by_base"].items()}
    points = [row for row in numbers(knee) if row["kind"] == "point"]
    assert [float(row["gap"]) for row in points] == [point["gap"] for point in knee["points"]]
    stick = [row for row in numbers(knee) if row["kind"] == "broken stick"]
    assert float(stick[1]["agreement"]) == knee["fit"]["knot"]  # its corner
    live = [(row["condition"], float(row["gap"])) for row in numbers(slope) if row["kind"] == "live"]
    assert live == [(name, step["gap"]) for name, steps in slope["lines"].items() for step in steps]


def test_live_measures_stand_beside_the_slope(study):
    claim = next(claim for claim in study["claims"] if claim["estimand"] == "slope")
    assert list(claim["lines"]) == ["kl", "lr_low", "lr_high"]
    assert claim["lines"]["kl"] == [
        {"step": 0, "orig": pytest.approx(0.2), "gap": pytest.approx(-0.1)},
        {"step": 10, "orig": pytest.approx(0.5), "gap": pytest.approx(0.1)},
    ]


def test_verdicts_are_withheld_where_labels_did_not_teach(tmp_path):
    rng = np.random.default_rng(5)
    points = []
    for index in range(5):
        # `shuffled` says what labels say as often as `kl`: labels taught nothing.
        arms = {arm: random_records(rng, 0.5, arm=arm, groups=30) for arm in ("kl", "no_kl")}
        arms["shuffled"] = [dataclasses.replace(r, arm="shuffled") for r in arms["kl"]]
        folder = write_point(tmp_path / f"p{index}", f"base{index}", arms)
        write_controls(folder, rng, arms)
        points.append((folder.name, folder))
    write_study(tmp_path, points, console())
    study = read_json(tmp_path / "study.json")
    askable = study["parts"]["main"]["askable"]
    assert askable["askable"] is False
    assert askable["words"].startswith("not askable: labels did not teach")
    ran = [claim for claim in study["claims"] if claim["verdict"] != "not run"]
    assert ran
    assert {claim["verdict"] for claim in ran} == {"not askable"}
    shown = [entry["verdict"] for claim in study["claims"] for entry in claim["shown"]]
    assert set(shown) <= {"not askable", "not run"}
    text = (tmp_path / "study.md").read_text(encoding="utf-8")
    assert text.splitlines()[2].startswith("- main: not askable: labels did not teach")
    assert '<p class="askable missed">' in (tmp_path / "study.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_arms_of_one_base_may_stand_in_several_points_in_any_order(study_root, study, tmp_path):
    points = []
    for name, folder in points_of(study_root):
        split = {
            "one": ("kl", "foreign_kl", "lr_low", "shift_less"),
            "two": ("no_kl", "noise30", "lr_high", "shuffled"),
        }
        config = read_json(folder / "config.json")
        for half, arms in split.items():
            records = {arm: read_records(folder / "arms" / arm / "records.jsonl") for arm in arms}
            target = tmp_path / f"{name}-{half}"
            write_point(target, config["base"], records, foreign_to={"foreign_kl": "kl"})
            shutil.copy(folder / "metrics.jsonl", target / "metrics.jsonl")
            points.append((target.name, target))
        shutil.copy(folder / "controls.jsonl", tmp_path / f"{name}-one" / "controls.jsonl")
    write_study(tmp_path, points[::-1], console())
    found = read_json(tmp_path / "study.json")
    assert found["parts"] == study["parts"]
    assert found["claims"] == study["claims"]


@pytest.mark.parametrize(
    ("second", "seeds", "message"),
    [
        ("no_kl", (0, 1, 2), r"base base0.*different items or seeds"),
        ("kl", (0, 1), "points a and b both have arm kl of base base0"),
    ],
)
def test_points_of_one_base_that_do_not_go_together_are_refused(tmp_path, second, seeds, message):
    points = []
    rng = np.random.default_rng(0)
    for name, arm, of in (("a", "kl", (0, 1)), ("b", second, seeds)):
        folder = write_point(tmp_path / name, "base0", {arm: random_records(rng, 0.5, arm=arm, seeds=of)})
        points.append((name, folder))
    with pytest.raises(InputError, match=message):
        write_study(tmp_path, points, console())
    assert not (tmp_path / "study.json").exists()


def test_bad_points_are_refused(tmp_path):
    def refused(name, message):
        with pytest.raises(InputError, match=message):
            write_study(tmp_path, [(name, tmp_path / name)], console())

    refused("a", "no point")
    records = random_records(np.random.default_rng(0), 0.5)
    write_point(tmp_path / "a", "base0", {"kl": records}, part="")
    refused("a", r"config\.part")
    foreign = random_records(np.random.default_rng(0), 0.5, arm="foreign_kl")
    write_point(tmp_path / "b", "base0", {"foreign_kl": foreign}, foreign_to={"foreign_kl": "kl"})
    refused("b", "foreign_kl is foreign to kl, but no point has this arm")
    write_point(tmp_path / "c", "base0", {"kl": records})
    (tmp_path / "c" / "arms" / "kl" / "records.jsonl").unlink()
    refused("c", r"records\.jsonl is missing")


def test_one_base_without_metrics_and_a_hostile_name(tmp_path):
    hostile = "a|b <script>alert(1)</script> $title"
    records = random_records(np.random.default_rng(0), 0.6)
    write_point(tmp_path / "a", hostile, {"kl": records}, tiny=True)
    (tmp_path / "a" / "metrics.jsonl").unlink()
    (tmp_path / "a" / "controls.jsonl").touch()
    write_study(tmp_path, [("a", tmp_path / "a")], console())
    page = (tmp_path / "study.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "Tiny runs" in page
    text = (tmp_path / "study.md").read_text(encoding="utf-8")
    assert text.startswith("*Tiny runs")
    assert "a\\|b" in text
    study = read_json(tmp_path / "study.json")
    assert study["parts"]["main"]["arms"]["kl"]["agreement"]["end"] is None
    assert study["parts"]["main"]["arms"]["kl"]["over_bases"]["sign_flip_p"] is None


def test_values_are_points_and_slope_changes_are_not():
    value = Estimate(0.021, (-0.003, 0.044))
    assert claim_value({"estimand": "minus_reference"}, value) == "+2.1 [−0.3, +4.4]"
    slope = Estimate(0.5, (-0.25, 1.25))
    assert claim_value({"estimand": "slope_change"}, slope) == "+0.50 [−0.25, +1.25] points a point"
    assert claim_value({"estimand": "slope_change"}, Estimate()) == "–"


def test_an_arm_is_read_once_whatever_it_is_needed_for(study_root, monkeypatch):
    read = []

    def counted(path):
        read.append(path)
        return read_records(path)

    monkeypatch.setattr(study_job, "read_records", counted)
    points = points_of(study_root)
    configs = {name: read_json(folder / "config.json") for name, folder in points}
    part = study_job.read_part("main", points, configs)
    for emitter in ("foreign", "shuffled"):
        assert sorted(part.references["kl"][emitter]) == [f"base{i}" for i in range(6)]
    assert len(read) == len(set(read)) == 6 * len(STUDY_ARMS)
