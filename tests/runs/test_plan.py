"""A plan tells shapes, shardings and needs without a device, and says what is missing where it can't."""

import dataclasses
import json
import subprocess
import sys

import jax
import pytest
from hub_configs import HUB_CONFIGS
from jax.errors import JaxRuntimeError
from rich.console import Console
from row_files import refusal
from tiny import mesh_of

from introspection.errors import InputError
from introspection.organism.organism import text_tokenizer
from introspection.runs import program_plan
from introspection.runs.arm_config import ArmConfig
from introspection.runs.config import read_config
from introspection.runs.plan import PlanRequest, plan, program_lines
from introspection.runs.plan_table import markdown_table
from introspection.runs.planned_programs import PROGRAMS, model_of, planned_programs, train_state
from introspection.runs.program_plan import (
    ProgramPlan,
    estimated,
    leaf_plans,
    model_flops,
    needed_bytes,
    plan_program,
)
from introspection.runtime import topology
from introspection.runtime.command import get_config_of
from introspection.runtime.config import cache_dir
from introspection.runtime.flops import matrix_flops
from introspection.tasks.registry import load_task
from introspection.training.shifts import ShiftConfig
from introspection.weights.hf_config import model_config
from introspection.weights.published import PUBLISHED

QWEN = "configs/hint_mmlu.py:qwen3_8b"


def config_of(name):
    return read_config(get_config_of(name))


def test_a_plan_names_every_leaf_with_its_part_of_a_device(capsys):
    assert plan(PlanRequest(config_of(QWEN), mesh="data=4,fsdp=64"), Console()) == []
    lines = capsys.readouterr().out.splitlines()
    (gate,) = (line.split() for line in lines if "params/layers/gate/kernel" in line)
    part = 36 * 4096 // 64 * 12_288 * 2 / 1e6
    assert gate[1:] == ["36×4096×12288", "bfloat16", "-", "fsdp", "tensor", f"{part:.1f}", "MB"]
    assert any("lora/layers/down/B" in line and "3×36×128×4096" in line for line in lines)
    assert any("of 256" in line for line in lines)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_shapes_are_those_of_the_published_models(name):
    published = name.removesuffix("-Instruct")
    assert PUBLISHED[name] == model_config(HUB_CONFIGS[published], published)


def test_what_auto_means_is_the_planned_platforms_affair():
    model = PUBLISHED["Qwen3-8B"]
    assert (model.on("tpu").compute_dtype, model.on("tpu").attention) == ("bfloat16", "splash")
    assert (model.on("gpu").compute_dtype, model.on("gpu").attention) == ("bfloat16", "cudnn")
    assert (model.dtype, model.attention_kernel) == ("float32", "plain")  # here
    named = dataclasses.replace(model, compute_dtype="float16", attention="plain")
    assert named.on("tpu") == named


def test_programs_are_of_shapes_alone_and_as_large_as_the_mathematics_asks():
    config, mesh, tokens = config_of("configs/quickstart.py:tiny"), mesh_of(data=2, fsdp=2), 128
    model = model_of(config)
    for name, make in planned_programs(config, model, mesh, tokens, "cpu").items():
        planned = make()
        assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(planned.arguments))
        counted = matrix_flops(planned.traced(mesh).jaxpr, planned.loop_steps)
        # The count has the head, too, and attention to the future.
        assert 1 < counted / model_flops(planned, tokens) < 4, name


def with_largest(arm, **train):
    config = config_of("configs/quickstart.py:tiny")
    train = dataclasses.replace(config.train, shift_rows=12, text_tokens=32, **train)
    return dataclasses.replace(config, train=train, arms={"kl": ArmConfig(), "largest": arm}, run_arms=())


def shifted(objective):
    return ArmConfig(shift=ShiftConfig("less_sycophantic", objective=objective))


LARGEST = {
    "supervised": (shifted("supervised"), "score", "shift_loss"),
    "dpo": (shifted("dpo"), "score", "preference_margin"),
    "reward": (shifted("policy_gradient"), "score", "reward"),
    "generated": (shifted("supervised"), "generate", "shift_loss"),
    "other text": (ArmConfig(kl_prompts="other_text"), "score", "kl"),
}


@pytest.mark.parametrize(("arm", "readout", "metric"), LARGEST.values(), ids=LARGEST)
def test_a_planned_step_has_every_row_of_the_arm_that_has_most(arm, readout, metric):
    config, mesh = with_largest(arm), mesh_of(data=2, fsdp=2)
    config = dataclasses.replace(config, behavior=dataclasses.replace(config.behavior, readout=readout))
    planned = planned_programs(config, model_of(config), mesh, 128, "cpu")["train"]()
    sizes, batches = config.train.rows, planned.arguments[2]
    more = 12 if batches.text is None else 2 * sizes.behavior_items
    assert planned.rows == sizes.explanation_rows + 2 * sizes.behavior_items + more
    part = batches.text or batches.shift
    assert getattr(part, "rows", part).tokens.shape[2:] == (more, 128)
    assert metric in planned.traced(mesh).out_info[1]


def test_a_planned_step_lies_in_packs_that_nothing_shares():
    config, mesh = with_largest(shifted("supervised"), pack_tokens=256), mesh_of(data=2, fsdp=2)
    planned = planned_programs(config, model_of(config), mesh, 128, "cpu")["train"]()
    packs, time = planned.arguments[2].packs.tokens.shape[2:]
    assert time <= 256
    assert packs == -(-planned.rows // 2 // 4) * 4  # two rows each
    assert "shift_loss" in planned.traced(mesh).out_info[1]


def test_rows_that_leave_no_room_for_a_prompt_are_refused():
    config, mesh = config_of("configs/quickstart.py:tiny"), mesh_of()
    shift = ShiftConfig("less_sycophantic", objective="policy_gradient", group_size=64)
    config = dataclasses.replace(config, arms={"kl": ArmConfig(shift=shift)}, run_arms=())
    make = planned_programs(config, model_of(config), mesh, 128, "cpu")["train"]
    refusal(make, says=["--tokens has 128, but 128 follow a prompt"])


def test_an_organism_that_reads_text_has_the_vocabulary_of_its_sentences():
    config = config_of("configs/model_size.py:tiny")
    _, questions = load_task(config.task, cache_dir())
    assert model_of(config).vocab_size == text_tokenizer(config.organism, questions).vocab_size


def test_all_that_is_trained_is_read_from_memory():
    config, mesh = config_of("configs/quickstart.py:tiny"), mesh_of(data=2, fsdp=2)
    model = model_of(config)
    planned = planned_programs(config, model, mesh, 128, "cpu")["train"]()
    chip = dataclasses.replace(topology.CHIPS["v5e"], memory_bandwidth=1.0)
    made = estimated(planned, 0.0, 0.0, {}, mesh, chip)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(planned.arguments[0].trainable))
    assert made.bound_by == "memory"
    assert made.seconds >= 3 * parameters * model.dtype.itemsize


@pytest.mark.parametrize(("slices", "said"), [(1, False), (2, True)])
def test_an_estimate_over_slices_says_that_their_network_is_rated_as_links(monkeypatch, slices, said):
    monkeypatch.setattr(program_plan, "slice_count", lambda devices: slices)
    config, mesh = config_of("configs/quickstart.py:tiny"), mesh_of(data=2, fsdp=2)
    planned = planned_programs(config, model_of(config), mesh, 128, "cpu")["train"]()
    made = estimated(planned, 0.0, 0.0, {}, mesh, topology.CHIPS["v5e"])
    plan = ProgramPlan("train", 128, 32, 1, 0, 1.0, 1.0, fits=True, estimate=made)
    assert any(f"its {slices} slices is a slower network" in line for line in program_lines(plan)) == said


@pytest.mark.slow
def test_a_compiled_program_fits_by_what_its_chip_has():
    config, mesh = config_of("configs/quickstart.py:tiny"), mesh_of(data=2, fsdp=2)
    make = planned_programs(config, model_of(config), mesh, 128, "cpu")["train"]
    chip = topology.CHIPS["v5e"]
    made = plan_program(make, 128, mesh, chip)
    state = train_state(config, model_of(config), mesh)
    assert sum(leaf.device_bytes for leaf in leaf_plans(state)) < made.argument_bytes < made.device_bytes
    assert made.fits
    assert made.collectives["all-gather"].bytes > 0
    assert made.estimate.seconds > 0


def test_of_a_program_that_does_not_fit_a_plan_says_how_many_or_how_long_rows_would(monkeypatch):
    def refuse(lowered):
        raise JaxRuntimeError("RESOURCE_EXHAUSTED: Used 31.5G of 15.75G hbm. Exceeded hbm capacity")

    monkeypatch.setattr(jax.stages.Lowered, "compile", refuse)
    config, mesh = config_of("configs/quickstart.py:tiny"), mesh_of(data=2, fsdp=2)
    make = planned_programs(config, model_of(config), mesh, 512, "cpu")["train"]
    made = plan_program(make, 512, mesh, topology.CHIPS["v5e"])
    assert (made.fits, made.device_bytes, made.estimate) == (False, 31.5 * 2**30, None)
    assert made.rows == 40
    assert made.most_rows == 16  # just below half: of whole rows a device
    assert made.most_tokens == 128
    assert "; about 16 rows or rows of 128 tokens would fit (" in program_lines(made)[0]
    short = dataclasses.replace(made, most_rows=0, most_tokens=0)
    assert "needs 31.5 GiB a chip; no row would fit" in program_lines(short)[0]


def test_what_a_compiler_asked_for_in_vain_is_read_from_its_message():
    told = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 22.50G of 15.75G hbm."
    assert needed_bytes(told) == (22.5 * 2**30, True)
    told = "the total memory required for HLO temporaries (512.00M) exceeds available HBM (15.75G)."
    assert needed_bytes(told) == (2**29, False)
    assert needed_bytes("INTERNAL: something else") is None


def test_a_missing_compiler_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    refusal(topology.compile_only_devices, "v5e:4x4", says=["libtpu", "pip install 'libtpu=="])
    with pytest.raises(InputError, match="v6e:16x16"):
        topology.chip_of("v4:2x2x2")


BAD = {
    "length": ({"tokens": ("64",)}, ["--tokens", "at least 128"]),
    "program": ({"programs": ("test",)}, ["--programs", *PROGRAMS]),
}


@pytest.mark.parametrize(("given", "says"), BAD.values(), ids=BAD)
def test_a_bad_request_is_refused(given, says):
    refusal(PlanRequest, config_of(QWEN), says=says, **given)


@pytest.mark.parametrize("out", ["missing/plans.jsonl", "."])
def test_a_file_that_cannot_be_added_to_is_refused_before_anything_is_compiled(tmp_path, out):
    request = PlanRequest(config_of(QWEN), topology="v5e:4x4", out=str(tmp_path / out))
    refusal(plan, request, Console(), says=["--out", "can't be written ("])


# libtpu compiles for TPUs without any, and is no requirement: `pip install libtpu`, then `pytest -m aot`.
@pytest.mark.aot
def test_a_step_of_8192_tokens_is_lowered_to_the_kernel_and_compiled_for_a_slice(tmp_path):
    out = tmp_path / "plans.jsonl"
    command = [sys.executable, "-m", "experiments.plan", "--config=configs/quickstart.py:tiny"]
    command += ["--topology=v5e:2x2", "--mesh=data=2,fsdp=2", "--tokens=8192", f"--out={out}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (made,) = map(json.loads, out.read_text(encoding="utf-8").splitlines())
    assert made["fits"]
    assert made["program"] == "train"
    assert made["estimate"]["seconds"] > 0


@pytest.mark.aot
def test_long_steps_are_lowered_to_the_kernel_without_square_arrays():
    from introspection.runtime.mesh import MeshConfig, make_mesh

    mesh = make_mesh(MeshConfig(2, 2), topology.compile_only_devices("v5e:2x2"))
    config = config_of("configs/quickstart.py:tiny")
    for name, make in planned_programs(config, model_of(config), mesh, 8192, "tpu").items():
        traced = make().traced(mesh)
        with jax.set_mesh(mesh):
            lowered = traced.lower().as_text()
        assert "tpu_custom_call" in lowered, name
        assert "8192x8192" not in lowered, name


def test_a_table_of_what_is_no_plan_is_one_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"a": 1}\n')
    assert "metrics.jsonl:1 can't be read" in refusal(markdown_table, path)


def test_a_table_says_what_would_fit_also_of_plans_from_before_lengths_were_told(tmp_path):
    plan = {
        "config": "hint_mmlu-qwen3_8b", "program": "train", "topology": "v5e:4x4", "tokens": 8192, "rows": 64,
        "mesh": {"data": 1, "fsdp": 16, "tensor": 1}, "runs": 3, "stack_seeds": "loop", "fits": False,
        "device_bytes": 20 * 2**30, "flops": 2.0, "model_flops": 1.0, "most_rows": 48, "estimate": None,
        "compile_seconds": 12.0,
    }  # fmt: skip
    path = tmp_path / "plans.jsonl"
    path.write_text(json.dumps(plan) + "\n")
    assert "| 20.0 | no; about 48 rows would |" in markdown_table(path)
    path.write_text(json.dumps(plan | {"most_tokens": 6144}) + "\n")
    assert "no; about 48 rows or rows of 6,144 tokens would |" in markdown_table(path)
