"""Who is there, before the distributed runtime starts: it aborts where one is missing, and can't say which.

Each process tells the first one its number and host, on the port that the runtime will use. Once all are
there, or the time is over, the first answers each with the hosts of all, or with what is missing.
"""

import contextlib
import json
import socket
import time

from introspection.errors import RunError

_PAUSE_S = 0.5  # between tries to reach the first process, which may start last
_LONGEST, _LONGEST_ANSWER = 10_000, 10_000_000  # bytes: of a call; of the answer, which lists all hosts


def roll_call(
    coordinator: str, count: int, process: int, timeout_s: float, names: tuple[str, ...]
) -> list[str]:
    """The hosts of all processes, in order, once all have called.

    Args:
      coordinator: HOST:PORT of the first process.
      names: of the hosts, where the cluster lists them, for the error.

    Raises:
      RunError: some have not called in time (the message names them), or two have the same number.
    """
    deadline = time.monotonic() + timeout_s
    if process:
        answer = _call(coordinator, process, deadline, f"{timeout_s:g} s")
    else:
        answer = _collect(coordinator, count, deadline, f"{timeout_s:g} s", names)
    if isinstance(answer, str):
        raise RunError(answer)
    return answer


def _call(coordinator: str, process: int, deadline: float, waited: str) -> list[str] | str:
    host, _, port = coordinator.rpartition(":")
    while time.monotonic() < deadline:
        with (
            contextlib.suppress(OSError, ValueError),
            socket.create_connection((host, int(port)), deadline - time.monotonic()) as line,
        ):
            line.sendall(json.dumps([process, socket.gethostname()]).encode() + b"\n")
            # The first answers when its own time is over, which may have begun later.
            line.settimeout(deadline - time.monotonic() + 3600.0)
            return json.loads(_received(line, _LONGEST_ANSWER))
        time.sleep(_PAUSE_S)
    return (
        f"process 0 can't be reached at {coordinator} since {waited}: start it, check the address in "
        "--coordinator, or raise --start-timeout"
    )


def _collect(
    coordinator: str, count: int, deadline: float, waited: str, names: tuple[str, ...]
) -> list[str] | str:
    port = int(coordinator.rpartition(":")[2])
    hosts, lines = {0: socket.gethostname()}, list[socket.socket]()
    answer: list[str] | str = ""
    dual = socket.has_dualstack_ipv6()
    try:
        server = socket.create_server(
            ("", port), family=socket.AF_INET6 if dual else socket.AF_INET, dualstack_ipv6=dual
        )
    except OSError as error:
        return f"port {port} of --coordinator can't be used on this host ({error.strerror}): give another"
    with server:
        while len(hosts) < count and not answer:
            left = deadline - time.monotonic()
            if left <= 0:
                missing = [i for i in range(count) if i not in hosts]
                named = ", ".join(f"{i} ({names[i]})" if i < len(names) else str(i) for i in missing)
                answer = (
                    f"after {waited}, process {named} of {count} has not called process 0 at {coordinator}: "
                    "start it, check that its host reaches that address, or raise --start-timeout"
                )
                break
            server.settimeout(left)
            try:
                line, _ = server.accept()
            except OSError:  # the time is over
                continue
            if (called := _called(line)) is None:
                line.close()
                continue
            number, host = called
            lines.append(line)
            if number in hosts:
                answer = (
                    f"two processes are --process={number} (on {hosts[number]} and {host}): number them apart"
                )
            elif not 0 < number < count:
                answer = (
                    f"process {number} (on {host}) is none of --processes={count}: start all with the same"
                )
            hosts[number] = host
    answer = answer or [hosts[i] for i in range(count)]
    for line in lines:
        with contextlib.suppress(OSError), line:
            line.sendall(json.dumps(answer).encode() + b"\n")
    return answer


def _called(line: socket.socket) -> tuple[int, str] | None:
    """The number and the host that a process says; None from a stranger."""
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        line.settimeout(5.0)
        number, host = json.loads(_received(line, _LONGEST))
        if type(number) is int:
            return number, str(host)
    return None


def _received(line: socket.socket, longest: int) -> bytes:
    with line.makefile("rb") as lines:
        return lines.readline(longest)
