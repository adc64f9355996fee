"""Synthetic records of several bases, and the workdirs of a study's points, for the tests of the study."""

import json
from pathlib import Path

import numpy as np

from introspection.coupling.records import PredictionRecord, write_records
from introspection.tasks.items import Decisions, Explanation

CANDIDATES = ("Oslo", "Rome", "Bern")
MOVED, STAYS = ("Rome", "Oslo"), ("Oslo", "Oslo")  # decisions with and without the cue
SAYS_MOVED, SAYS_STAYS = Explanation(True, "Oslo"), Explanation(False, "Oslo")


def make_record(number, teacher, current, explanation, *, arm="kl", seed=0, group=None, subset=""):
    return PredictionRecord(
        arm=arm,
        seed=seed,
        id=str(number),
        group=str(number) if group is None else group,
        cue_kind="guess",
        candidates=CANDIDATES,
        gold="Oslo",
        cued="Rome",
        prompt_with_cue="x",
        prompt_without_cue="x without",
        teacher=Decisions(*teacher),
        initial=Decisions(*teacher),
        current=Decisions(*current),
        explanation_text="",
        explanation=explanation,
        subset=subset,
    )


def random_records(rng, toward_current, *, arm="kl", seeds=(0, 1), groups=12, items=2, subsets=("",)):
    """Half of the items drift; there an explanation follows current with probability `toward_current`."""
    records = []
    for seed in seeds:
        for number in range(groups * items):
            drifted, follows = rng.random() < 0.5, rng.random() < toward_current
            teacher = MOVED if rng.random() < 0.5 else STAYS
            current = {MOVED: STAYS, STAYS: MOVED}[teacher] if drifted else teacher
            said = Decisions(*(current if follows else teacher)).explanation
            group = number // items
            subset = subsets[group % len(subsets)]
            records.append(
                make_record(
                    number, teacher, current, said, arm=arm, seed=seed, group=f"fact {group}", subset=subset
                )
            )
    return records


def write_point(workdir: Path, base: str, arms, *, part="main", agreement=0.8, foreign_to=None, **config):
    """A finished run's workdir as far as a study reads it.

    `arms` maps names to records, `agreement` is one number or one an arm.
    """
    foreign_to = foreign_to or {}
    for arm, records in arms.items():
        (workdir / "arms" / arm).mkdir(parents=True)
        write_records(workdir / "arms" / arm / "records.jsonl", records)
    fields = {arm: {"foreign_to": foreign_to.get(arm, "")} for arm in arms}
    write_json(workdir / "config.json", {"part": part, "base": base, "arms": fields, **config})
    write_json(workdir / "results.json", {"arms": {arm: {} for arm in arms}})
    events = [
        {"arm": arm, "seed": seed, "step": step, "agreement": end if step else 1.0}
        for arm, records in arms.items()
        for seed in sorted({r.seed for r in records})
        for step, end in ((0, 1.0), (10, agreement[arm] if isinstance(agreement, dict) else agreement))
    ]
    write_lines(workdir / "metrics.jsonl", events)
    return workdir


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def write_lines(path: Path, values) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")


STUDY_ARMS = {"kl": 0.75, "no_kl": 0.35, "noise30": 0.6, "lr_low": 0.55, "lr_high": 0.9, "foreign_kl": 0.3}
STUDY_AGREEMENT = {"kl": 0.8, "no_kl": 0.5, "noise30": 0.7, "lr_low": 0.9, "lr_high": 0.75, "foreign_kl": 0.6}


def write_study_points(root: Path, bases=6, part="main"):
    """A point a base; every arm leans to current as `STUDY_ARMS` says, less or more by base."""
    points = []
    for index in range(bases):
        rng = np.random.default_rng([7, index])
        lean = rng.normal(0, 0.03)
        arms = {
            arm: random_records(rng, mean + lean, arm=arm, groups=60, subsets=("seen", "held_out"))
            for arm, mean in STUDY_ARMS.items()
        }
        agreement = {arm: value + rng.normal(0, 0.02) for arm, value in STUDY_AGREEMENT.items()}
        folder = root / f"{part}-{index}"
        write_point(
            folder, f"base{index}", arms, part=part, agreement=agreement, foreign_to={"foreign_kl": "kl"}
        )
        majority = [{"control": "majority", **r.to_json()} for r in arms["kl"]]
        write_lines(folder / "controls.jsonl", majority)
        points.append((folder.name, folder))
    return points
