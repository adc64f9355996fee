"""Behaviour that was read before is read from a file: no model is asked the same thing twice.

Asking a pretrained model takes minutes. A resumed run, and the next point of a sweep, ask the same model the
same items again. What they would read is kept in the folder `behaviors` beside the workdirs, named by the
model, what it was asked and how. Rounding differs between machines and versions of JAX: delete the folder
when you move workdirs, upgrade, or change how behaviour is read.
"""

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from introspection.checkpoints.fingerprint import fingerprint_json
from introspection.models.model import Model
from introspection.probes.behavior import Probe, Readout, decide_behavior, probe_readout
from introspection.probes.decoding import end_tokens
from introspection.probes.replies import Replies, Reply, prompts_of
from introspection.probes.scored import Behavior, behavior_requests
from introspection.runtime.session import Session
from introspection.runtime.workdir import write_whole
from introspection.tasks.items import Item

VERSION = 1  # raise it when a change here or in what behaviour comes from reads other numbers


def read_behavior_once(
    model: Model,
    items: Sequence[Item],
    readout: Readout,
    path: Path,
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
    known: Callable[[], None] = lambda: None,
) -> Probe:
    """As `read_behavior`, but behaviours kept in the file at `path` are not probed again.

    `behavior_key` names the file; `known` is called when it is used. A file that can't be read counts as
    none. Judges judge again.
    """
    alone = jax.process_count() == 1  # a process that has the file would leave the others waiting for it
    behaviors = read_kept(path, model, readout.kind, len(items)) if alone else None
    if behaviors is not None:
        known()
    else:
        behaviors = probe_readout(model, items, readout, session, progress)
        if alone:
            with contextlib.suppress(OSError):  # a cache that can't be written costs time, and no run
                keep(path, behaviors)
    return Probe(behaviors, decide_behavior(model, behaviors, items, readout, session))


def behavior_key(model: Model, fingerprint: str, items: Sequence[Item], readout: Readout) -> str:
    """16 hex digits of the model (by its `fingerprint`), what it is asked and how its behaviour is read."""
    if readout.kind == "score":
        requests = behavior_requests(model.tokenizer, items)
        asked: Any = [[list(request.prompt), request.continuations] for request in requests]
    else:
        prompts = [model.tokenizer.encode_prompt(prompt) for item in items for prompt in prompts_of(item)]
        asked = [prompts, end_tokens(model.tokenizer), readout.tokens]
    return fingerprint_json([VERSION, fingerprint, repr(model.config.for_probes()), readout.kind, asked])


def read_kept(path: Path, model: Model, kind: str, count: int) -> list[Behavior] | list[Replies] | None:
    """The behaviour on `count` items that a file holds; None if there is no such file or it is damaged."""
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"))
        if kind == "score":
            read: Any = [Behavior(*(np.array(row, np.float32) for row in pair)) for pair in pairs]
        else:
            read = [
                Replies(*(Reply(tuple(said), model.tokenizer.decode(said)) for said in pair))
                for pair in pairs
            ]
    except (OSError, ValueError, TypeError):
        return None
    return read if len(read) == count else None


def keep(path: Path, behaviors: Sequence[Behavior] | Sequence[Replies]) -> None:
    """Writes log-probabilities or tokens, whole or not at all; other processes may do the same at once."""
    pairs = [
        [part.tolist() for part in both]
        if isinstance(both, Behavior)
        else [list(part.tokens) for part in both]
        for both in behaviors
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(pairs))
