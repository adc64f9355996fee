"""Functions as the processes of one command run them: each a thread here, with a key-value store between."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from introspection.runtime import processes

MOST_SECONDS = 20.0  # until nobody will say any more what another waits for


class Said:
    """JAX's key-value store, as far as `processes` uses it."""

    def __init__(self):
        self._values: dict[str, bytes] = {}
        self._changed = threading.Condition()

    def key_value_set_bytes(self, key: str, value: bytes) -> None:
        with self._changed:
            self._values[key] = value
            self._changed.notify_all()

    def blocking_key_value_get_bytes(self, key: str, timeout_ms: int) -> bytes:
        with self._changed:
            if not self._changed.wait_for(lambda: key in self._values, MOST_SECONDS):
                raise TimeoutError(f"the processes are out of step: nobody says {key}")
            return self._values[key]


class Calls(threading.local):
    """Each process counts its own calls."""

    count = 0

    def __next__(self) -> int:
        self.count += 1
        return self.count


def as_processes(monkeypatch: pytest.MonkeyPatch, *functions: Callable[[], Any]) -> list[Any]:
    """What each function returns, or the exception that it raises."""
    own, said, ended = threading.local(), Said(), [None] * len(functions)

    def process(index: int) -> None:
        own.index = index
        try:
            ended[index] = functions[index]()
        except Exception as error:
            ended[index] = error

    with monkeypatch.context() as several:
        several.setattr(processes, "count", lambda: len(functions))
        several.setattr(processes, "index", lambda: getattr(own, "index", 0))
        several.setattr(processes, "client", lambda: said)
        several.setattr(processes, "_calls", Calls())
        threads = [threading.Thread(target=process, args=(index,)) for index in range(len(functions))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return ended
