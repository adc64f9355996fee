"""A part of a study in numbers: every arm pooled over its bases, and what its gap is held against."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from introspection.coupling.references import MOST_INVALID
from introspection.coupling.training_log import Levels, TrainingLog
from introspection.runtime.json_values import to_json
from introspection.study.askable import part_askable
from introspection.study.base_bootstrap import USUAL, Resamples
from introspection.study.counts import INVALID_COUNT, ByBase, has_both_shifted
from introspection.study.panels import Panel, held_against
from introspection.study.pooling import SHIFTED, pooled_results

# Emitters whose explanations come from other arms' records; all others are static: no training moves them.
SHUFFLED, FOREIGN, ALIGNED, SHOWN = "shuffled", "foreign", "aligned", "shown"

PartResults = Mapping[str, Any]  # what `part_results` returns


@dataclasses.dataclass(frozen=True)
class StudyPart:
    """All arms of one part of a study.

    `references` holds, by arm and emitter, the emitter's explanations scored on that arm's records;
    `training`, by arm and base, what was logged.
    """

    name: str
    arms: Mapping[str, ByBase]
    references: Mapping[str, Mapping[str, ByBase]]
    training: Mapping[str, Mapping[str, TrainingLog]]

    def panel(self, arm: str, shifted: bool | None = None) -> Panel:
        return Panel(self.arms[arm], self.references.get(arm, {}), shifted)


def part_results(part: StudyPart, seed: int = 0, resamples: Resamples = USUAL) -> dict[str, Any]:
    """What `study.json` holds of a part, but for its circuits.

    Every interval has the same resamples, so that none depends on which other arms there are.

    Returns:
        `bases`; `askable`; `arms`, each one's `pooled_results` with `agreement` (of trained labels) and
        `kept_behavior` over training and `best_static`, the name of the used static emitter with the highest
        Orig, or None; its `by_shifted` (where every base has both kinds of groups) with the `difference`
        shifted minus unshifted: of the raw gap under "", of the gap minus a reference's under the reference's
        name, and likewise `minus_reference` of each kind;
        `controls`, by emitter and arm, `held_against` with the emitter's `invalid_rate` and whether it is
        `used`.

    Raises:
        InputError: an arm and an emitter are not of the same items and seeds.
    """
    arms: dict[str, dict[str, Any]] = {}
    controls: dict[str, dict[str, Any]] = {}
    for arm, by_base in part.arms.items():
        pooled = pooled_results(by_base, np.random.default_rng(seed), resamples)
        found = held_against((part.panel(arm),), seed, resamples)
        for emitter, counts in part.references.get(arm, {}).items():
            if emitter in found:
                invalid = _invalid_rate(counts)
                used = invalid <= MOST_INVALID and emitter != SHOWN
                controls.setdefault(emitter, {})[arm] = {
                    **found[emitter],
                    "invalid_rate": invalid,
                    "used": used,
                }
        if pooled["by_shifted"] and has_both_shifted(by_base):
            halves = {name: part.panel(arm, shifted) for name, shifted in SHIFTED.items()}
            pooled["by_shifted"]["difference"] = held_against(tuple(halves.values()), seed, resamples)
            for name, half in halves.items():
                once = dataclasses.replace(resamples, one_base=0)
                pooled["by_shifted"][name]["minus_reference"] = held_against((half,), seed, once)
        training = dict(sorted(part.training.get(arm, {}).items()))
        agreement = {base: log.agreement for base, log in training.items()}
        kept = {base: log.kept_behavior for base, log in training.items()}
        arms[arm] = {
            **pooled,
            "agreement": _over_bases(agreement, "mean"),
            "kept_behavior": _over_bases(kept, "end"),
            "best_static": best_static(controls, [arm]),
        }
    return {
        "bases": sorted({base for by_base in part.arms.values() for base in by_base}),
        "askable": to_json(part_askable(part.arms.get("kl"), controls, seed, resamples)),
        "arms": arms,
        "controls": controls,
    }


def used_references(controls: Mapping[str, Mapping[str, Any]], arms: Sequence[str]) -> list[str]:
    """Emitters that every one of some arms has, none mostly invalid, in alphabetical order."""
    return sorted(
        name
        for name, by_arm in controls.items()
        if all(arm in by_arm and by_arm[arm]["used"] for arm in arms)
    )


def is_static(emitter: str) -> bool:
    return emitter not in (SHUFFLED, FOREIGN, ALIGNED, SHOWN)


def best_static(controls: Mapping[str, Mapping[str, Any]], arms: Sequence[str]) -> str | None:
    """The used static emitter with the highest Orig on the first of some arms, of those all of them have."""
    known = [name for name in used_references(controls, arms) if is_static(name)]
    level = {name: controls[name][arms[0]]["orig"]["exact_match"]["second"] for name in known}
    return max(known, key=lambda name: level[name], default=None)


def _invalid_rate(by_base: ByBase) -> float:
    total = np.sum([counts.counts.sum(0) for counts in by_base.values()], axis=0)
    return float(total[INVALID_COUNT] / total[0])


def _over_bases(levels: Mapping[str, Levels], shown: str) -> dict[str, Any]:
    """Each level's mean over the bases that logged it, and each base's `shown` one."""
    found: dict[str, Any] = {}
    for name in ("start", "end", "min", "mean"):
        known = [value for of_base in levels.values() if (value := of_base[name]) is not None]
        found[name] = float(np.mean(known)) if known else None
    by_base = {base: of_base[shown] for base, of_base in levels.items() if of_base[shown] is not None}
    return {**found, "by_base": by_base}
