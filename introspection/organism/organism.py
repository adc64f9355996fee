"""Pretraining a model organism: once per fingerprint, then from the cache."""

import dataclasses
import functools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from introspection.checkpoints.fingerprint import fingerprint_json
from introspection.checkpoints.names import (
    CARD,
    CHECKPOINTS,
    TOKENIZER,
    ModelCard,
    abstract_variables,
    find_stored,
    load_model,
    stored_steps,
)
from introspection.checkpoints.store import CheckpointStore, CorruptCheckpointError
from introspection.errors import InputError
from introspection.models.decoder import count_parameters, initialize
from introspection.models.head import head_matrix
from introspection.models.model import Model
from introspection.organism.config import OrganismConfig
from introspection.organism.pretraining import RowTable, pretraining_batch, token_table
from introspection.organism.sentences import sentence_table, sentence_tokenizer
from introspection.organism.table import organism_table
from introspection.organism.world import World, build_world
from introspection.probes.scored import decisions, probe_behavior
from introspection.runtime.config import plain
from introspection.runtime.json_files import read_object
from introspection.runtime.lock import one_at_a_time
from introspection.runtime.mesh import parameter_shardings
from introspection.runtime.metrics_writer import MetricsWriter
from introspection.runtime.processes import first
from introspection.runtime.progress import progress_bar
from introspection.runtime.session import Session
from introspection.runtime.workdir import write_json
from introspection.tasks.facts.language import WorldLanguage
from introspection.tasks.facts.questions import Question
from introspection.tasks.facts.task import WorldTaskConfig, build_world_task
from introspection.tasks.mixture import NAME as MIXTURE
from introspection.tasks.mixture import part_sections
from introspection.tasks.registry import LANGUAGES, load_task, task_language, task_settings, world_splits
from introspection.tasks.task import Task
from introspection.text.pretrained_tokenizer import PretrainedTokenizer
from introspection.text.tokenizer import ChatTokenizer, WordTokenizer, phrase_tokenizer
from introspection.training.loop import Job, train, weights
from introspection.training.objectives import ObjectiveConfig
from introspection.training.step import Frozen, RunValues, initial_state

ORGANISM_VERSION = 2  # raise it when a change here changes the organism of a config
ARM = "base"
MODEL_FIELDS = ("initial", "label_teacher", "kl_reference")  # config fields that may name the organism


@dataclasses.dataclass(frozen=True)
class Organism:
    model: Model
    world: World
    workdir: Path
    table: dict[str, Any]  # its behaviour: organism.json


def organism_workdir(config: OrganismConfig, questions: Sequence[Question], cache: Path) -> Path:
    """The cache folder of the organism that a config describes."""
    return cache / "organisms" / fingerprint_json(_identity(config, questions, cache))


def _identity(config: OrganismConfig, questions: Sequence[Question], cache: Path) -> dict[str, Any]:
    language, pretrain = world_language(config), plain(config.pretrain)
    # An organism of words is named as it was before others could read text.
    del pretrain["tokens"], pretrain["pieces"]
    reading = {}
    if config.pretrain.reads_text:
        tokenizer = text_tokenizer(config, questions)
        reading["tokenizer"] = fingerprint_json([tokenizer.tokenizer.to_str(), tokenizer.chat_format()])
    explained = config.pretrain.mixture.explained
    explainable = explainable_facts(config.task, questions).tolist() if explained else []
    return {
        "version": ORGANISM_VERSION,
        "language": language.template_version,
        "cues": [dataclasses.astuple(cue) for cue in language.cues.values()],
        "phrasings": task_settings(config.task).phrasings,
        "questions": fingerprint_json([dataclasses.astuple(question) for question in questions]),
        "other_words": fingerprint_json([sorted(words) for words in other_words(config.task, cache)]),
        "explainable": fingerprint_json(explainable),
        "model": config.model_fields,
        "world": plain(config.world),
        "pretrain": pretrain,
        **reading,
    }


def world_language(config: OrganismConfig) -> WorldLanguage:
    """The language of a config's world, with the task's cue kinds and the world's likelihood ratios."""
    return task_language(config.task).with_cues(
        task_settings(config.task).cue_kinds, config.world.likelihood_ratios
    )


def explainable_facts(
    task: Mapping[str, Any], questions: Sequence[Question]
) -> Bool[np.ndarray, " questions"]:
    """The facts that speakers may explain in pretraining: no split of `task` asks about their entities.

    Raises:
      InputError: there are none.
    """
    splits = world_splits(task, questions).values()
    asked = {questions[index].fact.entity for indices in splits for index in indices}
    explainable = np.array([question.fact.entity not in asked for question in questions])
    if not explainable.any():
        raise InputError(
            "config.pretrain.mixture.explained is above 0, but every entity is in a split: raise "
            "config.task.entities (or use fewer facts), to leave some for speakers to explain"
        )
    return explainable


def pretrained_organism(
    config: OrganismConfig,
    questions: Sequence[Question],
    session: Session,
) -> Organism:
    """Loads a config's organism from the cache, or trains it there, resuming if interrupted."""
    workdir = organism_workdir(config, questions, session.cache)
    world = build_world(config.world, questions, world_language(config))
    with one_at_a_time(workdir.with_suffix(".lock"), session.console, "training this base"):
        if not first((workdir / "organism.json").exists):
            _pretrain(config, questions, world, workdir, session)
    again = f"delete {workdir}, and the base is trained again"
    try:
        model = load_model(first(lambda: find_stored(str(workdir)))[0], session.mesh)
    except CorruptCheckpointError as error:
        raise CorruptCheckpointError(f"{error}; {again}") from error
    table = read_object(workdir / "organism.json", again)
    return Organism(model, world, workdir, table)


def is_organism(name: str) -> bool:
    return name == "pretrain" or name.startswith("pretrain@")


def organism_at(organism: Organism, name: str, mesh: jax.sharding.Mesh) -> Model:
    """The organism, or its checkpoint at the step of `pretrain@STEP`."""
    if name == "pretrain":
        return organism.model
    (found,) = first(lambda: find_stored(f"{organism.workdir}@{name.removeprefix('pretrain@')}"))
    return load_model(found, mesh)


def organism_tokenizer(task: Task) -> WordTokenizer:
    """A tokenizer with a task's vocabulary."""
    return phrase_tokenizer(task.names, task.phrases)


def tokenizer_for(config: OrganismConfig, task: Task, questions: Sequence[Question]) -> ChatTokenizer:
    """The tokenizer of the organism that a config describes."""
    return text_tokenizer(config, questions) if config.pretrain.reads_text else organism_tokenizer(task)


def text_tokenizer(config: OrganismConfig, questions: Sequence[Question]) -> PretrainedTokenizer:
    """The tokenizer of an organism that reads text."""
    phrasings = task_settings(config.task).phrasings
    return sentence_tokenizer(questions, task_language(config.task), phrasings, config.pretrain.pieces)


def other_words(task: Mapping[str, Any], cache: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and phrases of a mixture's other parts: in the base's vocabulary, but not in its world."""
    if task["name"] != MIXTURE:
        return (), ()
    tasks = [
        load_task(part, cache)[0] for part in part_sections(task).values() if part["name"] not in LANGUAGES
    ]
    return (
        tuple(name for task in tasks for name in task.names),
        tuple(phrase for task in tasks for phrase in task.phrases),
    )


def _pretrain(
    config: OrganismConfig,
    questions: Sequence[Question],
    world: World,
    workdir: Path,
    session: Session,
) -> None:
    pretrain = config.pretrain
    # All facts with every cue, for the vocabulary and the table of behaviour.
    chosen = task_settings(config.task)
    everything = WorldTaskConfig(chosen.seed, repeats=1, phrasings=chosen.phrasings)
    task = build_world_task(everything, questions, {"test": range(len(questions))}, world.language)
    tokenizer, table = _reading(config, questions, world, task, session.cache)
    model_config = config.decoder(tokenizer.vocab_size)

    def begin() -> None:
        workdir.mkdir(exist_ok=True)
        write_json(workdir / "config.json", _identity(config, questions, session.cache))
        tokenizer.save(workdir / TOKENIZER)

    first(begin)
    ModelCard(model_config, (pretrain.seed,)).write(workdir / CHECKPOINTS / ARM)

    placed = parameter_shardings(abstract_variables(model_config), session.mesh)
    begun = jax.jit(functools.partial(initialize, model_config), out_shardings=placed)
    variables = begun(jax.random.key(pretrain.seed))
    explained = pretrain.mixture.explained
    explainable = explainable_facts(config.task, questions) if explained else None
    session.console.print(
        f"training the base model, {count_parameters(variables):,} parameters "
        f"(once; kept under {workdir.parent})",
        highlight=False,
    )
    metrics = MetricsWriter(workdir)
    with (
        CheckpointStore(workdir / CHECKPOINTS / ARM) as store,
        progress_bar(session.console, "pretraining", pretrain.steps) as progress,
    ):
        job = Job(
            name=ARM,
            seeds=(pretrain.seed,),
            model=model_config,
            objective=ObjectiveConfig(),
            optimizer=pretrain.optimizer,
            loop=pretrain.loop,
            values=lambda step: RunValues(jnp.float32(pretrain.learning_rate), weights(0.0, 0.0)),
            frozen=Frozen({}, head_matrix(variables, model_config)),
            batch=lambda step, seed: pretraining_batch(
                world, table, pretrain.mixture, pretrain.rows, step, seed, explainable
            ),
            metadata={"kind": "organism"},
            state=initial_state([{"params": variables["params"]}], pretrain.optimizer, session.mesh),
            store=store,
        )
        train(
            [job],
            metrics,
            session,
            progress=progress,
            say=lambda message: session.console.print(message, highlight=False),
        )
    metrics.close()
    model = load_model(first(lambda: find_stored(str(workdir)))[0], session.mesh)
    decided = decisions(probe_behavior(model, task.splits["test"], session), task.splits["test"])
    # Last, so that its presence marks a complete base.
    told = organism_table(world, task, decided, count_parameters(variables))
    first(lambda: write_json(workdir / "organism.json", told))


def _reading(
    config: OrganismConfig, questions: Sequence[Question], world: World, task: Task, cache: Path
) -> tuple[ChatTokenizer, RowTable]:
    """A new organism's tokenizer, and what makes its rows."""
    tokenizer: ChatTokenizer
    if config.pretrain.reads_text:
        tokenizer = text_tokenizer(config, questions)
    else:
        names, phrases = other_words(config.task, cache)
        words = task_language(config.task).phrases()  # of every cue, including those not in this world
        tokenizer = phrase_tokenizer((*task.names, *names), (*words, *phrases))
    return tokenizer, row_table(config, world, tokenizer)


def row_table(config: OrganismConfig, world: World, tokenizer: ChatTokenizer) -> RowTable:
    """What makes an organism's pretraining rows.

    Raises:
      InputError: as `token_table` and `sentence_table`.
    """
    phrasings = task_settings(config.task).phrasings
    if isinstance(tokenizer, WordTokenizer):
        return token_table(world, tokenizer, phrasings)
    assert isinstance(tokenizer, PretrainedTokenizer)
    explains = bool(config.pretrain.mixture.explained)
    return sentence_table(world, tokenizer, phrasings, config.model.context_length, explains)


def copy_initial(organism_workdir: Path, workdir: Path, name: str) -> None:
    """Copies the model that arms start from into a run's workdir, which then does not need the cache."""
    target = workdir / CHECKPOINTS / name
    if (target / "0").exists():
        return
    source = organism_workdir / CHECKPOINTS / ARM
    newest = max(stored_steps(source))
    temporary = target.with_name(f"{name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    shutil.copytree(source / str(newest), temporary / "0")
    shutil.copy(source / CARD, temporary / CARD)
    shutil.rmtree(target, ignore_errors=True)  # incomplete: perhaps a card without its step
    temporary.rename(target)
