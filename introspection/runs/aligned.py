"""The aligned foreign explainer's start: config.foreign, once it behaves as config.initial does.

It is distilled in the cache, in rounds that each end with a measurement of agreement, and resumes from the
last stored round; `alignment.json` comes last, and says that it is complete.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from introspection.checkpoints.fingerprint import fingerprint_json
from introspection.checkpoints.store import CheckpointStore
from introspection.coupling.alignment import alignment
from introspection.coupling.run_results import Alignment
from introspection.models.head import head_matrix
from introspection.models.model import Model, merge_adapters, select_seed
from introspection.probes.behavior import Readout, read_behavior
from introspection.probes.behavior_cache import behavior_key
from introspection.probes.hidden import reply_hidden
from introspection.reports.console import say
from introspection.reports.findings import alignment_line
from introspection.runs.config import RunConfig
from introspection.runs.trainable import trainable_parts
from introspection.runtime import processes
from introspection.runtime.config import plain
from introspection.runtime.json_files import read_object
from introspection.runtime.json_values import from_json, to_json
from introspection.runtime.lock import one_at_a_time
from introspection.runtime.metrics_writer import MetricsWriter
from introspection.runtime.progress import progress_bar
from introspection.runtime.session import Session
from introspection.runtime.workdir import write_json
from introspection.tasks.items import Decisions, Item, Prompt
from introspection.training.batches import (
    BatchSizes,
    TrainingRows,
    behavior_batch,
    held_prompts,
    make_batch,
    reply_batch,
)
from introspection.training.distillation import held_out_prompts
from introspection.training.loop import Job, train, weights
from introspection.training.objectives import ObjectiveConfig
from introspection.training.step import Frozen, RunValues, TrainState, initial_state

VERSION = 1  # raise it when a change here changes what a config's distillation gives
ALIGNED = "aligned"  # the store's name; also of the folder in the cache
MEASURED = "alignment.json"


@dataclasses.dataclass(frozen=True)
class Behaving:
    """A model and what it does on items of all splits."""

    model: Model
    fingerprint: str
    behaviors: Sequence[Any]  # of the items, all of the readout's kind
    decisions: Sequence[Decisions]


def aligned_model(
    config: RunConfig,
    student: Behaving,
    teacher: Behaving,
    items: Sequence[Item],
    readout: Readout,
    session: Session,
) -> tuple[Model, Alignment]:
    """The student, distilled on the teacher's behaviour alone, and how far they agree.

    It is read from the cache if it was distilled before. Falling short of `config.align.agreement` is no
    error: it is said, and no verdict rests on it.
    """
    asked = behavior_key(teacher.model, teacher.fingerprint, items, readout)
    adapters = plain(config.lora)
    del adapters["base_dtype"]  # how the base is kept: the same model
    given = (plain(config.align), adapters, config.task_seed, config.train.steps_per_call)
    # Two ways to decide may read the same scores or replies.
    decided = (readout.kind, config.behavior.judge, config.behavior.judge_model)
    identity = [VERSION, student.fingerprint, asked, *given, *decided]
    folder = session.cache / ALIGNED / fingerprint_json(identity)
    with one_at_a_time(folder.with_suffix(".lock"), session.console, "aligning this model"):
        model, found = _aligned(config, student, teacher, items, readout, session, folder)
    say(session.console, alignment_line(found))
    return model, found


def _aligned(
    config: RunConfig,
    student: Behaving,
    teacher: Behaving,
    items: Sequence[Item],
    readout: Readout,
    session: Session,
    folder: Path,
) -> tuple[Model, Alignment]:
    align, measured, console = config.align, folder / MEASURED, session.console
    held_out = held_out_prompts(items, align.held_out, config.task_seed)
    model_config, trainables, frozen = trainable_parts(
        config, student.model, (config.task_seed,), session.mesh
    )
    rows = distillation_rows(student.model, teacher, items, held_out, readout, session)
    job = functools.partial(
        Job,
        name=ALIGNED,
        seeds=(config.task_seed,),
        model=model_config,
        objective=ObjectiveConfig(
            "candidates" if readout.scored else "vocabulary",
            head_chunk=config.train.head_chunk,
            reference_softcap=teacher.model.config.final_softcap,
            with_none=readout.with_none,
        ),
        optimizer=align.optimizer,
        values=lambda step: RunValues(jnp.float32(align.learning_rate), weights(kl=1.0, shift=0.0)),
        frozen=Frozen(frozen, head_matrix(teacher.model.variables, teacher.model.config)),
        batch=lambda step, seed: make_batch(rows, BatchSizes(1, align.items, 1), step, seed),
        metadata={"kind": ALIGNED, "teacher": teacher.fingerprint, "student": student.fingerprint},
    )

    def model_of(state: TrainState) -> Model:
        variables = {**frozen, **select_seed(state.trainable, 0)}
        return merge_adapters(Model(model_config, student.model.tokenizer, variables, ALIGNED))

    def known_alignment() -> Alignment | None:
        folder.mkdir(exist_ok=True)
        return from_json(Alignment, read_object(measured)) if measured.exists() else None

    known = processes.first(known_alignment)
    with CheckpointStore(folder / "checkpoints" / ALIGNED, keep=2) as store:
        # The newest round was stored before it was measured: those before it did not suffice.
        begin = max([*processes.first(store.steps), align.check_steps])
        for steps in range(begin, align.steps + 1, align.check_steps):
            metrics = MetricsWriter(folder)
            with progress_bar(console, "aligning config.foreign", steps) as progress:
                loop = align.loop(steps, config.train.steps_per_call)
                state = initial_state(trainables, align.optimizer, session.mesh)  # which the loop gives up
                (state,) = train([job(loop=loop, store=store, state=state)], metrics, session, progress)
            metrics.close()
            model = model_of(state)
            found = known or alignment(
                items,
                teacher.decisions,
                student.decisions,
                read_behavior(model, items, readout, session).decisions,
                held_out,
                steps,
                align.agreement,
            )
            if found.reached or steps == align.steps:
                break
    processes.first(lambda: write_json(measured, to_json(found)))
    return model, found


def distillation_rows(
    student: Model,
    teacher: Behaving,
    items: Sequence[Item],
    held_out: frozenset[Prompt],
    readout: Readout,
    session: Session,
) -> TrainingRows:
    """Behaviour rows of every item, held to the teacher's on all prompts but those held out; no explanation.

    The labels, E(teacher), are for the agreement that every step returns.
    """
    held = held_prompts(items, "both", held_out, {item.group for item in items})
    behaviors: Any = teacher.behaviors
    if readout.scored:  # the KL is over candidates, so that no hidden state is needed
        labels = {
            item.id: (decided.explanation, decided.explanation)
            for item, decided in zip(items, teacher.decisions, strict=True)
        }
        hidden = np.zeros((len(items), 2, 1, 0), np.float32)
        batch = behavior_batch(student.tokenizer, items, labels, behaviors, hidden, held)
    else:
        hidden = reply_hidden(teacher.model, items, behaviors, session)
        batch = reply_batch(student.tokenizer, items, behaviors, hidden, held)
    return TrainingRows(None, batch, None)
