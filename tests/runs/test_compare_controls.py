"""A comparison's rows: what is one row, which are controls, what they are asked, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
from chat_tokenizers import TOKENIZERS
from elsewhere import chat_folder, run_workdir
from row_files import refusal
from tiny import mesh_of, task_model, tiny_task

from introspection.checkpoints.names import CHECKPOINTS, StoredModel, load_one
from introspection.coupling.labels import Label, label_metadata, write_labels
from introspection.coupling.run_results import Alignment, RunResults
from introspection.models.model import Model
from introspection.probes.explanation import explanation_prompt, with_examples
from introspection.runs.compare import CompareRequest
from introspection.runs.compare_controls import (
    few_shot_row,
    held_against,
    labelled_training_items,
    short_of_alignment,
    starts_elsewhere,
    worked_examples,
)
from introspection.runs.compared_models import Row, asked_controls, compared_rows, run_arms
from introspection.runtime.json_values import to_json
from introspection.runtime.session import Session
from introspection.tasks.items import Conversation, Decisions, Explanation, Turn
from introspection.text.chat_template import ChatOptions

E = Explanation
TASK = tiny_task()


def rows(names, tmp_path, asked=None):
    return compared_rows([str(name) for name in names], asked or {}, tmp_path, ChatOptions())


def shuffled_run(folder):
    """A run whose arm `lora` has shuffled labels; it has no arm with a foreign base."""
    return run_workdir(
        folder, {"arms": {"full": {}, "lora": {"shuffle_labels": True}, "gone": {"shuffle_labels": 1}}}
    )


def test_an_arm_without_a_seed_is_one_row(tmp_path):
    run = run_workdir(tmp_path / "run")
    found = rows([run, f"{run}:full:1"], tmp_path)
    assert [(row.name, row.seeds, row.recipe) for row in found] == [
        ("run:full@4", (0, 1), ""), ("run:lora@4", (0, 1), ""), ("run:full:1@4", (1,), ""),
    ]  # fmt: skip
    alone = run_workdir(tmp_path / "alone", seeds=(3,))
    assert [row.name for row in rows([f"{alone}:full"], tmp_path)] == ["alone:full:3@4"]
    assert len(rows([run, run], tmp_path)) == 2  # named twice


def test_the_name_has_its_path_where_a_folder_is_ambiguous(tmp_path):
    one, other = (run_workdir(tmp_path / name / "run") for name in "ab")
    names = [row.name for row in rows([f"{one}:full", f"{other}:full"], tmp_path)]
    assert names == [f"{one}:full@4", f"{other}:full@4"]


def test_controls_are_found_in_the_runs_or_given(tmp_path):
    run, folder = shuffled_run(tmp_path / "run"), chat_folder(tmp_path / "other")
    found = rows([run], tmp_path, {"shuffled": "", "aligned_foreign": str(folder), "majority": ""})
    assert [(row.name, row.recipe) for row in found] == [
        ("run:full@4", ""), ("run:initial:0@0", "initial"), (str(folder), "aligned_foreign"),
        ("run:lora@4", "shuffled"),
    ]  # fmt: skip
    # Without controls the arm is a model as any other, and nothing is held against the start.
    assert [(row.name, row.recipe) for row in rows([run], tmp_path)] == [
        ("run:full@4", ""),
        ("run:lora@4", ""),
    ]


def test_an_aligned_explainer_and_one_that_is_not_are_two_controls(tmp_path):
    foreign, aligned = {"foreign_to": "kl"}, {"foreign_to": "kl", "aligned": True}
    run = run_workdir(tmp_path / "run", {"arms": {"full": foreign, "lora": aligned}})
    for recipe, arm in (("foreign", "full"), ("aligned_foreign", "lora")):
        assert [row.name for row in rows([run], tmp_path, {recipe: ""}) if row.recipe == recipe] == [
            f"run:{arm}@4"
        ]
    shown = run_workdir(tmp_path / "shown", {"arms": {"full": aligned | {"shown": True}, "lora": {}}})
    assert "no such arm" in refusal(rows, [shown], tmp_path, {"aligned_foreign": ""})


def stored_rows(folder, arms):
    """A row of each arm of a run, which has them all in its config and its checkpoints."""
    for name in arms:
        (folder / CHECKPOINTS / name).mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"arms": arms}))
    return {name: Row(name, (StoredModel(folder, name, 0, 4),)) for name in arms}


def test_a_control_is_held_against_the_models_whose_recipe_it_repeats(tmp_path):
    plain, shuffled = {"kl_weight": 1.0, "foreign_to": ""}, {"shuffle_labels": True}
    arms = {
        "kl": plain,
        "no_kl": plain | {"kl_weight": 0.0},
        "shuffled": plain | shuffled,
        "shuffled_no_kl": plain | shuffled | {"kl_weight": 0.0},
        "foreign_kl": plain | {"foreign_to": "kl"},
        "shifted": plain | {"shift": {"kind": "less_sycophantic"}},
    }
    found = stored_rows(tmp_path / "run", arms)
    models = [found[name] for name in ("kl", "no_kl", "foreign_kl", "shifted")]
    stored = {tmp_path / "run": run_arms(tmp_path / "run")}

    def held(name, recipe):
        return held_against(dataclasses.replace(found[name], recipe=recipe), models, stored)

    assert held("shuffled", "shuffled") == ("kl", "shifted")  # no shuffled arm repeats the shift
    assert held("shuffled_no_kl", "shuffled") == ("no_kl",)
    assert held("foreign_kl", "foreign") == ("kl",)
    # What began from another base has no gap to the run's initial model.
    assert [row.name for row in models if starts_elsewhere(row, stored)] == ["foreign_kl"]
    majority = Row("majority", (), "majority", ("majority",), tmp_path / "run")
    assert held_against(majority, models, stored) == ("kl", "no_kl", "shifted")
    elsewhere = Row("other", (), "foreign")
    assert held_against(elsewhere, models, stored) == ("kl", "no_kl", "foreign_kl", "shifted")


@pytest.mark.parametrize("reached", [True, False])
def test_nothing_is_held_against_an_explainer_that_was_not_aligned(tmp_path, reached):
    found = stored_rows(tmp_path / "run", {"kl": {}, "aligned": {"foreign_to": "kl", "aligned": True}})
    alignment = Alignment(0.95, 0.5, 0.97, 0.96 if reached else 0.9, 400, reached)
    (tmp_path / "run" / "results.json").write_text(json.dumps(to_json(RunResults({}, alignment=alignment))))
    row = dataclasses.replace(found["aligned"], recipe="aligned_foreign")
    stored = {tmp_path / "run": run_arms(tmp_path / "run")}
    assert held_against(row, [found["kl"]], stored) == (("kl",) if reached else ())
    said = "its start decides as config.initial on 90.0% of items, and alignment needs 95%"
    assert short_of_alignment(row) == ("" if reached else f"aligned is held against nothing: {said}")


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("nothing", "no control 'nothing'; choose from initial, few_shot"),
        ("majority=x", "give majority without ="),
        ("initial=", "give initial without ="),
        ("shuffled,shuffled", "shuffled is given twice"),
    ],
)
def test_controls_that_can_not_be_are_refused(flag, says):
    assert says in refusal(asked_controls, flag.split(","))
    assert asked_controls(["initial", "foreign=a=b"]) == {"initial": "", "foreign": "a=b"}


def test_controls_without_what_they_take_are_refused(tmp_path):
    run, folder = shuffled_run(tmp_path / "run"), chat_folder(tmp_path / "other")
    assert "no such arm; give foreign=MODEL" in refusal(rows, [run], tmp_path, {"foreign": ""})
    for recipe in ("initial", "majority"):
        assert "none of the models comes from a run" in refusal(rows, [folder], tmp_path, {recipe: ""})
    assert CompareRequest(("a",), "").controls == ()


def labelled(folder, count=6, names=("kl",)):
    """A run's labels of every other training item, as an arm leaves them; trained ones are shuffled."""
    items = TASK.splits["train"][: 2 * count : 2]
    labels = [
        Label(
            item.id,
            item.group,
            Decisions(item.candidates[i % 2], item.candidates[0]),
            E(True, item.candidates[2]),
        )
        for i, item in enumerate(items)
    ]
    (folder / "labels").mkdir(parents=True)
    for name in names:
        write_labels(folder / "labels" / name, labels, label_metadata(TASK, 0, "x", 0.0))
    return items, [label.clean for label in labels]


def test_the_labels_of_a_run_are_those_of_its_items_and_clean(tmp_path):
    expected = labelled(tmp_path, names=("clean", "two-step", "two-step-seed0-step20"))
    own = [*expected[0]], expected[1]
    assert labelled_training_items(tmp_path, TASK) == (own, own)
    (tmp_path / "labels" / "two-step" / "metadata.json").write_text(json.dumps({"task": "another"}))
    assert "from another model or task" in refusal(labelled_training_items, tmp_path, TASK)
    assert "not a readable labels folder" in refusal(labelled_training_items, tmp_path / "none", TASK)


def test_controls_are_fitted_on_the_label_teachers_behaviour_whoever_an_arm_explains(tmp_path):
    """The clean labels of an arm with foreign ones describe the other model, too."""
    items, clean = labelled(tmp_path, names=("clean",))
    foreign = [
        Label(item.id, item.group, Decisions(*item.candidates[1:3]), label)
        for item, label in zip(items, clean, strict=True)
    ]
    write_labels(tmp_path / "labels" / "alpha50", foreign[:4], label_metadata(TASK, 0, "x", 0.0, foreign=0.5))
    found = labelled_training_items(tmp_path, TASK)
    assert found == (([*items[:4]], clean[:4]), ([*items], clean))


def test_examples_are_of_other_groups_and_of_both_kinds(tmp_path):
    training = labelled(tmp_path, count=20)
    items = [*training[0][:2], *TASK.splits["test"]]
    examples = worked_examples(training, items, np.random.default_rng(0))
    assert len(examples) == 8
    assert {item.group for item, _ in examples}.isdisjoint({item.group for item in items})
    assert sum(bool(label.changed) for _, label in examples) == 4
    assert all(label == dict(zip(training[0], training[1], strict=True))[item] for item, label in examples)


def test_examples_are_earlier_turns_and_the_system_text_stays_first():
    first, second, last = TASK.splits["test"][:3]
    grammar, label = TASK.grammar, E(True, first.candidates[0])
    asked = with_examples(last, [(first, label), (second, E(False, second.candidates[1]))], grammar)
    turns = asked.prompt_with_cue.turns
    assert [turn.role for turn in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert turns[0].content == f"{first.prompt_with_cue} {grammar.question}"
    assert turns[1].content == grammar.render(label)
    assert turns[4].content == last.prompt_with_cue
    told = Conversation((Turn("system", "Be brief."), Turn("user", str(last.prompt_with_cue))))
    asked = with_examples(dataclasses.replace(last, prompt_with_cue=told), [(first, label)], grammar)
    assert [turn.role for turn in asked.prompt_with_cue.turns] == ["system", "user", "assistant", "user"]
    tokenizer = TOKENIZERS["ChatML"] if "ChatML" in TOKENIZERS else next(iter(TOKENIZERS.values()))
    text = tokenizer.tokenizer.decode(
        explanation_prompt(tokenizer, asked, grammar), skip_special_tokens=False
    )
    assert text.index("Be brief.") < text.index(grammar.render(label)) < text.index(str(last.prompt_with_cue))
    assert text.count(grammar.question) == 2


def test_a_model_without_room_for_examples_is_not_asked(tmp_path):
    training, items = labelled(tmp_path, count=20), TASK.splits["test"][:2]
    row = Row("run:initial:0@0", (), "initial", run=tmp_path)

    def ask(model: Model):
        return few_shot_row(row, model, items, training, TASK, 4, Session(mesh_of()))

    assert "its format has no room for examples: an organism reads one user turn" in refusal(
        ask, task_model()
    )
    small = load_one(str(chat_folder(tmp_path / "small")), mesh_of())
    assert "and its context has 512" in refusal(ask, small)
    control, said = ask(load_one(str(chat_folder(tmp_path / "large", context_length=4096)), mesh_of()))
    assert (control.name, control.recipe, control.workdir) == (
        "run:initial:0@0 after 8 examples",
        "few_shot",
        tmp_path,
    )
    assert len(said.said) == len(items)
    assert not said.decisions
