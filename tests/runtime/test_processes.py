"""Which process of how many a command is, who is missing, and what a single process does not pay for."""

import contextlib
import json
import socket
import sys
import threading

import jax
import pytest

from introspection.errors import InputError, RunError
from introspection.runtime import joining, mesh_flag, processes
from introspection.runtime import roll_call as roll_call_module
from introspection.runtime.joining import Place, place_of
from introspection.runtime.mesh import MeshConfig
from introspection.runtime.mesh_flag import chosen_mesh, read_mesh
from introspection.runtime.roll_call import roll_call

SLURM = {
    "SLURM_JOB_ID": "4097",
    "SLURM_STEP_NODELIST": "node[07-10]",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}


@pytest.fixture
def address():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return f"localhost:{found.getsockname()[1]}"


def called(address: str, count: int, numbers: list[int], names=(), seconds: float = 60.0) -> list:
    """What the processes that call are told: hosts, or an error's text."""
    told: list = [None] * len(numbers)

    def call(place: int, number: int) -> None:
        try:
            told[place] = roll_call(address, count, number, seconds, names)
        except RunError as error:
            told[place] = str(error)

    threads = [threading.Thread(target=call, args=one) for one in enumerate(numbers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def test_all_learn_the_hosts_of_all(address):
    assert called(address, 3, [2, 0, 1]) == [[socket.gethostname()] * 3] * 3


def test_the_answer_may_list_many_hosts_with_long_names():
    hosts = [f"{'host' * 12}-{number}" for number in range(400)]
    here, there = socket.socketpair()
    with here, there:
        sender = threading.Thread(target=there.sendall, args=(json.dumps(hosts).encode() + b"\n",))
        sender.start()
        assert json.loads(roll_call_module._received(here, roll_call_module._LONGEST_ANSWER)) == hosts
        sender.join()


def test_missing_processes_are_named_with_their_hosts_to_all_that_wait(address):
    told = called(address, 4, [0, 2], names=("a", "b", "c", "d"), seconds=2.0)
    assert told[0] == told[1]
    assert "process 1 (b), 3 (d) of 4 has not called process 0" in told[0]
    (alone,) = called(address, 2, [1], seconds=0.1)
    assert alone.startswith(f"process 0 can't be reached at {address}")


def test_what_strangers_say_is_nobody_s_call(address):
    host, _, port = address.rpartition(":")
    told: list = []
    waits = threading.Thread(target=lambda: told.extend(called(address, 2, [0], seconds=20.0)))
    waits.start()
    for said in (b"GET / HTTP/1.1", b"5", b'["a", "b"]', b"[[1], 2]", b"[" * 9000):
        while waits.is_alive():
            with (
                contextlib.suppress(ConnectionRefusedError),
                socket.create_connection((host, int(port))) as line,
            ):
                line.sendall(said + b"\n")
                break
    told += called(address, 2, [1], seconds=20.0)
    waits.join()
    assert told == 2 * [[socket.gethostname()] * 2]


def test_two_processes_with_one_number_are_told_apart(address):
    assert any("two processes are --process=1" in told for told in called(address, 3, [0, 1, 1], seconds=5.0))


class Trembling:
    """A service that fails once, and knows of one process afterwards."""

    asked = 0

    def get_live_nodes(self, everyone):
        self.asked += 1
        if self.asked == 1:
            raise jax.errors.JaxRuntimeError("UNAVAILABLE: try again")
        return [0]

    def key_value_dir_get(self, prefix):
        return []


def test_a_death_is_told_though_the_service_failed_before(address, monkeypatch, capsys):
    service = Trembling()
    monkeypatch.setattr(joining, "client", lambda: service)
    monkeypatch.setattr(joining, "leave", sys.exit)
    monkeypatch.setattr(joining.time, "sleep", lambda seconds: None)
    port = int(address.rpartition(":")[2])
    with socket.create_server(("localhost", port)), pytest.raises(SystemExit) as ended:
        joining._watch(["a", "b"], address)
    assert ended.value.code == 1
    assert "process 1 of 2 (on b) died" in capsys.readouterr().err


def test_without_the_first_process_nobody_watches(address, monkeypatch):
    service = Trembling()
    monkeypatch.setattr(joining, "client", lambda: service)
    monkeypatch.setattr(joining, "leave", pytest.fail)
    joining._watch(["a", "b"], address)


def test_flags_say_the_place_whole_or_not_at_all():
    assert place_of("h:1", 4, 3) == Place("h:1", 4, 3)
    assert place_of("h:1", 1, 0) is None
    for wrong in (("h:1", None, None), ("h", 2, 0), ("h:1", 2, 2), ("h:1", 2, -1), (None, 2, 0)):
        with pytest.raises(InputError):
            place_of(*wrong)


def test_slurm_says_the_place_unless_a_step_has_one_task(monkeypatch):
    assert place_of(None, None, None) is None
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    found = place_of(None, None, None)
    assert found is not None
    assert found[1:] == (4, 2, (), None)  # one task a node sees all of its GPUs
    assert found.coordinator.startswith("node07:")
    for tasks, devices in (("1(x4)", None), ("1", None), ("8(x2)", (0,)), ("16(x2)", (0,)), ("10", (0,))):
        monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", tasks)
        assert getattr(place_of(None, None, None), "local_devices", "no place") == devices
    monkeypatch.setenv("SLURM_NTASKS", "1")  # a sweep's job array
    assert place_of(None, None, None) is None


def test_gke_says_the_place(monkeypatch):
    cluster = "jax._src.clusters.cloud_tpu_cluster"
    monkeypatch.setattr(f"{cluster}.running_in_cloud_tpu_vm", True)
    monkeypatch.setattr(f"{cluster}.BaseTpuCluster.wait_for_coordinator", lambda *_: None)
    for name, value in {
        "TPU_WORKER_HOSTNAMES": "h0,h1,h2,h3",
        "TPU_WORKER_ID": "3",
        "MEGASCALE_COORDINATOR_ADDRESS": "",
        "MEGASCALE_NUM_SLICES": "1",
        "MEGASCALE_SLICE_ID": "0",
    }.items():
        monkeypatch.setenv(name, value)
    assert place_of(None, None, None) == Place("h0:8482", 4, 3, ("h0", "h1", "h2", "h3"))


def test_a_single_process_starts_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(jax.distributed, "initialize", pytest.fail)
    joining.start(place_of(None, None, None), 1)
    assert (processes.count(), processes.index(), processes.client()) == (1, 0, None)
    assert processes.first(lambda: 3) == processes.together(lambda: 3) == 3
    processes.check_shared(tmp_path / "not made")
    assert list(tmp_path.iterdir()) == []
    joining.end(1, "nobody is told")


def test_a_mesh_is_read_and_must_hold_every_process(monkeypatch):
    assert read_mesh("data=2, fsdp=-1") == MeshConfig(2, -1)
    assert read_mesh("") == MeshConfig()
    for wrong in ("data", "data=x", "dta=2", "data=2,data=2"):
        with pytest.raises(InputError, match="--mesh has"):
            read_mesh(wrong)
    configured = MeshConfig(fsdp=2)
    assert chosen_mesh("", configured).shape["fsdp"] == 2
    assert chosen_mesh("data=4", configured).shape["data"] == 4
    assert chosen_mesh("", MeshConfig()).size == chosen_mesh("").size == 1
    assert chosen_mesh("", devices=-1).size == 4
    with pytest.raises(InputError, match="contradict"):
        chosen_mesh("data=2", devices=2)
    monkeypatch.setattr(mesh_flag.processes, "count", lambda: 2)
    with pytest.raises(InputError, match="none of process 1"):  # all devices here are of process 0
        chosen_mesh("data=2")
    with pytest.raises(InputError, match="uses 4 of 4 devices"):
        chosen_mesh("")  # several processes take all devices unless a mesh is given
