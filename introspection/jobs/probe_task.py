"""Which task and which model a probe is of: what its flags mean."""

import ast
import contextlib
import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from introspection.checkpoints.models import StoredModel, check_loadable, find_models
from introspection.checkpoints.pretrained import PretrainedModel
from introspection.errors import InputError
from introspection.jobs.items import MIXTURE, default_section, section_settings
from introspection.jobs.models import model_path
from introspection.jobs.settings import cache_dir

SAMPLED = (2, 6)  # validation and test questions of a task's hand-written sample; training gets the others


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
    reply_tokens: int = 0  # longest generated reply; 0 is as the model's run has it, or the default
    judge_model: str = ""  # asked by the model judge; "": the model that replied

    def __post_init__(self):
        if self.limit < 0:
            raise InputError(f"--limit is {self.limit}; it must be 0 (all) or more")
        if self.reply_tokens < 0:
            raise InputError(f"--reply-tokens is {self.reply_tokens}; it must be 0 (the default) or more")
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


def probed_section(
    request: ProbeRequest, model: StoredModel | PretrainedModel | None, *, every_cue: bool = False
) -> dict[str, Any]:
    """The `task` section that is probed: that of the model's own run, if it was of this task, or the task's
    defaults; with `--data` and `--set` on top.

    Args:
      every_cue: every kind of cue is asked about every question, unless the request says which.

    Raises:
      InputError: an unknown task or field, or a value that the field can't have.
    """
    own = run_section(model)
    own = own if own.get("name") == request.task else {}
    # A mixture has no defaults: its parts are those of a run.
    section = {} if own and request.task == MIXTURE else default_section(request.task)
    section |= own
    if request.data:
        if "data" not in section:
            raise InputError(f"--data: {request.task} reads no file of yours; leave --data out")
        section["data"] = request.data
    chosen = dict(field_value(assignment, section) for assignment in request.fields)
    section |= chosen
    section_settings(section)
    if every_cue:
        section = with_every_cue(section, chosen)
    if request.data == "sample" and not any(name.endswith("_items") for name in chosen):
        section = with_sample_sizes(section)
    return section


def with_every_cue(section: Mapping[str, Any], chosen: Collection[str]) -> dict[str, Any]:
    """The section with every kind of cue asked about every question; fields that are `chosen` stay.

    Sizes that count items grow with the items of a question, so every split has the questions that it has in
    a run with the section: those that test a model stay apart from those that a cue is chosen by.
    """
    # Some tasks draw a few of their kinds for each question; 0 draws none and asks all.
    drawn = {name: 0 for name in section if name.startswith("cues_per_") and name not in chosen}
    every = {**section, **drawn}
    sizes = {name: size for name, size in section.items() if name.endswith("_items")}
    if "cue_kinds" in section and "cue_kinds" not in chosen:
        # Where () is not all kinds but none, the task's own list has what all data can have.
        with contextlib.suppress(InputError):
            section_settings({**every, "cue_kinds": [], **dict.fromkeys(sizes, 0)})
            every["cue_kinds"] = []
    before, now = (items_of_question({**one, **dict.fromkeys(sizes, 0)}) for one in (section, every))
    return every | {name: size // before * now for name, size in sizes.items()}


def items_of_question(section: Mapping[str, Any]) -> int:
    """How many items a question has, in a task whose sizes count items."""
    kinds = len(section.get("cue_kinds", ()))
    drawn = [number or kinds for name, number in section.items() if name.startswith("cues_per_")]
    return getattr(section_settings(section), "variants", drawn[0] if drawn else 1)


def with_sample_sizes(section: Mapping[str, Any]) -> dict[str, Any]:
    """The section with sizes that a few hand-written questions can fill, where its own are too large."""
    if not section.get("test_items"):
        return dict(section)
    items = items_of_question(section)
    sizes = {"train_items": 0, "validation_items": SAMPLED[0] * items, "test_items": SAMPLED[1] * items}
    return {**section, **sizes}


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
