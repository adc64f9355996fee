"""Which task and which model a probe is of: what its flags mean."""

import ast
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from introspection.checkpoints.models import StoredModel, check_loadable, find_models
from introspection.checkpoints.pretrained import PretrainedModel
from introspection.errors import InputError
from introspection.jobs.items import default_section, section_settings
from introspection.jobs.models import model_path
from introspection.jobs.settings import cache_dir


@dataclasses.dataclass(frozen=True)
class ProbeRequest:
    """What is asked of a probe."""

    task: str
    data: str = ""  # the user's own raw file or folder; "" is where the task looks itself
    model: str = ""  # "": no model, the data alone
    fields: tuple[str, ...] = ()  # of the task's section, each FIELD=VALUE
    limit: int = 0  # items (of a scan: groups) that are asked, taken evenly; 0 is all
    readout: str = ""  # score or generate; "" as the model's run did, or by generated replies
    margin: float = 0.1  # nats; decisions that are closer count as noise

    def __post_init__(self):
        if self.limit < 0:
            raise InputError(f"--limit is {self.limit}; it must be 0 (all) or more")
        if not 0 < self.margin < float("inf"):
            raise InputError(f"--margin is {self.margin}; give a number of nats above 0")


def find_model(name: str) -> StoredModel | PretrainedModel:
    """The one model that a name means.

    Raises:
      InputError: there is none, it means several, or this code can't run it.
    """
    found = find_models(model_path(name, cache_dir({"cache_dir": ""})))
    if len(found) > 1:
        choices = ", ".join(f"{one.workdir}:{one.arm}:{one.seed}@{one.step}" for one in found)
        raise InputError(f"--model={name} means {len(found)} models; name one of: {choices}")
    check_loadable(found[0])
    return found[0]


def probed_section(request: ProbeRequest, model: StoredModel | PretrainedModel | None) -> dict[str, Any]:
    """The `task` section that is probed: that of the model's own run, if it was of this task, or the task's
    defaults; with `--data` and `--set` on top.

    Raises:
      InputError: an unknown task or field, or a value that the field can't have.
    """
    section = default_section(request.task)
    own = run_section(model)
    if own.get("name") == request.task:
        section |= own
    if request.data:
        if "data" not in section:
            raise InputError(f"--data: {request.task} reads no file of yours; leave --data out")
        section["data"] = request.data
    for assignment in request.fields:
        field, value = field_value(assignment, section)
        section[field] = value
    section_settings(section)
    return section


def run_section(model: StoredModel | PretrainedModel | None) -> Mapping[str, Any]:
    """The `task` section of the run that left a model; {} of a model made elsewhere."""
    path = model.workdir / "config.json" if isinstance(model, StoredModel) else None
    if path is None or not path.is_file():
        return {}
    return json.loads(path.read_text(encoding="utf-8")).get("task") or {}


def field_value(assignment: str, section: Mapping[str, Any]) -> tuple[str, Any]:
    """A field of a section and the value that FIELD=VALUE gives it, of the kind of value that it has.

    Raises:
      InputError: no such field, or a value of another kind.
    """
    field, equals, said = assignment.partition("=")
    known = [name for name in section if name != "name"]
    if not equals or field not in known:
        raise InputError(f"--set={assignment}: give FIELD=VALUE; the fields are {', '.join(known)}")
    now = section[field]
    if isinstance(now, str):
        return field, said
    if isinstance(now, list) and not said.lstrip().startswith(("(", "[")):
        return field, [_literal(part.strip()) for part in said.split(",") if part.strip()]
    value = _literal(said)
    if isinstance(value, tuple):
        value = list(value)
    fits = type(value) is type(now) or (isinstance(now, float) and type(value) is int)
    if not fits:
        raise InputError(f"--set={assignment}: {field} is a {type(now).__name__}, such as {now!r}")
    return field, type(now)(value)


def _literal(text: str) -> Any:
    """The number, truth value or list that a text writes; the text itself if it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def named_groups(groups: Sequence[str], limit: int) -> list[str]:
    """At most `limit` of the groups (0: all), taken evenly, each once."""
    distinct = list(dict.fromkeys(groups))
    if not limit or limit >= len(distinct):
        return distinct
    return [distinct[place * len(distinct) // limit] for place in range(limit)]
