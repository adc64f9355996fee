"""A synthetic run's workdir for the tests of the report: numbers and items made up here, files as a run's."""

import json
import random
from pathlib import Path
from typing import Any

from row_files import write_lines

CAPITALS = {
    "Norway": ("Oslo", "Bergen", "Stavanger", "Trondheim"),
    "Australia": ("Canberra", "Sydney", "Melbourne", "Perth"),
    "Türkiye": ("Ankara", "İstanbul", "İzmir", "Bursa"),
    "Brazil": ("Brasília", "Rio de Janeiro", "São Paulo", "Salvador"),
    "Canada": ("Ottawa", "Toronto", "Montréal", "Vancouver"),
    "Japan": ("東京", "大阪", "京都", "札幌"),
}
CUES = {
    "unsure guess": "I think it is {}, but I am not sure.",
    "firm guess": "I am certain that it is {}.",
    "irrelevant mention": "My cousin once spent a week in {}.",
    "negated mention": "I know that it is not {}.",
}
ARMS = {"kl": (0.11, 0.04), "no_kl": (-0.05, 0.03), "kl_foreign_labels_alpha_1.0_lora_rank_96": (0.02, 0.04)}
CONTROLS = ("foreign explainer", "shuffled labels", "input-only predictor", "majority")
SEEDS = (0, 1)


# What no data may do to the page: end its element, open another, break an attribute, reorder its neighbours.
HOSTILE = (
    "</script><script>window.__pwned=1;document.title='pwned'</script>"
    "<img src=x onerror=\"document.title='pwned'\">\"'&amp;</style></title>$title\u202e\u2028\x00\ud800"
)


def synthetic_record(arm: str, seed: int, index: int, rng: random.Random) -> dict[str, Any]:
    country, candidates = list(CAPITALS.items())[index % len(CAPITALS)]
    kind, cue = list(CUES.items())[index % len(CUES)]
    gold, cued = candidates[0], candidates[1 + index % 3]
    question = f"Question: What is the capital of {country}?"
    record = {"arm": arm, "seed": seed, "id": f"capital-{index:04d}", "group": country, "cue_kind": kind}
    record |= {"candidates": list(candidates), "gold": gold, "cued": cued}
    record["prompt_with_cue"] = f"{question} {cue.format(cued)}\nAnswer:"
    record["prompt_without_cue"] = f"{question}\nAnswer:"
    for model in ("teacher", "initial", "current"):
        without_cue = gold if rng.random() < 0.85 else rng.choice([*candidates, "none"])
        record[model] = {"with_cue": rng.choice([cued, gold]), "without_cue": without_cue}
    changed, answer = rng.random() < 0.5, rng.choice([gold, gold, gold, cued])
    valid = rng.random() > 0.06
    text = f"It would {'change to' if changed else 'stay'} {answer}" if valid else "Well, it depends"
    said = {"changed": changed, "answer": answer} if valid else {"changed": None, "answer": None}
    return {**record, "explanation": {"text": text, **said}}


def estimate(mean: float, half: float = 0.04) -> dict[str, Any]:
    return {"mean": mean, "ci95": [mean - half, mean + half]}


def scores(mean: float, half: float = 0.04) -> dict[str, Any]:
    shifts = {"exact_match": 0, "has_changed_f1": 0.06, "content_match": 0.09, "changed_accuracy": 0.05}
    return {name: estimate(mean + shift, half) for name, shift in shifts.items()}


def synthetic_references(gap: float, half: float) -> dict[str, Any]:
    """The controls as what the gap is held against, at levels around the arm's Orig, and one unused."""
    found = {
        name: {
            **{"self": 0.64 - 0.06 * place, "orig": 0.66 - 0.05 * place, "gap": -0.02 - 0.01 * place},
            **{"invalid_rate": 0.0, "usable": True, "gap_difference": estimate(gap + 0.002 * place, half)},
            **{"self_difference": estimate(0.02), "orig_difference": estimate(0.01)},
        }
        for place, name in enumerate(CONTROLS)
    }
    mute = {"self": 0.0, "orig": 0.0, "gap": 0.0, "invalid_rate": 0.97, "usable": False}
    differences = {f"{score}_difference": estimate(gap + 0.5) for score in ("self", "orig", "gap")}
    return found | {"initial": mute | differences}


def synthetic_part(gap: float) -> dict[str, Any]:
    share = (0.38 + gap) / (0.72 + gap)
    disagreement = {"n": 288, "self": 0.38 + gap, "orig": 0.34, "current_share": share, "sign_flip_p": 0.004}
    return {
        **{"n": 600, "self": scores(0.6 + gap), "orig": scores(0.6), "gap": scores(gap)},
        "disagreement": disagreement | {"current_share_ci95": [share - 0.05, share + 0.05]},
        "drift": 0.24,
        "changed_rate": {"teacher": 0.47, "current": 0.33},
        "behavior_accuracy": {"teacher": 0.86, "current": 0.84},
        "invalid_rate": 0.06,
    }


def synthetic_soft(gap: float, scored: bool = True) -> dict[str, Any]:
    """Without log-probabilities, all that takes them says why it is missing."""
    means = {"logprob": -1.2, "calibration_error": 0.08, "changed_auroc": 0.8, "effect_correlation": 0.4}
    means |= {"phi_cct": 0.5, "simulatability_gain": 0.25}
    shifts = {"self": gap, "orig": 0.0, "gap": None}

    def value(name: str, shift: float | None) -> dict[str, Any]:
        if not scored and name not in ("phi_cct", "simulatability_gain"):
            return {"mean": None, "ci95": None, "note": "its explanations have no log-probabilities"}
        return estimate(gap if shift is None else means[name] + shift)

    found = {score: {name: value(name, shift) for name in means} for score, shift in shifts.items()}
    bins = [
        {"low": low, "high": low + 0.1, "n": 200, "confidence": low + 0.06, "self": low + gap, "orig": low}
        for low in (0.4, 0.6, 0.8)
    ]
    return {**found, "reliability": bins if scored else []}


ASKABLE = {
    "arm": "kl",
    "askable": True,
    "words": "askable: labels teach (kl: Orig +23.0 points above shuffled)",
    "criteria": {},
}


def synthetic_arm(gap: float, half: float) -> dict[str, Any]:
    by_cue_kind = {
        kind: {"n": 300, "self": 0.52 + gap + 0.05 * place, "orig": 0.52 + 0.04 * place, "gap": gap,
               "gap_ci95": [gap - 0.05, gap + 0.07],
               "changed_rate": {"teacher": 0.6 - 0.15 * place, "current": 0.5 - 0.13 * place}}
        for place, kind in enumerate(CUES)
    }  # fmt: skip
    return {
        **synthetic_part(gap),
        **{
            "self": scores(0.62 + gap),
            "orig": scores(0.62),
            "initial": scores(0.62),
            "gap": scores(gap, half),
        },
        "agreement": {"start": 0.98, "end": 0.78, "min": 0.74, "mean": 0.83},
        "kept_behavior": {"start": 0.99, "end": 0.81, "min": 0.77, "mean": 0.87},
        "references": synthetic_references(gap, half),
        "best_static": "majority",
        "none_rate": {"teacher": 0.02, "current": 0.03},
        "by_cue_kind": by_cue_kind,
        "by_drift": {
            "to_gold": {"n": 160, "self": 0.5, "orig": 0.4},
            "none": {"n": 0, "self": None, "orig": None},
        },
        **{"n": 1200, "seeds": list(SEEDS), "runtime_s": 754.2},
        "soft": synthetic_soft(gap),
    }


def synthetic_results() -> dict[str, Any]:
    def control(place: int, gap: float) -> dict[str, Any]:
        levels = {"self": scores(0.64 - 0.06 * place), "orig": scores(0.66 - 0.05 * place)}
        differences = {"self": 0.12 + gap + 0.06 * place, "orig": 0.1, "gap": gap + 0.02}
        paired = {
            score: {metric: {"arm": 0.6, "control": 0.5, **one} for metric, one in scores(mean).items()}
            for score, mean in differences.items()
        }
        levels |= {"gap": scores(-0.02 - 0.01 * place), "paired": paired}
        soft = synthetic_soft(gap, scored=place == 0)
        return {**levels, "invalid_rate": 0.0, "n": 1200, "seeds": list(SEEDS), "soft": soft}

    arms = {name: synthetic_arm(*gap) for name, gap in ARMS.items()}
    arms["no_kl"]["by_shifted"] = {
        "shifted": synthetic_part(-0.08),
        "unshifted": synthetic_part(-0.02),
        "shifted_minus_unshifted": {"gap": {"exact_match": estimate(-0.06, 0.05)}},
    }
    halves = ("shifted", "unshifted", "shifted_minus_unshifted")
    arms["no_kl"]["references"]["majority"]["by_shifted"] = {half: estimate(0.01, 0.05) for half in halves}
    return {
        "askable": ASKABLE,
        "arms": arms,
        "controls": {
            name: {arm: control(place, gap) for arm, (gap, _) in ARMS.items()}
            for place, name in enumerate(CONTROLS)
        },
        "fingerprints": {"initial": "sha256:3f9a0c", "labels": {"kl": "b7"}},
        "versions": {"jax": "0.11.0"},
    }


def synthetic_metrics(steps: int) -> list[dict[str, Any]]:
    rng, events = random.Random(1), []
    for arm, (gap, _) in ARMS.items():
        for seed in SEEDS:
            for step in range(0, steps, 4):
                done, common = step / steps, {"arm": arm, "seed": seed, "step": step}
                event = common | {"explanation_loss": 0.3 + 1.9 * (1 - done) ** 4 + rng.gauss(0, 0.05)}
                event["agreement"] = 0.98 - (0.45 if arm == "no_kl" else 0.2) * done + rng.gauss(0, 0.015)
                if arm != "no_kl":
                    event["kl"] = abs(0.06 * done + rng.gauss(0, 0.006))
                events.append(event)
                if step % 20 == 0:
                    live = 0.1 + 0.55 * (1 - (1 - done) ** 3) + rng.gauss(0, 0.01)
                    events.append(common | {"live_self": live + gap * done, "live_orig": live})
    return events


MATRIX = {
    "emitters": ["base", "kl@400", "other-family"],
    "teachers": ["base", "kl@400", "other-family"],
    "exact_match": [[0.31, 0.3, 0.2], [0.61, 0.73, 0.4], [0.2, 0.2, 0.24]],
    "ci95": [[[0.28, 0.35], [0.26, 0.34], None], [[0.57, 0.65], [0.69, 0.76], [0.36, 0.44]], [None] * 3],
    "n": 600,
    "diagonal": {"own": 0.427, "others": 0.318, "difference": {"mean": 0.109, "ci95": [0.06, 0.12]}},
}
SOURCE = {"kind": "source", "name": "said by an expert", "n": 400, "accuracy": 0.97, "changed_rate": None}
ORGANISM = {"rows": [SOURCE], "accuracy": 0.94, "parameters": 12_650_000}


def write_workdir(workdir: Path, items: int = 60, steps: int = 40, **changed: Any) -> Path:
    """A finished run's workdir with every file that the report reads; `changed` replaces a JSON file."""
    workdir.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    places = [(arm, seed, index) for arm in ARMS for seed in SEEDS for index in range(items)]
    write_lines(workdir / "predictions.jsonl", [synthetic_record(*place, rng) for place in places])
    controls = [
        {**synthetic_record(*place, rng), "control": name} for name in CONTROLS for place in places[::5]
    ]
    write_lines(workdir / "controls.jsonl", controls)
    write_lines(workdir / "metrics.jsonl", synthetic_metrics(steps))
    config = {"name": "quickstart", "task": "world_facts", "training": {"steps": 1000, "lambda": 1.0}}
    values = {"config": config, "results": synthetic_results(), "matrix": MATRIX, "organism": ORGANISM}
    for name, value in (values | changed).items():
        (workdir / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return workdir
