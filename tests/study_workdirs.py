"""Synthetic records of several bases, and the workdirs of a study's points, for the tests of the study."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from results_records import record
from row_files import write_lines

from introspection.coupling.records import write_records
from introspection.tasks.items import INVALID, Decisions, Explanation

MOVED, STAYS = ("Rome", "Oslo"), ("Oslo", "Oslo")  # decisions with and without the cue
SAYS_MOVED, SAYS_STAYS = Explanation(True, "Oslo"), Explanation(False, "Oslo")
SAYS_WRONG = Explanation(True, "Bern")  # what nobody here ever decides


def random_records(
    rng,
    toward_current,
    *,
    arm="kl",
    seeds=(0, 1),
    groups=12,
    items=2,
    subsets=("",),
    right=1.0,
    toward_shifted=None,
):
    """Half of the items drift; there an explanation follows current with probability `toward_current`.

    A share `right` says what current or teacher do, the rest what neither does. With `toward_shifted` every
    second pair of groups is shifted: four in five of its items drift, and explanations follow so often there.
    """
    records = []
    for seed in seeds:
        for number in range(groups * items):
            group = number // items
            shifted = toward_shifted is not None and group % 4 > 1
            lean = toward_shifted if shifted else toward_current
            drifted, follows = rng.random() < (0.8 if shifted else 0.5), rng.random() < lean
            teacher = MOVED if rng.random() < 0.5 else STAYS
            current = {MOVED: STAYS, STAYS: MOVED}[teacher] if drifted else teacher
            said = Decisions(*(current if follows else teacher)).explanation
            if right < 1 and rng.random() >= right:
                said = SAYS_WRONG
            subset = subsets[group % len(subsets)]
            place = {"arm": arm, "seed": seed, "group": f"fact {group}", "subset": subset, "shifted": shifted}
            records.append(record(number, teacher, current, said, **place))
    return records


# Static emitters: how often each says what the teacher does, whatever the model does now.
STATIC = {"bayes_optimal": 0.9, "majority": 0.45}


def static_records(rng, records, orig):
    """What a static emitter says on an arm's items: as often the teacher's explanation, else a wrong one."""
    return [
        dataclasses.replace(r, explanation=r.teacher.explanation if rng.random() < orig else SAYS_WRONG)
        for r in records
    ]


def control_records(rng, records):
    """An arm's controls: `STATIC`, an untrained model that can't explain, and one that studies ignore."""
    return {
        **{name: static_records(rng, records, orig) for name, orig in STATIC.items()},
        "initial": [dataclasses.replace(r, explanation=INVALID) for r in records],
        "shuffled": records,
    }


def write_point(workdir: Path, base: str, arms, *, part="main", agreement=0.8, foreign_to=None, **config):
    """A finished run's workdir as far as a study reads it.

    `arms` maps names to records, `agreement` at the end is one number or one an arm.
    """
    foreign_to = foreign_to or {}
    for arm, records in arms.items():
        (workdir / "arms" / arm).mkdir(parents=True)
        write_records(workdir / "arms" / arm / "records.jsonl", records)
    fields = {arm: {"foreign_to": foreign_to.get(arm, "")} for arm in arms}
    write_json(workdir / "config.json", {"part": part, "base": base, "arms": fields, **config})
    write_json(workdir / "results.json", {"arms": {arm: {} for arm in arms}})
    events = [
        {
            "arm": arm,
            "seed": seed,
            "step": step,
            "agreement": end if step else 1.0,
            "kept_behavior": 0.9,
            "live_self": 0.1 + 0.05 * step,
            "live_orig": 0.2 + 0.03 * step,
        }
        for arm, records in arms.items()
        for seed in sorted({r.seed for r in records})
        for step, end in ((0, 1.0), (10, agreement[arm] if isinstance(agreement, dict) else agreement))
    ]
    write_lines(workdir / "metrics.jsonl", events)
    return workdir


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


STUDY_ARMS = {
    "kl": 0.75, "no_kl": 0.35, "noise30": 0.6, "lr_low": 0.55, "lr_high": 0.9, "foreign_kl": 0.3,
    "shift_less": 0.55, "shuffled": 0.5,
}  # fmt: skip
STUDY_AGREEMENT = {
    "kl": 0.8, "no_kl": 0.5, "noise30": 0.7, "lr_low": 0.9, "lr_high": 0.75, "foreign_kl": 0.6,
    "shift_less": 0.7, "shuffled": 0.1,
}  # fmt: skip


def study_arm(rng, arm, lean, **fields):
    """An arm of `STUDY_ARMS`: shifted groups follow more, labels without content teach hardly anything."""
    right = 0.15 if arm == "shuffled" else 1.0
    shifted = lean + 0.35 if arm == "shift_less" else None
    return random_records(rng, lean, arm=arm, right=right, toward_shifted=shifted, **fields)


def write_controls(folder: Path, rng, arms):
    """What reference emitters say of the arms' items, as a run writes it."""
    lines = [
        {"control": control, **r.to_json()}
        for records in arms.values()
        for control, said in control_records(rng, records).items()
        for r in said
    ]
    write_lines(folder / "controls.jsonl", lines)


def write_study_points(root: Path, bases=6, part="main"):
    """One point per base; each arm leans towards current as `STUDY_ARMS` says, more or less by base."""
    points = []
    for index in range(bases):
        rng = np.random.default_rng([7, index])
        lean = rng.normal(0, 0.03)
        arms = {
            arm: study_arm(rng, arm, mean + lean, groups=60, subsets=("seen", "held_out"))
            for arm, mean in STUDY_ARMS.items()
        }
        agreement = {arm: value + rng.normal(0, 0.02) for arm, value in STUDY_AGREEMENT.items()}
        folder = root / f"{part}-{index}"
        write_point(
            folder, f"base{index}", arms, part=part, agreement=agreement, foreign_to={"foreign_kl": "kl"}
        )
        write_controls(folder, rng, arms)
        points.append((folder.name, folder))
    return points
