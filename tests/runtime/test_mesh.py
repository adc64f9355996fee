"""The mesh: where it lies, how rows are split, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from row_files import refusal
from tiny import mesh_of

from introspection.runs.config import read_config
from introspection.runtime.command import get_config_of
from introspection.runtime.mesh import (
    MeshConfig,
    check_rows,
    for_lookups,
    make_mesh,
    missing_rows,
    put_batch,
    put_rows,
)
from introspection.runtime.mesh_flag import read_mesh


class Chip:
    """A device of a TPU slice, as far as a mesh asks."""

    platform, process_index, core_on_chip = "tpu", 0, 0

    def __init__(self, place, slice_index, kind):
        self.coords, self.slice_index, self.device_kind = place, slice_index, kind
        self.id = slice_index * 1000 + place[2] * 256 + place[0] * 16 + place[1]


def chips(width, height, depth=1, *, slices=1, kind="TPU v5 lite"):
    places = [(x, y, z) for z in range(depth) for y in range(height) for x in range(width)]
    return [Chip(place, s, kind) for s in range(slices) for place in places]


@pytest.mark.parametrize("sizes", [(1, -1, 1), (2, 8, 1), (1, 8, 2), (16, 1, 1), (1, 2, 8)])
def test_axes_lie_on_a_slice_whose_sides_they_do_not_match(sizes):
    mesh = make_mesh(MeshConfig(*sizes), chips(4, 4))
    assert len({chip.id for chip in mesh.devices.flat}) == mesh.size == 16


# What configs say (`config.mesh`), or `--mesh`; chips; the mesh's shape.
LARGE = {
    "v5e:4x4": ("", chips(4, 4), (1, 16, 1)),
    "v5e:16x16": ("fsdp=64,tensor=4", chips(16, 16), (1, 64, 4)),
    "v5p:2x2x2": ("", chips(2, 2, 2, kind="TPU v5"), (1, 8, 1)),
    "v5p:2x2x2, as JAX names it": ("", chips(2, 2, 2, kind="TPU v5p"), (1, 8, 1)),
    "three slices": ("fsdp=-1,dcn_data=3", chips(4, 4, slices=3), (3, 16, 1)),
}


@pytest.mark.parametrize("name", ["qwen3_8b", "llama31_8b"])
@pytest.mark.parametrize(("flag", "devices", "shape"), LARGE.values(), ids=LARGE)
def test_large_models_have_a_place_on_every_slice_that_is_planned(name, flag, devices, shape):
    configured = read_config(get_config_of(f"configs/hint_mmlu.py:{name}")).mesh
    in_any_order = [devices[i] for i in np.random.default_rng(0).permutation(len(devices))]
    mesh = make_mesh(read_mesh(flag) if flag else configured, in_any_order)
    assert mesh.devices.shape == shape
    assert {chip.id for chip in mesh.devices.flat} == {chip.id for chip in devices}
    for one in mesh.devices.reshape(-1, shape[2]):  # along tensor, each chip's neighbour is the next
        assert (np.abs(np.diff([chip.coords for chip in one], axis=0)).sum(axis=1) == 1).all()
    for index, one in enumerate(mesh.devices):
        assert {chip.slice_index for chip in one.flat} == {index}


def test_slices_are_apart_along_data_alone():
    mesh = make_mesh(MeshConfig(data=2, fsdp=-1, dcn_data=2), chips(4, 4, slices=2))
    assert mesh.devices.shape == (4, 8, 1)
    slices = np.vectorize(lambda chip: chip.slice_index)(mesh.devices)
    assert (slices == np.array([0, 0, 1, 1])[:, None, None]).all()


REFUSED = {
    "slices that are not named": (
        MeshConfig(1, -1),
        chips(4, 4, slices=2),
        ["dcn_data=1", "2 slice(s)", "--mesh=data=-1,dcn_data=2"],
    ),
    "sizes with no place": (MeshConfig(3, 5), chips(4, 4), ["[3, 5, 1]", "powers of two"]),
    "no rest": (MeshConfig(3, -1), chips(4, 4), ["can't be divided by 3"]),
}


@pytest.mark.parametrize(("config", "devices", "says"), REFUSED.values(), ids=REFUSED)
def test_a_mesh_without_a_place_is_refused(config, devices, says):
    refusal(make_mesh, config, devices, says=says)


def test_a_flag_names_the_axes():
    assert read_mesh("data=4, tensor=-1") == MeshConfig(data=4, tensor=-1)
    for text in ("rows=4", "data", "data=two", "data=1,data=2"):
        refusal(read_mesh, text, says=["--mesh", "dcn_data"])


def test_rows_that_do_not_divide_are_refused_or_split_as_far_as_they_do():
    mesh, rows = mesh_of(data=2, fsdp=2), np.zeros((1, 6, 3), np.int32)
    assert put_batch(rows, mesh, axis=1).sharding.spec == P(None, ("data",))
    assert put_batch(rows[:, :4], mesh, axis=1).sharding.spec == P(None, ("data", "fsdp"))
    refusal(put_rows, rows[0], mesh, says=["6 rows", "= 4 devices"])
    check_rows(4, "a step", mesh)
    refusal(check_rows, 3, "a step", mesh, says=["a step has 3 rows", "= 4 devices", "tensor"])
    with jax.set_mesh(mesh):
        assert [missing_rows(rows) for rows in (4, 5, 8)] == [0, 3, 0]
    assert missing_rows(5) == 0


def test_many_lookups_copy_the_table_and_do_not_sum_rows_over_devices():
    mesh = mesh_of(fsdp=4)
    by_row = jax.NamedSharding(mesh, P("fsdp"))
    table = jax.ShapeDtypeStruct((64, 8), jnp.float32, sharding=by_row)
    tokens = jax.ShapeDtypeStruct((8, 4), jnp.int32, sharding=by_row)  # half as many as rows
    with jax.set_mesh(mesh):
        looked_up = jax.jit(
            lambda table, tokens: for_lookups(table, tokens.size)[tokens], out_shardings=by_row
        )
        text = looked_up.lower(table, tokens).compile().as_text()
    assert "all-gather" in text
    assert "all-reduce" not in text
