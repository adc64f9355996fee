"""What devices send each other in a compiled program: collectives by kind, counted with trip counts.

XLA's own cost analysis counts the body of a loop once, and a decoder is a loop over layers.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Mapping

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.+?) ([a-z][\w-]*)\((.*)$")
_CALLED = re.compile(r"(?:body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+)\w*\[([\d,]*)\]")
_CHAIN = re.compile(r'chain_id="?(\w+)')
_NOTED_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of a kind in one call of a program."""

    calls: float  # a device
    bytes: float  # that a device gets as their results


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    operation: str
    rest: str


def collectives(program: str, unknown_trips: int = 1) -> dict[str, Collective]:
    """The collectives of a compiled program's text, with loops' bodies counted as often as they run.

    A loop whose count the program does not state (decoding ends early) counts `unknown_trips` times.

    A TPU's program carries one asynchronous collective through a chain of fusions, each of which names it
    again (`chain_id`), so that it goes on while they compute: it counts where it starts.
    """
    computations, entry = _computations(program)
    times = _times(computations, entry, unknown_trips)
    starts = {
        called
        for instructions in computations.values()
        for one in instructions
        if one.name.startswith("async-collective-start")
        for called in _CALLED.findall(one.rest)
    }
    started = {
        chain[1]
        for name in starts
        for one in computations.get(name, ())
        if (chain := _CHAIN.search(one.rest))
    }
    calls: dict[str, float] = collections.defaultdict(float)
    received: dict[str, float] = collections.defaultdict(float)
    for name, instructions in computations.items():
        for one in instructions:
            kind = one.operation.removesuffix("-start")
            if kind not in KINDS or not times.get(name):
                continue
            chain = _CHAIN.search(one.rest)
            if chain and chain[1] in started and name not in starts:
                continue
            calls[kind] += times[name]
            received[kind] += times[name] * _received(one)
    return {kind: Collective(calls[kind], received[kind]) for kind in KINDS if calls[kind]}


def _computations(program: str) -> tuple[dict[str, list[_Instruction]], str]:
    found: dict[str, list[_Instruction]] = {}
    entry, current = "", None
    for line in program.splitlines():
        if match := _COMPUTATION.match(line):
            current = found.setdefault(match[2], [])
            entry = match[2] if match[1] else entry
        elif current is not None and (match := _INSTRUCTION.match(line)):
            current.append(_Instruction(*match.groups()))
    return found, entry


def _times(
    computations: Mapping[str, list[_Instruction]], entry: str, unknown_trips: int
) -> dict[str, float]:
    """How often each computation runs."""
    times: dict[str, float] = collections.defaultdict(float)

    def run(name: str, often: float) -> None:
        times[name] += often
        for one in computations.get(name, ()):
            called = _CALLED.findall(one.rest)
            called += [part.strip(" %") for group in _BRANCHES.findall(one.rest) for part in group.split(",")]
            trips = 1
            if one.operation == "while":
                trips = _trips(computations, one.rest) or unknown_trips
            for other in called:
                run(other, often * trips)

    run(entry, 1.0)
    return times


def _trips(computations: Mapping[str, list[_Instruction]], rest: str) -> int | None:
    """How often a loop runs: what the compiler noted, or the number that its counter stays below."""
    if noted := _NOTED_TRIPS.search(rest):
        return int(noted[1])
    condition = re.search(r"condition=%?([\w.-]+)", rest)
    instructions = computations.get(condition[1], []) if condition else []
    numbers = {}
    for one in instructions:
        if one.operation == "constant" and (number := re.match(r"(\d+)\)", one.rest)):
            numbers[one.name] = int(number[1])
    for one in instructions:
        if one.operation == "compare" and "direction=LT" in one.rest:
            for name in re.findall(r"%([\w.-]+)", one.rest.partition(")")[0]):
                if name in numbers:
                    return numbers[name]
    return None


def _received(one: _Instruction) -> float:
    """Bytes of the results. The shape of what starts an asynchronous collective has its operands first, but
    for an all-reduce."""
    starts = one.operation.endswith("-start") and one.operation != "all-reduce-start"
    results = _elements(one.shape)[1] if starts else one.shape
    return sum(
        math.prod(int(n) for n in dims.split(",") if n) * _item_bytes(kind)
        for kind, dims in _ARRAY.findall(results)
    )


def _elements(shape: str) -> list[str]:
    """Of a tuple's shape, which may be tuples themselves."""
    depth, elements = 0, [""]
    for sign in shape[1:-1]:
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and not depth:
            elements.append("")
        else:
            elements[-1] += sign
    return elements


def _item_bytes(kind: str) -> float:
    bits = re.search(r"\d+", kind)
    return int(bits[0]) / 8 if bits else 1.0
