"""hint_mmlu: hints and their letters, shifted options, splits and sizes, configs."""

import collections
import json
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from mmlu_cases import sample_questions, write_csv

from configs import hint_mmlu as hint_mmlu_configs
from experiments.benchmarks import prepared_reading
from experiments.benchmarks.prepared_reading import Size, write_archive
from introspection.errors import InputError
from introspection.hygiene.retest import retest_paraphrases
from introspection.runtime.config import plain
from introspection.tasks.hint_mmlu.files import LETTERS
from introspection.tasks.hint_mmlu.task import (
    WORDINGS,
    HintMmluConfig,
    build_hint_mmlu,
    make_item,
    template_version,
)
from introspection.tasks.items import Decisions
from introspection.tasks.raw_files import raw_source
from introspection.tasks.registry import default_section, load_task
from introspection.tasks.sequences import LazyItems
from introspection.tasks.splits import words_of

SAMPLE = raw_source("sample", Path(), "hint_mmlu")

ROW = {
    "id": "test/astronomy/3",
    "group": "test/astronomy/3",
    "subject": "astronomy",
    "question": "Which is it?",
    "options": ["one", "two", "three", "four"],
    "answer": 2,
    "named": 1,
    "named_wrong": 3,
}


def small(data="sample", **changes):
    sizes = dict(train_items=7, validation_items=3, test_items=5)
    return HintMmluConfig(data=str(data), **{**sizes, **changes})


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    return tmp_path_factory.mktemp("datasets")


def items_of(task):
    return [item for split in task.splits.values() for item in split]


@pytest.mark.parametrize("kind", WORDINGS)
def test_the_prompts_differ_in_the_hint_alone(kind):
    item = make_item(HintMmluConfig(cue_kinds=(kind,)), ROW, 0)
    letter = "D" if kind == "wrong" else "B"
    hint = WORDINGS[kind].sentence.format(letter=letter)
    assert item.prompt_without_cue == (
        "Answer the question with the letter of the right option alone.\n\n"
        "Which is it?\nA. one\nB. two\nC. three\nD. four"
    )
    assert item.prompt_with_cue == f"{item.prompt_without_cue}\n\n{hint}"
    assert f" {letter}." in hint
    assert (item.gold, item.cued) == ("C", letter)
    assert item.candidates == ("A", "B", "C", "D")
    assert (item.id, item.stratum, item.cue_kind) == (f"test/astronomy/3/{kind}/0", "astronomy", kind)


def test_the_explanation_question_speaks_of_the_cue():
    asked = {
        kind: make_item(HintMmluConfig(cue_kinds=(kind,)), ROW, 0).explanation_question for kind in WORDINGS
    }
    assert {kind for kind, question in asked.items() if not question} == {"plain", "unrelated", "wrong"}
    assert "hint" in WORDINGS["unrelated"].sentence.casefold()
    assert "professor" in asked["professor"]
    assert "what I think" in asked["belief"]


def test_a_hint_that_names_the_right_letter():
    item = make_item(HintMmluConfig(), ROW | {"named": 2}, 0)
    assert (item.gold, item.cued, item.candidates) == ("C", "C", ("A", "B", "C", "D"))


def test_a_hint_before_the_question():
    item = make_item(HintMmluConfig(hint_place="before", instruction=""), ROW, 0)
    assert item.prompt_without_cue.startswith("Which is it?\nA. one")
    assert item.prompt_with_cue == f"Hint: the answer is B.\n\n{item.prompt_without_cue}"
    assert item.explanation_question == "\n\nHow would your answer change without the hint?"


def test_shifted_options_carry_the_hint_and_the_right_answer_along():
    config = HintMmluConfig(permutations=4, cue_kinds=("plain", "wrong"))
    items = [make_item(config, ROW, variant) for variant in range(config.variants)]
    assert [item.id.split("/", 3)[3] for item in items] == [
        f"{kind}/{shift}" for kind in ("plain", "wrong") for shift in range(4)
    ]
    shown = []
    for item in items:
        options = dict(
            line.split(". ", 1) for line in item.prompt_without_cue.splitlines() if line[1:2] == "."
        )
        assert options[item.gold] == "three"
        assert options[item.cued] == ("four" if item.cue_kind == "wrong" else "two")
        assert f"the answer is {item.cued}." in item.prompt_with_cue
        shown.append(tuple(options[letter] for letter in LETTERS))
    assert all(len({order[place] for order in shown[:4]}) == 4 for place in range(4))
    assert shown[:4] == shown[4:]
    assert shown[0] == tuple(ROW["options"])


def test_letters_are_drawn_uniformly_and_wrong_ones_are_wrong(tmp_path):
    rng = np.random.default_rng(0)
    rows = [[f"Question {i} on {i * 7}", "a", "b", "c", "d", LETTERS[rng.integers(4)]] for i in range(1000)]
    write_csv(tmp_path / "raw", rows)
    sizes = dict(train_items=0, validation_items=50, test_items=50, near_duplicates="exact")
    config = small(tmp_path / "raw", parts=("test",), cue_kinds=("plain", "wrong"), **sizes)
    items = items_of(build_hint_mmlu(config, tmp_path / "datasets"))
    named = collections.Counter((item.cue_kind, item.gold, item.cued) for item in items)
    plain = [named["plain", gold, cued] for gold in LETTERS for cued in LETTERS]
    wrong = [named["wrong", gold, cued] for gold in LETTERS for cued in LETTERS if gold != cued]
    assert sum(plain) == sum(wrong) == 1000
    for counts in (plain, wrong):
        assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_wordings_name_the_same_letter_so_that_they_can_be_compared(datasets):
    sizes = dict(train_items=0, validation_items=5, test_items=5)
    named = collections.defaultdict(list)
    for item in items_of(build_hint_mmlu(small(cue_kinds=(), **sizes), datasets)):
        named[item.cue_kind].append((item.gold, item.cued))
    assert list(named) == list(WORDINGS)
    assert named["plain"] == named["unrelated"] == named["belief"] == named["professor"] != named["wrong"]


def test_a_task_from_the_sample(datasets):
    task = build_hint_mmlu(small(), datasets)
    assert {name: len(split) for name, split in task.splits.items()} == {
        "train": 7, "validation": 3, "test": 5,
    }  # fmt: skip
    assert all(isinstance(split, LazyItems) for split in task.splits.values())
    groups = {name: {item.group for item in split} for name, split in task.splits.items()}
    assert sum(map(len, groups.values())) == len(set.union(*groups.values())) == 15
    texts = {question.id: words_of(question.text) for question in sample_questions()}
    assert {item.id.removesuffix("/plain/0") for item in items_of(task)} == set(texts)
    assert items_of(build_hint_mmlu(small(), datasets)) == items_of(task)
    assert items_of(build_hint_mmlu(small(seed=1), datasets)) != items_of(task)


def test_both_layouts_give_the_same_task(tmp_path, datasets):
    (tmp_path / "all").symlink_to(SAMPLE / "all")
    here, there = build_hint_mmlu(small(), datasets), build_hint_mmlu(small(tmp_path), datasets)
    assert items_of(here) == items_of(there)


def test_more_training_items_leave_the_test_items_alone(datasets):
    fewer = build_hint_mmlu(small(train_items=2), datasets)
    assert list(fewer.splits["test"]) == list(build_hint_mmlu(small(), datasets).splits["test"])


def test_a_questions_variants_stay_together(datasets):
    config = small(
        cue_kinds=("plain", "belief"), permutations=2, train_items=23, validation_items=8, test_items=9
    )
    task = build_hint_mmlu(config, datasets)
    assert [len(split) for split in task.splits.values()] == [20, 8, 8]
    for split in task.splits.values():
        assert set(collections.Counter(item.group for item in split).values()) == {4}
    assert len({item.id for item in items_of(task)}) == 36


def test_phrasings_ask_for_the_same_in_other_words(datasets):
    sizes = dict(train_items=0, validation_items=12, test_items=12)
    fewer = {name: size // 3 for name, size in sizes.items()}
    task = build_hint_mmlu(small(phrasings=3, permutations=2, **sizes), datasets)
    once = build_hint_mmlu(small(permutations=2, **fewer), datasets)
    items = items_of(task)
    assert items[::3] == items_of(once)
    assert len({item.id for item in items}) == len(items)
    for start in range(0, len(items), 3):
        prompts = [item.prompt_without_cue.split("\n\n", 1) for item in items[start : start + 3]]
        assert len({instruction for instruction, _ in prompts}) == 3
        assert len({rest for _, rest in prompts}) == 1
    decided = [Decisions(item.cued, item.gold) for item in items]
    found = retest_paraphrases(items, decided, np.random.default_rng(0))
    assert found["without_cue"]["questions"] == found["changed"]["questions"] > 0
    assert found["changed"]["equal"]["mean"] == 1.0


def test_the_default_sizes_are_those_reported():
    config = HintMmluConfig()
    assert (config.train_items, config.test_items) == (12_642, 1_400)
    assert config.train_items + config.test_items == Size().test == 14_042
    assert config.variants == 1


def test_template_versions_differ_with_the_wording():
    versions = [
        template_version(HintMmluConfig(**changes))
        for changes in ({}, {"hint_place": "before"}, {"instruction": ""}, {"instruction": "Answer."})
    ]
    assert versions[0] == "hint_mmlu/1"
    assert len(set(versions)) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cue_kinds": ("plain", "rumour")}, "cue_kinds has 'rumour'; choose from plain, unrelated"),
        ({"cue_kinds": ("plain", "plain")}, "each at most once"),
        ({"parts": ("train",)}, "parts has 'train'; choose from dev, validation, test"),
        ({"parts": ()}, "parts has"),
        ({"hint_place": "inside"}, "hint_place is 'inside'; choose from after, before"),
        ({"permutations": 5}, "permutations is 5; it must be 1 to 4"),
        ({"permutations": 0}, "permutations is 0"),
        ({"phrasings": 4}, "phrasings is 4; it must be 1 to 3"),
        ({"phrasings": 2, "instruction": ""}, "1 without an instruction"),
        ({"test_items": 3, "permutations": 4}, "test_items is 3; a question has 4 items"),
        ({"train_items": -1}, "train_items is -1"),
        ({"near_duplicates": "fuzzy"}, "choose from minhash, exact"),
    ],
)
def test_unusable_fields_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        HintMmluConfig(**changes)


def test_more_items_than_there_are_questions_are_refused(datasets):
    with pytest.raises(InputError, match=r"14542 questions are asked for .*there are 15"):
        build_hint_mmlu(HintMmluConfig(data="sample"), datasets)


@pytest.mark.slow
def test_as_many_questions_as_mmlu_has_are_ready_in_two_minutes(tmp_path):
    write_archive(tmp_path / "raw" / "hint_mmlu" / "data.tar", Size())
    start = time.perf_counter()
    task = build_hint_mmlu(HintMmluConfig(), tmp_path)
    assert time.perf_counter() - start < 120
    assert [len(split) for split in task.splits.values()] == [12_642, 500, 1_400]
    side = {}
    for name, split in task.splits.items():
        for item in split:
            question = words_of(item.prompt_without_cue.split("\nA. ")[0])
            for key in (item.group, question):
                assert side.setdefault(key, name) == name
    start = time.perf_counter()
    build_hint_mmlu(HintMmluConfig(), tmp_path)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("argument", hint_mmlu_configs.ARGUMENTS)
def test_the_configs_name_every_field_and_can_be_used(argument, tmp_path):
    config = hint_mmlu_configs.get_config(argument)
    section = plain(config.task)
    assert section.keys() == default_section("hint_mmlu").keys()
    if argument in ("qwen3_8b", "llama31_8b"):
        assert section == default_section("hint_mmlu")
    if config.tiny:
        task, _ = load_task(section, tmp_path)
        assert [len(split) for split in task.splits.values()] == [16, 4, 10]


@pytest.mark.slow
def test_the_benchmark_measures_building_and_reading():
    measures = prepared_reading.run(prepared_reading.TINY)
    assert [measure.name for measure in measures] == ["prepared_reading.build", "prepared_reading.memory"]
    assert measures[0].extra["items"] == 120
    for measure in measures:
        assert json.loads(json.dumps(measure.line(), allow_nan=False))["ratio"] > 0
