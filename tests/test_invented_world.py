"""The invented world: its names, its language, its items, and both worlds by their configs."""

import dataclasses
import itertools

import pytest

from configs import quickstart
from introspection.errors import InputError
from introspection.jobs.compare import task_section
from introspection.jobs.items import load_task
from introspection.jobs.organism import organism_tokenizer, organism_workdir
from introspection.tasks.cues import CUES
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.facts import read_facts_table
from introspection.tasks.invented_world import INVENTED_WORLD, KINDS, POOLS, invented_facts
from introspection.tasks.items import NONE, Explanation
from introspection.tasks.questions import draw_questions
from introspection.tasks.world_facts import WORLD_FACTS
from introspection.tasks.world_task import WorldTaskConfig, build_world_task

FACTS = invented_facts(600, 0)
LANGUAGE, GRAMMAR = INVENTED_WORLD, INVENTED_WORLD.grammar


@pytest.fixture(scope="module")
def task():
    config = WorldTaskConfig(300, 60, 240, seed=3, repeats=1, held_out_entities=20)
    return build_world_task(config, draw_questions(FACTS, 0, 4, 3), INVENTED_WORLD)


def items(of):
    return [item for split in of.splits.values() for item in split]


def config_of(name, **changes):
    config = quickstart.get_config("tiny").to_dict()
    config["task"] |= {"name": name, "cue_kinds": (), **changes}
    return config


def every_name(facts):
    return {fact.entity for fact in facts} | {fact.answer for fact in facts}


def test_the_world_has_as_many_facts_as_the_table_of_true_ones():
    assert len(FACTS) == 2200 >= len(read_facts_table())
    assert len({fact.id for fact in FACTS}) == len(FACTS)
    assert {fact.relation for fact in FACTS} == set(POOLS) == set(LANGUAGE.phrasings)
    assert {relation.split("_")[0] for relation in POOLS} == set(KINDS)
    assert len({fact.entity for fact in FACTS}) == 600


@pytest.mark.parametrize("seed", range(5))
def test_no_name_stands_for_two_things(seed):
    facts = invented_facts(600, seed)
    assert facts == sorted(facts)
    roles = {}
    for fact in facts:
        kind = fact.relation.split("_")[0]
        roles.setdefault(fact.entity, set()).add(("entity", kind))
        roles.setdefault(fact.answer, set()).add(("answer", fact.relation))
    assert {len(of) for of in roles.values()} == {1}
    assert all(name.isalpha() and name == name.capitalize() for name in roles)
    assert len({name.casefold() for name in roles}) == len(roles)
    assert not set(roles) & every_name(read_facts_table())
    words = {word for phrase in LANGUAGE.phrases() for word in phrase.casefold().replace(",", " ").split()}
    assert not {name.casefold() for name in roles} & {word.strip(".?") for word in words}


def test_answers_come_from_the_pools():
    for relation, size in POOLS.items():
        answers = {fact.answer for fact in FACTS if fact.relation == relation}
        assert size / 2 < len(answers) <= size


def test_the_seed_draws_the_world():
    assert invented_facts(600, 0) == FACTS
    other = invented_facts(600, 1)
    assert not every_name(other) & every_name(FACTS)


def test_every_name_and_phrase_is_one_token(task):
    tokenizer = organism_tokenizer(task)
    for name in task.names:
        tokens = tokenizer.encode_reply(name)
        assert len(tokens) == 2, name
        assert tokenizer.decode(tokens) == name
    for item in items(task)[::5]:
        cued, plain = item.prompt_with_cue, item.prompt_without_cue
        assert len(tokenizer.encode_prompt(plain)) == 4, plain
        assert len(tokenizer.encode_prompt(cued)) == 6, cued
        assert len(tokenizer.encode_prompt(f"{cued} {GRAMMAR.question}")) == 7
    for choice in (*GRAMMAR.all_explanations(task.names[:3]), Explanation(True, NONE)):
        assert len(tokenizer.encode_reply(GRAMMAR.render(choice))) == 3


def test_the_prompts_differ_in_the_cue_alone(task):
    for item in items(task):
        cue = LANGUAGE.cues[item.cue_kind]
        assert item.prompt_with_cue == f"{item.prompt_without_cue} {cue.before} {item.cued}{cue.after}"
    assert {item.cue_kind for item in items(task)} == set(LANGUAGE.cues)


def test_candidates_are_distinct_answers_of_the_relation(task):
    answers = {}
    for fact in FACTS:
        answers.setdefault(fact.relation, set()).add(fact.answer)
    for item in items(task):
        assert len(set(item.candidates)) == 4
        assert set(item.candidates) <= answers[item.stratum]
        assert item.candidates[0] == item.gold
        assert (item.cued == item.gold) == LANGUAGE.cues[item.cue_kind].names_gold


def test_no_group_is_in_two_splits_and_held_out_entities_are_in_the_test_alone(task):
    groups = {split: {item.group for item in of} for split, of in task.splits.items()}
    assert {split: len(of) for split, of in groups.items()} == {"train": 300, "validation": 60, "test": 240}
    assert not any(a & b for a, b in itertools.combinations(groups.values(), 2))
    known = {group.split("/")[1] for split in ("train", "validation") for group in groups[split]}
    held_out = {item.group.split("/")[1] for item in task.splits["test"] if item.subset == "held_out"}
    assert len(held_out) >= 20
    assert not held_out & known


def test_cue_kinds_are_those_of_the_world():
    with pytest.raises(InputError, match=r"encyclopedia.*choose from gossip, friend, guide, chronicle"):
        load_task(config_of("invented_world", cue_kinds=("encyclopedia",)))


def test_the_language_is_another_in_every_part():
    common = set(LANGUAGE.phrases()) & set(WORLD_FACTS.phrases())
    assert common == {"."}  # the end of a sentence
    ratios = [LANGUAGE.cues[kind].likelihood_ratio for kind in LANGUAGE.hints]
    assert ratios == [1.3, 3.0, 8.0, 25.0]
    assert {cue.likelihood_ratio for cue in LANGUAGE.cues.values()} & {
        cue.likelihood_ratio for cue in CUES.values()
    } == {1.0}
    placebos = [kind for kind, cue in LANGUAGE.cues.items() if cue.placebo]
    assert placebos == [kind for kind, cue in CUES.items() if cue.placebo]
    forms = [form for of_relation in LANGUAGE.phrasings.values() for form in of_relation]
    assert len(set(forms)) == len(forms) == 3 * len(POOLS)


def test_explanations_read_back_and_are_no_sentences_of_the_other_world(task):
    item = task.splits["test"][0]
    for choice in (*GRAMMAR.all_explanations(item.candidates), Explanation(False, NONE)):
        sentence = GRAMMAR.render(choice)
        assert GRAMMAR.parse(sentence) == choice
        assert not ExplanationGrammar().parse(sentence).valid
        assert GRAMMAR.parse(f"{sentence}.") != choice
    assert GRAMMAR.render(Explanation(True, "X")) == "Something different, namely X"
    assert GRAMMAR.render(Explanation(False, "X")) == "The same, namely X"
    assert GRAMMAR.render(Explanation(False, NONE)) == "The same, namely none of these"


@pytest.mark.parametrize("name", ["world_facts", "invented_world"])
def test_one_config_loads_either_world(name):
    config = config_of(name, held_out_entities=2, test_facts=20, train_facts=20)
    task, questions = load_task(config)
    assert (task.name, task.template_version) == (name, f"{name}/1")
    assert len(questions) == 48
    assert [len({item.group for item in of}) for of in task.splits.values()] == [20, 8, 20]
    assert {item.subset for item in task.splits["test"]} == {"held_out", "seen"}
    assert load_task(config)[0] == task
    config["task"]["seed"] = 1
    assert load_task(config)[0].splits != task.splits


def test_only_the_invented_world_has_a_size():
    _, questions = load_task(config_of("invented_world", facts=0, entities=90))
    assert len(questions) == 30 * (4 + 3 + 4)
    with pytest.raises(InputError, match="WorldFactsConfig has no field 'entities'"):
        load_task(config_of("world_facts", entities=90))
    with pytest.raises(InputError, match="entities is 0"):
        load_task(config_of("invented_world", entities=0))


def test_a_base_is_named_by_its_world_its_wordings_and_its_question_forms():
    def base(config):
        return organism_workdir(config, load_task(config)[1]).name

    world_facts = base(quickstart.get_config("tiny").to_dict())
    # What the base learns has not changed: those that are in caches stay.
    assert world_facts == "401960b0e82ba058"
    assert base(config_of("world_facts", held_out_entities=2, phrasings=3)) == world_facts
    names = {
        world_facts,
        base(config_of("world_facts", phrasings=1)),
        base(config_of("world_facts", phrasings=2)),
        base(config_of("invented_world")),
        base(config_of("invented_world", phrasings=1)),
        base(config_of("invented_world", seed=1)),
    }
    assert len(names) == 6


def test_models_without_a_run_are_compared_on_the_defaults_of_the_task():
    section = task_section([], "world_facts")
    assert section["cue_kinds"] == []
    task, _ = load_task({"task": section, "cache_dir": ""})
    assert {item.cue_kind for item in task.splits["test"]} == set(CUES)
    assert task_section([], "invented_world")["entities"] == 600
    with pytest.raises(InputError, match=r"'trivia'; choose from world_facts, invented_world"):
        task_section([], "trivia")


def test_a_language_is_a_value():
    assert dataclasses.replace(LANGUAGE) == LANGUAGE
    with pytest.raises(dataclasses.FrozenInstanceError):
        LANGUAGE.name = "another"
