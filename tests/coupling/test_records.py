"""Prediction records: what is written is read back, in the layout that others read."""

import json

import pytest

from introspection.coupling.records import PredictionRecord, read_records, write_records
from introspection.errors import InputError
from introspection.tasks.items import INVALID, NONE, Decisions, Explanation


def records() -> list[PredictionRecord]:
    common = {
        "arm": "kl",
        "seed": 3,
        "group": "norway",
        "cue_kind": "guess",
        "candidates": ("Oslo", "Zürich", 'a "quoted"\nname'),
        "gold": "Oslo",
        "cued": "Zürich",
        "prompt_with_cue": "Is it Zürich?\u2028Yes",
        "prompt_without_cue": "Where?",
        "teacher": Decisions("Zürich", "Oslo"),
        "initial": Decisions(NONE, "Oslo"),
        "current": Decisions("Oslo", "Oslo"),
    }
    return [
        PredictionRecord(
            **common,
            id="1",
            explanation_text="It would stay Oslo",
            explanation=Explanation(False, "Oslo"),
            subset="held_out",
        ),
        PredictionRecord(**common, id="2", explanation_text="Well…\n", explanation=INVALID),
    ]


def test_records_round_trip_through_a_file(tmp_path):
    path = tmp_path / "predictions.jsonl"
    write_records(path, records())
    restored = read_records(path)
    assert restored == records()
    assert isinstance(restored[0].teacher, Decisions)
    assert isinstance(restored[0].candidates, tuple)
    assert not restored[1].explanation.valid
    assert {p.name for p in tmp_path.iterdir()} == {"predictions.jsonl", "predictions.jsonl.sha256"}


def test_a_line_has_the_documented_layout(tmp_path):
    write_records(tmp_path / "predictions.jsonl", records())
    lines = (tmp_path / "predictions.jsonl").read_bytes().decode("utf-8").split("\n")
    assert len(lines) == 3  # two objects, and nothing after the last line's end
    first, second = map(json.loads, lines[:2])
    assert (first["subset"], second["subset"]) == ("held_out", "")
    assert {"arm", "seed", "id", "group", "cue_kind", "candidates", "teacher", "initial", "current"} < set(
        first
    )
    assert first["teacher"] == {"with_cue": "Zürich", "without_cue": "Oslo"}
    assert first["explanation"] == {"text": "It would stay Oslo", "changed": False, "answer": "Oslo"}
    assert second["explanation"] == {"text": "Well…\n", "changed": None, "answer": None}


def test_a_line_of_before_there_were_subsets_is_read(tmp_path):
    fields = records()[1].to_json()
    assert fields.pop("subset") == ""
    (tmp_path / "predictions.jsonl").write_text(json.dumps(fields) + "\n", encoding="utf-8")
    assert read_records(tmp_path / "predictions.jsonl") == records()[1:]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "predictions.jsonl"
    write_records(path, records())

    def failing():
        yield records()[0]
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        write_records(path, failing())
    assert read_records(path) == records()


WRONG_TYPES = {
    "seed": "3",
    "group": None,
    "candidates": [1],
    "prompt_with_cue": 5,
    "shifted": 1,
    "teacher": {"with_cue": 1, "without_cue": "Oslo"},
    "explanation": {"text": "x", "changed": "yes", "answer": None},
    "subset": [],
}


@pytest.mark.parametrize("field", WRONG_TYPES)
def test_a_value_of_another_type_is_refused_with_its_line(field, tmp_path):
    lines = [record.to_json() for record in records()]
    lines[1][field] = WRONG_TYPES[field]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match=r"records\.jsonl:2 can't be read \(ValueError: .*another type"):
        read_records(tmp_path / "records.jsonl")


def test_explanation_follows_from_decisions():
    teacher, initial, current = (getattr(records()[0], name) for name in ("teacher", "initial", "current"))
    assert teacher.explanation == Explanation(True, "Oslo")
    assert initial.explanation == Explanation(True, "Oslo")
    assert current.explanation == Explanation(False, "Oslo")
