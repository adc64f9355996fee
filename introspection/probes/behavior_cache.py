"""Behaviour that was read before is read from a file: no model is asked the same thing twice.

To ask a pretrained model takes minutes. A run that goes on after a kill, and the next point of a sweep, ask
the same model the same items again; what they would read is known then, to the last bit.
"""

import contextlib
import functools
import hashlib
import json
import os
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
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

# The rooms whose code behaviour comes from; when a line of it changes, models are asked anew.
_ROOMS = ("runtime", "text", "models", "probes")
_SETTINGS = ("JAX_", "XLA_", "LIBTPU_")  # of the environment


def read_behavior_once(
    model: Model,
    items: Sequence[Item],
    readout: Readout,
    path: Path,
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
    known: Callable[[], None] = lambda: None,
) -> Probe:
    """As `read_behavior`, but what the file at `path`, named by `behavior_key`, has of before is not asked
    again, which `known` is told. A file that can't be read counts as none. A judge judges anew.
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


def behavior_key(
    model: Model, fingerprint: str, items: Sequence[Item], readout: Readout, mesh: jax.sharding.Mesh
) -> str:
    """16 hex digits of what behaviour depends on, to the last bit: the model (by its `fingerprint`), what it
    is asked and how, this package's code, JAX and its settings, the processor and the mesh.
    """
    if readout.kind == "score":
        requests = behavior_requests(model.tokenizer, items)
        asked: Any = [[list(request.prompt), request.continuations] for request in requests]
    else:
        prompts = [model.tokenizer.encode_prompt(prompt) for item in items for prompt in prompts_of(item)]
        asked = [prompts, end_tokens(model.tokenizer), readout.tokens]
    settings = {name: os.environ[name] for name in sorted(os.environ) if name.startswith(_SETTINGS)}
    devices = [(device.platform, device.device_kind) for device in mesh.devices.flat]
    return fingerprint_json(
        {
            "model": [fingerprint, repr(model.config.for_probes())],
            "asked": [readout.kind, asked],
            "code": code_digest(),
            "machine": [processor(), devices, list(mesh.shape.items())],
            "jax": [version("jax"), version("jaxlib"), version("flax"), settings],
        }
    )


@functools.cache
def processor() -> list[str]:
    """What the CPU is, can do, and how much of it is ours: on another, sums may be rounded otherwise."""
    path, cores = (
        Path("/proc/cpuinfo"),
        getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1)),
    )
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    told = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    return [platform.machine(), platform.processor(), str(len(cores(0))), *sorted(told)]


@functools.cache
def code_digest() -> str:
    """16 hex digits of the source files of the rooms that behaviour comes from."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(path for room in _ROOMS for path in (root / room).rglob("*.py")):
        digest.update(f"{path.relative_to(root)} ".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


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
