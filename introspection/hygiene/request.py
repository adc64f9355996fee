"""Which task and which model a probe is of: what its flags mean."""

import contextlib
import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from introspection.checkpoints.names import (
    StoredModel,
    address,
    check_addressed,
    check_loadable,
    find_models,
    model_path,
)
from introspection.errors import InputError
from introspection.runs.inherited import run_section
from introspection.runs.overrides import (
    SAMPLE,
    assigned_chat,
    assigned_section,
    items_of_question,
    with_sample_sizes,
)
from introspection.runtime.config import cache_dir
from introspection.tasks.mixture import NAME as MIXTURE
from introspection.tasks.registry import default_section, section_settings
from introspection.weights.pretrained import PretrainedModel


@dataclasses.dataclass(frozen=True)
class ProbeRequest:
    """What is asked of a probe."""

    task: str
    data: str = ""  # the user's own raw file or folder; "" is where the task looks itself
    model: str = ""  # "": no model, the data alone
    fields: tuple[str, ...] = ()  # of the task's section, each FIELD=VALUE
    chat: tuple[str, ...] = ()  # how an external model is addressed, each FIELD=VALUE
    limit: int = 0  # items (of a scan: groups) that are asked, taken evenly; 0 is all
    readout: str = ""  # score or generate; "" as the model's run did, or by generated replies
    margin: float = 0.1  # nats; decisions that are closer count as noise
    reply_tokens: int = 0  # longest generated reply; 0 is as the model's run has it, or the default
    judge_model: str = ""  # asked by the model judge; "": the model that replied

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
    """The one model that is asked.

    Raises:
      InputError: there is none, its name means several, this code can't run it, or it is to be addressed
        otherwise than the run that left it did.
    """
    name, chat = request.model, assigned_chat(request.chat)
    found = find_models(model_path(name, cache_dir()), chat)
    check_addressed(found, chat, "--chat")
    if len(found) > 1:
        choices = ", ".join(map(address, found))
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
    usual = {} if own and request.task == MIXTURE else default_section(request.task)
    section = assigned_section({**usual, **own}, request.data, request.fields)
    chosen = [assignment.partition("=")[0] for assignment in request.fields]
    if every_cue:
        section = with_every_cue(section, chosen)
    return with_sample_sizes(section, request.fields) if request.data == SAMPLE else section


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
