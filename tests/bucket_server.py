"""A server that speaks S3, in a process of its own, for the tests of workdirs in buckets."""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from typing import Any

import fsspec


class BucketServer:
    """moto's server, with one bucket. It ends with `close`, and takes what it holds with it."""

    def __init__(self) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.environment: Mapping[str, str] = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self._wait_for(port)
        os.environ.update(self.environment)  # of this process, whose driver asks for it once
        self.files: Any = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
        self.files.mkdir("bucket")

    def _wait_for(self, port: int) -> None:
        deadline = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "moto's server does not answer"
                assert self._process.poll() is None, "moto's server has ended"
                time.sleep(0.05)

    def new_url(self, name: str = "run") -> str:
        """A folder that no other test has."""
        return f"s3://bucket/{uuid.uuid4().hex[:8]}/{name}"

    def names(self, url: str) -> set[str]:
        """What a folder holds, by name."""
        root = url.removeprefix("s3://")
        return {name.removeprefix(f"{root}/") for name in self.files.find(root)}

    def read(self, url: str) -> bytes:
        return self.files.cat_file(url)

    def write(self, url: str, data: bytes) -> None:
        self.files.pipe_file(url, data)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for name in self.environment:
            os.environ.pop(name, None)
