"""The predecessor's data sets: rows that bring their hints and a model's predictions, in parquet or JSON."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mmlu_cases import SYSTEM, hinted
from row_files import refusal, write_lines

from introspection.tasks.hint_mmlu.hinted import hinted_files, read_hinted
from introspection.tasks.hint_mmlu.task import HintMmluConfig, build_hint_mmlu
from introspection.tasks.items import NONE, Conversation, Decisions, Turn

SIZES = dict(validation_items=3, test_items=6)


def parquet(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def built(tmp_path, data, **fields):
    return build_hint_mmlu(HintMmluConfig(data=str(data), **SIZES | fields), tmp_path / "datasets")


def test_items_are_asked_as_published_and_the_predictions_are_decisions(tmp_path):
    rows = [hinted(i, changed_pred_bc_hint=None if i % 4 else True) for i in range(20)]
    rows[0] |= {"random_hint_prediction": "B", "changed_pred_bc_hint": False}
    rows[1] |= {"zeroshot_prediction": "The"}
    parquet(tmp_path / "hub" / "data" / "test-00000-of-00001.parquet", rows[:5])
    parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet", rows[5:])
    (tmp_path / "hub" / "data" / "._train-00000-of-00001.parquet").write_bytes(b"\x00\x05\x16\x07")
    task = built(tmp_path, tmp_path / "hub")
    items = {item.id: item for split in task.splits.values() for item in split}
    assert [len(task.splits[split]) for split in ("train", "validation", "test")] == [11, 3, 6]
    one = items["train-00000-of-00001/1"]
    assert one.prompt_with_cue == Conversation(
        (Turn("system", SYSTEM), Turn("user", rows[5]["hint_user_prompt"]))
    )
    assert one.prompt_without_cue.turns[1].content == rows[5]["original_user_prompt"]
    assert (one.candidates, one.cued, one.gold) == (("A", "B", "C", "D"), "C", "")
    decisions = task.published()
    assert decisions.keys() == items.keys()
    assert decisions["train-00000-of-00001/1"] == Decisions(with_cue="C", without_cue="B")
    assert decisions["test-00000-of-00001/1"] == Decisions("B", "B")
    assert decisions["test-00000-of-00001/2"] == Decisions("C", NONE)


def test_json_lines_and_a_list_say_the_same_as_parquet(tmp_path):
    rows = [hinted(i, subject="law", answer="ABCD"[i % 4], id=i) for i in range(9)]
    paths = [
        parquet(tmp_path / "p" / "train.parquet", rows),
        write_lines(tmp_path / "train.jsonl", rows, encoding="utf-8-sig", end="\r\n"),
        tmp_path / "train.json",
    ]
    paths[2].write_text(json.dumps([row | {"answer": i % 4, "id": f"{i}"} for i, row in enumerate(rows)]))
    read = [read_hinted([path]) for path in paths]
    assert read[0] == read[1] == read[2]
    assert (read[0][5].id, read[0][5].subject, read[0][5].answer, read[0][5].named) == ("5", "law", "B", "C")
    assert all(hinted_files(path) == (path,) for path in paths)


@pytest.mark.parametrize(
    ("hint", "named"),
    [
        ("Hint: I think the answer is (A) but I'm curious to hear what you think.", "A"),
        ("Hint: the answer is D.", "D"),
        (" B ", "B"),
        ("Hint: A clever one.", ""),
        (None, ""),
    ],
)
def test_the_letter_that_a_hint_names(tmp_path, hint, named):
    (one,) = read_hinted([write_lines(tmp_path / "a.jsonl", [hinted() | {"hint": hint}])])
    assert one.named == named


@pytest.mark.parametrize(
    ("said", "letter"), [("B", "B"), (" B", "B"), ("Answer: B", "B"), ("(B)", "B"), ("b", NONE)]
)
def test_predictions_are_letters_or_none(tmp_path, said, letter):
    row = hinted(zeroshot_prediction=said, changed_pred_bc_hint="left out")
    assert read_hinted([write_lines(tmp_path / "a.jsonl", [row])])[0].predicted_without == letter


@pytest.mark.parametrize("changed", [True, 1, 1.0, "True", "yes", None, "", float("nan")])
def test_whether_the_hint_changed_it_is_read_in_any_form(tmp_path, changed):
    assert read_hinted([write_lines(tmp_path / "a.jsonl", [hinted(changed_pred_bc_hint=changed)])])


def test_bad_rows_are_named(tmp_path):
    rows = [
        hinted(0, changed_pred_bc_hint="False"),
        hinted(1, changed_pred_bc_hint="perhaps"),
        hinted(2, zeroshot_prediction=None),
        hinted(3, hint_user_prompt=hinted(3)["original_user_prompt"]),
        hinted(4, original_user_prompt=" "),
        hinted(5, answer="E"),
        hinted(6, random_hint_prediction=2),
    ]
    refusal(
        read_hinted,
        [write_lines(tmp_path / "a.jsonl", rows)],
        says=[
            "line 1: changed_pred_bc_hint is False, but the predictions are C and B",
            "line 2: changed_pred_bc_hint is 'perhaps'; write true or false",
            "line 3: zeroshot_prediction is missing",
            "line 4: hint_user_prompt equals original_user_prompt: there is no hint",
            "line 5: original_user_prompt is missing",
            "line 6: answer must be A to D or 0 to 3",
            'line 7: random_hint_prediction is a number, not text; write it as text: "2"',
        ],
    )


def test_sizes_beyond_the_data_train_on_what_is_left_and_what_is_left_out_is_said(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [hinted(i) for i in range(30)])
    assert len(built(tmp_path, path).splits["train"]) == 21
    assert built(tmp_path, path).notes == ()
    refusal(built, tmp_path, path, train_items=100, says=["100"])  # chosen, so not as many as are left
    (note,) = built(tmp_path, path, train_items=4).notes
    assert note.startswith("uses 13 of 30 questions (train 4, validation 3, test 6; config.task.train_items")


def test_fields_that_write_prompts_do_not_apply_and_predictions_may_be_absent(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [hinted(i) for i in range(30)])
    for field, value in (("hint_place", "before"), ("cue_kinds", ("belief",)), ("instruction", "")):
        refusal(
            built, tmp_path, path, **{field: value}, says=[f"config.task.{field}", "bring their own prompts"]
        )
    bare = [hinted(i, zeroshot_prediction="left out", random_hint_prediction="left out") for i in range(30)]
    task = built(tmp_path, write_lines(tmp_path / "b.jsonl", bare))
    refusal(task.published, says=["random_hint_prediction and zeroshot_prediction; name a model"])


def test_labels_of_other_files_are_of_another_template(tmp_path):
    paths = [write_lines(tmp_path / f"{n}.jsonl", [hinted(i) for i in range(n)]) for n in (20, 21)]
    assert len({built(tmp_path, path).template_version for path in paths}) == 2
