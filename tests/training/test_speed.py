"""What training says of its own speed: tokens, operations, seconds by cause, executables."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import pytest
from tiny import mesh_of, task_model

from introspection.models.config import LoraConfig
from introspection.models.useful_flops import useful_flops
from introspection.reports.speed import speed_line
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.json_values import from_json
from introspection.runtime.topology import CHIPS, peak_flops
from introspection.text.rows import build_row, stack_rows
from introspection.training import speed as speed_module
from introspection.training.objectives import Batch
from introspection.training.packing import packed
from introspection.training.speed import CAUSES, STEP, Speed, SpeedMeter, batch_tokens, joined

# Inputs of 3 + 1 and of 2 + 0 tokens: the last token of a continuation is none.
ROWS = stack_rows([build_row([5, 6, 7], [[1, 2]]), build_row([5, 6], [[3]])], time=6)


def test_tokens_are_counted_without_padding_and_with_what_they_attend_to():
    tokens, places, attended = batch_tokens(Batch(ROWS))
    assert (tokens, places) == (4 + 2, 2 * 6)
    assert attended == (1 + 2 + 3 + 4) + (1 + 2)


def test_a_start_that_texts_share_in_a_pack_counts_once():
    tokens, places, attended = batch_tokens(packed(Batch(ROWS), time=8))
    assert (tokens, places) == (4, 8)
    assert attended == 1 + 2 + 3 + 4


def test_layers_below_the_adapters_are_read_and_no_more():
    lora = LoraConfig(2, 4.0)
    model = dataclasses.replace(task_model().config, lora=lora)
    frozen = dataclasses.replace(model, lora=dataclasses.replace(lora, from_layer=1))
    one = dataclasses.replace(model, layers=1)
    plain = dataclasses.replace(one, lora=None)
    assert useful_flops(frozen, 100, 900.0, training=True) == pytest.approx(
        (model.layers - 1) * useful_flops(one, 100, 900.0, training=True)
        + useful_flops(plain, 100, 900.0, training=False)
    )
    # Three passes over everything without adapters; with them, two over the base.
    whole, read = (useful_flops(plain, 100, 0.0, training) for training in (True, False))
    assert whole == 3 * read
    assert 2 * read < useful_flops(one, 100, 0.0, training=True) < whole


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves on by what is added to it."""
    now = types.SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(speed_module.time, "perf_counter", lambda: now.seconds)
    return now


def meter_of(programs):
    return SpeedMeter(["kl"], task_model().config, programs, mesh_of())


def test_every_second_has_one_cause_and_a_stretch_begins_where_the_last_one_ended(clock):
    meter = meter_of(ProgramTable())
    with meter.during("evaluation"):
        clock.seconds += 5
    with meter.during("data"):
        clock.seconds += 1
    clock.seconds += 7
    meter.count(Batch(ROWS), steps=3)
    first = meter.stretch(3)
    assert first.total == 13
    assert first.seconds["evaluation"] == 5
    assert sum(first.seconds.values()) == 13
    assert (first.steps, first.tokens, first.places) == (3, 6, 12)
    assert first.padding == 0.5
    clock.seconds += 4
    second = meter.stretch(4)
    assert second.total == 4
    assert (second.steps, second.tokens) == (0, 0)


def test_compiling_within_a_cause_is_compiling(clock):
    programs, spent = ProgramTable(), types.SimpleNamespace(seconds=0.0)
    programs.compile_seconds = lambda: spent.seconds
    meter = meter_of(programs)
    with meter.during("evaluation"):
        clock.seconds += 5
        spent.seconds += 3
    clock.seconds += 2
    spent.seconds += 1
    seconds = meter.stretch(1).seconds
    assert seconds == {"compile": 4, "data": 0, "checkpoint": 0, "evaluation": 2, "step": 1}


def test_a_step_that_is_compiled_again_is_said_once():
    programs = ProgramTable()
    step = programs.program(STEP, (), lambda: lambda rows: rows + 1, data=(0,))
    step(jnp.zeros((2, 3)))  # of an earlier training
    meter = meter_of(programs)
    step(jnp.zeros((2, 4)))
    assert meter.compiled_again() == ""
    step(jnp.zeros((2, 5)))
    step(jnp.zeros((2, 5)))
    assert "for rows of 2×5 after 2×4" in meter.compiled_again()
    assert meter.compiled_again() == ""
    assert meter.stretch(10).compilations == 2


def test_a_step_that_is_compiled_again_is_told_by_what_differs():
    programs = ProgramTable()
    step = programs.program(STEP, (), lambda: lambda rows: jax.tree.map(jnp.sum, rows), data=(0,))
    meter, kinds = meter_of(programs), [jnp.zeros((2, n)) for n in (1, 2, 3, 4)]
    for size in (6, 7):
        step([*kinds, jnp.zeros((2, size)), jnp.zeros(5)])
    assert "for rows of 2×7 after 2×6;" in meter.compiled_again()
    step([*kinds, jnp.zeros((2, 7)), jnp.zeros(5, int)])
    assert meter.compiled_again().endswith("for rows of the same shapes, of another type or otherwise placed")
    step([*kinds, jnp.zeros((2, 6)), jnp.zeros(5)])
    assert [calls for _, _, calls, _ in programs.rows()] == [2, 1, 1]


SPEED = Speed(
    ("kl",), 10, 10, dict.fromkeys(CAUSES, 1.0) | {"step": 3.0}, 80, 100, 4e12, 1, 2, 1e12, peak_bytes=5
)


def test_figures_of_a_stretch_by_hand():
    assert SPEED.total == 7
    assert SPEED.goodput == 3 / 7
    assert SPEED.steps_per_second == 10 / 4  # of steps and data
    assert SPEED.tokens_per_second == 20
    assert SPEED.mfu == 0.5  # 1e12 a second on two devices of 1e12
    assert dataclasses.replace(SPEED, device_flops=None).mfu is None
    assert "mfu" not in dataclasses.replace(SPEED, device_flops=None).drawn()
    shares = {name: value for name, value in SPEED.drawn().items() if name.startswith("share/")}
    assert shares == {f"share/{cause}": (3 if cause == "step" else 1) / 7 for cause in CAUSES}
    line = speed_line(dataclasses.replace(SPEED, peak_bytes=3 * 2**29))
    assert ", 1.5 GiB a device; goodput 42.9%; seconds: compile 1.0, " in line
    assert "GiB" not in speed_line(dataclasses.replace(SPEED, peak_bytes=None))
    both = joined([SPEED, dataclasses.replace(SPEED, step=20, peak_bytes=4)])
    assert (both.step, both.steps, both.tokens, both.peak_bytes) == (20, 20, 160, 5)
    assert both.seconds["step"] == 6
    assert both.mfu == SPEED.mfu


def test_steps_that_were_trained_again_count_once():
    first, lost, again, last = (dataclasses.replace(SPEED, step=step, steps=10) for step in (10, 20, 20, 30))
    assert joined([first, lost, again, last]).steps == 30
    assert joined([first, lost, dataclasses.replace(SPEED, step=20, steps=20)]).steps == 20
    assert joined([first, lost, again, last]).seconds["step"] == 3 * SPEED.seconds["step"]


def test_a_line_reads_back():
    fields = dataclasses.asdict(SPEED)
    assert from_json(Speed, {**fields, "arms": ["kl"]}) == SPEED


@pytest.mark.parametrize(
    ("kind", "flops"),
    [
        ("TPU v5 lite", CHIPS["v5e"].flops),
        ("TPU v5", CHIPS["v5p"].flops),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA L40S", None),
        ("cpu", None),
    ],
)
def test_a_devices_peak_is_known_by_its_kind(kind, flops):
    assert peak_flops(kind) == flops
