"""The keys of a workdir's files as a document, from the dataclasses that write and read them.

PYTHONPATH=. python tests/workdir_schemas.py > introspection/workdir_files.md
"""

import dataclasses
import functools
import inspect
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from tiny import tiny_task

from introspection.checkpoints.names import ModelCard
from introspection.coupling.labels import label_metadata
from introspection.coupling.matrix_results import Matrix
from introspection.coupling.records import PredictionRecord
from introspection.coupling.run_results import RunResults
from introspection.patching.results import PatchingResults
from introspection.runs.config import RunConfig
from introspection.sweeps.grid import Point
from introspection.training.speed import Speed

HEAD = """\
# The files of a workdir

Written by `tests/workdir_schemas.py` from the dataclasses that write and read the files; a test compares
them. Files are JSON, UTF-8; JSON Lines have one object a line. Shares and differences of shares lie
between −1 and 1; `null` is an undefined value. "by name" is an object whose keys are names: of arms, of
controls, of cue kinds.

Start with `report.html`. `results.json` has the numbers of its tables; `predictions.jsonl` has a row for each
item, arm and seed (`controls.jsonl` for the controls), from which they can be computed again; `metrics.jsonl`
is the log of training; `checkpoints/ARM/STEP` are the models and `labels/` what they were trained on.
`NAME.sha256` is a digest of NAME; `.lock` says which command is writing.

Keys that need no line of their own: `n` items; `seeds` the seeds; `self` and `orig` how well explanations
match the current model and the label teacher, `gap` their difference; `drift` the share of items whose right
explanation differs between the label teacher and the current model; `invalid_rate` the share of explanations
that can't be parsed; `mean`, `ci95` an estimate with its 95% interval; `runtime_s` seconds.
"""
FILES = {
    "`--config.FIELD`: a run's config; `config.json` has all but `mesh` and `profile`": RunConfig,
    "`results.json`: a run's results": RunResults,
    "`predictions.jsonl`, `arms/*/records.jsonl`: an item, arm and seed (`controls.jsonl`: also `control`)": (
        PredictionRecord
    ),
    "`matrix.json`: a comparison": Matrix,
    "`patching.json`: what patching found": PatchingResults,
    "`checkpoints/*/model.json`: what a store holds": ModelCard,
    "`speed.jsonl`: how fast a stretch of training was, and where its time went": Speed,
    "`sweep.json`: a list of a sweep's points": Point,
}
OTHERS = """\
## Others

- `metrics.jsonl`: `arm`, `seed`, `step` and any of `loss`, `explanation_loss`, `kl`, `shift_loss`,
  `agreement`, `kept_behavior` (means over steps), `live_self`, `live_orig`, `live_drift`,
  `validation_explanation_loss`, `validation_accuracy` (at an evaluation). A shift by DPO adds
  `preference_margin`, `preference_accuracy`; by policy gradient `policy_loss`, `reward_kl`, `reward`,
  `clipped`, `constant_groups` (means over steps). Beside a shift, `shifted_` and `unshifted_` with each of
  `self`, `orig`, `drift`, `cued`, of test items (at an evaluation). `tensorboard/` has the same.
- `labels/*/metadata.json`: LABELS; `labels.array_record` holds `id`, `group`, `teacher`, `changed`, `answer`;
  those of `labels/clean` have `models` and `data`, too: what a resumed run must have, by the config's field.
- `compared.jsonl` (of `compare`): `model`, `id`, `group`, `cue_kind`, `decisions` (null of a control that
  only explains), `explanation`.
- `behaviors.jsonl` (of `probe`): `id`, `group`, `cue_kind`, `subset`, the prompts, `candidates`, `gold`,
  `cued`, `decisions`, and `logprobs` or `replies`; `hygiene.json` holds what its page shows.
- `organism.json`: `rows` (`name`, `kind`, `n`, `accuracy`, `changed_rate`, …), `accuracy`, `parameters`.
- `arms/*/arm.json`: `fingerprints` by seed, `runtime_s`.
- `figures/*.csv`: what a figure draws; `_lo` and `_hi` are the ends of 95% intervals. `summary.csv`: the arms
  of a sweep.
"""


def document() -> str:
    parts = [HEAD, *(part for title, kind in FILES.items() for part in (f"## {title}\n", table(kind)))]
    parts.append("## The objects in them\n")
    shown = with_insides(*FILES.values())
    for kind in sorted(set(shown) - set(FILES.values()), key=lambda kind: kind.__name__):
        parts += [f"### {kind.__name__}\n", table(kind)]
    labels = ", ".join(f"`{key}`" for key in label_metadata(tiny_task(), 0, "", 0.0))
    return "\n".join([*parts, OTHERS.replace("LABELS", labels)])


@functools.cache
def with_insides(*kinds: type) -> tuple[type, ...]:
    """The kinds, and those that their fields hold, each once."""
    shown = list(kinds)
    for kind in shown:  # grows while it is read
        shown += [inner for inner in insides(kind) if inner not in shown]
    return tuple(shown)


def stored_fields(kind: type) -> dict[str, Any]:
    """The keys of a kind with their types."""
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    unstored = {field.name for field in fields if field.metadata.get("unstored")}
    return {name: hint for name, hint in typing.get_type_hints(kind).items() if name not in unstored}


def table(kind: type) -> str:
    words = comments(kind)
    keys = {f"explanation_{part}": f"explanation.{part}" for part in ("text", "logprobs")}
    if kind in with_insides(RunConfig):
        head, values = ["| field | value | default | |", "|---|---|---|---|"], defaults(kind)
    else:
        head, values = ["| key | value | |", "|---|---|---|"], None
    rows = [
        f"| `{keys.get(name, name)}` | {named(hint)} |{'' if values is None else f' {values[name]} |'}"
        f" {words.get(name, '')} |"
        for name, hint in stored_fields(kind).items()
    ]
    return "\n".join([*head, *rows, ""])


def defaults(kind: type) -> dict[str, str]:
    """By field of a config, what it is unless it is given; "" for sections."""
    found = {}
    for field in dataclasses.fields(kind):
        made = field.default
        if field.default_factory is not dataclasses.MISSING:
            made = field.default_factory()
        is_shown = (
            made is not dataclasses.MISSING and not is_object(type(made)) and not isinstance(made, Mapping)
        )
        found[field.name] = f"`{json.dumps(made)}`" if is_shown else ""
    return found


def insides(kind: type) -> list[type]:
    """The dataclasses and named tuples that a kind's fields hold, in their order."""

    def within(hint: Any) -> Iterator[type]:
        if is_object(hint):
            yield hint
        for one in typing.get_args(hint):
            yield from within(one)

    return [inner for hint in stored_fields(kind).values() for inner in within(hint)]


def is_object(hint: Any) -> bool:
    return dataclasses.is_dataclass(hint) or hasattr(hint, "_fields")


def comments(kind: type) -> dict[str, str]:
    """The comments of a class's fields, beside them or above; those of its bases included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        above: list[str] = []
        try:
            lines = inspect.getsource(base).splitlines()
        except (OSError, TypeError):
            continue
        for line in lines:
            field = re.match(r"    (\w+): [^#]*(?:#(.*))?$", line)
            if comment := re.match(r"    # (.*)", line):
                above.append(comment[1])
            else:
                if field:
                    found[field[1]] = " ".join([*above, (field[2] or "").strip()]).strip().replace("|", "\\|")
                above = []
    return found


def named(hint: Any) -> str:
    """A type as JSON has it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(named(one) for one in arguments)
    if origin is tuple:
        several = arguments[1:] == (...,)
        return f"list of {named(arguments[0])}" if several else f"[{', '.join(map(named, arguments))}]"
    if origin in (Mapping, dict):
        return f"by name: {named(arguments[1])}"
    names = {str: "text", int: "integer", float: "number", bool: "boolean", type(None): "null", Any: "any"}
    return f"[{hint.__name__}](#{hint.__name__.lower()})" if is_object(hint) else names.get(hint, "object")


if __name__ == "__main__":
    print(document(), end="")
