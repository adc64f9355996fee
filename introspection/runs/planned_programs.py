"""The programs of a run from shapes alone: the train step, scoring and decoding, as they would be called."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from introspection.checkpoints.names import (
    ModelCard,
    StoredModel,
    abstract_variables,
    find_models,
    keeps_bfloat16,
    model_path,
)
from introspection.models.config import ModelConfig
from introspection.models.head import head_matrix
from introspection.organism.organism import is_organism, tokenizer_for
from introspection.probes.decoding import greedy_decode
from introspection.probes.scoring import continuation_logprobs, exact_products
from introspection.runs.config import RunConfig
from introspection.runs.planned_batch import CANDIDATE_TOKENS, CANDIDATES, planned_arm, planned_batch
from introspection.runtime.config import cache_dir
from introspection.runtime.mesh import ROW_AXES, batch_axes, check_rows, parameter_shardings, row_parts
from introspection.tasks.registry import load_task
from introspection.text.buckets import ACCELERATOR_BATCH_TOKENS, BATCH_TOKENS
from introspection.training.batches import stack_batches
from introspection.training.loop import weights
from introspection.training.objectives import batch_parts
from introspection.training.step import Frozen, RunValues, initial_state, train_steps
from introspection.weights.published import PUBLISHED

PROGRAMS = ("train", "score", "decode")


class PlannedProgram(NamedTuple):
    """A program and the shapes that it is called with."""

    name: str  # of `PROGRAMS`
    rows: int  # that the decoder reads at a time, of one run
    runs: int  # seeds in one program
    function: Callable
    arguments: tuple
    options: dict[str, Any]  # of `jax.jit`
    model: ModelConfig
    loop_steps: int = 1  # how often a loop without a fixed length runs, at most

    def traced(self, mesh: Mesh) -> Any:
        """What `jax.jit` makes of it; nothing is allocated."""
        with jax.set_mesh(mesh):
            return jax.jit(self.function, **self.options).trace(*self.arguments)


def model_of(config: RunConfig) -> ModelConfig:
    """The shape of the model that training starts from, from its files' headers or a published model's name.

    Raises:
      InputError: it can't be found.
    """
    name, cache = config.initial, cache_dir(config.cache_dir)
    if is_organism(name):
        task, questions = load_task(config.task, cache)
        return config.organism.decoder(tokenizer_for(config.organism, task, questions).vocab_size)
    published = Path(name).name in PUBLISHED and not Path(name).exists()
    found = None if published else find_models(model_path(name, cache))[0]
    if isinstance(found, StoredModel):
        model = ModelCard.read(found.store).model
    else:
        model = PUBLISHED[Path(name).name] if found is None else found.config
    kept = found is None or keeps_bfloat16(found)
    return dataclasses.replace(model, parameter_dtype=config.lora.base_dtype if kept else "float32")


def planned_programs(
    config: RunConfig, model: ModelConfig, mesh: Mesh, tokens: int, platform: str
) -> dict[str, Callable[[], PlannedProgram]]:
    """By name, what makes the program of a run's largest arm (`planned_arm`) with rows of so many tokens."""
    trained = dataclasses.replace(model, remat=config.train.remat, lora=config.lora.lora).on(platform)
    probed = dataclasses.replace(model, lora=config.lora.lora).for_probes().on(platform)
    return {
        "train": functools.partial(_train_program, config, trained, mesh, tokens),
        "score": functools.partial(_score_program, probed, mesh, tokens, platform),
        "decode": functools.partial(_decode_program, config, probed, mesh, tokens, platform),
    }


def placed(tree: Any, mesh: Mesh | AbstractMesh) -> Any:
    """Shapes of parameters, placed as they would be."""
    return jax.tree.map(_shape, tree, parameter_shardings(tree, mesh))


def _shape(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def train_state(config: RunConfig, model: ModelConfig, mesh: Mesh | AbstractMesh) -> Any:
    """(state, frozen), arguments of the train step: shapes of what is trained, of all seeds, and the rest."""
    optimizer = config.train.optimizer(config.chosen_arms[planned_arm(config)])

    def start(variables: Mapping[str, Any]) -> Any:
        kind = "params" if model.lora is None else "lora"
        frozen = {} if model.lora is None else {"params": variables["params"]}
        state = initial_state([{kind: variables[kind]}] * len(config.seeds), optimizer)
        return state, Frozen(frozen, head_matrix(variables, dataclasses.replace(model, lora=None)))

    return tuple(placed(tree, mesh) for tree in jax.eval_shape(start, abstract_variables(model)))


def _train_program(config: RunConfig, model: ModelConfig, mesh: Mesh, tokens: int) -> PlannedProgram:
    arm = config.chosen_arms[planned_arm(config)]
    objective, optimizer = config.train.objective(arm), config.train.optimizer(arm)
    state, frozen = train_state(config, model, mesh)
    batch = planned_batch(config, arm, model, mesh, tokens)
    batches = jax.tree.map(
        lambda array: _shape(array, NamedSharding(mesh, P(None, None, batch_axes(array.shape[2], mesh)))),
        stack_batches([[batch] * len(config.seeds)]),
    )
    values = RunValues(np.asarray(arm.learning_rate, np.float32), weights(arm.kl_weight, arm.shift.weight))
    rows = sum(len(part.tokens) for part in batch_parts(batch).values())
    check_rows(rows, "a step", mesh)
    return PlannedProgram(
        name="train",
        rows=rows,
        runs=len(config.seeds),
        function=functools.partial(train_steps, model, objective, optimizer, config.train.stack_seeds),
        arguments=(
            state,
            frozen,
            batches,
            jax.tree.map(lambda v: _shape(v, NamedSharding(mesh, P())), values),
        ),
        options={
            "donate_argnums": (0,),
            "out_shardings": (jax.tree.map(lambda leaf: leaf.sharding, state), None),
        },
        model=model,
    )


def _probe_rows(tokens: int, mesh: Mesh, platform: str) -> int:
    """Prompts of a probing batch, as `text.buckets` counts them."""
    limit = BATCH_TOKENS if platform == "cpu" else ACCELERATOR_BATCH_TOKENS
    rows = max(8, 1 << max(limit // tokens, 1).bit_length() - 1)
    return -(-rows // row_parts(mesh)) * row_parts(mesh)


def _probe_program(
    name: str, function: Callable, model: ModelConfig, mesh: Mesh, shapes: Sequence[tuple], steps: int = 1
) -> PlannedProgram:
    by_row = NamedSharding(mesh, P(ROW_AXES))
    arrays = [jax.ShapeDtypeStruct(shape, dtype, sharding=by_row) for shape, dtype in shapes]
    variables = placed(abstract_variables(model), mesh)
    program = exact_products(function)
    return PlannedProgram(name, shapes[0][0][0], 1, program, (variables, *arrays), {}, model, steps)


def _score_program(model: ModelConfig, mesh: Mesh, tokens: int, platform: str) -> PlannedProgram:
    rows = _probe_rows(tokens, mesh, platform)
    shapes = ((rows, tokens), (rows,), (rows, CANDIDATES, CANDIDATE_TOKENS), (rows, CANDIDATES))
    function = functools.partial(continuation_logprobs, model)
    return _probe_program("score", function, model, mesh, [(shape, jnp.int32) for shape in shapes])


def _decode_program(
    config: RunConfig, model: ModelConfig, mesh: Mesh, tokens: int, platform: str
) -> PlannedProgram:
    rows, steps = _probe_rows(tokens, mesh, platform), config.evaluation.explanation_tokens
    shapes = [((rows, tokens), jnp.int32), ((rows,), jnp.int32), ((rows,), jnp.bool_)]
    function = functools.partial(greedy_decode, model, end_ids=(0,), max_tokens=steps)
    return _probe_program("decode", function, model, mesh, shapes, steps)
