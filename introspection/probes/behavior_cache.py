"""A file cache of behaviour, so that no model is asked the same twice.

Asking a pretrained model takes minutes, and a resumed run or the next point of a sweep asks the same again.
The cache is the folder `behaviors` beside the workdirs, or for a bucket's workdirs in the cache folder; a
file's name is a digest of the model, the prompts and the readout. Rounding differs between machines and
versions of JAX: delete the folder after moving workdirs, upgrading, or changing how behaviour is read.
"""

import contextlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from introspection.checkpoints.fingerprint import fingerprint_json
from introspection.models.model import Model
from introspection.probes.behavior import Probe, Readout, decide_behavior, probe_readout
from introspection.probes.decoding import end_tokens
from introspection.probes.replies import Replies, prompts_of, read_reply
from introspection.probes.scored import Behavior, behavior_requests
from introspection.runtime.processes import first, is_first
from introspection.runtime.session import Session
from introspection.runtime.workdir import write_whole
from introspection.tasks.items import Item

VERSION = 1  # raise it when a change to this file or to the probes changes the numbers


def read_behavior_once(
    model: Model,
    items: Sequence[Item],
    readout: Readout,
    path: Path,
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
    known: Callable[[], None] = lambda: None,
) -> Probe:
    """Like `read_behavior`, but uses the behaviour in the file at `path`, if it is readable.

    `behavior_key` names the file; `known` is called when it is used. Judges judge again.
    """
    # The first decides for all: a process that reads the file would leave the others waiting.
    behaviors = first(lambda: read_kept(path, model, readout, len(items)))
    if behaviors is not None:
        known()
    else:
        behaviors = probe_readout(model, items, readout, session, progress)
        if is_first():
            with contextlib.suppress(OSError):  # an unwritable cache only costs time
                keep(path, behaviors)
    return Probe(behaviors, decide_behavior(model, behaviors, items, readout, session))


def behavior_key(model: Model, fingerprint: str, items: Sequence[Item], readout: Readout) -> str:
    """16 hex digits of the model (by its `fingerprint`), its inputs and the readout."""
    if readout.scored:
        requests = behavior_requests(model.tokenizer, items)
        asked: Any = [[list(request.prompt), request.continuations] for request in requests]
    else:
        both = [prompt for item in items for prompt in prompts_of(item)]
        prompts = model.tokenizer.encode_prompts(both, through_thought=True)
        asked = [prompts, end_tokens(model.tokenizer), readout.tokens]
    kind = "score" if readout.scored else "generate"  # scores are the same, whatever is decided from them
    # How a model is kept changes nothing, and would rename what was read before there was a choice.
    read_as = re.sub(", parameter_dtype='[a-z0-9]+'", "", repr(model.config.for_probes()))
    return fingerprint_json([VERSION, fingerprint, read_as, kind, asked])


def read_kept(
    path: Path, model: Model, readout: Readout, count: int
) -> list[Behavior] | list[Replies] | None:
    """The behaviour on `count` items in a file; None if the file is missing or damaged."""
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"))
        if readout.scored:
            read: Any = [Behavior(*(np.array(row, np.float32) for row in pair)) for pair in pairs]
            if not all(np.isfinite(row).all() for both in read for row in both):
                return None
        else:
            read = [Replies(*(read_reply(model.tokenizer, said) for said in pair)) for pair in pairs]
    except (OSError, ValueError, TypeError):
        return None
    return read if len(read) == count else None


def keep(path: Path, behaviors: Sequence[Behavior] | Sequence[Replies]) -> None:
    """Writes log-probabilities or tokens atomically; other processes may do so at the same time."""
    pairs = [
        [part.tolist() for part in both]
        if isinstance(both, Behavior)
        else [list(part.tokens) for part in both]
        for both in behaviors
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(pairs))
