"""What a notebook needs: runs, models and tasks as typed values, and the three things a model is asked."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from introspection.checkpoints.names import load_one
from introspection.coupling.matrix import coupling_matrix
from introspection.coupling.matrix_results import Matrix
from introspection.coupling.records import PredictionRecord, read_records
from introspection.coupling.run_results import ArmResults, RunResults
from introspection.errors import InputError
from introspection.models.model import Model
from introspection.probes.behavior import Readout, read_behavior
from introspection.probes.context import longest_explanation
from introspection.probes.explanation import decode_explanations
from introspection.reports.run_files import read_results
from introspection.runtime.session import Session
from introspection.runtime.storage import fetched_parts
from introspection.tasks import registry
from introspection.tasks.items import Decisions, Explanation, Item
from introspection.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run: what `results.json` says, and every held-out item's record."""

    workdir: Path
    results: RunResults
    predictions: tuple[PredictionRecord, ...]

    def table(self) -> list[dict[str, Any]]:
        """One row an arm of plain values: exact match as shares with 95% intervals, and what goes with it.

        Undefined values are None. `pandas.DataFrame` and `polars.DataFrame` take the rows as they are.
        """
        return [_arm_row(name, arm) for name, arm in self.results.arms.items()]

    def records(self, arm: str | None = None) -> list[dict[str, Any]]:
        """One row an item and seed, of one arm or of all: what was asked, decided and explained.

        Raises:
          InputError: the run has no such arm.
        """
        if arm is not None and arm not in self.results.arms:
            raise InputError(f"{self.workdir} has no arm {arm!r}; it has {', '.join(self.results.arms)}")
        return [_record_row(one) for one in self.predictions if arm in (None, one.arm)]


def load_run(workdir: str | Path) -> Run:
    """The results and predictions of a finished run, also one in a bucket (`s3://…`, `gs://…`).

    Raises:
      InputError: there is no finished run in `workdir`, or a file of it can't be read.
    """
    folder = Path(fetched_parts("load_run", str(workdir)))
    try:
        results = read_results(folder / "results.json")
        return Run(folder, results, tuple(read_records(folder / "predictions.jsonl")))
    except InputError as error:
        raise InputError(f"{folder}: no finished run: {error}") from error


def load_model(name: str, session: Session | None = None) -> Model:
    """A model by name: `WORKDIR[:ARM[:SEED]][@STEP]`, a Hugging Face folder, a GGUF file or `BASE+ADAPTERS`.

    Raises:
      InputError: there is no such model, the name means several, or it can't be read.
    """
    session = session or Session()
    return load_one(name, session.mesh, cache=session.cache)


def load_task(name: str, session: Session | None = None, **fields: Any) -> Task:
    """A task with its items, the defaults of `name` changed by `fields`.

    Raises:
      InputError: there is no such task or field, or its data can't be used.
    """
    section = registry.default_section(name) | fields
    return registry.load_task(section, (session or Session()).cache)[0]


def probe(
    model: Model, items: Sequence[Item], readout: Readout | None = None, session: Session | None = None
) -> list[Decisions]:
    """B(M): the model's decisions on each item with and without its cue, in the order of the items."""
    session = session or Session()
    with jax.set_mesh(session.mesh):
        return read_behavior(model, items, readout or Readout(), session).decisions


def explain(
    model: Model, items: Sequence[Item], task: Task, session: Session | None = None
) -> list[tuple[str, Explanation]]:
    """What the model says of each item, decoded greedily, and the explanation that it parses to.

    Replies may be as long as the longest explanation of `items` that can be right.
    """
    session = session or Session()
    tokens = longest_explanation(items, task, model.tokenizer)
    with jax.set_mesh(session.mesh):
        return decode_explanations(model, items, task.grammar, tokens, session)


def compare(
    models: Mapping[str, Model],
    items: Sequence[Item],
    task: Task,
    readout: Readout | None = None,
    session: Session | None = None,
    seed: int = 0,
) -> Matrix:
    """Every model's explanations against every model's behaviour, as `matrix.json` has it (workdir_files.md).

    `exact_match` holds shares, rows emitters and columns teachers, in the order of `models`; `ci95` their 95%
    intervals over groups of items, resampled by `seed`.

    Raises:
      InputError: there is no model or no item.
    """
    if not models or not items:
        raise InputError("compare needs a model and an item")
    session = session or Session()
    decisions = {name: probe(model, items, readout, session) for name, model in models.items()}
    said = {name: [e for _, e in explain(model, items, task, session)] for name, model in models.items()}
    return coupling_matrix(said, decisions, [item.group for item in items], np.random.default_rng(seed))


def _arm_row(name: str, arm: ArmResults) -> dict[str, Any]:
    row: dict[str, Any] = {"arm": name, "n": arm.n}
    for score, found in (("self", arm.self), ("orig", arm.orig), ("gap", arm.gap)):
        exact = found.exact_match
        row |= {score: exact.mean, f"{score}_low": exact.low, f"{score}_high": exact.high}
    return row | {
        "drift": arm.drift,
        "current_share": arm.disagreement.current_share,
        "agreement": arm.agreement.mean,
        "accuracy": arm.behavior_accuracy.current,
        "invalid_rate": arm.invalid_rate,
    }


def _record_row(record: PredictionRecord) -> dict[str, Any]:
    row = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    changed, answer = row.pop("explanation")
    effects = row.pop("cue_effects")
    for model in ("teacher", "initial", "current"):
        with_cue, without_cue = row.pop(model)
        row[f"{model}_cue_effect"] = effects and getattr(effects, model)
        row |= {f"{model}_with_cue": with_cue, f"{model}_without_cue": without_cue}
    return row | {
        "candidates": list(record.candidates),
        "changed": changed,
        "answer": answer,
        "self": record.explanation == record.current.explanation,
        "orig": record.explanation == record.teacher.explanation,
    }
