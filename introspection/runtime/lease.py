"""One command at a time writes into a folder of a bucket: an object `.lock` there, which it signs regularly.

A bucket has no locks that end with their process. So who holds the object rewrites it every `BEAT_S` seconds,
and one that has not been rewritten for `STALE_S` is nobody's. Ages are told by the server's clock alone.
"""

import contextlib
import json
import sys
import threading
import time
from typing import Any

from introspection.runtime.bucket import AbsentError, Bucket, StorageError
from introspection.runtime.interrupts import leave
from introspection.runtime.lock import HeldError, holder_in_words, this_process
from introspection.runtime.terminal import one_line
from introspection.runtime.workdir import LOCK

BEAT_S = 15  # between two signatures
STALE_S = 60  # without one, after which a holder counts as dead


class Lease:
    """Holds a bucket's folder until `release`; a thread keeps signing."""

    def __init__(self, bucket: Bucket, token: str, dead: str = ""):
        """Takes the folder.

        Args:
          token: of this process alone.
          dead: the token of one that is known to have ended, as the last on this host, whose hold is void.

        Raises:
          HeldError: another command holds it; the message says which, where and since when.
          StorageError: the bucket can't be written.
        """
        self._bucket, self._token = bucket, token
        self._fields = {**this_process(), "token": token}
        self._take(dead)
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._sign, daemon=True)
        self._thread.start()

    def _take(self, dead: str) -> None:
        taken = False
        while not taken:
            with contextlib.suppress(AbsentError):  # nobody's, or its holder has just ended
                data = self._bucket.read(LOCK)  # `create` alone would do if every server obeyed it
                if _token(data) != dead and self._age() < STALE_S:
                    raise HeldError(
                        f"{self._bucket.url} is in use {holder_in_words(data)}: wait for it to end, or name "
                        f"another folder (if it was killed, its hold ends {STALE_S} s after)"
                    )
                if self._bucket.read(LOCK) == data:  # else another has taken it from the dead meanwhile
                    self._bucket.delete(LOCK)
            taken = self._bucket.create(LOCK, self._signed())

    def _age(self) -> float:
        """Seconds since the lock was signed; what the server's clock says now, only a new object tells."""
        clock = f"{LOCK}-{self._token}"
        self._bucket.write(clock, b"")
        try:
            now = self._bucket.modified(clock)
            return (now - self._bucket.modified(LOCK)).total_seconds()
        finally:
            self._bucket.delete(clock)

    def is_held(self) -> bool:
        """Whether nobody else has taken the folder meanwhile. Raises StorageError."""
        try:
            return _token(self._bucket.read(LOCK)) == self._token
        except AbsentError:
            return False

    def _sign(self) -> None:
        while not self._released.wait(BEAT_S):
            with contextlib.suppress(StorageError):  # try again: without a signature it ends by itself
                if self._released.is_set():
                    return
                if not self.is_held():
                    line = f"{self._bucket.url}: another command has taken it, so this one ends"
                    print(f"error: {one_line(line)}", file=sys.stderr)
                    leave(1)
                self._bucket.write(LOCK, self._signed())

    def _signed(self) -> bytes:
        return json.dumps({**self._fields, "signed": time.time()}).encode()

    def release(self) -> None:
        """Gives the folder back, so that another command may take it at once."""
        self._released.set()
        self._thread.join()  # else a last signature could come after
        with contextlib.suppress(StorageError):
            if self.is_held():
                self._bucket.delete(LOCK)


def _token(data: bytes) -> Any:
    with contextlib.suppress(ValueError, AttributeError, RecursionError):
        return json.loads(data).get("token")
    return None
