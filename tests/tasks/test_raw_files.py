"""Raw files: compressed, as lists, from a Mac; what is no file, too large or damaged is refused in a line."""

import bz2
import gzip
import json
import lzma
import os
import tarfile
import tracemalloc
from pathlib import Path

import pyarrow
import pytest
from row_files import refusal, write_csv, write_lines

from introspection.errors import InputError
from introspection.tasks import file_bytes, raw_files
from introspection.tasks.raw_files import csv_rows, data_files, json_lines, json_texts, read_rows

ROWS = [{"id": "a", "n": 1, "text": "Zoë\u2028 sang"}, {"id": "b", "n": None, "text": "x, y\nz"}]


def zstd(data: bytes) -> bytes:
    out = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(out, "zstd") as stream:
        stream.write(data)
    return out.getvalue().to_pybytes()


PACKED = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd, "": bytes}


def fields_of(path: Path) -> list[dict]:
    return [dict(row.fields) for row in json_lines(path)]


@pytest.mark.parametrize("suffix", PACKED)
def test_a_compressed_file_says_what_the_plain_one_does(tmp_path, suffix):
    plain = write_lines(tmp_path / "plain.jsonl", ROWS, end="\r\n")
    packed = tmp_path / f"packed.jsonl{suffix}"
    packed.write_bytes(PACKED[suffix](b"\xef\xbb\xbf" + plain.read_bytes()))
    assert fields_of(packed) == ROWS
    assert fields_of(packed.rename(tmp_path / "other.jsonl")) == ROWS  # told by its first bytes, not its name
    table = write_csv(tmp_path / "t.csv", [["a", "b"], ["1", 'x "y"\r\nz, é']], end="\r\n")
    rows = [row.fields for row in csv_rows(table)]
    packed_table = tmp_path / f"T.CSV{suffix}"
    packed_table.write_bytes(PACKED[suffix](table.read_bytes()))
    assert [row.fields for row in csv_rows(packed_table)] == rows == [{"a": "1", "b": 'x "y"\nz, é'}]
    assert data_files(packed_table, (".csv",), "get it") == [packed_table]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:12] + b"\x00\xff" * 9 + data[30:]]
)
def test_a_damaged_one_is_refused(tmp_path, suffix, damage):
    path = tmp_path / f"a.jsonl{suffix}"
    text = "".join(json.dumps({"id": str(i), "text": os.urandom(9).hex()}) + "\n" for i in range(50))
    path.write_bytes(damage(PACKED[suffix](text.encode())))
    refusal(fields_of, path, says=[str(path)])


def test_an_archive_of_a_long_window_is_not_called_damaged(tmp_path):
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(bytes.fromhex("28b52ffd00a8010000"))  # a frame of 2 GiB, as of zstd --long=31
    refusal(fields_of, path, says=[str(path), "zstd -d --long=31"])


def test_a_long_cell_of_a_table_is_read(tmp_path):
    long = "x" * 140_000
    assert [row.fields for row in csv_rows(write_csv(tmp_path / "t.csv", [["a"], [long]]))] == [{"a": long}]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("filling", [b" ", b"xxxx", b"{}\n"])
def test_a_bomb_is_refused_in_little_memory(tmp_path, monkeypatch, suffix, filling):
    monkeypatch.setattr(file_bytes, "LEAST_BOUND", 2**16)
    monkeypatch.setattr(file_bytes, "EXPANSION", 1)
    monkeypatch.setattr(file_bytes, "MOST_LINE", 2**14)
    path = tmp_path / f"bomb.jsonl{suffix}"
    path.write_bytes(PACKED[suffix](filling * 2**16))
    tracemalloc.start()
    try:
        says = "expands to more than " if filling == b"{}\n" else "bomb.jsonl"
        refusal(lambda: sum(1 for _ in json_lines(path)), says=[says])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**24


def test_a_stretch_of_blank_lines_has_a_bound_and_blank_lines_have_none(tmp_path, monkeypatch):
    monkeypatch.setattr(file_bytes, "MOST_BLANK", 50)
    path = tmp_path / "a.jsonl"
    path.write_text(("\n" * 40 + "{}\n") * 9)
    assert fields_of(path) == [{}] * 9
    path.write_text("{}\n" + " \n" * 52)
    refusal(fields_of, path, says=["a.jsonl: line 52 ends 50 blank lines"])


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        "\ufeff" + json.dumps(ROWS, indent=2),
        "[" + "\n".join(json.dumps(row) for row in ROWS) + "]",
        "[\n" + "".join(json.dumps(row) + ",\n" for row in ROWS) + "]\n",
    ],
    ids=["one line", "indented, marked", "no commas", "a comma at the end"],
)
def test_a_file_may_be_one_list(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    assert fields_of(path) == ROWS
    assert [unit for unit, _, _ in json_texts(path)] == ["row", "row"]
    assert data_files(path, (".jsonl",), "get it") == [path]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"a": 1}, {"a"]', "row 2 of the list is not JSON (Expecting ':' delimiter: line 1, column 16)"),
        ('[{"a": 1},\n', "row 2 of the list is not JSON (Expecting value: line 2, column 1)"),
        ('[{"a": 1}] 3', "more follows the list's end"),
        ('[{"a": 1}, 2]', "row 2 is int, not a JSON object"),
        ('{"a":\n 1}', "line 1 is not JSON"),
        ('{"a": ' + "[" * 9999, "line 1 is not JSON"),
        ('[{"a": ' + "[" * 9999, "row 1 of the list is not readable JSON"),
        ('{"a": ' + "9" * 9999 + "}", "line 1 is not JSON"),
        ('{"a\\ud800": 1}', "line 1 has an unpaired surrogate"),
        ('[{"a": 1}, {"b": {"\\udfff": 1}}]', "row 2 has an unpaired surrogate"),
    ],
)
def test_what_is_not_json(tmp_path, text, says):
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    refusal(fields_of, path, says=[f"{path}: {says}"])


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"PAR1", "is a parquet file"),
        (b"PK\x03\x04", "is a zip archive"),
        (b"\xff\xfe", "is UTF-16"),
        (b"\x00\x05\x16\x07", "is a Mac's companion"),
    ],
)
def test_other_kinds_of_file_are_named(tmp_path, start, says):
    path = tmp_path / "a.jsonl"
    path.write_bytes(start + b"\x00" * 40)
    for rows in (json_lines, csv_rows):
        refusal(lambda read=rows: list(read(path)), says=[says])


def test_what_a_mac_leaves_beside_the_files_is_passed_over(tmp_path):
    inner = tmp_path / ".hidden" / "data"  # the folder that is named may be hidden itself
    (inner / "__MACOSX").mkdir(parents=True)
    (inner / ".ipynb_checkpoints").mkdir()
    for place in ("._a.jsonl", ".DS_Store", "__MACOSX/a.jsonl", ".ipynb_checkpoints/a.jsonl", "folder.jsonl"):
        (inner / place).write_bytes(b"\x00\x05\x16\x07") if place != "folder.jsonl" else (
            inner / place
        ).mkdir()
    os.mkfifo(inner / "pipe.jsonl")
    (inner / "b.jsonl.gz").write_bytes(gzip.compress(b'{"id": "x"}\n'))
    assert data_files(inner, (".jsonl",), "get it") == [inner / "b.jsonl.gz"]


def test_a_pipe_a_device_and_a_folder_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    for path, says in (
        (tmp_path / "pipe.jsonl", "is not a regular file"),
        (Path("/dev/zero"), "is not a regular file"),
        (tmp_path / "folder.jsonl", "is a folder"),
        (tmp_path / "none.jsonl", "No such file"),
        (tmp_path / ("long" * 99), "can't be read"),
    ):
        for read in (fields_of, file_bytes.read_bytes, lambda path: list(csv_rows(path))):
            refusal(read, path, says=[says])


def test_a_name_that_is_not_utf_8_is_refused(tmp_path):
    path = tmp_path / os.fsdecode(b"b\xff.jsonl")
    path.write_text('{"id": "x"}\n')
    for source in (path, tmp_path):
        refusal(data_files, source, (".jsonl",), "get it", says=["b\\udcff.jsonl: this name is not UTF-8"])
    refusal(fields_of, path, says=["rename it"])


def test_bad_rows_end_a_file_that_has_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_files, "MOST_PROBLEMS", 30)
    path = write_lines(tmp_path / "a.jsonl", [{"id": str(i)} for i in range(99)])
    message = refusal(read_rows, [path], json_lines, lambda row, name, path: (None, ["is bad"]), "rows")
    assert message.endswith("line 20: is bad; and 10 more bad rows")


def test_an_old_macs_line_ends_and_a_line_without_end(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\r1,2\r3,4")
    assert [row.fields for row in csv_rows(path)] == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


@pytest.mark.parametrize("suffix", PACKED)
def test_mmlus_archive_may_be_compressed_and_a_bomb_in_it_is_not_unpacked(tmp_path, monkeypatch, suffix):
    from introspection.tasks.hint_mmlu.files import read_questions

    folder = raw_files.raw_source("sample", tmp_path, "hint_mmlu") / "data"
    with tarfile.open(tmp_path / "plain.tar", "w") as archive:
        archive.add(folder, "data")
    path = tmp_path / f"data.tar{suffix}"
    path.write_bytes(PACKED[suffix]((tmp_path / "plain.tar").read_bytes()))
    assert len(read_questions([path], ("test",)).questions) > 5
    monkeypatch.setattr("introspection.tasks.hint_mmlu.files.MOST_LINE", 100)
    with pytest.raises(InputError, match="is no file of MMLU"):
        read_questions([path], ("test",))
