"""Workdirs in buckets, against a server that speaks S3: what is stored, in which order, and what counts."""

import os
import shutil
import time
from pathlib import Path

import pytest
from bucket_files import FILES, contents, write_files

from introspection.errors import InputError, RunError
from introspection.runtime import storage, terminal
from introspection.runtime.bucket import Bucket, StorageError
from introspection.runtime.mirror import Mirror
from introspection.runtime.storage import fetched, own_folder, working_folder

FOLDERS = ("checkpoints/kl/0", "checkpoints/kl/20", "labels/kl")


def mirror_of(url: str, place: Path) -> Mirror:
    place.mkdir(parents=True, exist_ok=True)
    return Mirror(Bucket("--workdir", url), place / "run")


def pulled(url: str, place: Path) -> dict[str, str]:
    """What another host reads."""
    mirror_of(url, place).pull(keep_ahead=False)
    return contents(place / "run")


def test_what_a_command_writes_is_there_for_the_next_on_another_host(bucket_server, hosts):
    url = bucket_server.new_url()
    with working_folder(url) as folder:
        assert folder.name == "run"
        write_files(folder)
        (folder / "half.tmp").write_text("unfinished")
        (folder / "checkpoints/kl/40.orbax-checkpoint-tmp").mkdir()
        (folder / "checkpoints/kl/40.orbax-checkpoint-tmp" / "x").write_text("unfinished")
        assert bucket_server.names(url) == {".lock"}  # so far
    markers = {f"{name}.whole" for name in FOLDERS}
    assert bucket_server.names(url) == {*FILES, *markers, ".last-writer"}
    hosts("second")
    with working_folder(url) as folder:
        assert contents(folder) == {name: name for name in FILES}
        shutil.rmtree(folder / "checkpoints/kl/0")
        (folder / "results.json").write_text("again")
    assert bucket_server.read(f"{url}/results.json") == b"again"
    left = {name for name in FILES if not name.startswith("checkpoints/kl/0/")}
    assert bucket_server.names(url) == {*left, *markers, ".last-writer"} - {"checkpoints/kl/0.whole"}


def test_a_copy_that_left_models_out_is_not_ahead_of_them(bucket_server, hosts):
    """Another host trained on; a report is written here; then a command here reads the models."""
    url = bucket_server.new_url()
    with working_folder(url) as folder:
        write_files(folder)
    hosts("second")
    with working_folder(url) as folder:
        write_files(folder, ("checkpoints/kl/500/d/1", "results.json"), "later ")
    hosts("first")
    with working_folder(url, models=False) as folder:
        (folder / "report.html").write_text("a page")
    with working_folder(url) as folder:
        assert contents(folder)["checkpoints/kl/500/d/1"] == "later checkpoints/kl/500/d/1"


def test_what_a_failing_command_has_written_is_stored(bucket_server, hosts):
    url = bucket_server.new_url()

    def fail() -> None:
        with working_folder(url) as folder:
            write_files(folder)
            raise RunError("NaN")

    with pytest.raises(RunError, match="NaN"):
        fail()
    assert set(FILES) <= bucket_server.names(url)
    assert ".lock" not in bucket_server.names(url)


def test_a_local_workdir_is_itself_and_asks_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "Bucket", None)
    for place in (tmp_path / "run", str(tmp_path / "run")):
        with working_folder(place) as folder:
            assert folder == tmp_path / "run"
    with own_folder(tmp_path / "run") as folder:
        assert folder == tmp_path / "run"
    assert list(tmp_path.iterdir()) == []


def test_what_is_bad_input_leaves_nothing_in_the_bucket(bucket_server, hosts):
    url = bucket_server.new_url()
    with pytest.raises(InputError, match="bad"), working_folder(url):
        raise InputError("bad")
    assert bucket_server.names(url) == set()


@pytest.mark.parametrize("fails", range(len(FILES)))
def test_a_store_that_fails_at_any_file_leaves_a_state_to_resume_from(
    fails, bucket_server, tmp_path, monkeypatch
):
    url = bucket_server.new_url()
    ours = mirror_of(url, tmp_path / "ours")
    write_files(tmp_path / "ours" / "run")
    stored, upload = [], Bucket.upload

    def failing(self, name, file):
        if len(stored) == fails:
            raise StorageError("the network is down")
        stored.append(name)
        upload(self, name, file)

    monkeypatch.setattr(Bucket, "upload", failing)
    with pytest.raises(StorageError):
        ours.push()
    found = pulled(url, tmp_path / "other")
    for folder in FOLDERS:  # whole or absent
        parts = {name for name in FILES if name.startswith(f"{folder}/")}
        assert parts & found.keys() in (set(), parts)
    assert "config.json" in found or not found
    if "checkpoints/kl/20/trainable/d/4" in found:
        assert {"metrics.jsonl", "checkpoints/kl/model.json"} <= found.keys()
    if "results.json" in found:
        assert found.keys() == set(FILES)
    monkeypatch.setattr(Bucket, "upload", upload)
    ours.push()
    assert pulled(url, tmp_path / "other") == {name: name for name in FILES}


def test_a_whole_folder_that_is_written_again_is_absent_until_it_is_whole(
    bucket_server, tmp_path, monkeypatch
):
    url = bucket_server.new_url()
    ours = mirror_of(url, tmp_path / "ours")
    write_files(tmp_path / "ours" / "run", text="old ")
    ours.push()
    write_files(tmp_path / "ours" / "run", text="new ")  # of the same sizes
    for name in FILES:
        os.utime(tmp_path / "ours" / "run" / name)
    upload = Bucket.upload

    def failing(self, name, file):
        if name == "checkpoints/kl/20/trainable/d/4":
            raise StorageError("the network is down")
        upload(self, name, file)

    monkeypatch.setattr(Bucket, "upload", failing)
    with pytest.raises(StorageError):
        ours.push()
    other = mirror_of(url, tmp_path / "other")
    other.pull(keep_ahead=False)
    assert other.half == ["checkpoints/kl/20"]
    assert not (tmp_path / "other/run/checkpoints/kl/20").exists()
    # Who goes on from there removes what is left of it.
    other.push()
    (tmp_path / "other/run/results.json").write_text("new results.json")
    other.push()
    assert not {name for name in bucket_server.names(url) if name.startswith("checkpoints/kl/20")}


def test_a_folder_whose_file_is_missing_or_shorter_is_not_there(bucket_server, tmp_path):
    url = bucket_server.new_url()
    write_files(tmp_path / "ours" / "run")
    mirror_of(url, tmp_path / "ours").push()
    bucket_server.write(f"{url}/checkpoints/kl/20/metadata/d/3", b"cut")
    bucket_server.files.rm_file(f"{url}/labels/kl/metadata.json")
    other = mirror_of(url, tmp_path / "other")
    other.pull(keep_ahead=False)
    assert other.half == ["checkpoints/kl/20", "labels/kl"]
    assert not (tmp_path / "other/run/labels").exists()
    assert (tmp_path / "other/run/checkpoints/kl/0").exists()


def test_a_store_without_a_whole_step_is_not_there(bucket_server, tmp_path):
    """Its card alone would make a folder that the copied initial model can't be renamed to."""
    url = bucket_server.new_url()
    write_files(tmp_path / "ours" / "run")
    mirror_of(url, tmp_path / "ours").push()
    for step in ("0", "20"):
        bucket_server.files.rm_file(f"{url}/checkpoints/kl/{step}.whole")
    assert not {name for name in pulled(url, tmp_path / "other") if name.startswith("checkpoints")}


def test_a_file_that_changes_while_it_is_stored_holds_back_what_came_after(
    bucket_server, tmp_path, monkeypatch
):
    url = bucket_server.new_url()
    ours = mirror_of(url, tmp_path / "ours")
    write_files(tmp_path / "ours" / "run")
    upload = Bucket.upload

    def changing(self, name, file):
        if name == "arms/kl/records.jsonl":
            file.write_text("newer than what follows")
        upload(self, name, file)

    monkeypatch.setattr(Bucket, "upload", changing)
    ours.push()
    assert "results.json" not in bucket_server.names(url)
    monkeypatch.setattr(Bucket, "upload", upload)
    ours.push()
    assert pulled(url, tmp_path / "other")["arms/kl/records.jsonl"] == "newer than what follows"


def test_what_a_killed_command_could_not_store_stays_on_its_host_alone(bucket_server, hosts):
    url = bucket_server.new_url()
    with working_folder(url) as folder:
        write_files(folder)
    (folder / "arms/more").mkdir()
    (folder / "arms/more/records.jsonl").write_text("not stored")  # then it was killed
    with working_folder(url):
        pass
    assert bucket_server.read(f"{url}/arms/more/records.jsonl") == b"not stored"
    (folder / "results.json").write_text("not stored either")
    hosts("second")
    with working_folder(url) as other:
        (other / "results.json").write_text("by another host")
    hosts("first")
    with working_folder(url) as folder:
        assert (folder / "results.json").read_text() == "by another host"


def test_what_is_the_same_is_not_read_again(bucket_server, hosts, monkeypatch):
    url = bucket_server.new_url()
    with working_folder(url) as folder:
        write_files(folder)
    hosts("second")
    with working_folder(url) as folder:
        (folder / "results.json").write_text("by another host")
    hosts("first")
    read, download = [], Bucket.download

    def counting(self, files):
        read.extend(name for name, _ in files)
        download(self, files)

    monkeypatch.setattr(Bucket, "download", counting)
    with working_folder(url):
        assert read == ["results.json"]


def test_while_a_command_runs_its_files_follow(bucket_server, hosts, monkeypatch):
    monkeypatch.setattr(storage, "STORE_S", 0.05)
    url = bucket_server.new_url()
    with working_folder(url) as folder:
        write_files(folder)
        deadline = time.monotonic() + 60
        while "results.json" not in bucket_server.names(url):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_what_can_t_be_stored_at_the_end_is_an_error_that_says_where_it_is(bucket_server, hosts, monkeypatch):
    url = bucket_server.new_url()

    def down(self, name, file):
        raise StorageError("the network is down")

    upload = Bucket.upload
    monkeypatch.setattr(Bucket, "upload", down)
    kept = "the network is down; all of it is kept below .*/remote/"
    with pytest.raises(RunError, match=kept), working_folder(url) as folder:
        write_files(folder)
    monkeypatch.setattr(Bucket, "upload", upload)
    with working_folder(url):
        pass
    assert set(FILES) <= bucket_server.names(url)


def test_a_part_of_a_workdir_that_many_write_to_is_a_workdir_of_its_own(bucket_server, hosts):
    url = bucket_server.new_url("sweep")
    with working_folder(url, models=False, alone=False) as sweep:
        (sweep / "plan.json").parent.mkdir(parents=True)
        (sweep / "plan.json").write_text("plan")
        with own_folder(sweep / "points" / "a") as point:
            assert sweep not in point.parents
            write_files(point)
        hosts("second")
        with working_folder(url, models=False, alone=False) as other:
            assert not (other / "points/a/checkpoints/kl/20").exists()
            assert (other / "points/a/checkpoints/kl/model.json").exists()
            assert (other / "points/a/results.json").exists()
    assert not sweep.exists()  # a copy of this command's alone
    assert {f"points/a/{name}" for name in FILES} | {"plan.json"} <= bucket_server.names(url)


def test_a_model_is_read_once_and_a_run_may_go_on_writing(bucket_server, hosts):
    url = bucket_server.new_url()
    with working_folder(url) as folder:
        write_files(folder)
    with working_folder(url) as folder:
        copy = fetched("--models", url)
        assert copy != folder
        assert contents(copy) == {name: name for name in FILES}
    with pytest.raises(InputError, match=r"--models: .*/nothing: there is nothing of that name"):
        fetched("--models", f"{url}/nothing")
    one = fetched("--model", f"{url}/tokenizer.json")
    assert one.read_text() == "tokenizer.json"


def test_messages_show_the_url(bucket_server, hosts):
    url = bucket_server.new_url()
    with working_folder(url) as folder:
        assert terminal.one_line(f"{folder / 'x'} is damaged") == f"{url}/x is damaged"


@pytest.mark.parametrize("name", ["../out", "a/../../out", "a//b", "./a"])
def test_an_object_whose_name_leads_out_is_refused(name, bucket_server, tmp_path, monkeypatch):
    url = bucket_server.new_url()
    ours = mirror_of(url, tmp_path / "ours")
    root = url.removeprefix("s3://")
    found = {f"{root}/{name}": {"ETag": "1", "size": 1}}
    monkeypatch.setattr(ours._bucket._files, "find", lambda *_, **__: found, raising=False)
    with pytest.raises(InputError, match="can't be a file here"):
        ours.pull(keep_ahead=False)


def test_a_bucket_that_can_t_be_reached_is_one_line(bucket_server, hosts):
    line = r"^--workdir: s3://none/run can't be \w+: The specified bucket does not exist$"
    with pytest.raises(InputError, match=line), working_folder("s3://none/run"):
        pass


def test_a_download_that_ends_early_is_never_read_as_whole(bucket_server, tmp_path, monkeypatch):
    url = bucket_server.new_url()
    write_files(tmp_path / "ours" / "run")
    mirror_of(url, tmp_path / "ours").push()
    download = Bucket.download

    def ending(self, files):
        download(self, files[: len(files) // 2])
        raise StorageError("the network is down")

    other = mirror_of(url, tmp_path / "other")
    monkeypatch.setattr(Bucket, "download", ending)
    with pytest.raises(StorageError):
        other.pull(keep_ahead=False)
    assert not [name for name in contents(tmp_path / "other/run") if ".tmp" not in name]
    monkeypatch.setattr(Bucket, "download", download)
    assert pulled(url, tmp_path / "other") == {name: name for name in FILES}
