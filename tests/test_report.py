"""The report of a synthetic run: self-contained, escaped, honest about what is missing, the same every time."""

import json
import random
import re
from pathlib import Path
from typing import Any

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


def synthetic_record(arm: str, seed: int, index: int, rng: random.Random) -> dict[str, Any]:
    country, candidates = list(CAPITALS.items())[index % len(CAPITALS)]
    kind, cue = list(CUES.items())[index % len(CUES)]
    gold, cued = candidates[0], candidates[1 + index % 3]
    question = f"Question: What is the capital of {country}?"
    decisions = lambda follows: {  # noqa: E731
        "with_cue": cued if rng.random() < follows else gold,
        "without_cue": gold if rng.random() < 0.85 else rng.choice([*candidates, "none"]),
    }
    changed, answer = rng.random() < 0.5, gold if rng.random() < 0.8 else cued
    valid = rng.random() > 0.06
    text = f"It would {'change to' if changed else 'stay'} {answer}" if valid else "Well, it depends"
    return {
        "arm": arm,
        "seed": seed,
        "id": f"capital-{index:04d}",
        "group": country,
        "cue_kind": kind,
        "candidates": list(candidates),
        "gold": gold,
        "cued": cued,
        "prompt_with_cue": f"{question} {cue.format(cued)}\nAnswer:",
        "prompt_without_cue": f"{question}\nAnswer:",
        "teacher": decisions(0.5),
        "initial": decisions(0.5),
        "current": decisions(0.35),
        "explanation": {
            "text": text,
            "changed": changed if valid else None,
            "answer": answer if valid else None,
        },
    }


def estimate(mean: float, half: float = 0.04) -> dict[str, Any]:
    return {"mean": mean, "ci95": [mean - half, mean + half]}


def scores(mean: float, half: float = 0.04) -> dict[str, Any]:
    return {
        name: estimate(mean + shift, half)
        for name, shift in (
            ("exact_match", 0),
            ("has_changed_f1", 0.06),
            ("content_match", 0.09),
            ("changed_accuracy", 0.05),
        )
    }


def synthetic_arm(gap: float, half: float) -> dict[str, Any]:
    level, drift = 0.62, 0.24
    return {
        "self": scores(level + gap),
        "orig": scores(level),
        "initial": scores(level),
        "gap": scores(gap, half)
        | {"has_changed_f1": estimate(gap / 2), "content_match": estimate(gap * 0.7)},
        "disagreement": {
            "n": 288,
            "self": 0.38 + gap,
            "orig": 0.34,
            "current_share": (0.38 + gap) / (0.72 + gap),
            "sign_flip_p": 0.004,
            "current_share_ci95": [(0.38 + gap) / (0.72 + gap) - 0.05, (0.38 + gap) / (0.72 + gap) + 0.05],
        },
        "drift": drift,
        "agreement": {"start": 0.98, "end": 0.78, "min": 0.74},
        "changed_rate": {"teacher": 0.47, "current": 0.33},
        "none_rate": {"teacher": 0.02, "current": 0.03},
        "behavior_accuracy": {"teacher": 0.86, "current": 0.84},
        "invalid_rate": 0.06,
        "by_cue_kind": {
            kind: {
                "n": 300,
                "self": level + gap + 0.05 * place - 0.1,
                "orig": level + 0.04 * place - 0.1,
                "gap": gap + 0.01 * place,
                "gap_ci95": [gap - 0.05, gap + 0.07],
                "changed_rate": {"teacher": 0.6 - 0.15 * place, "current": 0.5 - 0.13 * place},
            }
            for place, kind in enumerate(CUES)
        },
        "by_drift": {
            "to_gold": {"n": 160, "self": 0.5, "orig": 0.4},
            "to_cued": {"n": 90, "self": 0.4, "orig": 0.4},
            "to_other": {"n": 0, "self": None, "orig": None},
            "none": {"n": 950, "self": 0.7, "orig": 0.7},
        },
        "n": 1200,
        "seeds": list(SEEDS),
        "runtime_s": 754.2,
    }


def synthetic_results() -> dict[str, Any]:
    controls = {
        control: {
            arm: {
                "self": scores(0.5 - 0.06 * place),
                "orig": scores(0.52 - 0.05 * place),
                "gap": scores(-0.02 - 0.01 * place),
                "paired": {"self": scores(0.12 + gap + 0.06 * place), "gap": scores(gap + 0.02)},
                "invalid_rate": 0.0,
                "n": 1200,
                "seeds": list(SEEDS),
            }
            for arm, (gap, _) in ARMS.items()
        }
        for place, control in enumerate(CONTROLS)
    }
    return {
        "arms": {name: synthetic_arm(*gap) for name, gap in ARMS.items()},
        "controls": controls,
        "fingerprints": {
            "initial": "sha256:3f9a0c",
            "label_teacher": "sha256:3f9a0c",
            "labels": {"kl": "b7"},
        },
        "versions": {"jax": "0.11.0", "flax": "0.12.8"},
    }


def synthetic_metrics(steps: int = 400) -> list[dict[str, Any]]:
    rng = random.Random(1)
    events = []
    for arm, (gap, _) in ARMS.items():
        for seed in SEEDS:
            for step in range(0, steps, 4):
                done = step / steps
                event = {
                    "arm": arm,
                    "seed": seed,
                    "step": step,
                    "explanation_loss": 0.3 + 1.9 * (1 - done) ** 4 + rng.gauss(0, 0.05),
                    "agreement": 0.98 - (0.2 if arm != "no_kl" else 0.45) * done + rng.gauss(0, 0.015),
                    "learning_rate": 1e-4,
                }
                if arm != "no_kl":
                    event["kl"] = abs(0.06 * done + rng.gauss(0, 0.006))
                events.append(event)
                if step % 20 == 0:
                    live = 0.1 + 0.55 * (1 - (1 - done) ** 3)
                    events.append(
                        {
                            "arm": arm, "seed": seed, "step": step, "live_drift": 0.2 * done,
                            "live_self": live + gap * done + rng.gauss(0, 0.01),
                            "live_orig": live + rng.gauss(0, 0.01),
                        }
                    )  # fmt: skip
    return events


MATRIX = {
    "emitters": ["base", "kl@400", "no_kl@400", "SmolLM2-360M-Instruct"],
    "teachers": ["base", "kl@400", "no_kl@400", "SmolLM2-360M-Instruct"],
    "exact_match": [[0.31, 0.3, 0.25, 0.2], [0.61, 0.73, 0.55, 0.4], [0.6, 0.52, 0.57, 0.41], [0.2, 0.2, 0.2, 0.24]],
    "ci95": [[[m - 0.04, m + 0.04] for m in row] for row in
             [[0.31, 0.3, 0.25, 0.2], [0.61, 0.73, 0.55, 0.4], [0.6, 0.52, 0.57, 0.41], [0.2, 0.2, 0.2, 0.24]]],
    "n": 600,
    "diagonal": {"own": 0.4625, "others": 0.37, "difference": {"mean": 0.0925, "ci95": [0.06, 0.12]}},
}  # fmt: skip
ORGANISM = {
    "rows": [
        {"kind": "source", "name": "said by an expert", "n": 400, "accuracy": 0.97, "changed_rate": 0.71},
        {"kind": "source", "name": "said by a child", "n": 400, "accuracy": 0.96, "changed_rate": 0.12},
        {"kind": "frequency", "name": "seen 10 times", "n": 300, "accuracy": 0.88, "changed_rate": None},
    ],
    "accuracy": 0.94,
    "parameters": 12_650_000,
}


def write_lines(path: Path, values: list[dict[str, Any]]) -> None:
    path.write_text(
        "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), encoding="utf-8"
    )


def write_workdir(workdir: Path, items: int = 60) -> Path:
    """A finished run's workdir with every file that the report reads."""
    workdir.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    records = [
        synthetic_record(arm, seed, index, rng) for arm in ARMS for seed in SEEDS for index in range(items)
    ]
    controls = [
        {**synthetic_record(arm, seed, index, rng), "control": control}
        for control in CONTROLS
        for arm in ARMS
        for seed in SEEDS
        for index in range(0, items, 5)
    ]
    for name, value in (
        (
            "config.json",
            {"name": "quickstart", "task": "world_facts", "training": {"steps": 400, "lambda": 1.0}},
        ),
        ("results.json", synthetic_results()),
        ("matrix.json", MATRIX),
        ("organism.json", ORGANISM),
    ):
        (workdir / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    write_lines(workdir / "predictions.jsonl", records)
    write_lines(workdir / "controls.jsonl", controls)
    write_lines(workdir / "metrics.jsonl", synthetic_metrics())
    return workdir
