"""A two-parameter account of the gap, fitted on some sweeps and held against the others.

An explanation says what its arm has learned to say on a share `a` of the items. Where behaviour has drifted
from the label teacher's (share `d`), it reads the current behaviour with probability `s`, and says what the
labels taught otherwise. Then Orig = a (1 - d s) and Self = a (1 - d (1 - s)), so

    gap = Orig d (2 s - 1) / (1 - d s) + b u

where `u` is the gap of the untrained model's explanations on the same items, or of the arm's best static
emitter where none of these is valid: what drift does to an emitter that stays put. The account has two
parameters for all arms, `s` and `b`; drift, Orig and `u` are measured.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from introspection.reports.numbers import points as in_points
from introspection.reports.table import Cell, Table
from introspection.sweeps.arms import SweepArm

FEWEST_SWEEPS, FEWEST_ARMS = 2, 4  # that an account is fitted to and held against
_MEASURED = ("drift", "orig", "static_gap", "gap")
_NOTHING_READ = np.array([0.5])
_SHARES = np.linspace(0.0, 1.0, 1001)  # of `s`; given `s`, the best `b` has a closed form


@dataclasses.dataclass(frozen=True)
class Account:
    """The two parameters; either may be held at the value at which it says nothing."""

    share: float  # s
    static: float  # b

    def gaps(self, arms: Sequence[SweepArm]) -> Float[np.ndarray, " arms"]:
        drift, orig, static = (_column(arms, name) for name in ("drift", "orig", "static_gap"))
        return _read(drift, orig, self.share) + self.static * static


@dataclasses.dataclass(frozen=True)
class HeldOutSweep:
    """How an account that was fitted to all other sweeps predicts this one; misses in shares."""

    sweep: str
    arms: int
    account: Account
    miss: float  # root mean square
    simpler: Mapping[str, float]  # the same of simpler accounts, by name
    worst: str  # the arm that is missed most
    worst_miss: float  # observed minus predicted

    @property
    def is_predicted(self) -> bool:
        """Whether the account misses by less than every simpler one."""
        return all(self.miss < miss for miss in self.simpler.values())


def account_arms(arms: Sequence[SweepArm]) -> list[SweepArm]:
    """The arms that an account speaks of: their labels describe a model, and nothing about them is undefined.

    Arms with shuffled labels and foreign explainers are left out; so are those of `tiny` runs.
    """
    return [
        arm
        for arm in arms
        if not (arm.tiny or arm.is_reference)
        and all(getattr(arm, measure) is not None for measure in _MEASURED)
    ]


def fit_account(
    arms: Sequence[SweepArm], shares: Float[np.ndarray, " shares"] = _SHARES, with_static: bool = True
) -> Account:
    """Least squares over arms, with `s` among `shares` and, without the static emitter's gap, `b` = 0."""
    drift, orig, static, gap = (_column(arms, name) for name in _MEASURED)
    rest = gap - _read(drift, orig, shares[:, None])
    scale = max(float(static @ static), 1e-12)
    weights = rest @ static / scale * with_static
    misses = np.sum((rest - weights[:, None] * static) ** 2, axis=1)
    best = int(np.argmin(misses))
    return Account(float(shares[best]), float(weights[best]))


def held_out_sweeps(arms: Sequence[SweepArm]) -> list[HeldOutSweep]:
    """Every sweep with enough arms, predicted from the others; none where there are too few sweeps.

    The simpler accounts are: the same gap everywhere (the mean of the other sweeps'), that of the static
    emitter (`s` = 1/2), and reading alone (`b` = 0).
    """
    names = [name for name in dict.fromkeys(arm.sweep for arm in arms) if _of(arms, name)]
    found = []
    for name in names if len(names) >= FEWEST_SWEEPS else ():
        here, others = _of(arms, name), [arm for arm in arms if arm.sweep != name]
        gap, account = _column(here, "gap"), fit_account(others)
        missed = gap - account.gaps(here)
        worst = int(np.argmax(np.abs(missed)))
        found.append(
            HeldOutSweep(
                sweep=name,
                arms=len(here),
                account=account,
                miss=_size(missed),
                simpler={
                    "one gap": _size(gap - _column(others, "gap").mean()),
                    "static": _size(gap - fit_account(others, _NOTHING_READ).gaps(here)),
                    "reading": _size(gap - fit_account(others, with_static=False).gaps(here)),
                },
                worst=f"{here[worst].part}: {here[worst].arm} of {here[worst].base}",
                worst_miss=float(missed[worst]),
            )
        )
    return found


def account_sentence(held_out: Sequence[HeldOutSweep]) -> str:
    """Whether the account predicts, by the rule of `HeldOutSweep.is_predicted` in every sweep."""
    failed = [one.sweep for one in held_out if not one.is_predicted]
    misses = ", ".join(f"{one.sweep} by {100 * one.miss:.1f}" for one in held_out)
    if failed:
        return (
            f"No simple account predicts the gap: in {', '.join(failed)} a simpler one misses by no more "
            f"(the account misses {misses} points)."
        )
    shares = ", ".join(f"{one.account.share:.2f}" for one in held_out)
    return (
        f"The account predicts every sweep from the others better than simpler ones do: it misses {misses} "
        f"points; explanations read a share of {shares} of what behaviour reads."
    )


def account_table(held_out: Sequence[HeldOutSweep]) -> Table:
    simpler = list(held_out[0].simpler)
    return Table(
        "A simple account of the gap, held against sweeps that it was not fitted to",
        ("Sweep", "Missed most", "Arms", "s", "b", "Miss", *simpler, "Largest miss"),
        tuple(
            (
                one.sweep,
                one.worst,
                str(one.arms),
                f"{one.account.share:.2f}",
                f"{one.account.static:+.2f}",
                *(Cell(f"{100 * miss:.1f}", order=miss) for miss in (one.miss, *one.simpler.values())),
                Cell(in_points(one.worst_miss), order=one.worst_miss),
            )
            for one in held_out
        ),
        "Root mean square misses in points. s: the share of the current behaviour that explanations read; b: "
        "how much of the static emitter's gap stays (the untrained model, or the arm's best where that gives "
        "no valid explanation). Simpler accounts: one gap for all arms, the static emitter's alone, reading "
        "alone.",
        text_columns=2,
    )


def account_numbers(arms: Sequence[SweepArm], held_out: Sequence[HeldOutSweep]) -> list[dict[str, Any]]:
    """Every arm with its gap and the gap that the other sweeps predict."""
    found = []
    for one in held_out:
        here = _of(arms, one.sweep)
        for arm, predicted in zip(here, one.account.gaps(here), strict=True):
            found.append({**dataclasses.asdict(arm), "predicted": float(predicted)})
    return found


def _read(drift: Any, orig: Any, share: Any) -> Any:
    """The gap of explanations that read a share of current behaviour; s = 1/2 says none."""
    return orig * drift * (2 * share - 1) / np.maximum(1 - drift * share, 1e-6)


def _column(arms: Sequence[SweepArm], name: str) -> Float[np.ndarray, " arms"]:
    return np.array([getattr(arm, name) for arm in arms], float)


def _of(arms: Sequence[SweepArm], sweep: str) -> list[SweepArm]:
    """A sweep's arms; none if they are too few to be predicted."""
    own = [arm for arm in arms if arm.sweep == sweep]
    return own if len(own) >= FEWEST_ARMS else []


def _size(missed: Float[np.ndarray, " arms"]) -> float:
    return float(np.sqrt(np.mean(missed**2)))
