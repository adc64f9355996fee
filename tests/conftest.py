"""Settings that must hold before jax is used: CPU, four simulated devices, a kept compilation cache."""

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jax
import pytest
from bucket_server import BucketServer
from programs import QUICK_COMPILING, FinishedRun, Programs, new_cache, run_tiny_quickstart
from xdist.scheduler import LoadScopeScheduling

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
_CACHE = Path(__file__).parent.parent / ".cache" / "jax"
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

# The first example of a property test may compile a program.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=5, help="how often the slow test kills a process; 20: soak")


def pytest_configure(config: pytest.Config) -> None:
    """All sessions but those of parity and aot compile in the quickest way, their programs' processes, too.
    What a user runs is compiled in parity's tests and in CI's run of the tiny quickstart."""
    if config.option.markexpr not in ("parity", "aot"):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK_COMPILING}".strip()


@pytest.fixture(scope="session")
def programs(tmp_path_factory) -> Iterator[Programs]:
    """The project's programs, with a cache that the session's tests share."""
    started = Programs(new_cache(tmp_path_factory.mktemp("programs") / "cache"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def bucket_server() -> Iterator[BucketServer]:
    """An empty server that speaks S3."""
    server = BucketServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def finished_run(programs) -> FinishedRun:
    """One run of the tiny quickstart, uninterrupted, by the very command that a user gives; never changed."""
    return run_tiny_quickstart(programs)


# Begun first, the longest first, so that no worker waits for another at the end. Of other files the order is
# pytest's own.
_LONG_FILES = (
    "test_together.py",
    "test_factor_configs.py",
    "test_study_simulation.py",
    "test_study.py",
    "test_step.py",
    "test_scoring.py",
    "test_claims.py",
    "test_world_configs.py",
    "test_tour.py",
    "test_lock.py",
    "test_size.py",
)
_ALONE = ("test_factor_configs.py",)  # whose tests share nothing that takes time


class _FilesTogether(LoadScopeScheduling):
    """A file's tests run in one process, and those of all files that need the finished run in one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file.endswith(_ALONE):
            return nodeid
        return "finished_run" if _needs_finished_run(file) else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The finished run's tests first, which all are one worker's; then the long files."""

    def place(item: pytest.Item) -> int:
        if _needs_finished_run(item.nodeid.partition("::")[0]):
            return -1
        return _LONG_FILES.index(item.path.name) if item.path.name in _LONG_FILES else len(_LONG_FILES)

    items.sort(key=place)


@functools.cache
def _needs_finished_run(file: str) -> bool:
    return "finished_run" in (Path(__file__).parent.parent / file).read_text(encoding="utf-8")


def pytest_xdist_make_scheduler(config: pytest.Config, log) -> LoadScopeScheduling:
    return _FilesTogether(config, log)
