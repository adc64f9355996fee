"""What a comparison asks of its models: each is loaded once, one in memory at a time."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from introspection.checkpoints.names import (
    StoredModel,
    address,
    context_length,
    load_model,
    model_fingerprint,
    tokenizer_of,
)
from introspection.errors import InputError
from introspection.models.model import Model
from introspection.probes.behavior import Readout, read_behavior, request_count
from introspection.probes.context import check_candidates, longest_explanation, within_context
from introspection.probes.explanation import decode_explanations
from introspection.reports.console import say
from introspection.runs.compared_models import Compared, Row
from introspection.runs.models import say_cut
from introspection.runtime.progress import progress_bar
from introspection.runtime.session import Session
from introspection.tasks.items import Item
from introspection.tasks.task import Task
from introspection.text.tokenizer import ChatTokenizer, same_reading
from introspection.weights.pretrained import PretrainedModel

SKIPPED_SHARE = 0.01  # maximum share of items left out for exceeding a model's context


def probe_rows(
    rows: Sequence[Row],
    probe: Callable[[str, Model, str], Compared],
    ask_again: Callable[[Row, Model], tuple[Row, Compared] | None],
    session: Session,
) -> tuple[dict[str, Compared], list[Row]]:
    """Probes every model, one at a time in memory (adapters share a base), and gives the rows that differ.

    Models with the same fingerprint and chat format are asked once, and rows of the same models shown once.

    Args:
      probe: asks a model, by its name and fingerprint.
      ask_again: what else a row's model is asked, as a row of its own.
    """
    compared: dict[str, Compared] = {}
    tokenizers: dict[str, ChatTokenizer] = {}
    shown: list[Row] = []
    more: list[tuple[Row, Compared]] = []
    held: dict[Path, Any] = {}
    names = shown_names([one for row in rows for one in row.models])
    for row in rows:
        members = []
        for one in row.models:
            name = names[address(one)]
            with progress_bar(session.console, f"loading {name}", 1):
                model = load_model(one, session.mesh, held)
            fingerprint = model_fingerprint(model)
            same = [
                other
                for other, tokenizer in tokenizers.items()
                if compared[other].fingerprint == fingerprint and same_reading(tokenizer, model.tokenizer)
            ]
            if not same:
                compared[name], tokenizers[name] = probe(name, model, fingerprint), model.tokenizer
            members += same[:1] or [name]
            if again := ask_again(row, model):
                more.append(again)
        row = dataclasses.replace(row, members=tuple(dict.fromkeys(members)))
        same = [place for place, other in enumerate(shown) if other.members == row.members]
        if same:
            (place,) = same
            say(session.console, f"{row.name} is the same model as {shown[place].name}: shown once")
            # A model that is named and a control is the control, also that of another run.
            shown[place] = dataclasses.replace(
                shown[place],
                recipe=shown[place].recipe or row.recipe,
                same_in=(*shown[place].same_in, *([row.workdir] if row.workdir else [])),
            )
        else:
            shown.append(row)
    return compared | {row.name: result for row, result in more}, [*shown, *(row for row, _ in more)]


def shown_names(stored: Sequence[StoredModel | PretrainedModel]) -> dict[str, str]:
    """Each model's name by its address, with the full path of its workdir where the folder's name is
    ambiguous."""
    models = {address(one): one for one in stored}
    count = Counter(one.name for one in models.values())
    return {
        key: str(one.workdir.parent / one.name)
        if isinstance(one, StoredModel) and count[one.name] > 1
        else one.name
        for key, one in models.items()
    }


def readable_items(
    stored: Sequence[StoredModel | PretrainedModel],
    task: Task,
    reading: Mapping[str, Any],
    console: Console,
) -> Task:
    """The task without the items that exceed a model's context; `reading` is a `behavior` section.

    Models whose tokenizers read alike are checked once, with the shortest context among them.

    Raises:
      InputError: a tokenizer can't encode a candidate, or too many items are too long; names the model.
    """
    reply = reading["reply_tokens"] if reading["readout"] == "generate" else 0
    checked: list[ChatTokenizer] = []
    for one in sorted(stored, key=context_length):
        tokenizer = tokenizer_of(one)
        if any(same_reading(tokenizer, other) for other in checked):
            continue
        checked.append(tokenizer)
        try:
            check_candidates(tokenizer, task.splits["test"])
            if reading["readout"] != "generate":
                task.check_scored(tokenizer.encode_reply)
            task = within_context(task, tokenizer, context_length(one), SKIPPED_SHARE, console, reply)
        except InputError as error:
            raise InputError(f"{one.name}: {error}") from error
    return task


def probe_model(
    name: str,
    model: Model,
    fingerprint: str,
    items: Sequence[Item],
    task: Task,
    readout: Readout,
    explanation_tokens: int,
    session: Session,
) -> Compared:
    """One model's decisions and explanations, allowing as many tokens as the longest right explanation."""
    tokens = max(longest_explanation(items, task, model.tokenizer), explanation_tokens)
    with progress_bar(
        session.console, f"probing {name}", request_count(items, readout) + len(items)
    ) as advance:
        behaviors, decided = read_behavior(model, items, readout, session, advance)
        said = decode_explanations(model, items, task.grammar, tokens, session, advance)
    return Compared(fingerprint, decided, said, say_cut(session.console, name, model, behaviors, readout))
