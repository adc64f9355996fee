"""Compiled programs and their table: executables, shapes, calls and compile times."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax


@dataclasses.dataclass
class Compilation:
    shapes: tuple[tuple[str, ...], ...]  # of each data argument's arrays, such as `256×8`
    seconds: float  # trace, compile and first dispatch
    calls: int = 1


class Program:
    """A jitted function that counts its compilations and calls.

    `data` are the positional arguments whose shapes distinguish executables; parameters are always
    arguments, so another checkpoint of the same model does not recompile.
    """

    def __init__(self, name: str, function: Callable, data: tuple[int, ...], **jit_options: Any):
        self.name = name
        self.compilations: list[Compilation] = []
        self._data = data
        self._jitted: Any = jax.jit(function, **jit_options)

    def __call__(self, *arguments):
        shapes = tuple(_shapes(arguments[i]) for i in self._data)
        compiled_before = self._jitted._cache_size()
        start = time.perf_counter()
        result = self._jitted(*arguments)
        if self._jitted._cache_size() > compiled_before:
            # Other shapes, or the same with another sharding or model: each is its own executable.
            self.compilations.append(Compilation(shapes, time.perf_counter() - start))
        else:
            next(one for one in self.compilations if one.shapes == shapes).calls += 1
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
            (program.name, ", ".join(map(_described, one.shapes)), one.calls, one.seconds)
            for program in self._programs.values()
            for one in program.compilations
        ]

    def compilations(self, name: str) -> list[Compilation]:
        """Of the programs of this name."""
        named = (program for program in self._programs.values() if program.name == name)
        return [one for program in named for one in program.compilations]

    def compile_seconds(self) -> float:
        """Of all executables so far."""
        return sum((row[-1] for row in self.rows()), 0.0)

    def count(self, name: str) -> int:
        """How many executables the programs of this name have."""
        return len(self.compilations(name))


def differing_shapes(one: Compilation, other: Compilation) -> tuple[str, str]:
    """Of each of two executables, the shapes of the arrays in which they differ; "" if in none."""
    pairs = itertools.zip_longest(
        itertools.chain(*one.shapes), itertools.chain(*other.shapes), fillvalue="nothing"
    )
    differing = [pair for pair in pairs if pair[0] != pair[1]]
    return _described(pair[0] for pair in differing), _described(pair[1] for pair in differing)


def _shapes(tree: Any) -> tuple[str, ...]:
    return tuple("×".join(map(str, leaf.shape)) or "scalar" for leaf in jax.tree.leaves(tree))


def _described(shapes: Iterable[str]) -> str:
    """The distinct shapes of a tree's arrays, such as `256×8 256×4×2`; the first three, then a count."""
    distinct = list(dict.fromkeys(shapes))
    more = f" and {len(distinct) - 3} more" if len(distinct) > 3 else ""
    return " ".join(distinct[:3]) + more
