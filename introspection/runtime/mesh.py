"""The device mesh and the placement of arrays: parameters by name, rows over data and fsdp."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from introspection.errors import InputError


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis; one axis of a slice may be -1 and takes the rest of it."""

    data: int = 1  # splits the rows of a batch; copies parameters
    fsdp: int = 1  # splits the rows of a batch and the parameters
    tensor: int = 1  # heads and hidden units
    dcn_data: int = 1  # slices of a pod, each with the axes above: splits the rows of a batch between them


# The first matching rule partitions the trailing dimensions; leading ones (layers, seeds) are not split. The
# embedding and the head are split over the vocabulary by both axes: split over the width, every lookup would
# gather the whole table, and every logit would be a sum over devices. (With 4 devices along fsdp, a copy on
# each took 3.8 times the memory and logits were all-reduced.)
PARAMETER_RULES: tuple[tuple[str, P], ...] = (
    (r"(query|key|value|gate|up)/kernel$", P("fsdp", "tensor")),
    (r"(output|down)/kernel$", P("tensor", "fsdp")),
    (r"(query|key|value|gate|up)/A$", P("fsdp", None)),
    (r"(query|key|value|gate|up)/B$", P("fsdp", "tensor")),
    (r"(output|down)/A$", P("tensor", "fsdp")),
    (r"(output|down)/B$", P(None, "fsdp")),
    (r"head_adapter/A$", P("fsdp", None)),
    (r"head_adapter/B$", P(None, ("tensor", "fsdp"))),
    (r"(embedding|head)$", P(("tensor", "fsdp"), None)),
    (r".*", P()),
)
AXES = ("data", "fsdp", "tensor")
ROW_AXES = AXES[:2]
LOOKUPS_PER_ROW = 4  # of a table, from which on its copy is smaller; several runs may look up at once


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """A `data × fsdp × tensor` mesh over the first of some devices (None: this program's).

    On a TPU neighbours along an axis are neighbours in the pod, as far as its shape allows, and slices, which
    only a slower network joins, are farthest apart along `data`.

    Raises:
      InputError: the axes need more devices than there are, do not divide their number, or have no place in
        the pod; or the devices are of another number of slices.
    """
    given = jax.devices() if devices is None else list(devices)
    sizes, slices = [config.data, config.fsdp, config.tensor], config.dcn_data
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes) or slices < 1:
        raise InputError(
            f"config.mesh has sizes {sizes} and dcn_data={slices}: each must be at least 1, except that one "
            "of the former may be -1"
        )
    found = slice_count(given)
    if found not in (1, slices) or len(given) % slices:
        raise InputError(
            f"the mesh has dcn_data={slices}, but the {len(given)} devices are of {found} slice(s); give "
            f"dcn_data={found}, such as --mesh=data=-1,dcn_data={found}"
        )
    available = len(given) // slices
    if -1 in sizes:
        rest = -int(np.prod(sizes))
        if available % rest:
            raise InputError(
                f"config.mesh has sizes {sizes}, but {available} devices can't be divided by {rest}; "
                "change a size"
            )
        sizes[sizes.index(-1)] = available // rest
    needed = int(np.prod(sizes))
    if needed > available:
        raise InputError(
            f"config.mesh has sizes {sizes}: it needs {needed} devices, but there are {available}"
        )
    try:
        placed = _placed(sizes, slices, found, given)
    except (ValueError, NotImplementedError, AssertionError) as error:
        raise InputError(
            f"config.mesh has sizes {sizes}, which have no place on {len(given)} devices "
            f"({given[0].device_kind}); give powers of two whose product is the number of devices"
        ) from error
    # Auto, because an embedding lookup fails on Explicit axes.
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def slice_count(devices: Sequence[Any]) -> int:
    """How many slices of a pod devices are of; those that are no TPUs count as one."""
    return len({getattr(device, "slice_index", 0) for device in devices if device.platform == "tpu"}) or 1


def _placed(sizes: list[int], slices: int, found: int, devices: Sequence[Any]) -> np.ndarray:
    """The devices as the mesh has them. Raises an error of JAX's if that is impossible."""
    if found > 1:
        return mesh_utils.create_hybrid_device_mesh(
            sizes, [slices, 1, 1], devices, allow_split_physical_axes=True
        )
    whole = [slices * sizes[0], *sizes[1:]]
    used = devices[: int(np.prod(whole))]
    return mesh_utils.create_device_mesh(whole, used, allow_split_physical_axes=True)


def data_mesh(devices: int) -> Mesh:
    """A mesh that splits batches over so many devices, -1 for all. Raises InputError if there are fewer."""
    if devices != -1 and not 1 <= devices <= jax.device_count():
        raise InputError(f"--devices is {devices}; give 1 to {jax.device_count()}, or -1 for all")
    return make_mesh(MeshConfig(devices))


def idle_devices(mesh: Mesh, flag: str) -> str:
    """A line that says how many devices a mesh leaves unused, and the flag that uses them; "" if none."""
    used, available = mesh.size, jax.device_count()
    if used == available:
        return ""
    kind = jax.devices()[0].device_kind
    return f"uses {used} of {available} devices ({kind}); {flag}=-1 splits batches over all of them"


def parameter_shardings(tree, mesh: Mesh | AbstractMesh):
    """`NamedSharding`s for a tree of parameters, adapters or their optimizer state, by leaf name.

    An axis that does not divide a dimension does not split it.
    """

    def sharding(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rule = next(spec for pattern, spec in PARAMETER_RULES if re.search(pattern, name))
        if leaf.ndim < len(rule):
            return NamedSharding(mesh, P())
        padded = (None,) * (leaf.ndim - len(rule)) + tuple(rule)
        fitting = [_dividing(axes, size, mesh) for axes, size in zip(padded, leaf.shape, strict=True)]
        return NamedSharding(mesh, P(*fitting))

    return jax.tree_util.tree_map_with_path(sharding, tree)


def _dividing(
    axes: str | tuple[str, ...] | None, size: int, mesh: Mesh | AbstractMesh
) -> tuple[str, ...] | None:
    """Those of a dimension's one or two axes that split it into the most equal parts."""
    names = (axes,) if isinstance(axes, str) else axes or ()
    chosen = (names, names[:1], names[1:])
    parts = {one: int(np.prod([mesh.shape[name] for name in one])) for one in chosen if one}
    return max((one for one in parts if size % parts[one] == 0), key=lambda one: parts[one], default=None)


def put_parameters(tree, mesh: Mesh):
    """Places a tree of parameters on the mesh."""
    return jax.device_put(tree, parameter_shardings(tree, mesh))


def row_parts(mesh: Mesh | AbstractMesh) -> int:
    """The number of parts that a batch's rows are split into."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def for_lookups(table: jax.Array, count: int) -> jax.Array:
    """A table whose rows are split over devices, on which so many are looked up: whole where that is less.

    For use inside a program: otherwise every device holds what it knows of all looked up rows, to be summed.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or LOOKUPS_PER_ROW * count < table.shape[0]:
        return table
    return jax.lax.with_sharding_constraint(table, P(*[None] * table.ndim))


def missing_rows(rows: int) -> int:
    """How many rows a program needs besides, so that all devices of `jax.set_mesh` have as many."""
    mesh = jax.sharding.get_abstract_mesh()
    return 0 if mesh.empty else -rows % row_parts(mesh)


def split_rows(activations: jax.Array) -> jax.Array:
    """Constrains the rows (dimension 0) of an array to be split over data and fsdp, like the batch's.

    For use inside a program: otherwise, with parameters also split along fsdp, the compiler may gather the
    rows instead of the parameters, and each device then stores the activations of all rows. Does nothing
    outside of `jax.set_mesh`, or if the rows do not divide (see `missing_rows`).
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or row_parts(mesh) == 1 or activations.shape[0] % row_parts(mesh):
        return activations
    free = [P.UNCONSTRAINED] * (activations.ndim - 1)
    return jax.lax.with_sharding_constraint(activations, P(ROW_AXES, *free))


def split_width(activations: jax.Array) -> jax.Array:
    """Constrains activations of few tokens to meet matrices where these lie: split over fsdp along the width
    (the last dimension), as the matrices are, and by row over data alone.

    For use inside a program, where tokens are fewer than the width: devices then send each other activations,
    not matrices ("2D weight-stationary", Pope et al. 2022, section 3.2.2). If the width does not divide, as
    `split_rows`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.shape["fsdp"] == 1 or activations.shape[-1] % mesh.shape["fsdp"]:
        return split_rows(activations)
    rows = _dividing("data", activations.shape[0], mesh)
    between = [None] * (activations.ndim - 2)
    return jax.lax.with_sharding_constraint(activations, P(rows, *between, "fsdp"))


def check_rows(rows: int, of: str, mesh: Mesh) -> None:
    """Raises InputError if a mesh splits rows into more parts than there are."""
    if rows < row_parts(mesh):
        raise InputError(
            f"{of} has {rows} rows, but the mesh splits them over data × fsdp = {row_parts(mesh)} devices, "
            "of which some would have none; lower these axes (tensor can take devices instead) or give it "
            "more rows"
        )


def put_rows(tree, mesh: Mesh, axis: int = 0):
    """Places host arrays with their rows (dimension `axis`) split over data and fsdp.

    Raises InputError for rows that do not divide: a copy on every device would compute all of them.
    """
    parts = row_parts(mesh)

    def place(array):
        if array.ndim > axis and array.shape[axis] % parts:
            raise InputError(
                f"a batch of {array.shape[axis]} rows can't be split over the mesh's data × fsdp = {parts} "
                "devices; choose sizes that divide it"
            )
        return _put(array, mesh, axis, ROW_AXES)

    return jax.tree.map(place, tree)


def put_batch(tree, mesh: Mesh, axis: int):
    """Places the host arrays of a training batch, whose kinds of rows (dimension `axis`) are read together.

    Each kind is split over as many of data and fsdp as divide it. These are tokens; the activations are
    split over all, since a forward pass of rows that do not divide reads masked ones beside them.
    """
    return jax.tree.map(lambda array: _put(array, mesh, axis, batch_axes(array.shape[axis], mesh)), tree)


def batch_axes(rows: int, mesh: Mesh) -> tuple[str, ...] | None:
    """The axes over which `put_batch` splits so many rows of one kind."""
    return _dividing(ROW_AXES, rows, mesh)


def _put(array: np.ndarray, mesh: Mesh, axis: int, axes: tuple[str, ...] | None) -> jax.Array:
    spec = P(*([None] * axis), axes) if array.ndim > axis else P()
    return jax.make_array_from_callback(array.shape, NamedSharding(mesh, spec), lambda i: array[i])
