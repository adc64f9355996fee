"""The data set of true facts: that it always equals the table."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from facts_cases import SMALL, write_table

from introspection.errors import InputError, RunError
from introspection.tasks import facts_dataset as facts_module
from introspection.tasks.facts import (
    FACTS_TABLE,
    Fact,
    read_facts_table,
    table_digest,
)
from introspection.tasks.facts_dataset import load_facts


def prepared_folder(data_dir: Path, table: Path) -> Path:
    return data_dir / "world_facts" / f"table_{table_digest(table)}" / "1.0.0"


def record_file(folder: Path) -> Path:
    (path,) = folder.glob("*.array_record-*")
    return path


def python(code: str, *args: object) -> subprocess.Popen:
    """Starts `code` in a process of its own; its last line of output is what it has to tell."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )


@pytest.fixture
def small_table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "small.tsv", SMALL)


class TestLoadFacts:
    def test_data_set_equals_the_table(self, tmp_path):
        assert load_facts(tmp_path) == read_facts_table()
        # What lies there holds the facts by itself, text decoded and all.
        assert facts_module._read_prepared(tmp_path, FACTS_TABLE) == read_facts_table()

    def test_information_about_the_data_set(self, tmp_path):
        load_facts(tmp_path)
        info = json.loads((prepared_folder(tmp_path, FACTS_TABLE) / "dataset_info.json").read_text())
        assert info["fileFormat"] == "array_record"
        assert info["splits"][0]["shardLengths"] == [str(len(read_facts_table()))]
        assert "countryinfo 1.0.1" in info["citation"]
        assert "MIT" in info["redistributionInfo"]["license"]

    def test_folder_names_the_table(self, tmp_path, small_table):
        load_facts(tmp_path / "data", small_table)
        (info,) = (tmp_path / "data").rglob("dataset_info.json")
        assert info.parent == prepared_folder(tmp_path / "data", small_table)

    def test_leaves_no_temporary_folders(self, tmp_path, small_table, monkeypatch):
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        load_facts(tmp_path / "data", small_table)
        load_facts(tmp_path / "data", small_table)
        assert list((tmp_path / "temporary").iterdir()) == []

    def test_needs_neither_tensorflow_nor_a_network_and_is_silent(self, tmp_path):
        process = python(
            "import socket, sys\n"
            "def refuse(*args): raise AssertionError('network')\n"
            "socket.socket.connect = socket.getaddrinfo = refuse\n"
            "from pathlib import Path\n"
            "from introspection.tasks.facts_dataset import load_facts\n"
            "facts = load_facts(Path(sys.argv[1]))\n"
            "assert facts == load_facts(Path(sys.argv[1]))\n"
            "print(len(facts), 'tensorflow' in sys.modules, 'jax' in sys.modules)\n",
            tmp_path,
        )
        out, err = process.communicate(timeout=120)
        assert (out, err) == (f"{len(read_facts_table())} False False\n", "")

    def test_prepares_once(self, tmp_path, small_table, monkeypatch):
        load_facts(tmp_path / "data", small_table)
        monkeypatch.setattr(facts_module, "_prepare", lambda *args: pytest.fail("prepared again"))
        assert load_facts(tmp_path / "data", small_table) == [Fact(*row) for row in SMALL]

    def test_changed_table_is_prepared_anew(self, tmp_path, small_table):
        data_dir = tmp_path / "data"
        load_facts(data_dir, small_table)
        before = prepared_folder(data_dir, small_table)
        changed = [*SMALL[:-1], ("element_symbol", "iron", "Ir")]
        write_table(small_table, changed)
        assert load_facts(data_dir, small_table) == [Fact(*row) for row in changed]
        after = prepared_folder(data_dir, small_table)
        assert before != after
        assert before.is_dir()  # of use to whoever still has the other table
        assert after.is_dir()

    def test_data_set_of_another_table_in_its_place_is_not_used(self, tmp_path, small_table):
        other = write_table(tmp_path / "other.tsv", [*SMALL[:-1], ("element_symbol", "iron", "Ir")])
        load_facts(tmp_path / "other", other)
        place = prepared_folder(tmp_path / "data", small_table)
        place.parent.mkdir(parents=True)
        os.rename(prepared_folder(tmp_path / "other", other), place)
        assert load_facts(tmp_path / "data", small_table) == [Fact(*row) for row in SMALL]
        assert facts_module._read_prepared(tmp_path / "data", small_table) == [Fact(*row) for row in SMALL]

    def test_preparing_late_leaves_what_another_process_prepared(self, tmp_path, small_table):
        facts = load_facts(tmp_path, small_table)
        before = prepared_folder(tmp_path, small_table).stat().st_ino
        facts_module._prepare(tmp_path, small_table, facts)
        assert prepared_folder(tmp_path, small_table).stat().st_ino == before

    @pytest.mark.parametrize(
        "damage",
        [
            lambda folder: [path.unlink() for path in folder.iterdir()],
            lambda folder: record_file(folder).unlink(),
            lambda folder: record_file(folder).write_bytes(b""),
            lambda folder: record_file(folder).write_bytes(record_file(folder).read_bytes()[:-100]),
            lambda folder: record_file(folder).write_bytes(bytes(record_file(folder).stat().st_size)),
            lambda folder: (folder / "dataset_info.json").unlink(),
            lambda folder: (folder / "dataset_info.json").write_text('{"name": "world_f'),
            lambda folder: (folder / "features.json").write_text(""),
        ],
        ids=[
            "empty folder",
            "no records",
            "empty records",
            "records cut short",
            "records zeroed",
            "no information",
            "half the information",
            "no features",
        ],
    )
    def test_half_written_data_set_is_replaced(self, tmp_path, damage):
        data_dir = tmp_path / "data"
        load_facts(data_dir)
        damage(prepared_folder(data_dir, FACTS_TABLE))
        assert facts_module._problem_of_prepared(data_dir, FACTS_TABLE, read_facts_table())
        assert load_facts(data_dir) == read_facts_table()
        assert facts_module._read_prepared(data_dir, FACTS_TABLE) == read_facts_table()
        assert [path.name for path in data_dir.iterdir()] == ["world_facts"]

    def test_process_killed_while_preparing_does_no_harm(self, tmp_path, small_table):
        data_dir = tmp_path / "data"
        process = python(
            "import os, sys\n"
            "from pathlib import Path\n"
            "from introspection.tasks.facts_dataset import load_facts\n"
            "os.rename = lambda *args: os._exit(9)\n"
            "load_facts(Path(sys.argv[1]), Path(sys.argv[2]))\n",
            data_dir,
            small_table,
        )
        process.communicate(timeout=120)
        assert process.returncode == 9
        assert list(data_dir.rglob("*.array_record-*"))  # it had got as far as writing records
        assert not prepared_folder(data_dir, small_table).exists()
        assert load_facts(data_dir, small_table) == [Fact(*row) for row in SMALL]

    @pytest.mark.parametrize("damaged", [False, True])
    def test_processes_that_prepare_at_the_same_time(self, tmp_path, small_table, damaged):
        data_dir = tmp_path / "data"
        if damaged:
            load_facts(data_dir, small_table)
            record_file(prepared_folder(data_dir, small_table)).write_bytes(b"")
        ready = [tmp_path / f"ready{number}" for number in range(3)]
        processes = [
            python(
                "import sys, time\n"
                "from pathlib import Path\n"
                "import introspection.tasks.world_facts_builder\n"
                "from introspection.tasks import facts_dataset as facts\n"
                "prepare = facts._prepare\n"
                "def together(*args):\n"
                "    Path(sys.argv[3]).touch()\n"
                "    while not all(Path(p).exists() for p in sys.argv[4:]): time.sleep(0.005)\n"
                "    prepare(*args)\n"
                "facts._prepare = together\n"
                "print(len(facts.load_facts(Path(sys.argv[1]), Path(sys.argv[2]))))\n",
                data_dir,
                small_table,
                mine,
                *ready,
            )
            for mine in ready
        ]
        results = [process.communicate(timeout=120) for process in processes]
        assert [out for out, _ in results] == ["3\n"] * 3, results
        assert load_facts(data_dir, small_table) == [Fact(*row) for row in SMALL]
        assert [path.name for path in data_dir.iterdir()] == ["world_facts"]

    def test_bad_table_is_an_input_error_and_prepares_nothing(self, tmp_path):
        table = write_table(tmp_path / "bad.tsv", [("country_capital", "Norway", "")])
        with pytest.raises(InputError, match="line 2: answer is empty"):
            load_facts(tmp_path / "data", table)
        assert not (tmp_path / "data").exists()

    def test_folder_that_cannot_be_written(self, tmp_path, small_table):
        (tmp_path / "data").write_text("a file in the way")
        with pytest.raises(RunError, match="data: the data set world_facts can't be prepared"):
            load_facts(tmp_path / "data", small_table)

    def test_gives_up_on_what_cannot_be_mended(self, tmp_path, small_table, monkeypatch):
        calls = []
        monkeypatch.setattr(facts_module, "_prepare", lambda *args: calls.append(args))
        with pytest.raises(RunError, match="stays unusable"):
            load_facts(tmp_path / "data", small_table)
        assert len(calls) == 3
