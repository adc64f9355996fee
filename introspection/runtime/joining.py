"""How the processes of a command find each other, and how they part: together, or when one has died.

`jax.distributed` joins them. If a process dies, `_watch` ends the others with a line that names it; without
flags or a cluster that lists several processes, nothing here is started.
"""

import contextlib
import ctypes
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
from jax._src.clusters import GceTpuCluster, GkeTpuCluster, SlurmCluster  # as jax.distributed detects them

from introspection.errors import InputError, RunError
from introspection.runtime.interrupts import leave
from introspection.runtime.processes import AGES_MS, NAMES, client, count, index, is_first
from introspection.runtime.roll_call import roll_call

HEARTBEAT_S = 12  # without a sign of life, after which a process counts as dead
_ending = threading.Event()
_kept: list[Any] = []  # C calls these, so they must not be collected


class Place(NamedTuple):
    """Which process of a command this is."""

    coordinator: str  # HOST:PORT, on the first process's host
    processes: int
    process: int
    hosts: tuple[str, ...] = ()  # of all processes in order, where the cluster lists them
    local_devices: tuple[int, ...] | None = None  # of a host that several processes share; None: all


def place_of(coordinator: str | None, processes: int | None, process: int | None) -> Place | None:
    """The place given by flags or, without them, by Cloud TPU, GKE or SLURM; None for a single process.

    Raises:
      InputError: some of the flags are missing, or they contradict each other.
    """
    given = (coordinator, processes, process)
    if all(value is None for value in given):
        return _detected()
    if coordinator is None or processes is None or process is None:
        raise InputError("--coordinator, --processes and --process belong together: give all three or none")
    if not re.fullmatch(r".+:\d+", coordinator):
        raise InputError(f"--coordinator is {coordinator!r}; give HOST:PORT, with the host of process 0")
    if not 0 <= process < processes:
        raise InputError(f"--process is {process}; with --processes={processes}, give 0 to {processes - 1}")
    return Place(coordinator, processes, process) if processes > 1 else None


def _detected() -> Place | None:
    for cluster in (GkeTpuCluster, GceTpuCluster, SlurmCluster):
        if not cluster.is_env_present() or cluster.get_process_count() <= 1:
            continue
        hosts, devices = (), None
        if cluster is not SlurmCluster:
            hosts = tuple(cast(Any, cluster)._get_worker_list_in_slice())
        elif not re.match(r"1(\D|$)", os.environ.get("SLURM_STEP_TASKS_PER_NODE", "1")):  # such as 1(x4)
            devices = (int(os.environ["SLURM_LOCALID"]),)
        port = os.environ.get("JAX_COORDINATOR_PORT")
        address = cluster.get_coordinator_address(timeout_secs=300, override_coordinator_port=port)
        return Place(address, cluster.get_process_count(), cluster.get_process_id(), hosts, devices)
    return None


def start(place: Place | None, timeout_s: int) -> None:
    """Joins the other processes of a command; does nothing for a single one.

    Raises:
      RunError: not all of them have joined after `timeout_s`; the message names those that are missing.
    """
    if place is None:
        return
    hosts = roll_call(place.coordinator, place.processes, place.process, timeout_s, place.hosts)
    # Otherwise every process aborts as soon as one dies, before it could say which.
    jax.config.update("jax_enable_recoverability", True)
    try:
        jax.distributed.initialize(
            place.coordinator,
            place.processes,
            place.process,
            local_device_ids=place.local_devices,
            cluster_detection_method="deactivate",
            heartbeat_timeout_seconds=HEARTBEAT_S,
        )
    except (RuntimeError, ValueError) as error:
        raise RunError(f"process {place.process} can't start the distributed runtime: {error}") from error
    if place.process:
        _explain_abort(place.coordinator, f"process 0 of {place.processes} (on {hosts[0]})")
    threading.Thread(target=_watch, args=(hosts, place.coordinator), daemon=True).start()


def _watch(hosts: Sequence[str], coordinator: str) -> None:
    """Ends this process if another has died or failed; a thread of its own."""
    everyone = list(range(len(hosts)))
    while not _ending.is_set():
        try:
            # Waits for all that live to ask.
            living = client().get_live_nodes(everyone)
            failed = dict(client().key_value_dir_get(f"{NAMES}/failed/"))
        except jax.errors.JaxRuntimeError:
            if not _answers(coordinator):
                return  # the first process is gone; `_explain_abort` says so
            time.sleep(1.0)
            continue
        dead = [i for i in everyone if i not in living]
        if failed or dead:
            time.sleep(3.0)  # this process may be about to fail for the same reason, and say it better
            if _ending.is_set():
                return
            code, said = 1, []
            for key, why in failed.items():
                code_of, _, message = why.partition(" ")
                code, who = int(code_of), int(key.rsplit("/", 1)[-1])
                said.append(f"process {who} of {len(hosts)} (on {hosts[who]}) failed: {message}")
                dead = [i for i in dead if i != who]
            said += [f"process {i} of {len(hosts)} (on {hosts[i]}) died" for i in dead]
            _last_words(f"{'; '.join(said)}; so process {index()} ends, too")
            if is_first():
                time.sleep(3.0)  # the others ask this process's service who has died
            leave(code)
        time.sleep(1.0)


def _answers(coordinator: str) -> bool:
    """Whether the first process can be reached."""
    host, _, port = coordinator.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 2.0).close()
    except OSError:
        return False
    return True


def _last_words(message: str) -> None:
    kept = "what is saved is kept, and the same command resumes from it"
    print(f"error: {' '.join(message.split())}; {kept}", file=sys.stderr, flush=True)


def _explain_abort(coordinator: str, name: str) -> None:
    """If the runtime aborts this process because the first is gone, says so in a line and exits with 1.

    The runtime does so within a second and asks nobody: its callback for that can't be a Python function
    (jaxlib 0.10.2 can't convert its argument). A handler of Python's own would come too late.
    """
    library = ctypes.CDLL(None)

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def aborted(number: int) -> None:
        if not _answers(coordinator):
            _last_words(f"{name} died; so process {index()} ends, too")
            os._exit(1)
        library.signal(number, 0)  # another reason: abort as usual

    _kept.append(aborted)
    library.signal(signal.SIGABRT, aborted)


def end(code: int, message: str = "", alone: bool = True) -> None:
    """Says goodbye to the other processes; does nothing for a single one.

    Those that are done wait for the first, which may still write; the first, with which the runtime's service
    ends, waits until the others are gone.

    Args:
      alone: whether the others do not know yet that this process fails.
    """
    if count() == 1:
        return
    _ending.set()
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        if code and alone:
            client().key_value_set(f"{NAMES}/failed/{index()}", f"{code} {message}")
        if is_first():
            client().key_value_set(f"{NAMES}/ended", "", allow_overwrite=True)
        elif not code:
            client().blocking_key_value_get(f"{NAMES}/ended", AGES_MS)
    if is_first():
        gone = threading.Thread(target=_wait_for_others, daemon=True)
        gone.start()
        gone.join(HEARTBEAT_S + 8.0)
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        jax.distributed.shutdown()


def _wait_for_others() -> None:
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        while len(client().get_live_nodes(list(range(count())))) > 1:
            time.sleep(0.1)


def wait_for_news(error: BaseException | None) -> None:
    """Waits, if an error may come from the death of another process, until `_watch` has had time to end this
    one with its name."""
    while error is not None and count() > 1:
        if isinstance(error, jax.errors.JaxRuntimeError | TimeoutError):
            time.sleep(HEARTBEAT_S + 6.0)
            return
        error = error.__cause__ or error.__context__
