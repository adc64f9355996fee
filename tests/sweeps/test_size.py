"""The size curve: what stands on it, and which points may not stand on one."""

import json

import numpy as np
import pytest
from programs import NO_REPORT, one_error_line, read_json, read_lines
from report_workdir import ARMS, write_workdir

from configs import model_size, word_size
from introspection.checkpoints.names import CHECKPOINTS, ModelCard
from introspection.coupling.metrics import drift
from introspection.coupling.records import read_records
from introspection.errors import InputError
from introspection.organism.config import OrganismSizes
from introspection.runs.config import read_config
from introspection.runtime.config import plain
from introspection.sweeps.grid import collect_points
from introspection.sweeps.page import more_figures
from introspection.sweeps.plan import plan_points
from introspection.sweeps.size import must_agree, size_levels
from introspection.sweeps.size_figure import size_figure, size_numbers, size_table
from introspection.sweeps.summary import read_beside


def sweep_of(folder, name="sizes", points=((16, {}), (32, {}))):
    """A finished sweep of bases of some widths, each with changed fields of its config."""
    for place, (width, changes) in enumerate(points):
        config = model_size.get_config("tiny")
        config.name, config.base = name, f"base{place}"
        config.model.update(width=width, head_dim=width // 4)
        config.update_from_flattened_dict(changes)
        workdir = folder / "points" / f"{name}-{place}"
        write_workdir(workdir, items=12, steps=2, config=json.loads(json.dumps(plain(read_config(config)))))
        ModelCard(read_config(config).organism.decoder(100), (0,)).write(workdir / CHECKPOINTS / "initial")
    return read_beside(folder)


def test_a_point_stands_at_its_bases_size_with_drift_resampled_from_its_items(tmp_path):
    points = sweep_of(tmp_path, points=((32, {}), (16, {"arms.kl.learning_rate": 0.1, "pretrain.seed": 4})))
    levels = size_levels(points, [])
    assert [(level.point, level.arm) for level in levels] == [
        (point, arm) for point in ("sizes-1", "sizes-0") for arm in ARMS
    ]
    # An embedding and a head of 100 rows, two layers, the last norm.
    layer = 16 * 16 * 2 + 2 * 16 * 8 + 3 * 16 * 48 + 2 * 16
    assert levels[0].parameters == 2 * 100 * 16 + 2 * layer + 16
    kl = levels[-len(ARMS)]
    records = [r for r in read_records(points[0].folder / "predictions.jsonl") if r.arm == kl.arm]
    assert kl.drift.mean == pytest.approx(drift(records))
    assert kl.drift.low < kl.drift.mean < kl.drift.high
    assert (kl.gap, kl.orig) == (points[0].arms[0].gap.exact_match, points[0].arms[0].orig.exact_match)
    numbers = size_numbers(levels)
    assert len(numbers) == 2 * len(ARMS)
    assert {row["parameters"] for row in numbers} == {level.parameters for level in levels}
    table = size_table(levels)
    assert len(table.lines) == len(levels)
    assert len(size_figure(levels).axes) == 3
    assert next(iter(more_figures(points, [], levels))) == "size_curve"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"train.steps": 40}, "train.steps"),
        ({"arms.kl.kl_weight": 0.5}, "arms.kl.kl_weight"),
        ({"arms.shift_less.shift.fraction": 0.25}, "arms.shift_less.shift.fraction"),
        ({"pretrain.steps": 400, "pretrain.checkpoint_steps": 400}, "pretrain.checkpoint_steps"),
    ],
    ids=str,
)
def test_points_of_another_procedure_are_refused(tmp_path, changes, field):
    points = sweep_of(tmp_path, points=((16, {}), (32, changes)))
    with pytest.raises(
        InputError, match=rf"one procedure, but {field} is .* at sizes-0 and .* at sizes-1"
    ) as no:
        size_levels(points, [])
    assert "\n" not in str(no.value)


def test_a_sweep_beside_has_its_own_amounts_but_the_same_recipes(tmp_path):
    own = sweep_of(tmp_path / "own")
    other = sweep_of(tmp_path / "other", "real", ((64, {"train.steps": 40, "task.repeats": 2}),))
    levels = size_levels(own, other)
    assert {level.sweep for level in levels} == {"sizes", "real"}
    weaker = sweep_of(tmp_path / "weaker", "real", ((64, {"arms.kl.kl_weight": 0.5}),))
    with pytest.raises(
        InputError, match=r"arms.kl.kl_weight is 1.0 at sizes-0 and 0.5 at real-0 of real: leave"
    ):
        size_levels(own, weaker)
    one_sided = sweep_of(tmp_path / "balance", "real", ((64, {"train.balanced": False}),))
    with pytest.raises(InputError, match=r"train.balanced is True at sizes-0 and False"):
        size_levels(own, one_sided)


@pytest.mark.parametrize("argument", ["", "rates", "tiny", "5m"])
def test_sizes_differ_in_width_and_rates_alone(argument, tmp_path):
    points = plan_points(
        model_size.get_config(argument), collect_points(model_size.sweep, argument), tmp_path
    )
    assert {point.config.curve for point in points} == {"" if argument == "rates" else "size"}
    for point in points:
        width = point.config.model.width
        assert point.config.model.mlp_width == OrganismSizes().scaled(width).mlp_width
        assert point.config.neighbor_organism.model == point.config.organism.model
        assert point.config.neighbor.seed != point.config.pretrain.seed
    if argument == "rates":
        rates = {(p.config.model.width, p.config.arms["kl"].learning_rate) for p in points}
        assert len(rates) == len(points) == len(model_size.SIZES) * len(model_size.RATES)
        return
    fields = {field for point in points for field in point.overrides}
    assert not [field for field in fields if must_agree(field, is_own=True)]
    sizes = {p.config.part: p.config.model.width for p in points}
    assert len(set(sizes.values())) == len(sizes) == (1 if argument in model_size.SIZES else len(sizes))


@pytest.mark.parametrize("argument", ["", "tiny"])
def test_organisms_of_words_differ_in_width_and_rates_alone(argument, tmp_path):
    points = plan_points(word_size.get_config(argument), collect_points(word_size.sweep, argument), tmp_path)
    fields = {field for point in points for field in point.overrides}
    assert not [field for field in fields if must_agree(field, is_own=True)]
    sizes = word_size.TINY if argument else word_size.SIZES
    assert [point.config.organism.model.width for point in points if point.config.pretrain.seed == 0] == [
        width for width, *_ in sizes.values()
    ]
    for point in points:
        assert point.config.neighbor_organism.model == point.config.organism.model
        assert len({arm.learning_rate for arm in point.config.chosen_arms.values()}) == 1


def test_the_rates_of_every_size_are_arms_of_one_point(tmp_path):
    points = plan_points(word_size.get_config("rates"), collect_points(word_size.sweep, "rates"), tmp_path)
    for point, (width, *_) in zip(points, word_size.SIZES.values(), strict=True):
        rates = [arm.learning_rate * width / 0.064 for arm in point.config.chosen_arms.values()]
        assert rates == pytest.approx([1, 0.25, 0.5, 2, 4])


@pytest.mark.slow
def test_the_tiny_curve_has_two_sizes_and_refuses_another_procedure(programs, tmp_path):
    sweep = ("sweep", "--config=configs/model_size.py:tiny", f"--workdir={tmp_path}/sizes")
    programs.run_well(*sweep, patch=NO_REPORT)
    programs.run_well(*sweep, "--summarize")
    rows = (tmp_path / "sizes/figures/size_curve.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 2  # two sizes, two arms
    sizes = [read_json(path)["parameters"] for path in sorted(tmp_path.glob("sizes/points/*/organism.json"))]
    assert sizes[0] < sizes[1]
    losses = [
        [line["loss"] for line in read_lines(path) if "loss" in line]
        for path in sorted(tmp_path.glob("sizes/points/*/metrics.jsonl"))
    ]
    assert not np.allclose(*losses)
    path = next(tmp_path.glob("sizes/points/tiny-32-0/config.json"))
    config = read_json(path)
    config["train"]["behavior_items"] += 1
    path.write_text(json.dumps(config))
    written = (tmp_path / "sizes/summary.html").read_bytes()
    outcome = programs.run(*sweep, "--summarize")
    assert outcome.code == 2
    assert "train.behavior_items" in one_error_line(outcome)
    assert (tmp_path / "sizes/summary.html").read_bytes() == written
