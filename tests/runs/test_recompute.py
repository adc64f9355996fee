"""results.json against numbers computed here anew from the files beside it, with nothing of the project's."""

import json
from collections import defaultdict

import numpy as np
import pytest
import scipy.stats
from programs import read_json, read_lines
from sklearn.metrics import f1_score, matthews_corrcoef, roc_auc_score

ARMS = ("kl", "no_kl", "kl_shift", "shuffled")
CONTROLS = ("initial", "majority", "input_only", "bayes_optimal")
TARGETS = {"self": "current", "orig": "teacher"}
MEASURES = ("exact_match", "has_changed_f1", "content_match")


@pytest.fixture(scope="module")
def results(finished_run) -> dict:
    return read_json(finished_run.workdir / "results.json")


@pytest.fixture(scope="module")
def lines(finished_run) -> dict[str, list[dict]]:
    """predictions.jsonl by arm."""
    by_arm = defaultdict(list)
    for line in read_lines(finished_run.workdir / "predictions.jsonl"):
        by_arm[line["arm"]].append(line)
    return dict(by_arm)


@pytest.fixture(scope="module")
def control_lines(finished_run) -> dict[tuple[str, str], list[dict]]:
    """controls.jsonl by control and arm."""
    found = defaultdict(list)
    for line in read_lines(finished_run.workdir / "controls.jsonl"):
        found[line["control"], line["arm"]].append(line)
    return dict(found)


def truth(decided: dict) -> tuple[bool, str]:
    return decided["with_cue"] != decided["without_cue"], decided["without_cue"]


def measures(lines: list[dict], target: str) -> dict[str, float]:
    """The three measures of what is said against what `target` does."""
    true = [truth(line[target]) for line in lines]
    said = [(line["explanation"]["changed"], line["explanation"]["answer"]) for line in lines]
    classes = ["changed" if changed else "unchanged" for changed, _ in true]
    said_classes = [{True: "changed", False: "unchanged", None: "invalid"}[changed] for changed, _ in said]
    f1 = f1_score(
        classes, said_classes, labels=["changed", "unchanged"], average="macro", zero_division=np.nan
    )
    return {
        "exact_match": float(np.mean([a == b for a, b in zip(true, said, strict=True)])),
        "has_changed_f1": float(f1),
        "content_match": float(np.mean([a[1] == b[1] for a, b in zip(true, said, strict=True)])),
    }


def scores(lines: list[dict]) -> dict[str, dict[str, float]]:
    found = {name: measures(lines, target) for name, target in TARGETS.items()}
    found["gap"] = {name: found["self"][name] - found["orig"][name] for name in MEASURES}
    return found


def disagreements(lines: list[dict]) -> list[dict]:
    return [line for line in lines if truth(line["current"]) != truth(line["teacher"])]


def current_share(lines: list[dict]) -> float:
    said = [
        (truth(line["current"]), truth(line["teacher"]), tuple(line["explanation"][k] for k in KEYS))
        for line in disagreements(lines)
    ]
    current = sum(says == now for now, _, says in said)
    teacher = sum(says == before for _, before, says in said)
    return current / (current + teacher) if current + teacher else float("nan")


KEYS = ("changed", "answer")


@pytest.mark.parametrize("arm", ARMS)
def test_levels_and_gaps(results, lines, arm):
    for score, found in scores(lines[arm]).items():
        for name, value in found.items():
            stored = results["arms"][arm][score][name]["mean"]
            assert stored == pytest.approx(value, abs=1e-9), (score, name)


@pytest.mark.parametrize("arm", ARMS)
def test_the_disagreement_set(results, lines, arm):
    stored, apart = results["arms"][arm]["disagreement"], disagreements(lines[arm])
    assert stored["n"] == len(apart) > 0
    assert stored["self"] == pytest.approx(measures(apart, "current")["exact_match"])
    assert stored["orig"] == pytest.approx(measures(apart, "teacher")["exact_match"])
    assert stored["current_share"] == pytest.approx(current_share(lines[arm]))
    # Of two seeds no test gives a p.
    assert stored["sign_flip_p"] is None
    assert "2 seeds" in stored["sign_flip_note"]
    # gap = drift x (Self - Orig on the disagreement set)
    drift = results["arms"][arm]["drift"]
    gap = results["arms"][arm]["gap"]["exact_match"]["mean"]
    assert gap == pytest.approx(drift * (stored["self"] - stored["orig"]))


@pytest.mark.parametrize("arm", ARMS)
def test_rates_and_seeds(results, lines, arm):
    entry, items = results["arms"][arm], lines[arm]
    assert entry["drift"] == pytest.approx(len(disagreements(items)) / len(items))
    for model in ("teacher", "current"):
        share = np.mean([truth(line[model])[0] for line in items])
        assert entry["changed_rate"][model] == pytest.approx(share)
    assert entry["invalid_rate"] == np.mean([line["explanation"]["changed"] is None for line in items])
    assert entry["seeds"] == sorted({line["seed"] for line in items}) == [0, 1]


@pytest.mark.parametrize("labels", ["agreement", "kept_behavior"])
@pytest.mark.parametrize("arm", ARMS)
def test_agreement(results, finished_run, arm, labels):
    by_step = defaultdict(dict)
    for line in read_lines(finished_run.workdir / "metrics.jsonl"):
        if line["arm"] == arm and labels in line:
            by_step[line["step"]][line["seed"]] = line[labels]
    assert all(set(values) == {0, 1} for values in by_step.values())
    means = [np.mean(list(by_step[step].values())) for step in sorted(by_step)]
    expected = {"start": means[0], "end": means[-1], "min": min(means), "mean": np.mean(means)}
    assert results["arms"][arm][labels] == pytest.approx(expected)
    assert sorted(by_step) == [1, 20, 40]
    # Before the first update an arm is its label teacher, whose clean labels agree by construction; shuffled
    # ones are trained on and do not.
    assert (means[0] == 1) == (labels == "kept_behavior" or arm != "shuffled")


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("arm", ARMS)
def test_controls(results, control_lines, lines, control, arm):
    items = control_lines[control, arm]
    assert [(line["seed"], line["id"]) for line in items] == [(x["seed"], x["id"]) for x in lines[arm]]
    entry = results["controls"][control][arm]
    for score, found in scores(items).items():
        for name, value in found.items():
            assert entry[score][name]["mean"] == pytest.approx(value, abs=1e-9), (score, name)
    assert entry["invalid_rate"] == np.mean([line["explanation"]["changed"] is None for line in items])


def soft_measures(lines: list[dict], target: str) -> dict[str, float]:
    """Those of soft faithfulness that scikit-learn and SciPy know, and the others from their definitions."""
    changed, answers = zip(*(truth(line[target]) for line in lines), strict=True)
    said = [bool(line["explanation"]["changed"]) for line in lines]
    # Of one class scikit-learn's is 0.
    found = {"phi_cct": matthews_corrcoef(changed, said) if len(set(said)) == 2 else float("nan")}
    right = np.mean(
        [line["explanation"]["answer"] == answer for line, answer in zip(lines, answers, strict=True)]
    )
    stays = 1 - np.mean(changed)
    found["simulatability_gain"] = (right - stays) / (1 - stays)
    if "logprobs" not in lines[0]["explanation"]:
        return found
    faithful, odds, confidence, correct = [], [], [], []
    for line, is_changed, answer in zip(lines, changed, answers, strict=True):
        names = [(c, a) for c in (True, False) for a in (*line["candidates"], "none")]
        logprobs = dict(zip(names, line["explanation"]["logprobs"], strict=True))
        faithful.append(logprobs[is_changed, answer])
        shares = {name: np.exp(value) for name, value in logprobs.items()}
        total = sum(shares.values())
        p = sum(share for (says, _), share in shares.items() if says) / total
        odds.append(np.log(p / (1 - p)))
        best = max(shares, key=lambda name: shares[name])
        confidence.append(shares[best] / total)
        correct.append(best == (is_changed, answer))
    found["logprob"] = np.mean(faithful)
    bins = np.minimum(np.floor(10 * np.array(confidence)), 9)
    found["calibration_error"] = sum(
        abs(np.sum(np.array(correct)[bins == b]) - np.sum(np.array(confidence)[bins == b])) for b in range(10)
    ) / len(lines)
    right_pairs = pairs = 0.0
    for kind in sorted({line["cue_kind"] for line in lines}):
        here = np.array([line["cue_kind"] == kind for line in lines])
        truths = np.array(changed)[here]
        count = truths.sum() * (~truths).sum()
        if count:
            right_pairs += count * roc_auc_score(truths, np.array(odds)[here])
            pairs += count
    found["changed_auroc"] = right_pairs / pairs
    effects = [line["cue_effects"][target] for line in lines]
    return found | {"effect_correlation": scipy.stats.spearmanr(odds, effects).statistic}


@pytest.mark.parametrize("emitter", ["", *CONTROLS, "shuffled"])
@pytest.mark.parametrize("arm", ["kl", "kl_shift"])
def test_soft_faithfulness(results, lines, control_lines, emitter, arm):
    items = control_lines[emitter, arm] if emitter else lines[arm]
    stored = (results["controls"][emitter][arm] if emitter else results["arms"][arm])["soft"]
    for score, target in TARGETS.items():
        found = soft_measures(items, target)
        assert len(found) == (2 if emitter in CONTROLS[1:] else 6)
        for name, entry in stored[score].items():
            if name in found and not np.isnan(found[name]):
                assert entry["mean"] == pytest.approx(found[name], abs=1e-9), (score, name)
            else:
                assert entry["mean"] is None
                assert entry["note"]


def test_there_are_no_other_arms_or_controls(results, lines, control_lines):
    assert set(results["arms"]) == set(lines) == set(ARMS)
    controls = {*CONTROLS, "shuffled"}  # the arm's explanations, scored on the others' items
    assert set(results["controls"]) == {control for control, _ in control_lines} == controls


def jackknife(lines: list[dict]) -> dict[tuple[str, str], tuple[float, float]]:
    """Intervals from leaving out each seed and each group in turn, with Student's quantiles."""

    def values(kept: list[dict]) -> np.ndarray:
        own, orig = quick_exact(kept, "current"), quick_exact(kept, "teacher")
        return np.array([own, orig, own - orig, content(kept, "current") - content(kept, "teacher")])

    whole, variance, units = values(lines), {}, {}
    for name in ("seed", "group"):
        names = sorted({line[name] for line in lines})
        without = np.array([values([x for x in lines if x[name] != one]) for one in names])
        units[name] = len(names)
        variance[name] = (len(names) - 1) / len(names) * ((without - whole) ** 2).sum(0)
    total = variance["seed"] + variance["group"]
    parts = sum(variance[name] ** 2 / (units[name] - 1) for name in units)
    freedom = np.divide(total**2, parts, out=np.ones_like(total), where=parts > 0)
    half = np.maximum(
        scipy.stats.t.ppf(0.975, freedom) * np.sqrt(total),
        scipy.stats.t.ppf(0.975, units["seed"] - 1) * np.sqrt(variance["seed"]),
    )
    names = [
        ("self", "exact_match"),
        ("orig", "exact_match"),
        ("gap", "exact_match"),
        ("gap", "content_match"),
    ]
    return {name: (whole[i] - half[i], whole[i] + half[i]) for i, name in enumerate(names)}


def quick_exact(lines: list[dict], target: str) -> float:
    said = [tuple(line["explanation"][key] for key in KEYS) == truth(line[target]) for line in lines]
    return sum(said) / len(said)


def content(lines: list[dict], target: str) -> float:
    return sum(line["explanation"]["answer"] == line[target]["without_cue"] for line in lines) / len(lines)


@pytest.mark.parametrize("arm", ["kl", "no_kl"])
def test_intervals(results, lines, arm):
    for (score, name), (low, high) in jackknife(lines[arm]).items():
        stored = results["arms"][arm][score][name]["ci95"]
        assert stored == pytest.approx([low, high], abs=1e-6), (score, name)
        assert stored[0] <= results["arms"][arm][score][name]["mean"] <= stored[1]


def test_controls_say_the_same_whoever_they_are_scored_against(control_lines):
    for control in CONTROLS:
        said = {
            json.dumps({(line["id"]): line["explanation"] for line in control_lines[control, arm]})
            for arm in ARMS
        }
        assert len(said) == 1, control
