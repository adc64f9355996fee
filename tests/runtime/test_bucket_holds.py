"""Who holds a bucket's folder or reads it: two commands, dead ones, and file systems without locks."""

import errno
import fcntl
import json
import os
import shutil
import socket
import time

import pytest
from bucket_files import contents, write_files

from introspection.errors import InputError
from introspection.runtime import lease, storage
from introspection.runtime.bucket import Bucket, StorageError
from introspection.runtime.lease import Lease
from introspection.runtime.lock import HeldError
from introspection.runtime.mirror import Mirror
from introspection.runtime.storage import fetched, working_folder


def test_two_commands_do_not_write_into_one_folder(bucket_server, hosts):
    url = bucket_server.new_url()
    with working_folder(url):
        for host in ("first", "second"):
            hosts(host)
            by = f"{url} is in use by process {os.getpid()} on .* since 20"
            with pytest.raises(HeldError, match=by), working_folder(url):
                pass
    with working_folder(url):
        pass


def test_without_locks_a_living_command_keeps_its_hold(bucket_server, hosts, monkeypatch):
    def no_locks(file, operation):
        raise OSError(errno.ENOSYS, "no locks")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    url = bucket_server.new_url()
    with working_folder(url):
        token = json.loads(bucket_server.read(f"{url}/.lock"))["token"]
        with pytest.raises(HeldError), working_folder(url):
            pass
        assert json.loads(bucket_server.read(f"{url}/.lock"))["token"] == token


def test_a_dead_command_s_hold_ends(bucket_server, hosts, monkeypatch):
    url = bucket_server.new_url()
    here = socket.gethostname()
    held = {"token": "dead", "pid": 1, "host": here, "since": "2026", "command": "run"}
    bucket_server.write(f"{url}/.lock", json.dumps(held).encode())
    by = f"by process 1 on {here} since 2026"
    with pytest.raises(HeldError, match=by), working_folder(url):
        pass
    # At once where it was on this host, whose own lock has ended with it.
    staging = storage._local_folder(url, "").parent
    (staging / "lock").write_text(json.dumps(held | {"host": "another"}))
    with pytest.raises(HeldError, match=by), working_folder(url):
        pass
    (staging / "lock").write_text(json.dumps(held))
    with working_folder(url):
        pass
    # Elsewhere some time after it was signed last.
    bucket_server.write(f"{url}/.lock", json.dumps(held).encode())
    monkeypatch.setattr(lease, "STALE_S", 1)
    time.sleep(2.1)
    hosts("second")
    with working_folder(url):
        assert json.loads(bucket_server.read(f"{url}/.lock"))["token"] != "dead"
    assert ".lock" not in bucket_server.names(url)


def test_of_two_that_find_a_dead_hold_the_second_leaves_the_first_s_alone(bucket_server, monkeypatch):
    url, age = bucket_server.new_url(), Lease._age
    bucket_server.write(f"{url}/.lock", b'{"token": "dead"}')

    def taken_meanwhile(ours):
        if bucket_server.read(f"{url}/.lock") != b'{"token": "dead"}':
            return age(ours)
        bucket_server.write(f"{url}/.lock", b'{"token": "theirs"}')
        return lease.STALE_S

    monkeypatch.setattr(Lease, "_age", taken_meanwhile)
    with pytest.raises(HeldError):
        Lease(Bucket("--workdir", url), "ours")
    assert bucket_server.read(f"{url}/.lock") == b'{"token": "theirs"}'


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the fake `leave`
def test_a_holder_signs_and_notices_that_another_has_taken_over(bucket_server, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_S", 0.05)
    left = []

    def leave(code):
        left.append(code)
        raise SystemExit  # ends the thread

    monkeypatch.setattr(lease, "leave", leave)
    url = bucket_server.new_url()
    ours = Lease(Bucket("--workdir", url), "ours")
    signed = bucket_server.read(f"{url}/.lock")
    deadline = time.monotonic() + 60
    while bucket_server.read(f"{url}/.lock") == signed:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not left
    for _ in range(200):  # a signature may be on its way
        bucket_server.write(f"{url}/.lock", b'{"token": "theirs"}')
        if left:
            break
        time.sleep(0.05)
    assert left == [1]
    bucket_server.write(f"{url}/.lock", b'{"token": "theirs"}')
    assert not ours.is_held()
    ours.release()
    assert json.loads(bucket_server.read(f"{url}/.lock"))["token"] == "theirs"


def test_what_could_not_be_read_can_be_tried_again(bucket_server, hosts, monkeypatch):
    url = bucket_server.new_url()
    with working_folder(url) as folder:
        write_files(folder)

    def fails(mirror, keep_ahead):
        raise StorageError("it is away")

    with monkeypatch.context() as away:
        away.setattr(Mirror, "pull", fails)
        with pytest.raises(InputError, match="--models: it is away"):
            fetched("--models", url)
    assert contents(fetched("--models", url))


def test_what_a_living_command_reads_does_not_change_under_it(bucket_server, hosts, monkeypatch, tmp_path):
    url = bucket_server.new_url()
    with working_folder(url) as folder:
        write_files(folder)
    read = fetched("--models", url)
    before, others = contents(read), dict(storage._fetched)
    monkeypatch.setattr(storage, "_fetched", {})  # as of another command
    assert fetched("--models", url) == read  # nothing has changed, so they share it
    with working_folder(url) as folder:
        shutil.rmtree(folder / "checkpoints/kl/0")
        (folder / "config.json").write_text("another")
    monkeypatch.setattr(storage, "_fetched", {})
    now = fetched("--models", url)
    assert now != read
    assert (now / "config.json").read_text() == "another"
    assert contents(read) == before
    for _, lock in others.values():
        os.close(lock)
