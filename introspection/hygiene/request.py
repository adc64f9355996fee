"""What a probe's flags mean: its task and its model."""

import contextlib
import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from introspection.checkpoints.names import (
    StoredModel,
    address,
    check_addressed,
    check_loadable,
    find_common,
)
from introspection.errors import InputError, listed
from introspection.runs.inherited import run_section
from introspection.runs.overrides import (
    assigned_chat,
    assigned_section,
    items_of_question,
    load_fitting,
)
from introspection.runtime.config import cache_dir
from introspection.runtime.processes import first_before_others
from introspection.tasks.mixture import NAME as MIXTURE
from introspection.tasks.registry import default_section, section_settings
from introspection.tasks.task import Task
from introspection.weights.pretrained import PretrainedModel


@dataclasses.dataclass(frozen=True)
class ProbeRequest:
    task: str
    data: str = ""  # the user's own raw file or folder; "" is the task's default
    model: str = ""  # "": no model, only the data
    fields: tuple[str, ...] = ()  # of the task's section, each FIELD=VALUE
    chat: tuple[str, ...] = ()  # chat options of an external model, each FIELD=VALUE
    limit: int = 0  # items (in a scan: groups) to ask about, taken evenly; 0 is all
    readout: str = ""  # one of `READOUTS`; "" is that of the model's run, or generate
    margin: float = 0.1  # nats; closer decisions count as noise
    reply_tokens: int = 0  # limit of a generated reply; 0 is that of the model's run, or the default
    judge_model: str = ""  # asked by the model judge; "": the model that replied
    devices: int = 1  # over which batches are split; -1 is all
    self_knowledge: bool = False  # score the candidates of generated replies too, for `predictability`
    mesh: str = ""  # the flag `--mesh`, in place of `devices`

    def __post_init__(self):
        if self.limit < 0:
            raise InputError(f"--limit is {self.limit}; it must be 0 (all) or more")
        if self.chat and not self.model:
            raise InputError("--chat applies to external models: give --model=M")
        if self.reply_tokens < 0:
            raise InputError(f"--reply-tokens is {self.reply_tokens}; it must be 0 (the default) or more")
        if not 0 < self.margin < float("inf"):
            raise InputError(f"--margin is {self.margin}; give a number of nats above 0")


def find_model(request: ProbeRequest) -> StoredModel | PretrainedModel:
    """The single model to ask.

    Raises:
      InputError: it does not exist, its name means several, it is not supported, or it is a run's and chat
        options are given.
    """
    name, chat = request.model, assigned_chat(request.chat)
    found = find_common(name, cache_dir(), chat)
    check_addressed(found, chat, "--chat")
    if len(found) > 1:
        choices = listed(map(address, found), most=20)
        raise InputError(f"--model={name} means {len(found)} models; name one of: {choices}")
    check_loadable(found[0])
    return found[0]


def probed_section(
    request: ProbeRequest, model: StoredModel | PretrainedModel | None, *, every_cue: bool = False
) -> dict[str, Any]:
    """The `task` section to probe: that of the model's run, if it was on this task, or the task's defaults;
    then `--data` and `--set`.

    Args:
      every_cue: ask every question with every kind of cue, unless the request names kinds.

    Raises:
      InputError: an unknown task or field, or an invalid value.
    """
    own = run_section(model)
    own = own if own.get("name") == request.task else {}
    # A mixture has no default parts.
    usual = {} if own and request.task == MIXTURE else default_section(request.task)
    section = assigned_section({**usual, **own}, request.data, request.fields)
    chosen = [assignment.partition("=")[0] for assignment in request.fields]
    if every_cue:
        section = with_every_cue(section, chosen)
    return section


def probed_task(
    request: ProbeRequest, model: StoredModel | PretrainedModel | None, *, every_cue: bool = False
) -> tuple[dict[str, Any], Task]:
    """The section and the task to probe, as `probed_section` and `load_fitting`.

    Raises:
      InputError: as these.
    """
    section = probed_section(request, model, every_cue=every_cue)
    return first_before_others(
        lambda: load_fitting(section, request.fields, cache_dir(), [dict(run_section(model))])
    )


def with_every_cue(section: Mapping[str, Any], chosen: Collection[str]) -> dict[str, Any]:
    """The section with every kind of cue for every question; `chosen` fields stay.

    Sizes in items grow with the items per question, so that every split keeps its questions: those that test
    a model stay apart from those that a cue is chosen on.
    """
    # Some tasks draw a few of their kinds for each question; 0 asks all.
    drawn = {name: 0 for name in section if name.startswith("cues_per_") and name not in chosen}
    every = {**section, **drawn}
    sizes = {name: size for name, size in section.items() if name.endswith("_items")}
    if "cue_kinds" in section and "cue_kinds" not in chosen:
        # If () means none instead of all kinds, keep the task's own list, which suits all data.
        with contextlib.suppress(InputError):
            section_settings({**every, "cue_kinds": [], **dict.fromkeys(sizes, 0)})
            every["cue_kinds"] = []
    before, now = (items_of_question({**some, **dict.fromkeys(sizes, 0)}) for some in (section, every))
    return every | {name: size // before * now for name, size in sizes.items()}
