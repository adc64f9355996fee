"""How fast training is, and where its time goes: `speed.jsonl`."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from introspection.models.config import ModelConfig
from introspection.models.useful_flops import useful_flops
from introspection.runtime.compiled import ProgramTable, differing_shapes
from introspection.runtime.topology import peak_flops
from introspection.text.rows import Rows
from introspection.training.objectives import Batch

STEP = "train_steps"  # the program's name
# "data" is rows, and labels and groups made anew; the devices may compute steps meanwhile.
CAUSES = ("compile", "data", "checkpoint", "evaluation", "step")


@dataclasses.dataclass(frozen=True)
class Speed:
    """A line of `speed.jsonl`: a stretch of training, of all seeds of the arms that trained together."""

    arms: tuple[str, ...]
    step: int  # the last of the stretch
    steps: int  # in the stretch
    seconds: dict[str, float]  # of this process, by cause; "step" is what no other cause took
    tokens: int  # that were read, without padding
    places: int  # for tokens, with padding
    flops: float  # that the mathematics needs (`models.useful_flops`)
    compilations: int  # of the step, in the stretch: 1 at the start, more where shapes changed
    devices: int
    device_flops: float | None  # a device's peak in bfloat16 operations a second, where it is known
    peak_bytes: int | None  # most memory in use on a device since the process began; None: not reported

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @property
    def goodput(self) -> float:
        """The share of the time that went into steps."""
        return self.seconds["step"] / self.total

    @property
    def training_seconds(self) -> float:
        """Without what happens once in a while: compiling, checkpoints, evaluations."""
        return self.seconds["step"] + self.seconds["data"]

    @property
    def steps_per_second(self) -> float:
        return self.steps / self.training_seconds

    @property
    def tokens_per_second(self) -> float:
        """Without padding, on all devices."""
        return self.tokens / self.training_seconds

    @property
    def padding(self) -> float:
        """The share of places that hold no token."""
        return 1 - self.tokens / self.places

    @property
    def mfu(self) -> float | None:
        """The share of the devices' peak that is useful work (Chowdhery et al. 2022, Appendix B)."""
        if self.device_flops is None:
            return None
        return self.flops / self.training_seconds / (self.devices * self.device_flops)

    def drawn(self) -> dict[str, float]:
        """What curves are drawn of."""
        values = {
            "steps_per_second": self.steps_per_second,
            "tokens_per_second": self.tokens_per_second,
            "padding": self.padding,
            "goodput": self.goodput,
            "mfu": self.mfu,
            "peak_bytes": self.peak_bytes,
            **{f"share/{cause}": seconds / self.total for cause, seconds in self.seconds.items()},
        }
        return {name: float(value) for name, value in values.items() if value is not None}


def joined(stretches: Sequence[Speed]) -> Speed:
    """Several stretches of the same arms as one, without those whose steps were lost and trained again."""
    kept: list[Speed] = []
    for one in stretches:
        kept = [*(before for before in kept if before.step <= one.step - one.steps), one]
    return dataclasses.replace(
        kept[-1],
        seconds={cause: sum(one.seconds[cause] for one in kept) for cause in CAUSES},
        peak_bytes=max((one.peak_bytes for one in kept if one.peak_bytes is not None), default=None),
        **{
            name: sum(getattr(one, name) for one in kept)
            for name in ("steps", "tokens", "places", "flops", "compilations")
        },
    )


class SpeedMeter:
    """Measures stretches of training, one after another."""

    def __init__(self, arms: Sequence[str], model: ModelConfig, programs: ProgramTable, mesh: Mesh):
        self._arms, self._model, self._programs, self._mesh = tuple(arms), model, programs, mesh
        self._expected = programs.count(STEP) + 1  # executables of the step, this training's included
        self._start(time.perf_counter())

    def _start(self, now: float) -> None:
        self._started, self._compiled = now, self._programs.compile_seconds()
        self._compilations = self._programs.count(STEP)
        self._seconds: dict[str, float] = dict.fromkeys(CAUSES, 0.0)
        self._steps, self._tokens, self._places, self._flops = 0, 0, 0, 0.0

    @contextlib.contextmanager
    def during(self, cause: str) -> Iterator[None]:
        """Counts the block's seconds, but for those of compiling, to a cause."""
        started, compiled = time.perf_counter(), self._programs.compile_seconds()
        yield
        compiling = self._programs.compile_seconds() - compiled
        self._seconds[cause] += time.perf_counter() - started - compiling

    def count(self, batch: Batch, steps: int) -> None:
        """Counts the rows of some steps."""
        tokens, places, attended = batch_tokens(batch)
        self._steps += steps
        self._tokens += tokens
        self._places += places
        self._flops += useful_flops(self._model, tokens, attended, training=True)

    def stretch(self, step: int) -> Speed:
        """What was measured since the last call, up to `step`; the next stretch begins here."""
        now, device = time.perf_counter(), self._mesh.local_devices[0]
        self._seconds["compile"] = self._programs.compile_seconds() - self._compiled
        self._seconds["step"] = now - self._started - sum(self._seconds.values())
        memory: Mapping[str, int] = device.memory_stats() or {}
        speed = Speed(
            self._arms,
            step,
            self._steps,
            {cause: round(seconds, 6) for cause, seconds in self._seconds.items()},
            self._tokens,
            self._places,
            self._flops,
            self._programs.count(STEP) - self._compilations,
            self._mesh.size,
            peak_flops(device.device_kind),
            memory.get("peak_bytes_in_use"),
        )
        self._start(now)
        return speed

    def compiled_again(self) -> str:
        """A warning if the step was compiled more than once; "" otherwise, or if it was said before."""
        made = self._programs.compilations(STEP)
        if len(made) <= self._expected:
            return ""
        self._expected = len(made)
        shapes, before = differing_shapes(made[-1], made[-2])
        rows = (
            f"rows of {shapes} after {before}; rows of one shape at every step would save that"
            if shapes
            else "rows of the same shapes, of another type or otherwise placed"
        )
        return f"{self._arms[0]}: its step was compiled again, in {made[-1].seconds:.1f} s, for {rows}"


def batch_tokens(batch: Batch) -> tuple[int, int, float]:
    """How many tokens a batch's rows hold, how many places they have, and how many tokens they attend to.

    Of packs, a start that texts share counts once, as it is read once.
    """
    if batch.packs is not None:
        positions, ends = np.asarray(batch.packs.positions), np.asarray(batch.packs.ends)
        here = ends > 0
        return int(here.sum()), here.size, float(positions[here].sum() + here.sum())
    found = [rows for rows in jax.tree.leaves(batch, is_leaf=_is_rows) if _is_rows(rows)]
    here = [np.asarray(rows.segments) >= 0 for rows in found]
    attended = sum(
        (np.asarray(rows.positions, np.float64)[one] + 1).sum() for rows, one in zip(found, here, strict=True)
    )
    return sum(int(one.sum()) for one in here), sum(one.size for one in here), float(attended)


def _is_rows(value: object) -> bool:
    return isinstance(value, Rows)
