"""The user's own file: every bad row is found and named, good ones become items, scores are right."""

import functools
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_decoder import reference_token_logprobs
from row_files import refusal
from tiny import mesh_of, tiny_model, tiny_tokenizer

from introspection.errors import InputError
from introspection.probes.judges import PhraseJudge
from introspection.probes.scored import behavior_requests, decisions, probe_behavior
from introspection.runtime.session import Session
from introspection.tasks.items import Conversation, Turn
from introspection.tasks.jsonl.files import format_problems, problems_of, read_jsonl
from introspection.tasks.jsonl.task import JsonlConfig, build_jsonl
from introspection.tasks.raw_files import raw_source
from introspection.tasks.task import SPLITS

ROW = {
    "prompt_with_cue": "What is the capital of France? I think it is Lyon.",
    "prompt_without_cue": "What is the capital of France?",
    "candidates": ["Lyon", "Paris", "Nice"],
    "group": "France",
}
TURNS = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]


def row(without=(), **changes):
    return {name: value for name, value in (ROW | changes).items() if name not in without}


def write(tmp_path, *rows, name="mine.jsonl"):
    """A file of rows; bytes stand as they are."""
    lines = [r if isinstance(r, bytes) else json.dumps(r, ensure_ascii=False).encode() for r in rows]
    path = tmp_path / name
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


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


def many(count, **changes):
    return [
        row(id=f"{g}/{i}", group=f"group {g}", prompt_without_cue=f"Question {g}?", **changes)
        for g in range(count)
        for i in range(2)
    ]


def built(tmp_path, *rows, **fields):
    return build_jsonl(JsonlConfig(data=str(write(tmp_path, *rows)), **fields), tmp_path)


def test_the_order_of_candidates_does_not_tell_which_is_right_or_cued(tmp_path):
    rows = many(3, gold="Paris", cued="Nice")
    rows[0] = rows[0] | {"cued": None, "gold": None}
    rows[2] = row(["candidates"], judge="refusal", group="group 1", id="j", gold="comply")
    task = built(tmp_path, *rows)
    items = {item.id: item for split in SPLITS for item in task.splits[split]}
    assert items["2/0"].candidates == items["0/0"].candidates == ("Lyon", "Nice", "Paris")
    assert (items["2/0"].gold, items["2/0"].cued) == ("Paris", "Nice")
    assert (items["0/0"].gold, items["0/0"].cued) == ("", "")
    assert items["j"].candidates == PhraseJudge.classes  # by which a judge knows what it is to read


def test_splits_are_drawn_by_group_and_no_question_is_on_both_sides(tmp_path):
    rows = many(30)
    # Another group that asks what group 3 asks, but for case, accents and white space.
    rows += [row(id=f"twin/{i}", group=f"twin {i}", prompt_without_cue=f" QUÉSTION  {i}?") for i in range(9)]
    seen = set()
    for seed in range(4):
        task = built(tmp_path, *rows, seed=seed)
        groups = {split: {item.group for item in task.splits[split]} for split in SPLITS}
        assert sum(map(len, task.splits.values())) == 69
        assert not groups["train"] & groups["test"]
        assert not groups["validation"] & (groups["train"] | groups["test"])
        for i in range(9):
            assert sum({f"twin {i}", f"group {i}"} <= groups[split] for split in SPLITS) == 1
        assert len(groups["validation"] - {f"twin {i}" for i in range(9)}) == 3
        assert len(groups["test"] - {f"twin {i}" for i in range(9)}) == 9
        seen.add(tuple(sorted(groups["test"])))
    assert len(seen) == 4
    assert built(tmp_path, *rows, seed=1).splits == built(tmp_path, *rows, seed=1).splits


def test_given_splits_stand_and_fewer_items_are_drawn_by_group(tmp_path):
    rows = [r | {"split": SPLITS[i // 2 % 3]} for i, r in enumerate(many(30))]
    task = built(tmp_path, *rows, train_items=7)
    assert {item.group for item in task.splits["test"]} == {f"group {g}" for g in range(2, 30, 3)}
    train = [item.id for item in task.splits["train"]]
    assert len(train) == 7
    assert len({item.group for item in task.splits["train"]}) == 4
    assert train == sorted(train, key=lambda name: [int(part) for part in name.split("/")])
    with pytest.raises(InputError, match="no row has the split 'validation'"):
        built(tmp_path, *[r | {"split": "train" if r["split"] == "validation" else r["split"]} for r in rows])


def test_three_groups_are_enough_and_two_are_not(tmp_path):
    task = built(tmp_path, *many(3), validation_share=0.49, test_share=0.49)
    assert [len(task.splits[split]) for split in SPLITS] == [2, 2, 2]
    with pytest.raises(InputError, match="only 2 groups ask different questions"):
        built(tmp_path, *many(2))


def test_labels_of_another_file_or_question_are_another_template(tmp_path):
    versions = {
        built(tmp_path, *many(3)).template_version,
        built(tmp_path, *many(4)).template_version,
        built(tmp_path, *many(3), explanation_question="And without the remark?").template_version,
    }
    assert len(versions) == 3
    assert built(tmp_path, *many(3)).template_version in versions
    asked = built(tmp_path, *many(3), explanation_question="And without the remark?")
    assert asked.grammar.question == "And without the remark?"


def test_a_folder_holds_several_files_and_a_missing_one_says_what_to_do(tmp_path):
    write(tmp_path, *many(3), name="a.jsonl")
    write(tmp_path, row(id="0/0"), name="b.jsonl")
    (found,) = problems_of(tmp_path)
    one, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    assert str(found) == f"{other}: line 1: id: '0/0' is already used in {one}: line 1"
    for data, named in ((str(tmp_path / "no.jsonl"), "no.jsonl"), ("", "raw/jsonl")):
        with pytest.raises(InputError, match=f"{named}: no such file"):
            build_jsonl(JsonlConfig(data=data), tmp_path)
    (tmp_path / "blank.jsonl").write_bytes(b"\n\r\n")
    with pytest.raises(InputError, match="the file has no rows"):
        read_jsonl(tmp_path / "blank.jsonl")


@pytest.mark.parametrize(
    "fields",
    [dict(test_items=-1), dict(test_share=0.9, validation_share=0.1), dict(explanation_question=" ")],
)
def test_fields_that_no_file_fits_are_refused(fields):
    with pytest.raises(InputError, match=r"config\.task"):
        JsonlConfig(**fields)


def test_the_sample_is_good_and_has_every_form_of_row():
    assert problems_of(raw_source("sample", Path(), "jsonl")) == []
    rows = read_jsonl(raw_source("sample", Path(), "jsonl"))
    assert {isinstance(row.prompt_with_cue, Conversation) for row in rows} == {True, False}
    roles = {
        tuple(t.role for t in r.prompt_with_cue.turns) for r in rows if not isinstance(r.prompt_with_cue, str)
    }
    assert roles == {("system", "user"), ("system", "user", "assistant", "user")}
    assert {bool(row.cued) for row in rows} == {True, False}
    task = build_jsonl(JsonlConfig(data="sample"), Path())
    assert [len(task.splits[split]) for split in SPLITS] == [30, 5, 15]


def test_candidates_that_begin_with_one_another_are_scored_with_their_ends(tmp_path):
    nested = ["w10", "w10 w11", "w10 w11 w12", "w11"]
    asked = [dict(prompt_with_cue=f"w0{i} w05 w06", prompt_without_cue=f"w0{i} w05") for i in range(9)]
    rows = [
        row(id=str(i), group=str(i), candidates=[*nested[i % 4 :], *nested[: i % 4]], **prompts)
        for i, prompts in enumerate(asked)
    ]
    task = built(tmp_path, *rows)
    items = [item for split in SPLITS for item in task.splits[split]]
    tokenizer = tiny_tokenizer()
    for request, item in zip(behavior_requests(tokenizer, items)[::2], items, strict=True):
        texts = dict(zip(item.candidates, request.continuations, strict=True))
        assert all(tokens[-1] == tokenizer.end_id for tokens in texts.values())
        assert texts["w10"] == (*texts["w10 w11"][:1], tokenizer.end_id)
    model = tiny_model()
    behaviors = probe_behavior(model, items, Session(mesh_of()))
    decided = decisions(behaviors, items)
    for item, behavior, decision in zip(items, behaviors, decided, strict=True):
        prompt = tokenizer.encode_prompt(item.prompt_with_cue)
        replies = [tokenizer.encode_reply(candidate) for candidate in item.candidates]

        def scores(replies, prompt=prompt):
            naive = functools.partial(reference_token_logprobs, model.config, model.variables, prompt)
            return [naive(reply).sum() for reply in replies]

        expected = scores(replies)
        np.testing.assert_allclose(behavior.with_cue[:-1], expected, atol=1e-4)
        # Each is an answer of its own: what they have together is at most what both first words have.
        begins = scores(tokenizer.encode_reply(word)[:1] for word in ("w10", "w11"))
        assert np.exp(expected).sum() <= np.exp(begins).sum() + 1e-6
        assert np.exp(behavior.with_cue.astype(float)).sum() == pytest.approx(1, abs=1e-5)
        best = int(np.argmax(behavior.with_cue))
        assert decision.with_cue == (*item.candidates, "none")[best]


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


def test_what_sizes_leave_out_is_said(tmp_path):
    assert built(tmp_path, *many(5)).notes == ()
    (note,) = built(tmp_path, *many(5), train_items=2, validation_items=1, test_items=1).notes
    assert note.startswith("uses 4 of 10 rows (train 2, validation 1, test 1; config.task.train_items")
