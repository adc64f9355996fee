"""The items of world_facts: splits, cues, candidates."""

import dataclasses

import pytest

from introspection.errors import InputError
from introspection.tasks.cues import CUES
from introspection.tasks.facts import Fact, read_facts_table
from introspection.tasks.items import NONE
from introspection.tasks.task import Task
from introspection.tasks.world_facts import (
    GRAMMAR,
    PHRASINGS,
    Question,
    WorldFactsConfig,
    build_world_facts,
    draw_questions,
)

FACTS = read_facts_table()


def questions(count=60, candidates=4, seed=3):
    return draw_questions(FACTS, count, candidates, seed)


def task(**changes):
    chosen = {"train_facts": 30, "validation_facts": 10, "test_facts": 20, "seed": 3, **changes}
    return build_world_facts(WorldFactsConfig(**chosen), questions())


def items():
    return [item for split in task().splits.values() for item in split]


def test_no_group_is_in_two_splits_and_sizes_are_those_asked_for():
    groups = {split: {item.group for item in chosen} for split, chosen in task().splits.items()}
    assert {split: len(of) for split, of in groups.items()} == {"train": 30, "validation": 10, "test": 20}
    assert len(set.union(*groups.values())) == 60


def test_the_prompts_differ_in_the_cue_alone():
    for item in items():
        cue = CUES[item.cue_kind]
        assert item.prompt_with_cue == f"{item.prompt_without_cue} {cue.before} {item.cued}{cue.after}"


def test_candidates_are_distinct_answers_of_the_relation_in_canonical_order():
    answers = {}
    for fact in FACTS:
        answers.setdefault(fact.relation, set()).add(fact.answer)
    for item in items():
        assert item.candidates[0] == item.gold
        assert len(set(item.candidates)) == 4
        assert set(item.candidates) <= answers[item.stratum]
        if CUES[item.cue_kind].names_gold:
            assert item.cued == item.gold
        else:
            assert item.candidates[1] == item.cued != item.gold


def test_repeats_name_every_wrong_candidate():
    by_group = {}
    for item in items():
        if item.cue_kind == "teacher":
            by_group.setdefault(item.group, []).append(item.cued)
    assert all(len(set(cued)) == 3 for cued in by_group.values())


def test_the_same_seed_gives_the_same_items_and_another_seed_others():
    assert task() == task()
    assert task().splits != task(seed=4).splits


def test_ids_are_unique_and_every_cue_kind_is_there():
    ids = [item.id for item in items()]
    assert len(set(ids)) == len(ids) == 60 * len(CUES) * 3
    assert {item.cue_kind for item in items()} == set(CUES)


def test_every_relation_of_the_table_has_phrasings():
    assert {fact.relation for fact in FACTS} == set(PHRASINGS)
    phrasings = [phrasing for of_relation in PHRASINGS.values() for phrasing in of_relation]
    assert len(set(phrasings)) == len(phrasings)


def test_unknown_cues_and_too_many_facts_are_refused():
    with pytest.raises(InputError, match="rumour"):
        task(cue_kinds=("friend", "rumour"))
    with pytest.raises(InputError, match="80 facts are asked for, there are 60"):
        task(train_facts=50)
    with pytest.raises(InputError, match="9999"):
        questions(count=9999)
    with pytest.raises(InputError, match=r"country_continent.*6 answers, 8 candidates"):
        draw_questions([fact for fact in FACTS if fact.relation == "country_continent"], 0, 8, 0)


def test_wrong_answers_are_never_the_right_one():
    for question in draw_questions(FACTS, 0, 4, 0):
        assert question.fact.answer not in question.wrong
        assert len(set(question.wrong)) == 3


def test_a_task_refuses_what_cannot_be_measured():
    good = items()[0]

    def refused(message, *chosen):
        with pytest.raises(InputError, match=message):
            Task("t", "t/1", GRAMMAR, {"train": (good,), "test": chosen})

    refused("is in the splits train and test", good)
    other = dataclasses.replace(good, group="other")
    refused("reserved", dataclasses.replace(other, candidates=(*good.candidates, NONE)))
    refused("reserved", dataclasses.replace(other, candidates=(*good.candidates, GRAMMAR.neither)))
    refused("two or more different", dataclasses.replace(other, candidates=(good.gold, good.gold)))
    refused("must be candidates", dataclasses.replace(other, gold="Atlantis"))


def test_a_question_reads_as_a_sentence():
    fact = Fact("country_capital", "Norway", "Oslo")
    config = WorldFactsConfig(
        train_facts=0, validation_facts=0, test_facts=1, repeats=1, cue_kinds=("unsure",)
    )
    built = build_world_facts(config, [Question(fact, ("Bergen", "Rome", "Paris"))])
    (item,) = built.splits["test"]
    assert item.prompt_with_cue.endswith("Norway? I think it is Bergen, but I am not sure.")
