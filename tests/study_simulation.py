"""Whole studies of simulated explainers, as counts: static ones, which no verdict may call coupled, and
coupled ones. Labels are one of `CLASSES`; only exact match is simulated."""

import dataclasses

import numpy as np

from introspection.coupling.metrics import MATCH_COUNTS
from introspection.coupling.training_log import TrainingLog
from introspection.study.counts import EXACT, INVALID_COUNT, MORE_COUNTS, ArmCounts
from introspection.study.parts import StudyPart

CLASSES = 8  # changed or not, four answers
BASES, SEEDS, GROUPS, ITEMS = 8, 3, 100, 4
RIGHT = 0.86  # how often the label teacher says what is true
WIDTH = 2 * len(MATCH_COUNTS) + len(MORE_COUNTS)


@dataclasses.dataclass(frozen=True)
class SimulatedArm:
    """Shares: how often it says what is true where it doesn't couple, how often it says what it does now, how
    far its behaviour drifts, and what was logged of its labels."""

    true: float
    drift: float
    agreement: float
    couples: float = 0.0
    shift: float | None = None  # drift in the shifted half of the groups
    labels: str = "own"  # or "foreign" or "earlier"


STATIC = {
    "kl": SimulatedArm(0.86, 0.12, 0.92),
    "no_kl": SimulatedArm(0.80, 0.35, 0.70),
    "lr_low": SimulatedArm(0.78, 0.06, 0.95),
    "lr_high": SimulatedArm(0.84, 0.25, 0.82),
    "noise15": SimulatedArm(0.82, 0.13, 0.79),
    "noise30": SimulatedArm(0.78, 0.14, 0.66),
    "noise45": SimulatedArm(0.72, 0.15, 0.53),
    "noise60": SimulatedArm(0.62, 0.16, 0.40),
    "labels_foreign25": SimulatedArm(0.84, 0.14, 0.88),
    "labels_foreign50": SimulatedArm(0.83, 0.15, 0.84),
    "labels_foreign75": SimulatedArm(0.82, 0.16, 0.79),
    "labels_foreign100": SimulatedArm(0.80, 0.17, 0.74, labels="foreign"),
    "labels_earlier": SimulatedArm(0.80, 0.14, 0.80, labels="earlier"),
    "shift_less": SimulatedArm(0.84, 0.10, 0.85, shift=0.30),
    "shift_source": SimulatedArm(0.80, 0.12, 0.75, shift=0.50),
    "shuffled": SimulatedArm(0.10, 0.12, 0.15),
}
COUPLES = {
    "kl": 0.8, "no_kl": 0.0, "lr_low": 0.55, "lr_high": 0.8, "noise15": 0.75, "noise30": 0.65,
    "noise45": 0.3, "noise60": 0.1, "labels_foreign25": 0.75, "labels_foreign50": 0.7,
    "labels_foreign75": 0.65, "labels_foreign100": 0.65, "labels_earlier": 0.7, "shift_less": 0.75,
    "shift_source": 0.75,
}  # fmt: skip
COUPLED = {
    name: dataclasses.replace(arm, couples=COUPLES.get(name, 0.0), true=min(arm.true, 0.6))
    for name, arm in STATIC.items()
}
EXPLAINED = {"explained-150": 0.35, "explained-600": 0.6, "explained-2400": 0.8}
# What the emitters of every point say: the truth so often, else anything.
EMITTERS = {"bayes_optimal": 1.0, "majority": 0.55, "input_only": 0.5, "initial": 0.0}
FOREIGN_TRUE = 0.75


def simulated_study(arms, towards_truth, rng, *, bases=BASES):
    """The parts of a study: `main`, and `explained-…` with the arm `kl` alone.

    Behaviour drifts to anything else, or, `towards_truth`, to what is true where the teacher is wrong.
    """
    world = _World(rng, bases, towards_truth)
    kl = arms["kl"]
    parts = [world.part("main", arms)]
    for name, share in EXPLAINED.items():
        less = dataclasses.replace(kl, true=share * kl.true, couples=share * kl.couples)
        parts.append(world.part(name, {"kl": less}))
    return parts


class _World:
    def __init__(self, rng, bases, towards_truth):
        self.rng, self.bases, self.towards_truth = rng, bases, towards_truth
        self.shape = (bases, SEEDS, GROUPS, ITEMS)
        self.truth = np.broadcast_to(rng.integers(CLASSES, size=(GROUPS, ITEMS)), self.shape)
        self.own = self._teacher()
        self.labels = {"own": self.own, "foreign": np.roll(self.own, 1, axis=0), "earlier": self._teacher()}
        # Facts differ in how easily their behaviour moves, alike in all bases; bases differ in how far.
        self.of_fact = rng.uniform(0.2, 1.8, (1, 1, GROUPS, 1))
        self.of_base = rng.lognormal(0, 0.2, (bases, 1, 1, 1))
        self.static = {
            name: self._says(share, np.broadcast_to(self.own, self.shape), 0.0, fixed=True)
            for name, share in EMITTERS.items()
        }
        self.shuffled = self._says(0.1, self.own, 0.0)

    def _teacher(self):
        of_base = self._mistaken(np.array(self.truth[:, :1]), 1 - RIGHT)
        return np.broadcast_to(of_base, self.shape)

    def _mistaken(self, values, share):
        """Another class in a share of the places."""
        moved = (values + self.rng.integers(1, CLASSES, size=values.shape)) % CLASSES
        return np.where(self.rng.random(values.shape) < share, moved, values)

    def _says(self, true, current, couples, *, fixed=False):
        """An emitter's explanations; a `fixed` one says the same in all seeds and bases."""
        shape = (1, 1, *self.shape[2:]) if fixed else self.shape
        jitter = 0 if fixed else self.rng.normal(0, 0.03, (self.bases, 1, 1, 1))
        jitter = jitter if fixed else jitter + self.rng.normal(0, 0.01, (self.bases, SEEDS, 1, 1))
        anything = self.rng.integers(CLASSES, size=shape)
        said = np.where(self.rng.random(shape) < true + jitter * (true > 0), self.truth[:1, :1], anything)
        said = np.broadcast_to(said, self.shape)
        return np.where(self.rng.random(self.shape) < couples, current, said) if couples else said

    def _current(self, arm):
        shifted = np.arange(GROUPS) < GROUPS // 2
        share = np.where(shifted, arm.drift if arm.shift is None else arm.shift, arm.drift)[
            None, None, :, None
        ]
        moves = self.rng.random(self.shape) < np.clip(share * self.of_fact * self.of_base, 0, 0.95)
        if self.towards_truth:  # the drifted share of all items is smaller here: few are there to go right
            moves = self.rng.random(self.shape) < np.clip(3 * share * self.of_fact * self.of_base, 0, 0.95)
            return np.where(moves, self.truth, self.own), shifted & (arm.shift is not None)
        other = (self.own + self.rng.integers(1, CLASSES, size=self.shape)) % CLASSES
        return np.where(moves, other, self.own), shifted & (arm.shift is not None)

    def part(self, name, arms):
        found, references, training = {}, {}, {}
        for arm, recipe in arms.items():
            current, shifted = self._current(recipe)
            teacher = self.labels[recipe.labels]
            said = self.shuffled if arm == "shuffled" else self._says(recipe.true, current, recipe.couples)
            emitters = dict(self.static)
            if arm != "shuffled":
                emitters["shuffled"] = self.shuffled
            if arm in ("kl", "no_kl"):
                emitters["foreign"] = self._says(FOREIGN_TRUE, current, 0.0)
            found[arm] = self._counts(said, current, teacher, shifted)
            references[arm] = {
                emitter: self._counts(values, current, teacher, shifted, invalid=emitter == "initial")
                for emitter, values in emitters.items()
            }
            training[arm] = {
                f"b{base}": _log(recipe.agreement + self.rng.normal(0, 0.01)) for base in range(self.bases)
            }
        return StudyPart(name, found, references, training)

    def _counts(self, said, current, teacher, shifted, invalid=False):
        columns = np.zeros((*self.shape[:3], WIDTH))
        columns[..., [EXACT[0], len(MATCH_COUNTS)]] = ITEMS
        columns[..., EXACT[1]] = 0 if invalid else (said == current).sum(-1)
        columns[..., EXACT[2]] = 0 if invalid else (said == teacher).sum(-1)
        columns[..., INVALID_COUNT] = ITEMS * invalid
        right = 2 * len(MATCH_COUNTS) + MORE_COUNTS.index("current_right")
        columns[..., [right, right + 1]] = ITEMS  # behaviour without the cue is right throughout
        seeds, groups = (a.ravel() for a in np.meshgrid(np.arange(SEEDS), np.arange(GROUPS), indexing="ij"))
        subsets = np.full(len(seeds), "")
        return {
            f"b{base}": ArmCounts(
                seeds, groups, subsets, shifted[groups], columns[base].reshape(-1, WIDTH), "the same"
            )
            for base in range(self.bases)
        }


def _log(agreement):
    levels = dict.fromkeys(("start", "end", "min", "mean"), float(agreement))
    return TrainingLog(levels, levels)
