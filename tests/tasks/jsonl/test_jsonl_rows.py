"""Rows of the user's own file: every bad one is found and named, good ones are read."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonl_cases import ROW, many, row, write
from row_files import refusal

from introspection.errors import InputError
from introspection.tasks.items import Conversation, Turn
from introspection.tasks.jsonl.files import format_problems, problems_of, read_jsonl
from introspection.tasks.jsonl.task import JsonlConfig, build_jsonl
from introspection.tasks.task import SPLITS

TURNS = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]


def problems(tmp_path, *rows):
    return [(p.line, p.field, p.why) for p in problems_of(write(tmp_path, *rows))]


BAD = {
    "broken": (b'{"group": "a",', "", "is not JSON: Expecting property name"),
    "two objects": (b'{"a": 1} {"b": 2}', "", "is not JSON: Extra data, column 10"),
    "a list": (b"[1]", "", "is a list, not a JSON object"),
    "empty object": (b"{}", "", "is an empty object"),
    "deep": (b"[" * 100_000, "", "is not readable JSON"),
    "Latin-1": (
        '{"group": "Orléans"}'.encode("latin-1"),
        "",
        "byte 15 (0xe9) is not UTF-8 (is the file Latin-1?)",
    ),
    "missing": (row(without=["group"]), "group", "is missing"),
    "no answers": (row(without=["candidates"]), "candidates", "is missing (or name a judge)"),
    "both answers": (row(judge="refusal"), "judge", "is given together with candidates"),
    "misspelt": (row(grup="a"), "grup", "is not a known field; did you mean group?"),
    "unknown": (row(zebra="a"), "zebra", "is not a known field; the fields are prompt_with_cue, "),
    "twice": (b'{"id": "a", "id": "b", ' + json.dumps(ROW)[1:].encode(), "id", "is given twice"),
    "fraction": (row(group=7.5), "group", "is a number, neither text nor a whole number"),
    "number": (row(gold=7), "gold", 'is a number, not text; write it as text: "7"'),
    "object": (row(id={}), "id", "is an object, neither text nor a whole number"),
    "empty text": (row(group=" "), "group", "is missing"),
    "surrogate": (
        b'{"cue_kind": "\\ud800", ' + json.dumps(ROW)[1:].encode(),
        "cue_kind",
        "unpaired surrogate",
    ),
    "empty prompt": (row(prompt_with_cue=" \n"), "prompt_with_cue", "is empty"),
    "prompt type": (row(prompt_with_cue=3), "prompt_with_cue", "is a number, neither text nor a list"),
    "no turns": (row(prompt_with_cue=[]), "prompt_with_cue", "has no turns"),
    "turn fields": (row(prompt_with_cue=[{"role": "user"}]), "prompt_with_cue", 'turn 1 is not {"role"'),
    "turn role": (
        row(prompt_with_cue=[{"role": "bot", "content": "x"}]),
        "prompt_with_cue",
        "turn 1: the role is 'bot'; choose from system, user, assistant",
    ),
    "turn content": (row(prompt_with_cue=[{"role": "user", "content": 1}]), "prompt_with_cue", "is a number"),
    "empty turn": (
        row(prompt_with_cue=[{"role": "user", "content": ""}]),
        "prompt_with_cue",
        "turn 1 is empty",
    ),
    "last turn": (row(prompt_with_cue=TURNS), "prompt_with_cue", "must end with the user's turn"),
    "late system": (
        row(prompt_with_cue=[TURNS[0], {"role": "system", "content": "x"}, TURNS[0]]),
        "prompt_with_cue",
        "turn 2 is a system text",
    ),
    "two systems": (
        row(system="x", prompt_with_cue=[{"role": "system", "content": "x"}, TURNS[0]]),
        "prompt_with_cue",
        "turn 1 is a system text; only the first turn can be, and only one",
    ),
    "equal prompts": (
        row(prompt_with_cue="What is the  capital of France? "),
        "prompt_with_cue",
        "equals prompt_without_cue: there is no cue",
    ),
    "text of candidates": (row(candidates="A, B"), "candidates", "is text, not a list of texts"),
    "one candidate": (row(candidates=["A"]), "candidates", "has 1; give two or more"),
    "candidate type": (row(candidates=["A", 2]), "candidates", "number 2 is a number, not text"),
    "empty candidate": (row(candidates=["A", ""]), "candidates", "number 2 is ''"),
    "stray space": (row(candidates=["A", "B "]), "candidates", "number 2 is 'B '"),
    "same letter": (row(candidates=["A", "B", "A"]), "candidates", "number 3 equals number 1 up to case"),
    "same folded": (
        row(candidates=["São  Tomé", "são tome\u0301"]),
        "candidates",
        "number 2 equals number 1",
    ),
    "same width": (row(candidates=["バリ", "ﾊﾞﾘ"]), "candidates", "number 2 equals number 1"),
    "same symbol": (
        row(candidates=["No", "No"], case_counts=True),
        "candidates",
        "equals number 1 up to white",
    ),
    "case counts": (row(case_counts="often"), "case_counts", "write true or false"),
    "reserved": (
        row(candidates=["A", "None"]),
        "candidates",
        "number 2 is 'None', which is a reserved answer",
    ),
    "reserved phrase": (
        row(candidates=["something else", "B"]),
        "candidates",
        "number 1 is 'something else'",
    ),
    "gold": (
        row(gold="Rome"),
        "gold",
        "is 'Rome'; it must be one of the candidates 'Lyon', 'Paris', 'Nice'",
    ),
    "cued": (row(cued="paris"), "cued", "is 'paris'; it must be one of the candidates"),
    "judged gold": (row(without=["candidates"], judge="refusal", gold="no"), "gold", "'comply', 'refuse'"),
    "judge": (row(without=["candidates"], judge="mood"), "judge", "is 'mood'; choose from refusal"),
    "split": (row(split="dev"), "split", "is 'dev'; choose from train, validation, test"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_named_with_its_line_its_field_and_why(tmp_path, name):
    bad, field, why = BAD[name]
    found = problems(
        tmp_path, row(id="first", split="train") if name == "split" else row(id="first"), b"", bad
    )
    assert [(line, named) for line, named, _ in found] == [(3, field)]
    assert why in found[0][2]


def test_all_problems_of_a_row_are_found(tmp_path):
    found = problems(tmp_path, row(group="", candidates=["A", "a", "A"], gold=1, colour="red"))
    assert sorted(field for _, field, _ in found) == ["candidates", "candidates", "colour", "gold", "group"]


@pytest.mark.parametrize(
    ("second", "field", "why"),
    [
        (row(id="a", split="train"), "id", "'a' is already used in line 1"),
        (row(id="b", split="test"), "split", "puts group 'France' in test, but line 1 in train"),
        (row(id="b", group="x", split="test"), "split", "asks in test what line 1 asks in train"),
        (row(id="b"), "split", "is missing, but line 1 has one: give it in all rows or in none"),
    ],
    ids=str,
)
def test_rows_that_do_not_go_together_are_named(tmp_path, second, field, why):
    found = problems(tmp_path, row(id="a", split="train"), second)
    assert found == [(2, field, why)]


def test_the_build_names_the_first_problem_in_one_line_and_counts_the_others(tmp_path):
    path = write(tmp_path, row(), row(group=""), row(group="b", candidates=["A"]), b"{", b"{")
    assert refusal(build_jsonl, JsonlConfig(data=str(path)), tmp_path) == (
        f"{path}: line 2: group: is missing (and 3 more: experiments.probe --task=jsonl --data={path} "
        "--dry-run lists them)"
    )
    lines = format_problems(problems_of(path))
    assert lines[:2] == [
        f"{path}: line 2: group: is missing",
        f"{path}: line 3: candidates: has 1; give two or more",
    ]
    assert lines[-1] == "4 problems in 4 rows"
    assert format_problems([]) == []


def test_at_most_twenty_problems_are_shown_and_the_others_counted(tmp_path):
    lines = format_problems(problems_of(write(tmp_path, *[row(group="", id=str(i)) for i in range(33)])))
    assert len(lines) == 22
    assert lines[-2:] == ["and 13 more", "33 problems in 33 rows"]
    assert not any("\n" in line for line in lines)


def test_a_row_of_very_many_fields_takes_no_longer_than_its_bytes(tmp_path):
    """Names are neither each compared with all others nor each looked up by its spelling."""
    names = "".join(f'"c{i}": 1, ' for i in range(100_000))
    (tmp_path / "a.jsonl").write_text(f'{{{names}"c1": 2}}')
    found = [str(one) for one in problems_of(tmp_path / "a.jsonl")]
    assert any("c1: is given twice" in one for one in found)
    assert any("has 99,980 more unknown fields" in one for one in found)


def test_marks_of_windows_and_text_that_looks_like_control_tokens_do_no_harm(tmp_path):
    odd = row(
        id="odd", group="é", prompt_with_cue="<|im_end|> </s> [INST] <end>\u2028\n{}", candidates=["是", "否"]
    )
    plain = write(tmp_path, row(id="a"), odd)
    marked = tmp_path / "marked.jsonl"
    marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert problems_of(marked) == []
    read = [read_jsonl(path) for path in (plain, marked)]
    assert [r.prompt_with_cue for r in read[0]] == [r.prompt_with_cue for r in read[1]]
    assert read[0][1].prompt_with_cue == odd["prompt_with_cue"]


def test_words_that_a_mark_or_the_case_tells_apart_are_two(tmp_path):
    kana = row(id="a", group="a", prompt_without_cue="パリ？", candidates=["パリ", "バリ"], split="train")
    rest = [
        row(id="b", group="b", prompt_without_cue="バリ？", candidates=["año", "ano"], split="validation"),
        row(id="c", group="c", candidates=["No", "NO"], case_counts=True, split="test"),
    ]
    path = write(tmp_path, kana, *rest)
    assert problems_of(path) == []
    task = build_jsonl(JsonlConfig(data=str(path)), tmp_path)
    assert [task.splits[split][0].case_counts for split in SPLITS] == [False, False, True]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_encodings_are_named(tmp_path, encoding):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(ROW), encoding=encoding)
    with pytest.raises(InputError, match="UTF-16"):
        problems_of(path)


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reader(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bytes") / "mine.jsonl"
    path.write_bytes(b"x" + data)
    assert problems_of(path)


def test_conversations_systems_and_optional_fields_are_read(tmp_path):
    turns = [*TURNS, {"role": "user", "content": "Is it Rome?"}]
    said = dict(cue_kind="doubt", stratum="cities", gold="Paris", cued="Nice", judge=None)
    chat = row(prompt_with_cue=turns, system="Be brief.", id="chat", **said)
    judged = row(without=["candidates"], judge="refusal", group="b", gold="comply")
    read = read_jsonl(write(tmp_path, chat, judged))
    system = Turn("system", "Be brief.")
    assert read[0].prompt_with_cue == Conversation((system, *(Turn(**turn) for turn in turns)))
    assert read[0].prompt_without_cue.turns == (system, Turn("user", ROW["prompt_without_cue"]))
    assert (read[0].id, read[1].id) == ("chat", "mine.jsonl:2")
    assert read[1].candidates == ("comply", "refuse")
    assert read[1].prompt_with_cue == ROW["prompt_with_cue"]
    assert (read[1].cued, read[1].stratum, read[1].split) == ("", "", "")


def test_a_list_and_a_compressed_file_are_read_and_a_bad_row_is_named_by_its_number(tmp_path):
    plain = write(tmp_path, *many(3))
    (tmp_path / "list.json").write_text(json.dumps(many(3), indent=1))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    (tmp_path / "folder" / "._a.jsonl").write_bytes(b"\x00\x05\x16\x07")
    for path in (tmp_path / "list.json", tmp_path / "folder"):
        assert [r.prompt_with_cue for r in read_jsonl(path)] == [r.prompt_with_cue for r in read_jsonl(plain)]
    (tmp_path / "list.json").write_text(json.dumps([row(id="a"), row(id="a"), row(gold=1)]))
    assert [str(problem).removeprefix(f"{tmp_path}/") for problem in problems_of(tmp_path / "list.json")] == [
        "list.json: row 2: id: 'a' is already used in row 1",
        'list.json: row 3: gold: is a number, not text; write it as text: "1"',
    ]


def test_whole_numbers_are_names_and_empty_texts_are_not_given(tmp_path):
    numbered = write(tmp_path, row(group=1, id=2, cue_kind=3.0, gold="", cued=None, stratum=" ", system=""))
    [found] = read_jsonl(numbered)
    assert (found.group, found.id, found.cue_kind, found.gold, found.stratum) == ("1", "2", "3", "", "")
    assert found.prompt_with_cue == ROW["prompt_with_cue"]


def test_half_surrogates_in_names_are_named_in_a_line_that_any_terminal_takes(tmp_path):
    bad = b'{"\\ud800key": 1, ' + json.dumps(ROW)[1:].encode()
    lines = format_problems(problems_of(write(tmp_path, bad)))
    assert "\\ud800key: is not a known field" in lines[0]
    "\n".join(lines).encode()
    turn = b'[{"role": "\\ud800", "content": "x"}]'
    for field in (b'"group": "\\ud800"', b'"candidates": ["a", "\\udfff"]', b'"prompt_with_cue": ' + turn):
        bad = (
            json.dumps({n: v for n, v in ROW.items() if n not in field.decode()})[:-1].encode()
            + b", "
            + field
            + b"}"
        )
        (line, _) = format_problems(problems_of(write(tmp_path, bad)))
        line.encode()
