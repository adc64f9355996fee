"""Compiled programs and their table: executables, shapes, calls and compile times."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax


@dataclasses.dataclass
class Compilation:
    shapes: str
    seconds: float  # trace, compile and first dispatch
    calls: int = 1


class Program:
    """A jitted function that counts its compilations and calls.

    `data` are the positional arguments whose shapes distinguish executables; parameters are always
    arguments, so another checkpoint of the same model does not recompile.
    """

    def __init__(self, name: str, function: Callable, data: tuple[int, ...], **jit_options: Any):
        self.name = name
        self.compilations: dict[str, Compilation] = {}
        self._data = data
        self._jitted: Any = jax.jit(function, **jit_options)

    def __call__(self, *arguments):
        shapes = ", ".join(describe_shapes(arguments[i]) for i in self._data)
        compiled_before = self._jitted._cache_size()
        start = time.perf_counter()
        result = self._jitted(*arguments)
        if self._jitted._cache_size() > compiled_before:
            # Other shapes, or the same with another sharding or model: each is its own executable.
            label = shapes if shapes not in self.compilations else f"{shapes} #{len(self.compilations)}"
            self.compilations[label] = Compilation(shapes, time.perf_counter() - start)
        else:
            self.compilations[shapes].calls += 1
        return result


class ProgramTable:
    """The programs of one process: the same name and key give the same program."""

    def __init__(self):
        self._programs: dict[tuple, Program] = {}

    def program(
        self, name: str, key: Any, build: Callable[[], Callable], data: tuple[int, ...], **options: Any
    ) -> Program:
        """The program `name` for the hashable `key` (what it closes over), built on first use."""
        if (name, key) not in self._programs:
            self._programs[name, key] = Program(name, build(), data, **options)
        return self._programs[name, key]

    def rows(self) -> list[tuple[str, str, int, float]]:
        """(program, shapes, calls, compile seconds) of every executable."""
        return [
            (program.name, compilation.shapes, compilation.calls, compilation.seconds)
            for program in self._programs.values()
            for compilation in program.compilations.values()
        ]

    def compile_seconds(self) -> float:
        """Of all executables so far."""
        return sum((row[-1] for row in self.rows()), 0.0)

    def count(self, name: str) -> int:
        """How many executables the programs of this name have."""
        return sum(row[0] == name for row in self.rows())


def describe_shapes(tree) -> str:
    """The distinct shapes of a tree's arrays, such as `256×8 256×4×2`; the first three, then a count."""
    shapes = ["×".join(map(str, leaf.shape)) or "scalar" for leaf in jax.tree.leaves(tree)]
    distinct = list(dict.fromkeys(shapes))
    more = f" and {len(distinct) - 3} more" if len(distinct) > 3 else ""
    return " ".join(distinct[:3]) + more
