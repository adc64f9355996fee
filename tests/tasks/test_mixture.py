"""Mixtures: names, how many items a weight gives, and that an unexplained part is never explained."""

import dataclasses
import functools
from collections import Counter
from unittest.mock import Mock

import pytest
from ml_collections import ConfigDict
from programs import read_json, stored_labels
from row_files import refusal
from tiny import tiny_questions, tiny_task

from configs import jabberwocky, quickstart
from introspection.errors import InputError
from introspection.organism.organism import (
    explainable_facts,
    organism_tokenizer,
    organism_workdir,
    other_words,
)
from introspection.organism.world import WorldConfig, bayes_optimal_decisions, build_world, optimal_decisions
from introspection.probes.behavior import Readout
from introspection.runs.arm_shift import shift_of
from introspection.runs.config import ArmConfig, RunConfig, read_config
from introspection.runs.setup import Models, Probed, Setup, Start
from introspection.runs.training_items import drawn_items, explained_items, natural_items
from introspection.runtime.config import cache_dir, plain
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.facts.invented_world import INVENTED_WORLD
from introspection.tasks.facts.world_facts import WORLD_FACTS
from introspection.tasks.items import Decisions
from introspection.tasks.jabberwocky.language import QUESTION
from introspection.tasks.jabberwocky.task import JabberwockyConfig, build_jabberwocky
from introspection.tasks.mixture import Mixture, Part, check_apart, is_explained, mix, part_sections, unmixed
from introspection.tasks.registry import load_task, section_settings, task_language, task_settings
from introspection.tasks.task import SPLITS
from introspection.training.batches import explanation_rows, shift_rows
from introspection.training.shifts import ShiftConfig, behavior_examples

SMALL = dict(
    nouns=8,
    contexts=6,
    cue_words=6,
    answers=3,
    train_items=96,
    validation_items=16,
    test_items=48,
    list_answers=False,
)


@functools.cache
def language():
    return build_jabberwocky(JabberwockyConfig(**SMALL))


@functools.cache
def taught_mixture():
    return mix([Part(tiny_task()), Part(language(), explained=False)], seed=3)


def subsets(items):
    return Counter(item.subset for item in items)


def test_items_are_called_after_their_part_and_asked_in_its_words():
    other = dataclasses.replace(tiny_task(), grammar=ExplanationGrammar(question="And without the remark?"))
    mixture = mix([Part(tiny_task()), Part(other, name="remarks")])
    items = tiny_task().splits["test"]
    assert len(mixture.splits["test"]) == 2 * len(items)
    assert len({item.id for item in mixture.splits["test"]}) == 2 * len(items)
    for mixed, item in zip(mixture.splits["test"][len(items) :], items, strict=True):
        assert mixed.subset == "remarks"
        for name in ("id", "group", "stratum", "cue_kind"):
            assert getattr(mixed, name) == f"remarks/{getattr(item, name)}"
        assert mixed.explanation_question == "And without the remark?"
        assert (mixed.prompt_with_cue, mixed.candidates) == (item.prompt_with_cue, item.candidates)
        assert unmixed(mixture, mixed) == dataclasses.replace(
            item, subset="remarks", explanation_question="And without the remark?"
        )
    assert mixture.splits["test"][0].explanation_question == tiny_task().grammar.question
    assert mixture.names == tiny_task().names
    assert set(taught_mixture().names) == {*tiny_task().names, *language().names}
    assert set(taught_mixture().phrases) == {*tiny_task().phrases, *language().phrases}


def test_an_items_own_question_stands():
    items = tuple(dataclasses.replace(i, explanation_question="Own?") for i in tiny_task().splits["test"])
    task = dataclasses.replace(tiny_task(), splits={**tiny_task().splits, "test": items})
    assert mix([Part(task)]).splits["test"][0].explanation_question == "Own?"


@pytest.mark.parametrize(
    ("weights", "total", "expected"),
    [
        ((1, 1), 0, (42, 42)),  # the world has 42 training items, the language 96
        ((1, 2), 0, (42, 84)),
        ((1, 3), 0, (32, 96)),
        ((0.1, 0.1), 10, (5, 5)),
        ((1, 2), 10, (3, 7)),  # rounded to the nearest that sums up
    ],
)
def test_training_items_are_drawn_by_weight(weights, total, expected):
    parts = [Part(tiny_task(), weights[0]), Part(language(), weights[1])]
    items = mix(parts, train_items=total).splits["train"]
    assert subsets(items) == dict(zip(("world_facts", "jabberwocky"), expected, strict=True))
    assert len({item.id for item in items}) == sum(expected) == len(items)
    again, other = (mix(parts, train_items=total, seed=seed).splits["train"] for seed in (0, 1))
    assert [*again] == [*items]
    if expected[0] < 42:
        assert {item.id for item in other} != {item.id for item in items}


def test_test_items_are_all_or_drawn_by_weight():
    parts = [Part(tiny_task(), 1), Part(language(), 3, explained=False)]
    assert subsets(mix(parts).splits["test"]) == {"world_facts": 28, "jabberwocky": 48}
    weighted = mix(parts, test="weighted").splits["test"]
    assert subsets(weighted) == {"world_facts": 16, "jabberwocky": 48}
    assert subsets(mix(parts, test="weighted", test_items=8).splits["test"]) == {
        "world_facts": 2,
        "jabberwocky": 6,
    }


def test_the_first_validation_items_are_a_fair_slice_of_the_explained_parts():
    mixture = mix(
        [Part(tiny_task(), name="a"), Part(language(), explained=False), Part(tiny_task(), name="b")]
    )
    explained = mixture.splits["validation"][: 2 * 14]
    assert subsets(explained) == {"a": 14, "b": 14}
    assert min(subsets(explained[:14])[name] for name in "ab") > 2
    assert subsets(mixture.splits["validation"][2 * 14 :]) == {"jabberwocky": 16}
    assert len({item.id for item in explained}) == 28


def test_an_unexplained_part_gives_no_explanation_and_all_of_its_behaviour():
    mixture = taught_mixture()
    assert subsets(mixture.splits["train"]) == {"world_facts": 42, "jabberwocky": 96}
    for items in mixture.splits.values():
        for item in items:
            assert is_explained(mixture, item) == (item.subset == "world_facts")
    assert is_explained(tiny_task(), tiny_task().splits["train"][0])


def setup_of(task):
    """What an arm's rows are made from; a teacher whom every second cue moves."""

    def decide(items):
        return [Decisions(item.candidates[i % 2], item.candidates[0]) for i, item in enumerate(items)]

    teacher = Probed({}, {split: decide(items) for split, items in task.splits.items()}, "teacher")
    setup = Mock(spec=Setup)
    start = Mock(spec=Start)
    start.probed = teacher
    setup.task, setup.readout, setup.models = (
        task,
        Readout(),
        Models(None, teacher, {"initial": start}, {}, ()),
    )
    return setup


def taught_arm(**changes):
    return ArmConfig(shift=ShiftConfig(**{"kind": "taught", "fraction": 1.0, **changes}))


def test_no_item_of_an_unexplained_part_is_ever_in_explanation_training():
    mixture, setup = taught_mixture(), setup_of(taught_mixture())
    decided = setup.models.teacher.decisions["train"]
    items, labels = drawn_items(RunConfig(), *natural_items(RunConfig(), mixture, decided))
    assert subsets(items) == {"world_facts": 42}
    assert {item.subset for item, _ in explained_items(mixture, decided)} == {"world_facts"}
    tokenizer = organism_tokenizer(mixture)
    rows = explanation_rows(tokenizer, items, labels, mixture)
    invented = {tokenizer.tokenizer.token_to_id(word) for word in (QUESTION, *language().names)}
    assert None not in invented
    assert invented.isdisjoint(rows.tokens.ravel().tolist())
    assert invented.isdisjoint(rows.targets.ravel().tolist())
    # The same words are what the shift teaches.
    taught = shift_rows(tokenizer, shift_of(taught_arm(), setup))
    assert invented == invented & {*taught.tokens.ravel().tolist(), *taught.targets.ravel().tolist()}
    assert tokenizer.tokenizer.token_to_id(mixture.grammar.question) not in taught.tokens.ravel()


def test_what_is_taught_is_the_rule_on_all_but_the_test_sentences():
    mixture = taught_mixture()
    examples = shift_of(taught_arm(), setup_of(mixture))
    known = [*language().splits["train"], *language().splits["validation"]]
    assert {(prompt, answer) for prompt, answer in examples} == {*behavior_examples(known)}
    test = {prompt for i in language().splits["test"] for prompt in (i.prompt_with_cue, i.prompt_without_cue)}
    assert test.isdisjoint(prompt for prompt, _ in examples)
    everywhere = shift_of(taught_arm(groups="all"), setup_of(mixture))  # still not the test groups
    assert {*everywhere} == {*examples}
    half = shift_of(taught_arm(fraction=0.5), setup_of(mixture))
    assert {*half} < {*examples}
    with pytest.raises(InputError, match="'taught' has no examples: no part of the task has explained=False"):
        shift_of(taught_arm(), setup_of(tiny_task()))


def test_teaching_alone_trains_no_explanation():
    alone = taught_arm(order="alone").shift
    assert [alone.terms(step, 2) for step in range(3)] == [(0.0, 1.0)] * 3
    assert alone.phases == 1


def test_the_best_predictor_of_a_mixture_knows_the_world_and_the_rule():
    world = build_world(WorldConfig(seed=0), tiny_questions(), WORLD_FACTS)
    mixture = taught_mixture()
    decided = optimal_decisions(world, mixture)
    best = bayes_optimal_decisions(world, tiny_task().splits["test"])
    by_subset = dict(zip([item.id for item in mixture.splits["test"]], decided, strict=True))
    assert [by_subset[f"world_facts/{item.id}"] for item in tiny_task().splits["test"]] == best
    for item in language().splits["test"]:
        assert by_subset[f"jabberwocky/{item.id}"] == Decisions(item.cued, item.gold)
    assert optimal_decisions(world, tiny_task()) == best


def test_a_question_of_two_parts_stays_on_one_side():
    check_apart(taught_mixture())
    world = tiny_task()
    check_apart(mix([Part(world, name="one"), Part(world, name="two")]))
    splits = dict(
        zip(world.splits, [world.splits[name] for name in ("validation", "test", "train")], strict=True)
    )
    turned = dataclasses.replace(world, splits=splits)
    with pytest.raises(InputError, match=r"asks in train .* what (one|two) asks in (validation|test)"):
        check_apart(mix([Part(world, name="one"), Part(turned, name="two")]))


def test_a_mixture_takes_no_memory_beside_its_parts():
    large = build_jabberwocky(
        JabberwockyConfig(fillers=2, nouns=100, contexts=50, train_items=4_000_000, test_items=100)
    )
    mixture = mix([Part(large, 0.5), Part(tiny_task(), 1e-6)])
    items = mixture.splits["train"]
    assert len(items) == 4_000_008
    assert items[3_999_999].subset == "jabberwocky"
    assert subsets(items[4_000_000:]) == {"world_facts": 8}


FACTS = dict(facts=48, train_facts=24, validation_facts=8, test_facts=16, cue_kinds=("friend",), repeats=2)


def section_of(**changes):
    parts = dict(world_facts=FACTS, jabberwocky=dict(explained=False, **SMALL))
    return dict(name="mixture", seed=0, parts=parts) | changes


def closed_section():
    """The quickstart's world beside the language, which is explained in that world's words."""
    world = quickstart.get_config("tiny").task
    language = dict(explained=False, explained_as="invented_world", **SMALL)
    return dict(name="mixture", seed=0, parts=dict(invented_world=world, jabberwocky=language))


def config_of(**changes):
    config = quickstart.get_config("tiny")
    config.task = ConfigDict(section_of(**changes))
    return read_config(plain(config))


def test_a_config_names_parts_with_the_fields_of_their_tasks():
    task, questions = load_task(config_of().task, cache_dir())
    assert isinstance(task, Mixture)
    assert task.unexplained == ("jabberwocky",)
    assert len(questions) == 48
    assert task_language(config_of().task).name == "world_facts"
    assert task_settings(config_of().task).train_facts == 24
    # Two parts of one task, by names of their own.
    twice = dict(easy=dict(name="jabberwocky", rule="cue", **SMALL), hard=dict(name="jabberwocky", **SMALL))
    task, _ = load_task(section_of(parts=twice), cache_dir())
    assert set(subsets(task.splits["test"])) == {"easy", "hard"}


def test_a_language_is_explained_in_the_words_of_the_closed_world_beside_it():
    task, questions = load_task(config_of(**closed_section()).task, cache_dir())
    assert task.grammar == INVENTED_WORLD.grammar
    assert {item.explanation_question for item in task.splits["test"]} == {task.grammar.question}
    assert set(subsets(task.splits["test"])) == {"invented_world", "jabberwocky"}
    assert task_language(config_of(**closed_section()).task) == INVENTED_WORLD
    assert len(questions) == 2 * 27


def test_the_organism_of_a_mixture_knows_all_words_and_others_keep_their_names():
    alone, mixed = read_config(quickstart.get_config("tiny")), config_of(**closed_section())
    questions = load_task(alone.task, cache_dir())[1]
    task, asked = load_task(mixed.task, cache_dir())
    assert asked == questions
    assert other_words(alone.task, cache_dir()) == ((), ())
    names, phrases = other_words(mixed.task, cache_dir())
    assert set(names) == set(language().names)
    assert organism_workdir(mixed.organism, questions, cache_dir()) != organism_workdir(
        alone.organism, questions, cache_dir()
    )
    tokenizer = organism_tokenizer(task)
    assert {*names, *phrases} <= set(tokenizer.tokenizer.get_vocab())
    for split in SPLITS:
        for item in task.splits[split]:
            tokenizer.encode_prompt(f"{item.prompt_with_cue} {item.explanation_question}")


def test_in_a_mixture_too_entities_of_no_split_alone_are_explained_in_pretraining():
    mixed = config_of(**closed_section())
    mixed.task["parts"]["invented_world"]["entities"] = 30  # three more than the splits ask about
    task, questions = load_task(mixed.task, cache_dir())
    groups = [item.group.split("/") for of in task.splits.values() for item in of]
    asked = {group[2] for group in groups if group[0] == "invented_world"}
    explainable = explainable_facts(mixed.task, questions)
    assert {q.fact.entity for q in questions if q.fact.entity not in asked} == {
        question.fact.entity for question, may in zip(questions, explainable, strict=True) if may
    }
    assert explainable.sum() == 3 * 2


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (dict(parts={}), ["config.task.parts has no parts"]),
        (dict(parts=dict(mixture=dict(parts={}))), ["config.task.parts.mixture is a mixture"]),
        (dict(parts=dict(jaberwocky={})), ["config.task.parts.jaberwocky", "'jaberwocky'", "jabberwocky"]),
        (dict(parts=dict(jabberwocky=dict(explained=False))), ["no part is explained"]),
        (dict(parts=dict(jabberwocky=dict(rule="x"))), ["config.task.parts.jabberwocky", "rule", "'x'"]),
        (dict(parts=dict(jabberwocky=dict(words=3))), ["config.task has no field 'words'"]),
        (dict(parts=dict(jabberwocky=dict(weight=0.0))), ["parts.jabberwocky.weight is 0.0"]),
        (dict(parts=dict(jabberwocky=dict(explained=1))), ["parts.jabberwocky.explained is 1"]),
        (dict(test="some"), ["config.task.test is 'some'", "weighted"]),
        (dict(train_items=1000), ["world_facts has 48 train items", "1000 of 1000", "train_items"]),
        (
            dict(parts=dict(world_facts={}, invented_world={})),
            ["explain in different sentences", "'Something different, namely'"],
        ),
    ],
    ids=str,
)
def test_what_cannot_be_mixed_is_refused(changes, named):
    refusal(load_task, section_of(**changes), cache_dir(), says=named)


@pytest.mark.parametrize("argument", ["qwen3_8b", "llama31_8b", "organism", "tiny"])
def test_every_config_of_jabberwocky_has_the_fields_of_its_tasks(argument):
    config = jabberwocky.get_config(argument)
    arms = read_config(config).arms
    assert set(config.run_arms) <= set(arms)
    assert {name for name, arm in arms.items() if arm.shift.kind != "taught"} == {"untaught"}
    parts = part_sections(plain(config.task))
    assert [name for name, fields in config.task.parts.items() if not fields.get("explained", True)] == [
        "jabberwocky"
    ]
    for section in parts.values():
        section_settings(section)
    language = build_jabberwocky(section_settings(parts["jabberwocky"]))
    assert len(language.splits["test"]) == config.task.parts.jabberwocky.test_items


def test_parts_of_one_name_are_refused():
    with pytest.raises(InputError, match="two parts are called 'world_facts'"):
        mix([Part(tiny_task()), Part(tiny_task())])
    with pytest.raises(InputError, match="two worlds"):
        task_language(section_of(parts=dict(a=dict(name="world_facts"), b=dict(name="invented_world"))))


@pytest.mark.slow
def test_a_run_on_a_mixture_explains_one_task_teaches_the_other_and_reports_both(programs, tmp_path):
    workdir = tmp_path / "run"
    arms = "--config.run_arms=('kl','behavior_only')"
    programs.run_well("run", "--config=configs/jabberwocky.py:tiny", arms, f"--workdir={workdir}")
    for name in ("clean", "kl", "behavior_only"):
        labels = stored_labels(workdir, name)
        assert {label["group"].split("/")[0] for label in labels} == {"invented_world"}
    results = read_json(workdir / "results.json")["arms"]
    assert set(results) == {"kl", "behavior_only"}
    for arm in results.values():
        assert set(arm["by_subset"]) == {"invented_world", "jabberwocky"}
        assert sum(part["n"] for part in arm["by_subset"].values()) == arm["n"]
