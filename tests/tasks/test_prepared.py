"""Prepared data sets: rows come back as they were, one at a time; the set is whole or not there."""

import concurrent.futures
import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from introspection.errors import InputError, RunError
from introspection.tasks import prepared as module
from introspection.tasks.items import Item
from introspection.tasks.prepared import TaskBuilder, digest_of, load_prepared
from introspection.tasks.sequences import LazyItems


@dataclasses.dataclass(frozen=True)
class ToySettings:
    rows: int = 300
    broken: bool = False


class ToyRows(TaskBuilder, skip_registration=True):
    """Rows numbered from 0, each with the file's text."""

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION = CITATION = LICENSE = "Made here."
    FEATURES = {  # noqa: RUF012 (as builders declare theirs)
        "text": tfds.features.Text(),
        "number": tfds.features.Scalar(np.int64),
        "share": tfds.features.Scalar(np.float64),
        "options": tfds.features.Sequence(tfds.features.Text()),
    }

    def splits(self):
        if self.settings.broken:
            raise InputError(f"{self.files[0]}: row 3: is broken")
        text = self.files[0].read_text(encoding="utf-8")
        rows = [row(text, number) for number in range(self.settings.rows)]
        return {"train": rows, "test": rows[:1]}, {"skipped": 2}


def row(text, number):
    options = ["é"] * (number % 3)
    return {"text": f"{text} {number}", "number": number, "share": number / 8, "options": options}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.txt"
    path.write_text("Ünï\n\tcode", encoding="utf-8")
    return path


def load(source: Path, settings: ToySettings = ToySettings()):
    return load_prepared(ToyRows, [source], settings, source.parent / "datasets")


def shard(folder: Path, split: str = "train") -> Path:
    (path,) = folder.glob(f"toy_rows-{split}.array_record-*")
    return path


def inodes(folder: Path):
    return {path.name: path.stat().st_ino for path in folder.iterdir()}


def item(row, variant):
    number = f"{row['number']}.{variant}"
    return Item(number, number, "s", "plain", row["text"], row["text"], ("A", "B"), "A", "B")


def test_rows_come_back_as_they_were(source):
    data = load(source)
    text = "Ünï\n\tcode"
    assert len(data.splits["train"]) == 300
    assert list(data.splits["train"]) == [row(text, number) for number in range(300)]
    assert [dict(one) for one in data.splits["test"]] == [row(text, 0)]
    train = data.splits["train"]
    assert train[-1] == train[299] == train[np.int64(299)] == row(text, 299)
    for index in (300, -301):
        with pytest.raises(IndexError):
            train[index]
    assert data.metadata == {
        "source_digest": digest_of([source]),
        "settings": {"rows": 300, "broken": False},
        "skipped": 2,
    }


def test_the_data_set_is_one_that_tfds_reads(source):
    folder = load(source).folder
    read = tfds.builder_from_directory(folder).as_data_source(split="train")
    assert len(read) == 300
    assert read[7]["text"].decode() == "Ünï\n\tcode 7"
    assert [one.decode() for one in read[8]["options"]] == ["é", "é"]
    assert "tensorflow" not in sys.modules


def test_a_data_set_of_several_files_is_one_sequence(source, tmp_path):
    folder = load(source).folder
    data = module.PreparedRows(
        (shard(folder), shard(folder, "test"), shard(folder)), (300, 1, 300), frozenset(["options"])
    )
    data.check()
    assert [data[i]["number"] for i in (0, 299, 300, 301, 600, -1)] == [0, 299, 0, 0, 299, 299]


def test_it_is_made_once_and_a_changed_file_or_setting_is_another(source):
    first = load(source)
    before = inodes(first.folder)
    assert load(source).folder == first.folder
    assert inodes(first.folder) == before
    fewer = load(source, ToySettings(rows=20))
    source.write_text("changed", encoding="utf-8")
    changed = load(source)
    assert len({first.folder, fewer.folder, changed.folder}) == 3
    assert changed.splits["train"][5]["text"] == "changed 5"
    assert [len(one.splits["train"]) for one in (first, fewer, changed)] == [300, 20, 300]
    assert inodes(first.folder) == before


def flip(path: Path, place: int):
    contents = bytearray(path.read_bytes())
    contents[place] ^= 1
    path.write_bytes(contents)


def cut(path: Path):
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: cut(shard(folder)),
        lambda folder: shard(folder).unlink(),
        lambda folder: shard(folder).write_bytes(shard(folder, "test").read_bytes()),
        lambda folder: (folder / "metadata.json").unlink(),
        lambda folder: cut(folder / "dataset_info.json"),
        lambda folder: (folder / "features.json").write_text("{}"),
        lambda folder: (folder / "digests.json").unlink(),
        lambda folder: (folder / "digests.json").write_text('{"metadata.json": {}}'),
        lambda folder: flip(folder / "metadata.json", -3),
        lambda folder: flip(
            shard(folder), 1000
        ),  # inside a record, which a reader finds only when it gets there
    ],
)
def test_a_damaged_one_is_made_anew(source, damage):
    first = load(source)
    before = {path.name: path.read_bytes() for path in first.folder.iterdir() if path.suffix != ".json"}
    damage(first.folder)
    data = load(source)
    assert data.folder == first.folder
    assert data.metadata == first.metadata
    assert list(data.splits["train"]) == [row("Ünï\n\tcode", number) for number in range(300)]
    assert {name: (data.folder / name).read_bytes() for name in before} == before
    assert [path.name for path in (source.parent / "datasets").iterdir()] == ["toy_rows"]


def test_a_damaged_record_is_named(source):
    folder = load(source).folder
    contents = bytearray(shard(folder).read_bytes())
    for place in range(64, 2000):  # behind the file's header, far before its index
        contents[place] ^= 0xFF
    shard(folder).write_bytes(contents)
    rows = module.PreparedRows((shard(folder),), (300,), frozenset(["options"]))
    rows.check()  # the file's index is whole
    with pytest.raises(RunError, match=r"toy_rows-train.*record 0 can't be read"):
        rows[0]


def test_bad_input_passes_and_leaves_nothing(source):
    with pytest.raises(InputError, match=r"^\S+source.txt: row 3: is broken$"):
        load(source, ToySettings(broken=True))
    assert list((source.parent / "datasets").iterdir()) == []
    with pytest.raises(InputError, match=r"missing\.txt: can't be read"):
        load_prepared(ToyRows, [source.with_name("missing.txt")], ToySettings(), source.parent / "datasets")


def test_a_folder_that_cannot_be_written_is_a_failure(source, monkeypatch):
    (source.parent / "datasets").write_text("in the way")
    with pytest.raises(RunError, match="can't be prepared"):
        load(source)


def test_one_that_stays_damaged_is_a_failure(source, monkeypatch):
    monkeypatch.setattr(module, "_regroup", cut)
    with pytest.raises(RunError, match="still unusable"):
        load(source)


@pytest.mark.parametrize("damaged", [False, True])
def test_several_processes_prepare_it_at_once(source, damaged):
    """Here alone without type checks, which read a row of whatever they check."""
    if damaged:
        cut(shard(load(source).folder))
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'tests/tasks'); import test_prepared as t;"
        "data = t.load(Path(sys.argv[1])); print(data.folder, sum(r['number'] for r in data.splits['train']))"
    )
    command = [sys.executable, "-c", code, str(source)]
    root = Path(__file__).parents[2]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root,
                         env=os.environ | {"PYTHONPATH": str(root)})
        for _ in range(3)
    ]  # fmt: skip
    ended = [process.communicate(timeout=600) for process in started]
    folder = load(source).folder
    assert [out.strip() for out, _ in ended] == [f"{folder} {sum(range(300))}"] * 3, ended
    assert [path.name for path in (source.parent / "datasets").iterdir()] == ["toy_rows"]


def test_one_that_another_process_put_there_meanwhile_is_taken(source, tmp_path, monkeypatch):
    folder, regroup = load(source).folder, module._regroup
    shutil.move(folder, tmp_path / "others")

    def while_the_other_finishes(path):
        regroup(path)
        if not folder.exists():
            shutil.copytree(tmp_path / "others", folder)
            (folder / "theirs").touch()

    monkeypatch.setattr(module, "_regroup", while_the_other_finishes)
    assert len(load(source).splits["train"]) == 300
    assert (folder / "theirs").exists()


def test_threads_share_a_split(source):
    rows = load(source).splits["train"]
    order = np.random.default_rng(0).permutation(300).tolist() * 4
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert [one["number"] for one in pool.map(rows.__getitem__, order)] == order


def test_items_are_made_when_asked_for_and_not_kept(source):
    rows, made = load(source).splits["train"], []

    def convert(row, variant):
        made.append((row["number"], variant))
        return item(row, variant)

    items = LazyItems(rows, convert, variants=2)
    assert isinstance(items, Sequence)
    assert len(items) == 600
    assert made == []
    assert [items[i].id for i in (0, 1, 599, -1, 4)] == ["0.0", "0.1", "299.1", "299.1", "2.0"]
    assert made == [(0, 0), (0, 1), (299, 1), (299, 1), (2, 0)]
    assert items[4] == items[4]
    assert len(made) == 7
    part = items[10:30:3]
    assert isinstance(part, LazyItems)
    assert len(made) == 7
    assert [one.id for one in part] == ["5.0", "6.1", "8.0", "9.1", "11.0", "12.1", "14.0"]
    assert [one.id for one in part[-2:]] == ["12.1", "14.0"]
    assert [one.id for one in items] == [f"{number}.{variant}" for number in range(300) for variant in (0, 1)]
    for index in (600, -601):
        with pytest.raises(IndexError):
            items[index]
