"""TPU slices by name, such as `v5e:4x4`: what their chips can do, and compile-only devices for them.

Programs are compiled for such a slice on any machine by libtpu, which needs no TPU for that.
"""

import dataclasses
import importlib.util
import os
import re
from typing import Any

from jax.experimental import topologies

from introspection.errors import InputError

LIBTPU = "0.0.42"  # of this JAX, as its extra `tpu` names it


@dataclasses.dataclass(frozen=True)
class Chip:
    """Figures of one chip, as its maker publishes them (cloud.google.com/tpu/docs/system-architecture)."""

    flops: float  # bfloat16 operations a second
    memory_bytes: float  # of HBM, as the compiler counts it
    memory_bandwidth: float  # bytes a second
    link_bandwidth: float  # bytes a second to other chips of the slice, one way, over all links


GIB = 2**30
CHIPS = {
    "v5e": Chip(197e12, 15.75 * GIB, 819e9, 200e9),
    "v6e": Chip(918e12, 31.25 * GIB, 1640e9, 400e9),
    "v5p": Chip(459e12, 95.74 * GIB, 2765e9, 600e9),
}
# What libtpu reads when it loads: nothing is run, so it need not look for a TPU, nor be alone on a machine.
COMPILE_ONLY = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "true",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # any; without one, it warns on stderr
}
# Of other devices, by how their kind begins: dense bfloat16 operations a second (nvidia.com, data sheets).
_DEVICE_FLOPS = {
    "TPU v5 lite": CHIPS["v5e"].flops,
    "TPU v6 lite": CHIPS["v6e"].flops,
    "TPU v5p": CHIPS["v5p"].flops,
    "TPU v5": CHIPS["v5p"].flops,
    "TPU v4": 275e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA H200": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100": 989e12,
    "NVIDIA A100": 312e12,
    "NVIDIA L4": 121e12,
}
EXAMPLES = "v5e:4x4, v6e:16x16 or v5p:2x2x2"


def chip_of(topology: str) -> Chip:
    """The chip of a slice's name. Raises InputError for a name that is none."""
    kind, _, shape = topology.partition(":")
    if kind not in CHIPS or not re.fullmatch(r"\d+x\d+(x\d+)?", shape):
        raise InputError(f"--topology is {topology!r}; give a slice such as {EXAMPLES}")
    return CHIPS[kind]


def peak_flops(device_kind: str) -> float | None:
    """A device's bfloat16 operations a second, by its kind in JAX; None if it is in no table, as a CPU."""
    return next((flops for name, flops in _DEVICE_FLOPS.items() if re.match(rf"{name}\b", device_kind)), None)


def compile_only_devices(topology: str, slices: int = 1) -> list[Any]:
    """The devices of a number of equal slices, for which programs can be compiled but not run.

    Raises:
      InputError: libtpu is not installed, or has no such slice.
    """
    chip_of(topology)
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(
            f"--topology={topology} is compiled for by libtpu, which is not installed: pip install "
            f"'libtpu=={LIBTPU}.*', or leave --topology out to plan shapes and shardings alone"
        )
    for name, value in COMPILE_ONLY.items():
        os.environ.setdefault(name, value)
    more = {"num_slices": slices} if slices > 1 else {}
    try:
        found = topologies.get_topology_desc(topology, platform="tpu", **more).devices
    except Exception as error:  # libtpu raises what it likes
        raise InputError(f"--topology={topology}: {str(error).splitlines()[0][:200]}") from error
    return list(found)
