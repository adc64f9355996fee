"""Parquet files: what a file declares is held against its size; odd columns are read or refused in a line."""

import datetime
import decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from row_files import refusal

from introspection.tasks import file_bytes, parquet, parquet_batches
from introspection.tasks.aita.files import read_posts
from introspection.tasks.parquet import parquet_columns, parquet_rows
from introspection.tasks.refusal.files import read_requests


def rows_of(path: Path, *columns: str) -> list[dict]:
    return [dict(row.fields) for row in parquet_rows(path, columns or ("a", "b"))]


def written(tmp_path: Path, **columns) -> Path:
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def test_rows_of_several_batches_in_order(tmp_path):
    path = written(tmp_path, a=list(range(1000)), b=[None, "x"] * 500, c=[1.0] * 1000)
    rows = rows_of(path)
    assert [row["a"] for row in rows] == list(range(1000))
    assert rows[1] == {"a": 1, "b": "x"}
    assert parquet_columns(path) == ("a", "b", "c")


def test_a_billion_rows_in_a_kilobyte_are_not_read(tmp_path):
    """Run-length coding makes any number of equal rows small; here 3 million nulls."""
    pq.write_table(pa.table({"a": pa.nulls(3_000_000, pa.string())}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 10_000
    refusal(rows_of, tmp_path / "a.parquet", says=["declares 3,000,000 rows in "])


def test_one_long_value_in_many_rows_is_not_expanded(tmp_path, monkeypatch):
    monkeypatch.setattr(file_bytes, "LEAST_BOUND", 2**22)
    long = pa.DictionaryArray.from_arrays(pa.array(np.zeros(5000, np.int32)), pa.array(["x" * 10_000]))
    pq.write_table(pa.table({"a": long}), tmp_path / "a.parquet")
    refusal(rows_of, tmp_path / "a.parquet", says=["its rows expand to more than 4,194,304 bytes"])
    monkeypatch.setattr(file_bytes, "LEAST_BOUND", 2**10)
    plain = pa.table({"a": ["x" * 100_000] * 9})
    pq.write_table(plain, tmp_path / "b.parquet", compression="zstd", use_dictionary=False)
    refusal(rows_of, tmp_path / "b.parquet", says=["declares 90", "bytes of rows in "])


def test_a_list_of_nulls_is_not_expanded(tmp_path, monkeypatch):
    """It has hardly a byte in the file or in Arrow, and gigabytes as Python's list."""
    count = 2**22
    path = written(tmp_path, a=pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), pa.nulls(count)))
    assert path.stat().st_size < 2**16
    assert len(rows_of(path)[0]["a"]) == count
    monkeypatch.setattr(parquet, "LIMITS", parquet.LIMITS._replace(memory=100 << 20))
    refusal(rows_of, path, says=["not a readable parquet file ("])
    monkeypatch.setattr(file_bytes, "LEAST_BOUND", 2**20)
    refusal(rows_of, path, says=["declares 4,194,304 values of a column in "])


def test_a_file_that_takes_too_long_ends_in_a_line_and_the_next_one_is_read(tmp_path, monkeypatch):
    path = written(tmp_path, a=[str(i) for i in range(90_000)])
    with monkeypatch.context() as patched:
        patched.setattr(parquet, "LIMITS", parquet.LIMITS._replace(seconds=0.001))
        refusal(rows_of, path, says=["not a readable parquet file (it takes more than 0.001 s)"])
    assert len(rows_of(path)) == 90_000


def test_a_column_named_twice_is_refused(tmp_path):
    pq.write_table(
        pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "t.parquet"
    )
    refusal(rows_of, tmp_path / "t.parquet", says=["has the column 'a' twice"])


ODD = {
    "dictionary": (pa.array(["YTA", "NTA"]).dictionary_encode(), None),
    "large": (pa.array(["YTA", "NTA"], pa.large_string()), None),
    "bytes": (pa.array([b"YTA", b"NTA"]), "verdict is binary, not text"),
    "decimal": (pa.array([decimal.Decimal("1.5")] * 2), "verdict is a number, not text"),
    "time": (pa.array([datetime.datetime(2020, 1, 1)] * 2), "verdict is a datetime, not text"),
    "year 300,000": (pa.array([9_000_000_000_000] * 2, pa.timestamp("s")), "not a readable parquet file"),
    "nested": (pa.array([{"a": ["YTA"]}] * 2), "verdict is an object, not text"),
    "list": (pa.array([["YTA"], []]), "verdict is a list, not text"),
    "not UTF-8": (
        pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff", b"\xed\xa0\x80"]).buffers()),
        "not a readable parquet file",
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_columns_of_odd_types(tmp_path, kind):
    column, says = ODD[kind]
    path = written(tmp_path, post=["I sang.", "I slept."], verdict=column)
    if says is None:
        assert [one.verdict for one in read_posts([path]).posts] == ["AUTHOR", "OTHER"]
    else:
        refusal(read_posts, [path], says=[says])


def test_no_rows_no_columns_and_no_parquet(tmp_path):
    refusal(
        read_posts, [written(tmp_path, post=pa.array([], pa.string()), verdict=[])], says=["have no posts"]
    )
    refusal(
        read_requests, [written(tmp_path, other=[1])], says=["needs the columns prompt and category_text"]
    )
    whole = written(tmp_path, a=["x" * 50] * 9, b=[1] * 9).read_bytes()
    for broken in (b"", b"PAR1", whole[:-9], whole[:40], b"PARE" + whole[4:-4] + b"PARE", whole[60:]):
        (tmp_path / "t.parquet").write_bytes(broken)
        refusal(rows_of, tmp_path / "t.parquet", says=["t.parquet: not a readable parquet file ("])


def test_the_bound_on_rows_leaves_room_for_real_files(tmp_path):
    """Of the smallest rows: one short id each."""
    path = written(tmp_path, a=np.random.default_rng(0).permutation(120_000).astype(str).tolist())
    assert parquet_batches.LEAST_ROWS < 120_000
    assert next(parquet_rows(path, ("a",))).number == 1
