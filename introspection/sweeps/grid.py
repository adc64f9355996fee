"""Sweeps as lists of points: how they are built, collected from a config file and applied to a config.

A config file's `sweep(add)` calls `add` once a point, with the fields that the point overrides:

    def sweep(add):
        for point in product(vary("pretrain.seed", range(3)), vary("lora.rank", (0, 8))):
            add({**point, "point": f"base{point['pretrain.seed']}-rank{point['lora.rank']}"})

The idea of lists that combine is that of DeepMind's XManager (`hyper.py`: `product`, `zipit`, `chainit`).
"""

import copy
import dataclasses
import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from introspection.errors import InputError
from introspection.runtime.command import check_field

NAME = "point"  # the key of a point's mapping that names it, and no field
# A point's folder is also part of model names, WORKDIR[:ARM[:SEED]][@STEP] between commas.
FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,99}")


@dataclasses.dataclass(frozen=True)
class Point:
    """One run of a sweep, as the config file gives it."""

    index: int
    name: str
    overrides: dict[str, Any]  # dotted field -> value


def vary(field: str, values: Iterable[Any]) -> list[dict[str, Any]]:
    """A point a value. Raises InputError if `values` is a text, which is rarely meant letter by letter."""
    if isinstance(values, str):
        raise InputError(f"sweep: vary({field!r}, {values!r}) takes several values, such as ({values!r},)")
    return [{field: value} for value in values]


def product(*lists: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every combination, the last list fastest. Raises InputError as `merged` does."""
    return [merged(points) for points in itertools.product(*lists)]


def zipped(*lists: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The first points of all lists as one, then the second ones, and so on.

    Raises:
      InputError: the lists differ in length, or as `merged` does.
    """
    known = [list(points) for points in lists]
    if len({len(points) for points in known}) > 1:
        lengths = ", ".join(str(len(points)) for points in known)
        raise InputError(f"sweep: zipped takes lists of one length; these have {lengths} points")
    return [merged(points) for points in zip(*known, strict=True)]


def chain(*lists: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All points of the first list, then all of the second, and so on."""
    return [dict(point) for point in itertools.chain(*lists)]


def merged(points: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One point of several. Raises InputError if two give a field different values."""
    whole: dict[str, Any] = {}
    for point in points:
        for field, value in point.items():
            if field in whole and whole[field] != value:
                raise InputError(
                    f"sweep: {field} is given twice in one point, as {whole[field]!r} and as {value!r}"
                )
            whole[field] = value
    return whole


def collect_points(sweep: Callable[..., Any] | None, argument: str) -> tuple[Point, ...]:
    """What a config file's `sweep(add)`, or `sweep(add, argument)`, adds.

    Raises:
      InputError: there is no `sweep`, it fails or adds nothing, or names can't be folders' or are not unique.
    """
    if sweep is None:
        raise InputError("--config: the file has no function sweep; see configs/quickstart.py")
    mappings: list[dict[Any, Any]] = []

    def add(point: Any) -> None:
        if not isinstance(point, Mapping):
            raise InputError(f"sweep: add takes a mapping of dotted fields to values, not {point!r}")
        mappings.append(dict(point))

    kinds = [parameter.kind for parameter in inspect.signature(sweep).parameters.values()]
    takes_argument = len(kinds) > 1 and kinds[1] != inspect.Parameter.KEYWORD_ONLY
    try:
        sweep(add, argument) if takes_argument else sweep(add)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"--config: its sweep fails: {type(error).__name__}: {error}") from error
    if not mappings:
        raise InputError("--config: its sweep adds no point")
    points = tuple(_point(index, mapping) for index, mapping in enumerate(mappings))
    known: dict[str, Point] = {}
    for point in points:
        # Some file systems don't tell A from a.
        same = known.setdefault(point.name.casefold(), point)
        if same is not point:
            raise InputError(
                f"sweep: points {same.index} and {point.index} are both named {point.name!r};"
                f" give each its own {NAME!r}"
            )
    return points


def _point(index: int, mapping: dict[Any, Any]) -> Point:
    # As wide for 5 points as for 500: points added later don't rename those that ran.
    name = mapping.pop(NAME, f"{index:03d}")
    if not isinstance(name, str) or not FOLDER_NAME.fullmatch(name) or name.endswith("."):
        raise InputError(
            f"sweep: {name!r} can't name point {index}: a name is a folder's, of at most 100 letters, digits"
            " and . _ + = -, and starts with a letter or digit"
        )
    for field in mapping:
        if not isinstance(field, str) or not field:
            raise InputError(f"point {name}: {field!r} is no field; give dotted names, such as 'train.steps'")
    return Point(index, name, {field: _native(value) for field, value in mapping.items()})


def _native(value: Any) -> Any:
    """NumPy's numbers as Python's, lists as tuples."""
    if isinstance(value, np.generic):
        return value.item()
    return tuple(map(_native, value)) if isinstance(value, list | tuple) else value


def varying_fields(overrides: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields that some points override and others don't, or that they override with other values."""
    fields = dict.fromkeys(field for one in overrides for field in one)
    return [f for f in fields if len({repr(one[f]) if f in one else None for one in overrides}) > 1]


def labels(points: Sequence[Any]) -> dict[str, str]:
    """How points are shown, by name: a number in place of a name is followed by what varies.

    Args:
      points: all of a sweep, each with `index`, `name` and `overrides`.
    """
    fields = varying_fields([point.overrides for point in points])
    short = {field: field.rsplit(".", 1)[-1] for field in fields}
    short = {field: name if [*short.values()].count(name) == 1 else field for field, name in short.items()}

    def label(point: Any) -> str:
        own = [f"{short[field]}={point.overrides[field]}" for field in fields if field in point.overrides]
        return " ".join([point.name, *own]) if point.name == f"{point.index:03d}" else point.name

    return {point.name: label(point) for point in points}


def point_config(config: ConfigDict, point: Point) -> ConfigDict:
    """A config with a point's overrides; the one that is given stays as it is.

    Raises:
      InputError: a field that there is not, a section, or a value of another type. It names the field.
    """
    changed = copy.deepcopy(config)
    for field, value in point.overrides.items():
        check_field(field, changed)
        *sections, last = field.split(".")
        section = changed
        for name in sections:
            section = section.get(name)
            if not isinstance(section, ConfigDict):
                raise InputError(f"{field}: {name} is no section; a point gives a field its whole value")
        if last not in section:  # part of a tuple: `check_field` leaves it to absl's parser
            raise InputError(f"{field}: a point gives a field its whole value")
        _check_type(field, section.get(last), value)
        try:
            section[last] = value
        except TypeError as error:  # a placeholder's type
            raise InputError(f"{field}: {error}") from error
    return changed


def _check_type(field: str, current: Any, value: Any) -> None:
    """More than ml_collections checks: True is no number, and None is a value only where it was."""
    accepted = {
        bool: bool,
        int: int,
        float: (int, float),
        str: str,
        tuple: (tuple, list),
        list: (tuple, list),
    }
    if current is None:
        return
    kind = type(current)
    if not isinstance(value, accepted.get(kind, kind)) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{field} is {current!r} in the config, and {value!r} here is no {kind.__name__}")
