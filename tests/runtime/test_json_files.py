"""Files that others may have written: regular ones are read, within bounds; digests tell changed ones."""

import hashlib
import os
import subprocess

import pytest

from introspection.errors import InputError
from introspection.runtime import json_files
from introspection.runtime.digests import check_digest, digested_lines
from introspection.runtime.files import open_file
from introspection.runtime.json_files import json_lines, read_json, read_object


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero", tmp_path / "none", tmp_path / "zero\0byte"):
        with pytest.raises(InputError, match="can't be read: "):
            open_file(tmp_path / path)


@pytest.mark.parametrize(
    "data",
    [b"[" * 200_000, b"[" * 101 + b"]" * 101, b"\xff", b"9" * 5_000, b"{", b"", b"[" * 900 + b"]" * 900],
)
def test_what_is_no_json_within_bounds_is_refused(data, tmp_path):
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(InputError, match=r"x\.json can't be read \(.*\): do this"):
        read_json(tmp_path / "x.json", "do this")


def test_what_is_within_bounds_is_read(tmp_path):
    (tmp_path / "x.json").write_text("[" * 100 + "]" * 100)
    assert isinstance(read_json(tmp_path / "x.json"), list)
    with pytest.raises(InputError, match="does not hold a JSON object"):
        read_object(tmp_path / "x.json")


def test_no_more_is_read_than_a_file_may_have(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "MOST_BYTES", 10)
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n\n{"b": "a long one"}\n')
    with pytest.raises(InputError, match=r"x\.jsonl:3 can't be read .*more than 10 bytes"):
        list(json_lines(tmp_path / "x.jsonl", dict))


def test_a_digest_is_that_of_sha256sum_and_a_changed_file_is_refused(tmp_path):
    path = tmp_path / "records.jsonl"
    with digested_lines(path) as write:
        write('{"text": "Zürich"}')
        write("\ud800")
    assert path.read_bytes() == '{"text": "Zürich"}\n?\n'.encode()
    digest = (tmp_path / "records.jsonl.sha256").read_text().split()
    assert digest == [hashlib.sha256(path.read_bytes()).hexdigest(), "records.jsonl"]
    subprocess.run(["sha256sum", "-c", "records.jsonl.sha256"], cwd=tmp_path, check=True, capture_output=True)
    check_digest(path, "")
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match=r"records\.jsonl has changed since it was written .*: run again"):
        check_digest(path, "run again")
    (tmp_path / "records.jsonl.sha256").unlink()  # as before there were any
    check_digest(path, "")
