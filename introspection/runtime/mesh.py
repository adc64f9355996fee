"""The device mesh and the placement of arrays: parameters by name, rows over data and fsdp."""

import dataclasses
import re

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from introspection.errors import InputError


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis; one axis may be -1 and takes the rest."""

    data: int = 1  # splits the rows of a batch; copies parameters
    fsdp: int = 1  # splits the rows of a batch and the parameters
    tensor: int = 1  # heads and hidden units


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
    (r"(embedding|head)$", P(("tensor", "fsdp"), None)),
    (r".*", P()),
)
ROW_AXES = ("data", "fsdp")


def make_mesh(config: MeshConfig) -> Mesh:
    """A `data × fsdp × tensor` mesh over the first devices.

    Raises:
      InputError: the axes need more devices than there are, or do not divide their number.
    """
    sizes = [config.data, config.fsdp, config.tensor]
    available = jax.device_count()
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise InputError(f"config.mesh has sizes {sizes}: each must be at least 1, except that one may be -1")
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
    # Auto, because make_mesh defaults to Explicit axes, under which an embedding lookup fails.
    return jax.make_mesh(
        tuple(sizes), ("data", "fsdp", "tensor"), (AxisType.Auto,) * 3, devices=jax.devices()[:needed]
    )


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


def parameter_shardings(tree, mesh: Mesh):
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


def _dividing(axes: str | tuple[str, ...] | None, size: int, mesh: Mesh) -> tuple[str, ...] | None:
    """The longest prefix of a dimension's axes whose product divides its size."""
    names = (axes,) if isinstance(axes, str) else axes or ()
    while names and size % int(np.prod([mesh.shape[name] for name in names])):
        names = names[:-1]
    return names or None


def put_parameters(tree, mesh: Mesh):
    """Places a tree of parameters on the mesh."""
    return jax.device_put(tree, parameter_shardings(tree, mesh))


def row_parts(mesh: Mesh | jax.sharding.AbstractMesh) -> int:
    """The number of parts that a batch's rows are split into."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def split_rows(activations: jax.Array) -> jax.Array:
    """Constrains the rows (dimension 0) of an array to be split over data and fsdp, like the batch's.

    For use inside a program: otherwise, with parameters also split along fsdp, the compiler may gather the
    rows instead of the parameters, and each device then stores the activations of all rows. Does nothing
    outside of `jax.set_mesh`, or if the rows do not divide.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or row_parts(mesh) == 1 or activations.shape[0] % row_parts(mesh):
        return activations
    free = [P.UNCONSTRAINED] * (activations.ndim - 1)
    return jax.lax.with_sharding_constraint(activations, P(ROW_AXES, *free))


def put_rows(tree, mesh: Mesh, axis: int = 0):
    """Places host arrays with their rows (dimension `axis`) split over data and fsdp.

    Rows that do not divide are copied to every device instead.
    """
    parts = row_parts(mesh)

    def place(array):
        fits = array.ndim > axis and array.shape[axis] % parts == 0
        spec = P(*([None] * axis), ROW_AXES) if fits else P()
        return jax.make_array_from_callback(array.shape, NamedSharding(mesh, spec), lambda i: array[i])

    return jax.tree.map(place, tree)
