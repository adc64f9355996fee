"""Flags of the form FIELD=VALUE: what they give, and what they refuse."""

import json

import pytest

from introspection.checkpoints.names import StoredModel
from introspection.errors import InputError
from introspection.probes.behavior import BehaviorConfig
from introspection.runs.config import EvaluationConfig
from introspection.runs.inherited import DEFAULT_TASK, explanation_room, readout_section, task_section
from introspection.runs.overrides import assigned_chat, assigned_section, field_value, load_fitting
from introspection.tasks.registry import default_section
from introspection.tasks.splits import TooFewError
from introspection.text.chat_template import ChatOptions


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("count=7", 7),
        ("share=1", 1.0),
        ("share=0.25", 0.25),
        ("flag=False", False),
        ("label=1", "1"),
        ("label=a=b", "a=b"),
        ("kinds=a,b", ["a", "b"]),
        ("kinds=('a','b')", ["a", "b"]),
        ("kinds=()", []),
        ("kinds=1,2", [1, 2]),
    ],
)
def test_a_field_takes_a_value_of_its_own_kind(assignment, expected):
    section = {"count": 3, "share": 0.5, "flag": True, "kinds": ["a"], "label": ""}
    field, value = field_value(assignment, section)
    assert field == assignment.partition("=")[0]
    assert value == expected
    assert type(value) is type(expected)


def test_data_and_fields_take_the_place_of_a_sections_own():
    section = default_section("jsonl")
    assert assigned_section(section, "", ()) == section
    chosen = assigned_section(section, "mine.jsonl", ("test_items=3", "seed=4"))
    assert chosen == section | {"data": "mine.jsonl", "test_items": 3, "seed": 4}
    with pytest.raises(InputError, match="--data: world_facts reads no file"):
        assigned_section(default_section("world_facts"), "mine.jsonl", ())
    for wrong in ("name=other", "sed=1", "seed"):
        with pytest.raises(InputError, match=f"--set={wrong}: give FIELD=VALUE; the fields are data, seed"):
            assigned_section(section, "", (wrong,))
    with pytest.raises(InputError, match="--set=seed=one: seed needs a value of type int, such as 0"):
        assigned_section(section, "", ("seed=one",))
    with pytest.raises(InputError, match="seed is -1; it must be at least 0"):
        assigned_section(section, "", ("seed=-1",))


def test_fields_that_a_runs_section_leaves_out_can_be_assigned():
    section = {"name": "world_facts", "test_facts": 3}
    assert assigned_section(section, "", ()) == section
    assert assigned_section(section, "", ("seed=2",)) == section | {"seed": 2}
    assert assigned_section({"name": "jsonl"}, "mine.jsonl", ()) == {"name": "jsonl", "data": "mine.jsonl"}


def test_a_small_file_fills_the_splits_of_a_probe_and_a_run_still_refuses_it(tmp_path):
    """Twenty posts: 30% test, 10% validation, the others for training."""
    file = tmp_path / "posts.csv"
    posts = [
        f"I broke {i} plates and {i * i} cups; then I left room {i}.,{['yta', 'nta'][i % 2]}\n"
        for i in range(20)
    ]
    file.write_text("post,verdict\n" + "".join(posts))
    section = default_section("aita") | {"data": str(file)}
    small, task = load_fitting(section, ("seed=1",), tmp_path)
    assert {split: len(items) for split, items in task.splits.items()} == dict(train=12, validation=2, test=6)
    assert small == section | {"train_items": 0, "validation_items": 2, "test_items": 6}
    assert task.notes[0].startswith(
        "the data have 20 questions, fewer than the 1,900 of the usual sizes; used: "
    )
    for refused in (("test_items=1400",), ()):  # sizes that are assigned stay, and so do those of a run
        with pytest.raises(TooFewError, match=r"1900 questions are asked for .* there are 20"):
            load_fitting(section, refused, tmp_path, [] if refused else [section])
    file.write_text("post,verdict\n" + "".join(posts[:2]))
    with pytest.raises(TooFewError, match="there are 2"):  # three splits need three
        load_fitting(section, (), tmp_path)


def test_a_chat_is_the_models_own_where_nothing_is_assigned():
    assert assigned_chat(()) == ChatOptions()
    assert assigned_chat(("system=",)) == ChatOptions(system="")
    assert assigned_chat(("system=a=b", "enable_thinking=True")) == ChatOptions("a=b", True)
    with pytest.raises(InputError, match="--chat=sytem=x: give FIELD=VALUE; the fields are system, enable"):
        assigned_chat(("sytem=x",))
    with pytest.raises(InputError, match="--chat=enable_thinking=1: enable_thinking needs a value"):
        assigned_chat(("enable_thinking=1",))
    with pytest.raises(InputError, match="enable_thinking needs a value of type bool"):
        assigned_chat(("enable_thinking={[]:1}",))
    with pytest.raises(InputError, match="'today' is not a date"):
        assigned_chat(("date=today",))


def test_the_task_of_models_is_their_runs_own_or_the_one_that_is_named(tmp_path):
    def stored(workdir: str, **section) -> StoredModel:
        folder = tmp_path / workdir
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"task": section}))
        return StoredModel(folder, "kl", 0, 1)

    facts, quiz = stored("a", name="world_facts", seed=3), stored("b", name="jsonl", data="x")
    more = stored("c", name="world_facts", seed=4)
    assert task_section([facts], "") == task_section([facts, quiz], "world_facts")
    assert task_section([facts, quiz], "world_facts") == {"name": "world_facts", "seed": 3}
    assert task_section([facts, more], "world_facts") == default_section("world_facts")
    assert task_section([], "") == default_section(DEFAULT_TASK)
    with pytest.raises(
        InputError, match=r"different items, so .*say which you mean, such as --task=world_facts"
    ):
        task_section([facts, quiz], "")
    with pytest.raises(InputError, match="trained on world_facts and jsonl; leave --task out"):
        task_section([facts, quiz], "aita")


@pytest.mark.parametrize(
    ("read", "config", "says"),
    [
        (lambda of: task_section(of, "world_facts"), {"task": {"x": 1}}, "task.name is None"),
        (explanation_room, {"evaluation": {"explanation_tokens": 0}}, "explanation_tokens is 0"),
        (lambda of: readout_section(of, ""), {"behavior": {"readout": "guess"}}, "guess"),
        (explanation_room, {"evaluation": 3}, "evaluation is 3"),
    ],
)
def test_a_stranger_s_config_is_refused_by_its_file(tmp_path, read, config, says):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError) as error:
        read([StoredModel(tmp_path, "kl", 0, 0)])
    assert says in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / 'config.json'}: ")
    assert "\n" not in str(error.value)


def test_fields_that_a_stored_section_lacks_are_the_defaults(tmp_path):
    stored = [StoredModel(tmp_path, "kl", 0, 0)]
    (tmp_path / "config.json").write_text(
        json.dumps({"evaluation": {}, "behavior": {"readout": "likeliest"}})
    )
    assert explanation_room(stored) == EvaluationConfig().explanation_tokens
    section = readout_section(stored, "")
    assert (section["readout"], section["reply_tokens"]) == ("likeliest", BehaviorConfig().reply_tokens)
