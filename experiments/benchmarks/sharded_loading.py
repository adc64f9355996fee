"""Loading a checkpoint: the host's peak memory relative to its size, and the bytes that two hosts read."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import jax
import numpy as np

from experiments.benchmarks.timing import Measure
from introspection.errors import RunError
from introspection.models.config import ModelConfig
from introspection.runtime.mesh import MeshConfig, make_mesh
from introspection.weights.export import export_model
from introspection.weights.load import abstract_parameters, load_safetensors
from introspection.weights.safetensors_files import open_folder
from introspection.weights.tensor_names import named_leaves, tree_of

DEVICES = 4  # simulated, along fsdp
_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class Size:
    """A Llama of random float32 numbers; only its norms are copied to every device, not split."""

    vocab_size: int = 4096
    width: int = 2048
    layers: int = 10
    mlp_width: int = 5632
    shard_bytes: int = 500_000_000
    folder: str | None = None  # of the checkpoint during the benchmark; None: the temporary folder

    @property
    def config(self) -> ModelConfig:
        heads = self.width // 64
        return ModelConfig(
            self.vocab_size, self.width, self.layers, heads, heads, 64, self.mlp_width, context_length=2048
        )


TINY = Size(vocab_size=256, width=128, layers=2, mlp_width=256, shard_bytes=300_000)


def run(size: Size | None = None) -> list[Measure]:
    """Writes a checkpoint, loads it in other processes, and deletes it.

    Memory is the peak of the resident set minus its size before loading; it includes the loaded parameters.
    Raises RunError if a process fails or there is no /proc.
    """
    size = size or Size()
    with tempfile.TemporaryDirectory(dir=size.folder) as folder:
        checkpoint = Path(folder) / "model"
        total = write_checkpoint(checkpoint, size)
        alone = load_in_processes(checkpoint, size, 1)
        shared = load_in_processes(checkpoint, size, 2)
    memory = alone[0]["peak"] - alone[0]["before"]
    read = [process["read"] for process in shared]
    extra = {"checkpoint_mb": round(total / 1e6, 1), "devices": DEVICES, "seconds": alone[0]["seconds"]}
    return [
        Measure(
            name="sharded_loading.memory",
            value=round(memory / 1e6, 1),
            unit="MB, peak of the host",
            reference=round(total / 1e6, 1),
            ratio=memory / total,
            extra={
                "ratio_is": "peak / checkpoint",
                "target": "< 1.3",
                "bytes_read": alone[0]["read"],
                **extra,
            },
        ),
        Measure(
            name="sharded_loading.bytes_of_two_processes",
            value=round(max(read) / 1e6, 1),
            unit="MB, read by the process that reads most",
            reference=round(total / 1e6, 1),
            ratio=max(read) / total,
            extra={
                "ratio_is": "read / checkpoint",
                "target": "about 0.5",
                "bytes_read": read,
                **extra,
            },
        ),
    ]


def write_checkpoint(folder: Path, size: Size) -> int:
    """Exports random parameters and returns the bytes of their tensors."""
    rng = np.random.default_rng(0)
    leaves = {
        path: rng.standard_normal(leaf.shape, np.float32)
        for path, leaf in named_leaves(abstract_parameters(size.config)).items()
    }
    export_model(folder, size.config, tree_of(leaves), {}, {}, size.shard_bytes)
    return sum(leaf.nbytes for leaf in leaves.values())


def load_in_processes(checkpoint: Path, size: Size, processes: int) -> list[dict[str, int | float]]:
    """The reports of the processes that load the checkpoint together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sizes = json.dumps(dataclasses.asdict(size))
    started = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(checkpoint), sizes, str(processes), str(i), str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        for i in range(processes)
    ]
    ended = {}
    # In parallel, so that no process waits for its output to be read.
    readers = [
        threading.Thread(target=lambda i=i: ended.update({i: started[i].communicate(timeout=_SECONDS)}))
        for i in range(processes)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    for i, process in enumerate(started):
        if i not in ended or process.returncode:
            process.kill()
            raise RunError(f"loading in process {i} failed: {ended.get(i, ('', 'no answer'))[1][-500:]}")
    # Other libraries print lines of their own.
    return [json.loads(ended[i][0].strip().splitlines()[-1]) for i in range(processes)]


def load_here(
    checkpoint: Path, size: Size, processes: int, process: int, port: int
) -> dict[str, int | float]:
    """Loads this process's part on its devices; returns the memory (bytes) and time (seconds) it took."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", DEVICES // processes)
    if processes > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", processes, process, initialization_timeout=60)
    mesh = make_mesh(MeshConfig(fsdp=DEVICES))
    abstract_parameters(size.config)  # so that imports and compilation are not counted as loading
    files = open_folder(checkpoint)
    before, start = memory_of("VmRSS"), time.perf_counter()
    params = jax.block_until_ready(load_safetensors(files, str(checkpoint), size.config, mesh))
    seconds = time.perf_counter() - start
    held = sum(shard.data.nbytes for leaf in jax.tree.leaves(params) for shard in leaf.addressable_shards)
    return {
        "before": before,
        "peak": memory_of("VmHWM"),
        "read": files.bytes_read,
        "held": held,
        "seconds": round(seconds, 2),
    }


def memory_of(field: str) -> int:
    """Bytes of this process's resident memory, "VmRSS", or of its peak, "VmHWM".

    Not `ru_maxrss`, which a process inherits from its parent.
    """
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    for line in lines:
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RunError(f"this system's /proc has no {field}; the benchmark sharded_loading needs it")


if __name__ == "__main__":
    _folder, _sizes, *_numbers = sys.argv[1:]
    print(json.dumps(load_here(Path(_folder), Size(**json.loads(_sizes)), *map(int, _numbers))), flush=True)
