"""Settings that must hold before jax is used: CPU, four simulated devices, a kept compilation cache."""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jax
import pytest
from programs import FinishedRun, Programs, new_cache, run_tiny_quickstart

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
_CACHE = Path(__file__).parent.parent / ".cache" / "jax"
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

# The first example of a property test may compile a program.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")


@pytest.fixture(scope="session")
def programs(tmp_path_factory) -> Iterator[Programs]:
    """The project's programs, with a cache that the session's tests share."""
    started = Programs(new_cache(tmp_path_factory.mktemp("programs") / "cache"))
    yield started
    started.close()


@pytest.fixture(scope="session")
def finished_run(programs) -> FinishedRun:
    """One run of the tiny quickstart, uninterrupted, by the very command that a user gives; never changed."""
    return run_tiny_quickstart(programs)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests run in one process, and all that need the finished run in one, so it's made once."""
    for item in items:
        group = "finished_run" if "finished_run" in item.fixturenames else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))
