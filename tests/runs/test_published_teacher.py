"""A published label teacher: the decisions that the task's data bring stand for its behaviour."""

import json

import pytest
from mmlu_cases import hinted
from row_files import refusal, write_lines

from introspection.runs.config import RunConfig
from introspection.runs.models import stored_models
from introspection.runs.setup import published_teacher
from introspection.runs.training_items import drawn_items, natural_items
from introspection.runtime.session import Session
from introspection.tasks.items import NONE, Decisions
from introspection.tasks.registry import default_section, load_task
from introspection.tasks.task import SPLITS


def row(number: int) -> dict:
    """The hint changes the answer of every second question, and of one the model says no letter."""
    without = "The" if number == 4 else "A" if number % 2 else "C"
    said = {"random_hint_prediction": "A", "zeroshot_prediction": without, "changed_pred_bc_hint": "left out"}
    return hinted(number, "A", **said)


@pytest.fixture
def configured(tmp_path):
    data = write_lines(tmp_path / "train.jsonl", [row(i) for i in range(24)])
    sizes = {"data": str(data), "validation_items": 4, "test_items": 4}
    task = default_section("hint_mmlu") | sizes
    config = RunConfig(task=task, initial="somewhere", label_teacher="published:Qwen3-8B")
    return config, load_task(task, tmp_path)[0]


def test_its_decisions_are_those_of_the_data_and_its_fingerprint_is_of_them(configured, tmp_path):
    config, task = configured
    teacher = published_teacher(config, task)
    for split in SPLITS:
        for item, decided in zip(task.splits[split], teacher.decisions[split], strict=True):
            number = int(item.id.removeprefix("train/")) - 1
            without = NONE if number == 4 else "A" if number % 2 else "C"
            assert decided == Decisions(with_cue="A", without_cue=without)
    assert teacher.fingerprint.startswith("published:Qwen3-8B/")
    other = write_lines(tmp_path / "other.jsonl", [row(i) | {"zeroshot_prediction": "D"} for i in range(24)])
    changed, _ = load_task(config.task | {"data": str(other)}, tmp_path)
    assert published_teacher(config, changed).fingerprint != teacher.fingerprint


def test_labels_come_from_it(configured):
    config, task = configured
    decided = published_teacher(config, task).decisions["train"]
    items, labels = drawn_items(config, *natural_items(config, task, decided))
    assert items
    for item, label in zip(items, labels, strict=True):
        number = int(item.id.removeprefix("train/")) - 1
        assert label == (number % 2 == 0, NONE if number == 4 else "A" if number % 2 else "C")


def test_it_is_no_model_to_load(configured):
    config, _ = configured
    message = refusal(stored_models, config, Session())
    assert message.startswith("config.initial: ")  # which does not exist; the teacher is not looked for


def test_data_without_decisions_have_no_such_teacher(configured, tmp_path):
    config, _ = configured
    bare = [{name: value for name, value in row(i).items() if "prediction" not in name} for i in range(24)]
    data = tmp_path / "bare.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in bare))
    task, _ = load_task(config.task | {"data": str(data)}, tmp_path)
    refusal(published_teacher, config, task, says=["config.label_teacher", "name a model instead"])
