"""Controls of a comparison: what is computed from the models' runs, and which models each is held against."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from introspection.coupling.alignment import shortfall
from introspection.coupling.askable import shuffled_arm
from introspection.coupling.controls import CONTROLS, Labelled, computed_control
from introspection.coupling.labels import labels_by_id
from introspection.errors import InputError
from introspection.models.model import Model
from introspection.probes.context import longest_explanation
from introspection.probes.explanation import decode_explanations, explanation_prompt, with_examples
from introspection.reports.run_files import read_results
from introspection.runs.compared_models import FOREIGN, Compared, Row, RunArms
from introspection.runtime.progress import progress_bar
from introspection.runtime.session import Session
from introspection.tasks.items import Explanation, Item
from introspection.tasks.task import Task

SHOTS = 8  # worked examples, half of them changed
REFRESHED = re.compile(r"-seed\d+-step\d+$")  # the name of labels that were made while an arm trained


class TrainingLabels(NamedTuple):
    """Training items of a run, with their clean labels."""

    explained: Labelled
    natural: Labelled  # all that could be explained


def labelled_training_items(workdir: Path, task: Task) -> TrainingLabels:
    """The training items that a run explains, and all that it could.

    The first are those of an arm's labels or, if all arms were given labels, the second.

    Raises:
      InputError: the labels are missing, or of another task.
    """
    folders = sorted(path.parent for path in (workdir / "labels").glob("*/metadata.json"))
    own = [folder for folder in folders if folder.name != "clean" and not REFRESHED.search(folder.name)]
    folder, clean = own[0] if own else workdir / "labels" / "clean", workdir / "labels" / "clean"
    expected = {"task": task.name, "template_version": task.template_version}
    # An arm's own clean labels may describe another model (config.foreign_labels).
    explained, labels = labels_by_id(folder, expected), labels_by_id(clean, expected)
    natural = [item for item in task.splits["train"] if item.id in labels]
    items = [item for item in natural if item.id in explained]
    if not items:
        raise InputError(f"{folder}: no training item of this task has a label there; leave --controls out")
    return TrainingLabels(*((own, [labels[item.id].clean for item in own]) for own in (items, natural)))


def label_rows(
    training: Mapping[Path, TrainingLabels], items: Sequence[Item], task: Task, recipes: Sequence[str]
) -> Iterator[tuple[Row, Compared]]:
    """What `majority` and `input_only` say, fitted on each run's labels."""
    for workdir, labelled in training.items():
        for recipe in recipes:
            if recipe in CONTROLS:
                said = computed_control(recipe, *labelled, items, 0)
                name = f"{workdir.name if len(training) == 1 else workdir}: {recipe}"
                row = Row(name, (), recipe, (name,), workdir)
                yield row, Compared("", [], [(task.grammar.render(one), one) for one in said])


def held_against(row: Row, models: Sequence[Row], arms: Mapping[Path, RunArms]) -> tuple[str, ...]:
    """The models whose gap is held against a control's: those of its run that it is the control of, or all
    of its run; all, if it is of none of their runs; none, if it was to be aligned and is not.

    Args:
      arms: of every run that a model is from.
    """
    if row.workdir is None or row.workdir not in arms:
        return tuple(one.name for one in models)
    here = arms[row.workdir]

    def is_of(model: Row) -> bool:
        if row.recipe in FOREIGN and row.arm:
            return here[row.arm].foreign_to == model.arm and not short_of_alignment(row)
        return row.recipe != "shuffled" or not row.arm or shuffled_arm(here, model.arm) == row.arm

    own = [one for one in models if one.workdir == row.workdir and not starts_elsewhere(one, arms)]
    return tuple(one.name for one in own if is_of(one))


def starts_elsewhere(row: Row, arms: Mapping[Path, RunArms]) -> bool:
    """Whether a model is an arm that another base than its run's initial model was trained for."""
    return row.workdir is not None and bool(getattr(arms[row.workdir].get(row.arm), "foreign_to", ""))


def short_of_alignment(row: Row) -> str:
    """Why nothing is held against an aligned foreign explainer of a run; "" where it is aligned."""
    if row.recipe != "aligned_foreign" or row.workdir is None:
        return ""
    results = row.workdir / "results.json"
    found = read_results(results).alignment if results.exists() else None
    why = None if found is None else shortfall(found)
    return f"{row.name} is held against nothing: {why}" if why else ""


def worked_examples(
    training: Labelled, items: Sequence[Item], rng: np.random.Generator
) -> list[tuple[Item, Explanation]]:
    """`SHOTS` training items with their labels, half of them changed if there are as many, none of a group
    that `items` are of."""
    asked = {item.group for item in items}
    free = [pair for pair in zip(*training, strict=True) if pair[0].group not in asked]
    halves = [[pair for pair in free if bool(pair[1].changed) == changed] for changed in (True, False)]
    drawn = [half[i] for half in halves for i in rng.permutation(len(half))[: SHOTS // 2]]
    return [drawn[i] for i in rng.permutation(len(drawn))]


def few_shot_row(
    row: Row,
    model: Model,
    items: Sequence[Item],
    training: Labelled,
    task: Task,
    explanation_tokens: int,
    session: Session,
) -> tuple[Row, Compared]:
    """What a model says after worked examples.

    Raises:
      InputError: its format or its context has no room for them.
    """
    examples = worked_examples(training, items, np.random.default_rng(0))
    name = f"{row.name} after {len(examples)} examples"
    tokens = max(longest_explanation(items, task, model.tokenizer), explanation_tokens)
    asked = [with_examples(item, examples, task.grammar) for item in items]
    try:
        prompts = [explanation_prompt(model.tokenizer, item, task.grammar) for item in asked]
    except InputError as error:
        raise InputError(f"{name}: not asked, its format has no room for examples: {error}") from error
    longest, room = max(map(len, prompts)) + tokens, model.config.context_length
    if longest > room:
        raise InputError(f"{name}: not asked, it would read {longest} tokens, and its context has {room}")
    with progress_bar(session.console, f"asking {name}", len(items)) as advance:
        said = decode_explanations(model, asked, task.grammar, tokens, session, advance)
    return Row(name, (), "few_shot", (name,), row.workdir), Compared("", [], said)
