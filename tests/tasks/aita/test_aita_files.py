"""r/AmItheAsshole: the publisher's layout and plain tables, bad rows and files."""

import json
from pathlib import Path

import pytest
from aita_cases import scruples
from row_files import refusal, write_csv, write_lines

from introspection.errors import InputError
from introspection.tasks.aita.files import DOWNLOAD, Post
from introspection.tasks.aita.files import read_posts as read_all
from introspection.tasks.aita.items import AitaConfig
from introspection.tasks.aita.task import build_aita
from introspection.tasks.raw_files import data_files, raw_source, shared_folder
from introspection.tasks.table_files import SUFFIXES

SAMPLE = raw_source("sample", Path(), "aita")


def table(path: Path, *rows, header=("post", "verdict"), encoding="utf-8") -> Path:
    return write_csv(path, [header, *rows], encoding, end="\r\n")


def written(path: Path, *rows, **options) -> Path:
    return write_lines(path, rows, **options)


def read_posts(paths) -> list[Post]:
    return read_all(paths).posts


def refused(paths, *parts) -> None:
    refusal(read_all, paths, says=parts)


def test_the_publishers_layout():
    posts = read_posts(data_files(SAMPLE, SUFFIXES, DOWNLOAD))
    assert len(posts) == 20
    assert {one.verdict for one in posts} == {"AUTHOR", "OTHER", "EVERYBODY", "NOBODY", "INFO"}
    late = next(one for one in posts if one.title.startswith("AITA for being late"))
    assert (late.verdict, late.binary, late.votes, late.share, late.hypothetical) == (
        "AUTHOR",
        "WRONG",
        16,
        1.0,
        False,
    )
    assert sum(one.hypothetical for one in posts) == 2


def test_a_split_vote_keeps_the_publishers_binary_verdict(tmp_path):
    """Most voters say AUTHOR, more say OTHER or NOBODY together."""
    scores = {"AUTHOR": 5, "OTHER": 4, "EVERYBODY": 0, "NOBODY": 3, "INFO": 0}
    row = scruples(
        label_scores=scores, binarized_label_scores={"RIGHT": 7, "WRONG": 5}, binarized_label="RIGHT"
    )
    (one,) = read_posts([written(tmp_path / "a.jsonl", row)])
    assert (one.verdict, one.binary) == ("AUTHOR", "RIGHT")
    assert one.share == pytest.approx(7 / 12)


def test_a_post_without_an_action_and_with_entities(tmp_path):
    (one,) = read_posts(
        [written(tmp_path / "a.jsonl", scruples(action=None, text="Mum &amp; I sang\u200b.&amp;#x200B;"))]
    )
    assert one.text == "Mum & I sang."


@pytest.mark.parametrize(
    ("name", "verdict", "binary"),
    [
        ("YTA", "AUTHOR", "WRONG"),
        ("nta", "OTHER", "RIGHT"),
        ("Not the A-hole", "OTHER", "RIGHT"),
        ("Everyone Sucks", "EVERYBODY", "WRONG"),
        ("NAH", "NOBODY", "RIGHT"),
        ("INFO", "INFO", ""),
        ("Asshole", "AUTHOR", "WRONG"),
        ("right", "", "RIGHT"),
        ("WRONG", "", "WRONG"),
        ("OTHER", "OTHER", "RIGHT"),
    ],
)
def test_a_plain_table_names_verdicts_as_people_do(tmp_path, name, verdict, binary):
    (one,) = read_posts([table(tmp_path / "a.csv", ("I sang, loudly.\r\nThen I slept.", name))])
    assert (one.verdict, one.binary, one.text) == (verdict, binary, "I sang, loudly.\nThen I slept.")
    assert (one.id, one.title, one.votes) == ("a/1", "", 0)


def test_marks_and_line_ends_of_windows_do_no_harm(tmp_path):
    rows = [scruples(id="a"), scruples(id="b", text="Zoë sang.")]
    plain = read_posts([written(tmp_path / "a.jsonl", *rows)])
    windows = read_posts([written(tmp_path / "b.jsonl", *rows, encoding="utf-8-sig", end="\r\n")])
    assert plain == windows
    bom = read_posts([table(tmp_path / "c.csv", ("Zoë sang.", "YTA"), encoding="utf-8-sig")])
    assert bom[0].text == "Zoë sang."


def test_bad_rows_are_all_named_at_once(tmp_path):
    rows = [
        scruples(id="a"),
        scruples(id="b", text=["I sang."]),
        scruples(id="c", label="  MAYBE", binarized_label="left out"),
        scruples(id="a"),
        scruples(id="d", title=3),
        scruples(id=1.5),
        scruples(id="f", label_scores={"AUTHOR": "many"}),
    ]
    refused(
        [written(tmp_path / "train.jsonl", *rows)],
        f"{tmp_path}: train.jsonl: line 2: text is a list, not text",
        "line 3: verdict 'MAYBE' is unknown (use YTA, NTA",
        "line 4: id 'a' is already in train.jsonl: line 1",
        'line 5: title is a number, not text; write it as text: "3"',
        "line 6: id is a number, neither text nor a whole number",
        "line 7: label_scores must map labels to numbers of votes",
    )


def test_many_bad_rows_are_counted(tmp_path):
    rows = [scruples(id=str(i), text=i) for i in range(25)]
    with pytest.raises(InputError, match=r'line 20: text is a number, not text.*"19"; and 5 more bad rows$'):
        read_posts([written(tmp_path / "a.jsonl", *rows)])


@pytest.mark.parametrize("column", ["text", "label", "id", "title"])
def test_a_missing_column_is_named(tmp_path, column):
    row = scruples(**{column: "left out"})
    message = f"a.jsonl: line 1: the column {column!r} is missing; the columns are: action"
    refused([written(tmp_path / "a.jsonl", row)], message)


def test_wrong_tables(tmp_path):
    refused(
        [table(tmp_path / "a.csv", ("x", "YTA"), header=("story", "verdict"))],
        "the column 'post' is missing; the columns are: story, verdict (it may be called text, body,",
    )
    refused(
        [table(tmp_path / "b.csv", ("x", "y", "YTA"))], "line 2 has 3 fields, the header has 2: quote fields"
    )
    refused([table(tmp_path / "c.csv", ("", "YTA"))], "the files have no posts with a text and a verdict")
    refused([table(tmp_path / "d.csv", ("a\nb", "YTA"), ("x", "?"))], "d.csv: line 4: verdict '?' is unknown")
    (tmp_path / "e.csv").write_text('post,verdict\n"open,YTA\n')
    refused([tmp_path / "e.csv"], "e.csv: line 2")
    refused([table(tmp_path / "f.csv")], "the files have no posts")


def test_latin_1_is_refused_with_the_place(tmp_path):
    latin = written(tmp_path / "a.jsonl", scruples(), scruples(id="b", title="Zoë"), encoding="latin-1")
    place = latin.read_bytes().split(b"\n")[1].index(b"\xeb") + 1
    refused(
        [latin],
        f"a.jsonl: line 2, byte {place}: b'\\xeb' is not UTF-8 (is the file Latin-1?); save it as UTF-8",
    )
    refused([written(tmp_path / "b.jsonl", scruples(), encoding="utf-16")], "b.jsonl: is UTF-16")
    (tmp_path / "c.jsonl").write_text("{broken\n")
    refused([tmp_path / "c.jsonl"], "c.jsonl: line 1 is not JSON")
    (tmp_path / "d.jsonl").write_text("[1]\n")
    refused([tmp_path / "d.jsonl"], "d.jsonl: line 1 is list, not a JSON object")


def test_missing_files_say_what_to_download(tmp_path):
    with pytest.raises(
        InputError, match=r"anecdotes\.tar\.gz.*Apache-2\.0.*unpack it there.*post and verdict"
    ):
        build_aita(AitaConfig(), tmp_path)
    with pytest.raises(InputError, match=r"must be \.jsonl or \.csv"):
        data_files(written(tmp_path / "a.txt"), SUFFIXES, DOWNLOAD)


def test_rows_without_an_id_are_named_by_file_and_number(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        table(tmp_path / name / "a.csv", (f"I sang in {name}.", "YTA"))
    paths = data_files(tmp_path, SUFFIXES, DOWNLOAD)
    assert shared_folder(paths) == tmp_path
    assert [one.id for one in read_posts(paths)] == ["one/a/1", "two/a/1"]


def test_half_a_surrogate_pair_and_a_column_named_twice(tmp_path):
    path = tmp_path / "half.jsonl"
    path.write_text(json.dumps(scruples(text="a")).replace('"a"', '"\\ud800"') + "\n")
    refused([path], "half.jsonl: line 1 has an unpaired surrogate")
    path.write_text(json.dumps(scruples(text="\U0001f600 ok")) + "\n")  # a whole pair, escaped
    assert read_posts([path])[0].text == "\U0001f600 ok"
    twice = table(tmp_path / "twice.csv", ("a", "YTA", "b"), header=("post", "verdict", "post"))
    refused([twice], "twice.csv: the header has the column 'post' twice")


def test_the_tables_that_others_publish(tmp_path):
    """The columns of iterative/aita_dataset, OsamaBsher's and MattBoraske's data sets, and Reddit's own."""
    tables = {
        "iterative": (
            "id,timestamp,title,body,edited,verdict,score,num_comments,is_asshole",
            "x,1533404095.0,T,B,False,asshole,5,6,1",
        ),
        "osama": ("title,text,verdict,comment1,comment2,score", "T,B,yta,c,c,5"),
        "matt": (
            "submission_id,submission_title,submission_text,submission_score,top_comment_1,top_comment_1_classification",
            "x,T,B,5,YTA. You know.,YTA",
        ),
        "reddit": ("id,title,selftext,link_flair_text", "x,T,B,Asshole POO Mode"),
        "boolean": ("body,is_asshole", "B,True"),
    }
    for kind, lines in tables.items():
        path = tmp_path / f"{kind}.csv"
        path.write_text("\n".join(lines) + "\n")
        (one,) = read_posts([path])
        assert (one.text, one.binary) == ("B", "WRONG"), kind
        assert one.title == ("" if kind == "boolean" else "T"), kind
        assert one.id == ("x" if "id," in lines[0] else f"{kind}/1"), kind


def test_the_index_that_pandas_writes_is_no_title(tmp_path):
    (one,) = read_posts([table(tmp_path / "a.csv", ("0", "I sang.", "YTA"), header=("", "post", "verdict"))])
    assert (one.id, one.title) == ("a/1", "")


@pytest.mark.parametrize("gone", ["[removed]", "[deleted]", "[ Removed by Reddit ]", " ", "nan", "None"])
def test_removed_posts_are_skipped_counted_and_said(tmp_path, gone):
    rows = [(f"I sang song {i}.", "YTA", "1") for i in range(6)]
    rows[1], rows[2], rows[4] = (gone, "NTA", "0"), ("I slept.", gone, ""), ("I ate.", "NTA", "yes")
    read = read_all([table(tmp_path / "a.csv", *rows, header=("post", "verdict", "is_asshole"))])
    assert (len(read.posts), read.removed, read.unjudged, read.contradicted) == (4, 1, 1, 1)
    assert [one.id for one in read.posts] == ["a/1", "a/4", "a/5", "a/6"]
    config = AitaConfig(data=str(tmp_path / "a.csv"), validation_items=1, test_items=1, train_items=1)
    for _ in range(2):  # when it is prepared, and when it was
        *counted, left_out = build_aita(config, tmp_path / "datasets").notes
        assert counted == [
            "posts without a text (removed or deleted), skipped: 1",
            "posts without a verdict, skipped: 1",
            "verdicts that contradict the column is_asshole, and stand: 1",
        ]
        assert left_out.startswith(
            "uses 3 of 4 posts with a cue (train 1, validation 1, test 1; config.task."
        )


def test_a_boolean_that_is_none_is_named(tmp_path):
    rows = [("I sang.", "perhaps")]
    refused(
        [table(tmp_path / "a.csv", *rows, header=("body", "is_asshole"))],
        "a.csv: line 2: is_asshole is 'perhaps'; write true or false (or yes or no, 1 or 0)",
    )
