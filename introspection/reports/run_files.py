"""Reads what a run left in its workdir (workdir_files.md) into one value that figures and page share."""

import dataclasses
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from introspection.coupling.matrix_results import Matrix
from introspection.coupling.records import WRITE_AGAIN, PredictionRecord
from introspection.coupling.run_results import ArmResults, RunResults
from introspection.errors import InputError
from introspection.reports.few_groups import with_few_groups
from introspection.reports.speed import read_speeds
from introspection.runtime import json_files
from introspection.runtime.digests import check_digest
from introspection.runtime.json_files import json_lines, parsed
from introspection.runtime.json_values import from_json
from introspection.runtime.metrics_writer import metrics_event
from introspection.tasks.subsets import kept_places
from introspection.text.pretrained_tokenizer import CHAT
from introspection.training.speed import Speed

Parsed = TypeVar("Parsed")

MEND = "delete this folder and rerun its command"  # what is finished is never written again
RUN_COMMAND = "python -m experiments.run --config=F --workdir={workdir}"
COMPARE_COMMAND = "python -m experiments.compare --models=A,B --task=T --workdir={workdir}"


@dataclasses.dataclass(frozen=True)
class ReportSettings:
    """What a reader may want otherwise; a run's config sets them under `report`."""

    max_items: int = 5_000  # rows of predictions.jsonl that the page embeds
    max_control_items: int = 2_000  # rows of controls.jsonl that the page embeds
    max_curve_points: int = 200  # points of one training curve
    page_size: int = 20  # rows of the item table on one page


@dataclasses.dataclass(frozen=True)
class ExplainedItem:
    """One line of predictions.jsonl (`control` is empty) or of controls.jsonl."""

    control: str
    record: PredictionRecord


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """A workdir, read. What the run did not leave is empty or None."""

    name: str
    config: Mapping[str, Any]
    settings: ReportSettings
    results: RunResults  # without an arm in a comparison's folder
    predictions: tuple[ExplainedItem, ...]  # those that the page embeds
    controls: tuple[ExplainedItem, ...]
    total_predictions: int  # lines of predictions.jsonl
    total_controls: int
    metrics: tuple[Mapping[str, Any], ...]
    matrix: Matrix | None
    organism: Mapping[str, Any] | None
    chat: Mapping[str, Any] | None = None  # the chat format of a pretrained model
    speeds: tuple[Speed, ...] = ()

    @property
    def tiny(self) -> bool:
        return self.results.tiny or bool(self.config.get("tiny"))

    @property
    def fingerprints(self) -> Mapping[str, Any]:
        return self.results.fingerprints or (self.matrix.fingerprints if self.matrix else {})

    @property
    def arms(self) -> tuple[ArmResults, ...]:
        return tuple(map(with_few_groups, self.results.arms.values()))


def read_results(path: Path) -> RunResults:
    """A run's `results.json`, each arm with its controls.

    Raises:
        InputError: it can't be read.
    """

    fields = json_files.read_object(path, MEND)

    def parse() -> RunResults:
        results = from_json(RunResults, fields)
        arms = {
            name: dataclasses.replace(
                arm,
                controls=tuple(
                    dataclasses.replace(by_arm[name], name=control)
                    for control, by_arm in results.controls.items()
                    if name in by_arm
                ),
            )
            for name, arm in results.arms.items()
        }
        return dataclasses.replace(results, arms=arms)

    return parsed(path, parse, MEND)


def check_reportable(workdir: Path) -> None:
    """Raises InputError unless the workdir is a finished run's or a comparison's."""
    if not workdir.is_dir():
        raise InputError(f"{workdir} is not a folder: first run `{RUN_COMMAND.format(workdir=workdir)}`")
    if not any((workdir / name).exists() for name in ("results.json", "matrix.json")):
        raise InputError(
            f"{workdir / 'results.json'} is missing (and so is matrix.json): first run"
            f" `{RUN_COMMAND.format(workdir=workdir)}` or `{COMPARE_COMMAND.format(workdir=workdir)}`"
        )


def read_run(workdir: Path) -> RunFiles:
    """Reads a run's workdir, or one that holds only a comparison's `matrix.json`.

    Raises:
      InputError: as `check_reportable`; or a file can't be read, or was changed.
    """
    check_reportable(workdir)
    results_path, matrix_path = workdir / "results.json", workdir / "matrix.json"
    config = read_object(workdir / "config.json") or {}
    matrix = read_object(matrix_path)
    settings = _settings(config, workdir / "config.json")
    predicted, total_predictions = _read_items(workdir / "predictions.jsonl", settings.max_items)
    controlled, total_controls = _read_items(workdir / "controls.jsonl", settings.max_control_items)
    return RunFiles(
        name=_run_name(config, workdir),
        config=config,
        settings=settings,
        results=read_results(results_path) if results_path.exists() else RunResults({}),
        predictions=predicted,
        controls=controlled,
        total_predictions=total_predictions,
        total_controls=total_controls,
        metrics=tuple(_read_lines(workdir / "metrics.jsonl", metrics_event, may_be_torn=True)),
        matrix=None if matrix is None else parsed(matrix_path, lambda: from_json(Matrix, matrix), MEND),
        organism=_organism(workdir / "organism.json"),
        chat=read_object(workdir / CHAT),
        speeds=read_speeds(workdir),
    )


def _organism(path: Path) -> dict[str, Any] | None:
    organism = read_object(path)
    rows = organism.get("rows") if organism else None
    if not isinstance(rows, list | None) or not all(isinstance(row, dict) for row in rows or ()):
        raise InputError(f"{path}: rows is not a list of objects: {MEND}")
    return organism


def _run_name(config: Mapping[str, Any], workdir: Path) -> str:
    for key in ("name", "experiment"):
        if isinstance(config.get(key), str) and config[key]:
            return config[key]
    return workdir.resolve().name


def _settings(config: Mapping[str, Any], path: Path) -> ReportSettings:
    chosen = config.get("report") or {}
    if not isinstance(chosen, Mapping):
        raise InputError(f"{path}: report is {chosen!r:.60}; it must be an object")
    known = {field.name for field in dataclasses.fields(ReportSettings)}
    for key, value in chosen.items():
        if key not in known:
            raise InputError(f"{path}: report.{key} is unknown; known are {', '.join(sorted(known))}")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{path}: report.{key} is {value!r}; give a whole number of at least 1")
    return ReportSettings(**chosen)


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, or None where the run left no such file."""
    return json_files.read_object(path, MEND) if path.exists() else None


def _read_lines(
    path: Path, parse: Callable[[dict[str, Any]], Parsed], may_be_torn: bool = False
) -> Iterator[Parsed]:
    """Every line of a JSON Lines file; none where the run left no such file.

    The last line of metrics may be torn (of a run that was stopped while writing them), so that a report can
    be built of what is there; the other files are written whole.
    """
    if path.exists():
        yield from json_lines(path, parse, MEND, may_be_torn)


def _read_items(path: Path, most: int) -> tuple[tuple[ExplainedItem, ...], int]:
    """At most `most` lines, thinned as `kept_places` does, and how many there are.

    Read twice, so that what is left out (of a large study, hundreds of megabytes) never is in memory.
    """

    def parse(fields: dict[str, Any]) -> ExplainedItem:
        control = fields.pop("control", "") or ""
        return ExplainedItem(str(control), PredictionRecord.from_json(fields))

    if path.exists():
        check_digest(path, WRITE_AGAIN)
    ids = list(_read_lines(path, lambda fields: sys.intern(str(fields["id"]))))
    kept = set(kept_places(ids, most))
    places = itertools.count()

    def parse_kept(fields: dict[str, Any]) -> ExplainedItem | None:
        return parse(fields) if next(places) in kept else None

    return tuple(item for item in _read_lines(path, parse_kept) if item is not None), len(ids)


def named_values(value: Any, prefix: str = "") -> Sequence[tuple[str, Any]]:
    """Flattens nested mappings to `("a.b", value)` pairs, for the tables of fingerprints and versions."""
    if isinstance(value, Mapping) and value:
        return [
            pair
            for key, inner in value.items()
            for pair in named_values(inner, f"{prefix}.{key}" if prefix else str(key))
        ]
    return [(prefix, value)]
