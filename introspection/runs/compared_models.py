"""The rows of a comparison: the models that are named, the seeds of an arm as one, and controls by recipe."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from introspection.checkpoints.names import CHECKPOINTS, StoredModel, address, find_models, model_path
from introspection.coupling.matrix_results import RECIPES
from introspection.errors import InputError
from introspection.runtime.json_files import read_object
from introspection.tasks.items import Decisions, Explanation
from introspection.text.chat_template import ChatOptions
from introspection.weights.pretrained import PretrainedModel

Found = StoredModel | PretrainedModel
RunArms = Mapping[str, Any]  # a run's stored arms by name
FOREIGN = ("foreign", "aligned_foreign")
ARMS = ("shuffled", *FOREIGN)  # controls that an arm of a run can be
COMPUTED = ("few_shot", "majority", "input_only")  # from the models' runs


@dataclasses.dataclass(frozen=True)
class Row:
    """What the matrix shows as one name: a model, or all seeds of an arm at one step."""

    name: str
    models: tuple[Found, ...]
    recipe: str = ""  # of a control
    members: tuple[str, ...] = ()  # the names of its models, each once; known when they are loaded
    run: Path | None = None  # of a control without a model
    same_in: tuple[Path, ...] = ()  # other runs whose model this is, too

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(map(address, self.models))

    @property
    def workdir(self) -> Path | None:
        """The run's that it belongs to; None of an external model."""
        first = self.models[0] if self.models else None
        return first.workdir if isinstance(first, StoredModel) else self.run

    @property
    def arm(self) -> str:
        """The arm of its run that it is; "" if it is none."""
        first = self.models[0] if self.models else None
        return first.arm if isinstance(first, StoredModel) else ""

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(one.seed for one in self.models if isinstance(one, StoredModel))


@dataclasses.dataclass(frozen=True)
class Compared:
    """One model's results, in the order of the items."""

    fingerprint: str  # "" of a control without a model
    decisions: list[Decisions]  # none of a control that only speaks
    said: list[tuple[str, Explanation]]  # the text of an explanation, and the explanation
    cut: str = ""  # a warning if many replies have no end


def asked_controls(flags: Iterable[str]) -> dict[str, str]:
    """`--controls`: by recipe, the model that is given for it, or "" for what the models' runs have.

    Raises:
      InputError: a recipe is unknown or given twice, or takes no model.
    """
    asked: dict[str, str] = {}
    for flag in flags:
        recipe, equals, name = flag.partition("=")
        if recipe not in RECIPES:
            raise InputError(f"--controls={flag}: no control {recipe!r}; choose from {', '.join(RECIPES)}")
        if recipe in asked:
            raise InputError(f"--controls: {recipe} is given twice; give it once")
        if equals and (not name or recipe in COMPUTED):
            raise InputError(f"--controls={flag}: give {recipe} without =")
        asked[recipe] = name
    return asked


def compared_rows(
    names: Sequence[str], asked: Mapping[str, str], cache: Path, chat: ChatOptions
) -> list[Row]:
    """The rows that models give: those named, then the controls.

    With controls there are the models that the runs' training started from, whose behaviour gaps are held
    against.

    Raises:
      InputError: as `find_models`; or no model comes from a run that has what a recipe takes.
    """

    def rows(name: str, recipe: str = "") -> list[Row]:
        return _rows(find_models(model_path(name, cache), chat), recipe)

    named = [row for name in names for row in rows(name)]
    workdirs = workdirs_of(named)
    controls = [row for recipe, name in asked.items() if name for row in rows(name, recipe)]
    for recipe in (recipe for recipe, name in asked.items() if not name):
        if not workdirs:
            raise InputError(f"--controls={recipe}: none of the models comes from a run, which it takes")
        if recipe in ARMS:
            arms = [(one, arm) for one in workdirs for arm in _control_arms(one, recipe)]
            if not arms:
                raise InputError(
                    f"--controls={recipe}: the models' runs have no such arm; give {recipe}=MODEL"
                )
            controls += [row for workdir, arm in arms for row in rows(f"{workdir}:{arm}", recipe)]
    if asked:
        controls[:0] = [row for workdir in workdirs for row in rows(f"{workdir}:initial", "initial")]
    taken = {row.addresses for row in controls}
    return _apart([*(row for row in named if row.addresses not in taken), *controls])


def workdirs_of(rows: Iterable[Row]) -> list[Path]:
    """The runs that models come from."""
    return list(dict.fromkeys(row.workdir for row in rows if row.workdir is not None))


def _rows(found: Sequence[Found], recipe: str) -> list[Row]:
    """A row for each model; several seeds of an arm share one."""
    by_arm: dict[object, list[Found]] = {}
    for one in found:
        arm = (one.workdir, one.arm, one.step) if isinstance(one, StoredModel) else one.name
        by_arm.setdefault(arm, []).append(one)
    return [Row(_name(models), tuple(models), recipe) for models in by_arm.values()]


def _name(models: Sequence[Found]) -> str:
    first = models[0]
    if len(models) == 1 or not isinstance(first, StoredModel):
        return first.name
    return f"{first.workdir.name}:{first.arm}@{first.step}"


def _apart(rows: Sequence[Row]) -> list[Row]:
    """The rows, each once, with the full path of its workdir where the folder's name is ambiguous."""
    rows = list({row.addresses: row for row in rows}.values())
    count = Counter(row.name for row in rows)
    return [
        dataclasses.replace(row, name=str(row.workdir.parent / row.name))
        if count[row.name] > 1 and row.workdir is not None
        else row
        for row in rows
    ]


def run_arms(workdir: Path) -> RunArms:
    """The arms of a run that are stored, each with its config's fields as attributes."""
    text = json.dumps(read_object(workdir / "config.json").get("arms", {}))
    arms = vars(json.loads(text, object_hook=lambda fields: SimpleNamespace(**fields)))
    return {name: arm for name, arm in arms.items() if (workdir / CHECKPOINTS / name).exists()}


def _control_arms(workdir: Path, recipe: str) -> list[str]:
    """The arms of a run that are a control. One that is shown an answer is none: it may copy it."""

    def is_one(arm: Any) -> bool:
        def has(field: str) -> bool:
            return bool(getattr(arm, field, False))

        if has("shown"):
            return False
        if recipe == "shuffled":
            return has("shuffle_labels")
        return has("foreign_to") and has("aligned") == (recipe == "aligned_foreign")

    return [name for name, arm in run_arms(workdir).items() if is_one(arm)]
