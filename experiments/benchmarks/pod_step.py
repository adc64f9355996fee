"""Does a training step of the 8 B configs fit a pod? Compiled for eight simulated devices, from shapes only.

The step of `configs/hint_mmlu.py:<model>`, with all seeds in one executable, is compiled for a mesh of eight
devices along `fsdp`, and XLA reports the memory of each; no array is allocated. XLA for CPUs sometimes widens
bfloat16 to float32, so the estimate is rather too high than too low.
"""

import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from experiments.benchmarks.peer_process import ROOT
from experiments.benchmarks.timing import Measure
from introspection.errors import RunError
from introspection.models.config import ModelConfig, RopeScaling
from introspection.models.decoder import initialize
from introspection.models.head import head_matrix
from introspection.runs.config import read_config
from introspection.runtime.command import get_config_of
from introspection.runtime.mesh import ROW_AXES, MeshConfig, make_mesh, parameter_shardings
from introspection.text.rows import build_row, stack_rows
from introspection.training.batches import by_item, stack_batches
from introspection.training.loop import weights
from introspection.training.objectives import Answers, Batch, BehaviorBatch
from introspection.training.step import Frozen, RunValues, initial_state, train_steps

MEMORY = 95e9  # bytes of a TPU v5p device
MODELS = {
    "qwen3_8b": ModelConfig(
        151_936, 4096, 36, 32, 8, 128, 12_288, 40_960, 1e6, tied_head=False, qk_norm=True
    ),
    "llama31_8b": ModelConfig(
        128_256, 4096, 32, 32, 8, 128, 14_336, 131_072, 500_000.0, 1e-5, tied_head=False,
        rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 8192),
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Size:
    models: tuple[str, ...] = tuple(MODELS)  # arguments of configs/hint_mmlu.py
    layers: int | None = None  # of the model; None: all
    time: int = 512  # tokens of every row; MMLU's longest questions have about 1,000
    devices: int = 8  # along fsdp
    remat: str | None = None  # overrides the config's


TINY = Size(("qwen3_8b",), layers=1, time=32)


def run(size: Size | None = None) -> list[Measure]:
    """Bytes per device for each model, against the memory of a TPU v5p.

    Raises:
      RunError: the step can't be compiled.
    """
    size = size or Size()
    measures = []
    for name in size.models:
        done = subprocess.run(
            [sys.executable, "-m", __name__, name, json.dumps(dataclasses.asdict(size))],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        if done.returncode:
            raise RunError(f"the step of {name} can't be compiled: {done.stderr[-500:]}")
        numbers = json.loads(done.stdout.strip().splitlines()[-1])
        measures.append(
            Measure(
                name=f"pod_step.{name}",
                value=round(numbers["device_gb"], 1),
                unit="GB a device",
                reference=MEMORY / 1e9,
                ratio=numbers["device_gb"] / (MEMORY / 1e9),
                extra={"ratio_is": "needed / of a TPU v5p", "target": "< 1", **numbers},
            )
        )
    return measures


def compile_here(name: str, size: Size) -> dict[str, float | str | int]:
    """The compiled step's memory on each device, in GB; nothing is allocated."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", size.devices)
    config = read_config(get_config_of(f"configs/hint_mmlu.py:{name}"))
    arm = config.arms["kl"]
    remat = config.train.remat if size.remat is None else size.remat
    model = dataclasses.replace(
        MODELS[name],
        layers=size.layers or MODELS[name].layers,
        compute_dtype="bfloat16",
        remat=remat,
        lora=config.lora.lora,
    )
    mesh, optimizer = make_mesh(MeshConfig(fsdp=size.devices)), config.train.optimizer(arm)
    objective, seeds = config.train.objective(arm), len(config.seeds)

    def start(key):
        variables = initialize(model, key)
        frozen = Frozen({"params": variables["params"]}, head_matrix(variables["params"], model))
        return initial_state([{"lora": variables["lora"]}] * seeds, optimizer), frozen

    state, frozen = (_placed(tree, mesh) for tree in jax.eval_shape(start, jax.random.key(0)))
    explanations, items = config.train.explanation_rows, config.train.behavior_items
    one = _batch(explanations, items, size.time, model.width)
    rows = jax.tree.map(
        lambda array: jax.ShapeDtypeStruct(
            array.shape, array.dtype, sharding=NamedSharding(mesh, P(None, None, ROW_AXES))
        ),
        stack_batches([[one] * seeds]),
    )
    program = jax.jit(
        lambda *arrays: train_steps(model, objective, optimizer, config.train.stack_seeds, *arrays),
        donate_argnums=(0,),
        out_shardings=(jax.tree.map(lambda leaf: leaf.sharding, state), None),
    )
    with jax.set_mesh(mesh):
        values = RunValues(jnp.float32(arm.learning_rate), weights(1.0, 0.0))
        held: Any = program.lower(state, frozen, rows, values).compile().memory_analysis()
    arguments, temporary = held.argument_size_in_bytes / 1e9, held.temp_size_in_bytes / 1e9
    return {
        "device_gb": round(arguments + temporary, 2),
        "arguments_gb": round(arguments, 2),
        "temporary_gb": round(temporary, 2),
        "rows_by_tokens": f"{seeds * (explanations + 2 * items)}×{size.time}",
        "devices": size.devices,
        "remat": remat,
    }


def _placed(tree, mesh: jax.sharding.Mesh):
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
        parameter_shardings(tree, mesh),
    )


def _batch(explanations: int, items: int, time: int, width: int) -> Batch:
    """Rows of one length: a prompt and an explanation, or a prompt and four letters."""
    prompt, letters = [0] * (time - 12), [[0, 0]] * 4
    explained = stack_rows([build_row(prompt, [[0] * 12])] * explanations, time)
    asked = stack_rows([build_row(prompt, letters)] * (2 * items), time)
    answers = Answers(
        candidates=np.full(items, 4, np.int32),
        reference_logprobs=np.zeros((items, 2, 5), np.float32),
        labelled=np.ones(items, bool),
        label_changed=np.zeros((items, 2), bool),
        label_answer=np.zeros((items, 2), np.int32),
    )
    held, hidden = np.ones((items, 2), bool), np.zeros((items, 2, 1, width), np.float32)
    behavior = BehaviorBatch(by_item(asked), held, hidden, answers)
    return Batch(explanation=explained, behavior=behavior)


if __name__ == "__main__":
    _name, _size = sys.argv[1:]
    print(json.dumps(compile_here(_name, Size(**json.loads(_size)))), flush=True)
