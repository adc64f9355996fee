"""Hosts, each with a cache of its own, as far as a bucket can tell."""

from pathlib import Path

import pytest

from introspection.runtime import storage, terminal


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    """Makes this process one of several hosts, each with a cache of its own."""

    def become(name: str) -> Path:
        monkeypatch.setenv("INTROSPECTION_CACHE", str(tmp_path / name))
        return tmp_path / name

    # As every command starts: nothing read, no other names.
    monkeypatch.setattr(storage, "_fetched", {})
    monkeypatch.setattr(terminal, "_names", {})
    become("first")
    return become
