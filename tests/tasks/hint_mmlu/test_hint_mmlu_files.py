"""hint_mmlu: both of the publishers' layouts, bad rows and files, what is passed over and counted."""

import io
import json
import re
import tarfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from mmlu_cases import PARTS, sample_questions, write_csv
from row_files import refusal

from introspection.errors import InputError
from introspection.tasks.hint_mmlu.files import MmluQuestion, question_files, read_questions
from introspection.tasks.hint_mmlu.task import HintMmluConfig, build_hint_mmlu
from introspection.tasks.raw_files import raw_source

SAMPLE = raw_source("sample", Path(), "hint_mmlu")

GOOD = ["Which is it?", "one", "two", "three", "four", "C"]
SCHEMA = pyarrow.schema(
    [
        ("question", pyarrow.string()),
        ("subject", pyarrow.string()),
        ("choices", pyarrow.list_(pyarrow.string())),
        ("answer", pyarrow.int64()),
    ]
)


def write_parquet(folder, rows, schema=SCHEMA, name="test-00000-of-00001.parquet", subject="all"):
    (folder / subject).mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), folder / subject / name)


def parquet_row(**changes):
    row = dict(
        question="Which is it?", subject="astronomy", choices=["one", "two", "three", "four"], answer=2
    )
    return row | changes


def read(folder, parts=("test",)):
    return read_questions(question_files(folder, parts), parts)


def test_the_layouts_hold_the_same_questions(tmp_path):
    unpacked = sample_questions()
    assert len(unpacked) == 15
    assert (
        MmluQuestion(
            "test",
            "high_school_geography",
            3,
            "A map has the scale 1:50,000. Two villages are 4 cm apart on it.\n"
            "How far apart are they in fact?",
            ("200 m", "2 km", "20 km", "4 km"),
            1,
        )
        in unpacked
    )
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "all").symlink_to(SAMPLE / "all")
    assert sample_questions(tmp_path / "hub") == unpacked
    (tmp_path / "bare").symlink_to(SAMPLE / "data")  # the archive's folder itself
    assert sample_questions(tmp_path / "bare") == unpacked
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.add(SAMPLE / "data", "data")
        beside = tarfile.TarInfo("data/test/._astronomy_test.csv")  # as a Mac leaves them
        beside.size = 3
        archive.addfile(beside, io.BytesIO(b"\x00\x05\x16"))
    assert sample_questions(tmp_path) == unpacked
    assert sample_questions(tmp_path / "data.tar") == unpacked
    assert [question.part for question in sample_questions(parts=("dev",))] == ["dev"]


def test_parquet_files_in_a_folder_for_each_subject(tmp_path):
    for subject in ("astronomy", "anatomy"):
        write_parquet(tmp_path, [parquet_row(subject=subject)] * 2, subject=subject)
    expected = [f"test/{subject}/{number}" for subject in ("anatomy", "astronomy") for number in (1, 2)]
    assert [one.id for one in read(tmp_path).questions] == expected


def test_a_part_in_several_parquet_files_numbers_its_questions_once(tmp_path):
    for shard in range(2):
        rows = [parquet_row(question=f"Question {shard} {i}?") for i in range(2)]
        write_parquet(tmp_path, rows, name=f"test-0000{shard}-of-00002.parquet")
    assert [one.id for one in read(tmp_path).questions] == [f"test/astronomy/{i}" for i in (1, 2, 3, 4)]


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path):
    rows = [["Ünd\nwas?", *GOOD[1:]], GOOD]
    write_csv(tmp_path / "plain", rows)
    write_csv(tmp_path / "windows", [["Ünd\r\nwas?", *GOOD[1:]], GOOD], encoding="utf-8-sig", end="\r\n")
    assert read(tmp_path / "windows") == read(tmp_path / "plain")
    assert read(tmp_path / "plain").questions[0].text == "Ünd\nwas?"


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_latin_1_is_refused_by_line_and_byte(tmp_path, mark):
    write_csv(tmp_path, [GOOD, GOOD])
    path = tmp_path / "test" / "astronomy_test.csv"
    path.write_bytes(mark.encode() + path.read_bytes() + "Was heißt öd?,a,b,c,d,A\n".encode("latin-1"))
    with pytest.raises(
        InputError, match=r"astronomy_test.csv: line 3, byte 8: b'\\xdf' is not UTF-8 .*Latin-1"
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    ("row", "named"),
    [
        (GOOD[:5], "has 5 fields instead of 6"),
        ([*GOOD, "more"], "has 7 fields instead of 6"),
        ([" ", *GOOD[1:]], "the question is empty"),
        ([*GOOD[:5], "E"], "the answer is 'E'; it must be A to D"),
        ([*GOOD[:5], "c"], "the answer is 'c'"),
        ([*GOOD[:5], "2"], "the answer is '2'"),
        (["question", "A", "B", "C", "D", "answer"], "the answer is 'answer'.*without a header"),
    ],
)
def test_bad_rows_of_csv_files_are_named(tmp_path, row, named):
    write_csv(tmp_path, [GOOD, row, GOOD, row])
    message = refusal(read, tmp_path)
    for number in (2, 4):
        assert re.search(rf"astronomy_test\.csv: row {number}: {named}", message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(choices=["one", "two", "three"]), "has 5 fields instead of 6"),
        (dict(choices=None), "has 3 fields instead of 6"),
        (dict(question=None), "the question or an option is not text"),
        (dict(choices=["one", "two", "three", None]), "the question or an option is not text"),
        (dict(question=""), "the question is empty"),
        (dict(answer=4), "the answer is 4"),
        (dict(answer=-1), "the answer is -1"),
        (dict(answer=None), "the answer is None"),
    ],
)
def test_bad_rows_of_parquet_files_are_named(tmp_path, changes, message):
    write_parquet(tmp_path, [parquet_row(), parquet_row(**changes)])
    with pytest.raises(InputError, match=rf"test-00000-of-00001\.parquet: row 2: {message}"):
        read(tmp_path)


def test_many_bad_rows_are_named_in_part_and_counted(tmp_path):
    write_csv(tmp_path, [GOOD[:5]] * 30)
    with pytest.raises(InputError, match=r"row 20: has 5 fields.*; and 10 more bad rows$"):
        read(tmp_path)


@pytest.mark.parametrize("column", SCHEMA.names)
def test_a_missing_column_is_named(tmp_path, column):
    fields = [field for field in SCHEMA if field.name != column]
    write_parquet(tmp_path, [parquet_row()], pyarrow.schema(fields))
    with pytest.raises(InputError, match=f"the column '{column}' is missing; MMLU has question"):
        read(tmp_path)


def test_files_of_other_kinds_are_refused(tmp_path):
    (tmp_path / "data.tar").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"data\.tar: not a readable .csv, .parquet or tar file"):
        read(tmp_path)
    (tmp_path / "other").mkdir()
    write_parquet(tmp_path / "other", [parquet_row()])
    (tmp_path / "other" / "all" / "test-00000-of-00001.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(InputError, match="not a readable parquet file"):
        read(tmp_path / "other")
    path = write_csv(tmp_path / "alone", [GOOD], part="elsewhere")
    with pytest.raises(InputError, match="must be named after its part"):
        read(path)
    write_parquet(tmp_path, [parquet_row()], name="train-00000-of-00001.parquet")
    with pytest.raises(InputError, match="the name must start with one of test"):
        read(tmp_path / "all" / "train-00000-of-00001.parquet")


def test_missing_files_say_what_to_download(tmp_path):
    for source in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(
            InputError, match=r"no MMLU files found: download https://\S+data\.tar .*MIT licence"
        ):
            build_hint_mmlu(HintMmluConfig(data=str(source)), tmp_path / "datasets")
    with pytest.raises(InputError, match=r"datasets/raw/hint_mmlu: no MMLU files found"):
        build_hint_mmlu(HintMmluConfig(), tmp_path / "datasets")
    write_csv(tmp_path, [GOOD])
    with pytest.raises(InputError, match=r"the part 'validation' .* is missing"):
        read(tmp_path, PARTS)
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.add(SAMPLE / "data" / "test", "data/test")
    with pytest.raises(InputError, match=r"data\.tar: the part 'validation' .* has no questions"):
        read(tmp_path, PARTS)
    assert not (tmp_path / "datasets").exists()


@pytest.mark.parametrize(
    ("options", "usable"),
    [
        (["one", "two", " one", "four"], False),
        (["the  same", "the same", "x", "y"], False),
        (["caf\u00e9", "cafe\u0301", "x", "y"], False),
        (["one", "", "three", "four"], False),
        (["AA", "Aa", "aA", "aa"], True),
        (["x < y", "x > y", "x = y", "x"], True),
        (["2\u00b2", "22", "x", "y"], True),
    ],
)
def test_questions_whose_options_read_the_same_are_passed_over_and_counted(tmp_path, options, usable):
    write_csv(tmp_path, [GOOD, [GOOD[0], *options, "A"], GOOD])
    found = read(tmp_path)
    assert found.unusable == (not usable)
    assert [question.number for question in found.questions] == ([1, 2, 3] if usable else [1, 3])


def test_the_metadata_count_what_was_passed_over_and_moved(tmp_path):
    rows = [[f"Question {i // 2} asks what?", "one", "two", "three", "four", "A"] for i in range(40)]
    rows += [["Which?", "same", "same", "x", "y", "A"]] * 3
    write_csv(tmp_path / "raw", rows)
    config = HintMmluConfig(
        data=str(tmp_path / "raw"), parts=("test",), train_items=20, validation_items=8, test_items=12
    )
    build_hint_mmlu(config, tmp_path / "datasets")
    (path,) = (tmp_path / "datasets").glob("hint_mmlu/*/1.0.0/metadata.json")
    found = json.loads(path.read_text())
    assert (found["questions"], found["equal_or_empty_options"], found["near_duplicates"]) == (40, 3, 20)
    assert 0 < found["near_duplicates_moved"] <= 20
    assert found["drawn"] == {"train": 20, "validation": 8, "test": 12}
    assert len(found["source_digest"]) == 16
