"""Closed worlds: their names, languages, splits and items; and how a config loads any world."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from introspection.organism.organism import organism_tokenizer
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.facts.invented_world import (
    INVENTED_WORLD,
    ClosedWorldConfig,
    closed_world_facts,
    entity_splits,
    invented_names,
)
from introspection.tasks.facts.language import CUES
from introspection.tasks.facts.questions import draw_questions
from introspection.tasks.facts.register import REGISTER
from introspection.tasks.facts.second_world import SECOND_WORLD
from introspection.tasks.facts.table import read_facts_table
from introspection.tasks.facts.task import build_world_task
from introspection.tasks.facts.world_facts import WORLD_FACTS
from introspection.tasks.items import NONE, Explanation
from introspection.tasks.task import SPLITS

CLOSED = {language.name: language for language in (INVENTED_WORLD, SECOND_WORLD)}
SIZES = dict(entities=400, train_entities=200, validation_entities=50, test_entities=120)
both_worlds = pytest.mark.parametrize("language", CLOSED.values(), ids=CLOSED)


def world_of(language, **changes):
    config = ClosedWorldConfig(**({"seed": 3, "repeats": 1} | SIZES | changes))
    questions = draw_questions(closed_world_facts(config, language), 0, config.candidates, config.seed)
    return build_world_task(config, questions, entity_splits(config, questions), language), questions


@pytest.fixture(scope="module", params=CLOSED.values(), ids=CLOSED)
def world(request):
    """A closed world's language, its task and its questions."""
    return (request.param, *world_of(request.param))


def items(task):
    return [item for split in SPLITS for item in task.splits[split]]


def entities(of):
    return {item.group.split("/")[1] for item in of}


def every_name(facts):
    return {fact.entity for fact in facts} | {fact.answer for fact in facts}


def of_kind(relation):
    return relation.split("_")[0]


def test_every_entity_has_one_fact_in_each_relation_of_its_kind(world):
    language, _, questions = world
    facts = [asked.fact for asked in questions]
    assert len(facts) == 400 * 4
    assert facts == sorted(set(facts))
    assert {fact.relation for fact in facts} == set(language.phrasings)
    kinds = {}
    for fact in facts:
        kinds.setdefault(fact.entity, []).append(of_kind(fact.relation))
    assert {len(of) for of in kinds.values()} == {4}
    assert {len(set(of)) for of in kinds.values()} == {1}
    sizes = Counter(of[0] for of in kinds.values())
    assert len(sizes) == 3
    assert max(sizes.values()) - min(sizes.values()) <= 1


@settings(max_examples=25)
@given(
    language=st.sampled_from(list(CLOSED.values())),
    seed=st.integers(0, 1000),
    relations=st.integers(1, 4),
    answers=st.integers(2, 7),
    split=st.tuples(*[st.integers(1, 15)] * 3),
    spare=st.integers(0, 10),
    data=st.data(),
)
def test_answers_are_a_closed_set_and_no_entity_is_in_two_splits(
    language, seed, relations, answers, split, spare, data
):
    config = dict(zip((f"{name}_entities" for name in SPLITS), split, strict=True))
    entities_there = max(sum(split) + spare, 3 * answers)  # so many of each kind that all answers are used
    candidates = data.draw(st.integers(2, answers))
    task, questions = world_of(
        language,
        seed=seed,
        relations=relations,
        answers=answers,
        candidates=candidates,
        entities=entities_there,
        **config,
    )
    used = {}
    for asked in questions:
        used.setdefault(asked.fact.relation, Counter())[asked.fact.answer] += 1
    assert len(used) == 3 * relations
    for counts in used.values():
        assert len(counts) == answers
        assert max(counts.values()) - min(counts.values()) <= 1  # to guess the commonest is no knowledge
    # No answer is of two relations, and none is an entity.
    assert len({answer for counts in used.values() for answer in counts}) == 3 * relations * answers
    assert not {a for counts in used.values() for a in counts} & {asked.fact.entity for asked in questions}
    if candidates == answers:
        for item in items(task):
            assert set(item.candidates) == set(used[item.stratum])
    asked_about = {name: entities(task.splits[name]) for name in SPLITS}
    assert tuple(map(len, asked_about.values())) == split
    assert not any(a & b for a, b in itertools.combinations(asked_about.values(), 2))
    # Of an entity all facts are asked, and one is in one split alone.
    assert len({item.group for item in items(task)}) == relations * sum(split)


def test_entities_of_no_split_are_known_to_the_base_alone(world):
    _, task, questions = world
    asked = entities(items(task))
    known = {question.fact.entity for question in questions}
    assert asked < known
    assert len(known - asked) == 400 - 200 - 50 - 120


@pytest.mark.parametrize("seed", range(5))
@both_worlds
def test_no_name_stands_for_two_things(language, seed):
    facts = closed_world_facts(ClosedWorldConfig(seed=seed), language)
    assert facts == sorted(facts)
    roles = {}
    for fact in facts:
        roles.setdefault(fact.entity, set()).add(("entity", of_kind(fact.relation)))
        roles.setdefault(fact.answer, set()).add(("answer", fact.relation))
    assert {len(of) for of in roles.values()} == {1}
    assert all(name.isalpha() and name == name.capitalize() for name in roles)
    assert len({name.casefold() for name in roles}) == len(roles)
    assert not set(roles) & every_name(read_facts_table())
    words = {word for phrase in language.phrases() for word in phrase.casefold().replace(",", " ").split()}
    assert not {name.casefold() for name in roles} & {word.strip(".?") for word in words}


def test_the_seed_draws_the_world():
    config = ClosedWorldConfig(entities=100, train_entities=50, validation_entities=5, test_entities=20)
    facts = closed_world_facts(config, INVENTED_WORLD)
    assert closed_world_facts(config, INVENTED_WORLD) == facts
    other = closed_world_facts(dataclasses.replace(config, seed=1), INVENTED_WORLD)
    assert len(every_name(other) & every_name(facts)) < 3
    assert len(set(invented_names(500, np.random.default_rng(0)))) == 500


def test_every_name_and_phrase_is_one_token(world):
    language, task, _ = world
    tokenizer, grammar = organism_tokenizer(task), language.grammar
    for name in (*task.names, *language.phrases()):
        tokens = tokenizer.encode_reply(name)
        assert len(tokens) == 2, name
        assert tokenizer.decode(tokens) == name
    for item in items(task)[::5]:
        cued, plain = item.prompt_with_cue, item.prompt_without_cue
        assert len(tokenizer.encode_prompt(plain)) == 4, plain  # question, entity, end, reply
        assert len(tokenizer.encode_prompt(cued)) == 6, cued
        assert len(tokenizer.encode_prompt(f"{cued} {grammar.question}")) == 7
    for choice in (*grammar.all_explanations(task.names[:3]), Explanation(True, NONE)):
        assert len(tokenizer.encode_reply(grammar.render(choice))) == 3


def test_the_prompts_differ_in_the_cue_alone(world):
    language, task, _ = world
    for item in items(task):
        cue = language.cues[item.cue_kind]
        assert item.prompt_with_cue == f"{item.prompt_without_cue} {cue.before} {item.cued}{cue.after}"
        assert (item.cued == item.gold) == cue.names_gold
    assert {item.cue_kind for item in items(task)} == set(language.cues)


def test_misleading_cues_name_every_wrong_answer_about_as_often(world):
    language, task, questions = world
    wrong = {asked.fact.id: asked.wrong for asked in questions}
    misleading = [kind for kind, cue in language.cues.items() if not cue.names_gold]
    places, kinds_of = {kind: Counter() for kind in misleading}, {}
    for item in items(task):
        if item.cue_kind in places:
            # The first wrong answer is the fact's favourite one.
            places[item.cue_kind][wrong[item.group].index(item.cued)] += 1
            kinds_of.setdefault(item.group, set()).add(item.cued)
    facts = len(kinds_of)
    assert facts == 370 * 4
    for counts in places.values():
        assert set(counts) == {0, 1, 2}
        assert all(abs(count / facts - 1 / 3) < 0.05 for count in counts.values())
    # One fact's cues name different answers, as they would by lot: of six all are the same in 1 of 243.
    assert np.mean([len(named) == 1 for named in kinds_of.values()]) < 0.02
    assert np.mean([len(named) == 3 for named in kinds_of.values()]) > 0.6


def test_repeats_of_a_cue_name_all_wrong_answers_by_turns():
    task, _ = world_of(INVENTED_WORLD, repeats=3, test_repeats=1)
    named = {}
    for item in items(task):
        named.setdefault((item.group, item.cue_kind), []).append(item.cued)
    test = {item.group for item in task.splits["test"]}
    for (group, kind), cued in named.items():
        expected = 1 if group in test or INVENTED_WORLD.cues[kind].names_gold else 3
        assert len(set(cued)) == expected
        assert len(cued) == (1 if group in test else 3)


def test_the_languages_are_others_in_every_part():
    phrases = {name: set(language.phrases()) for name, language in CLOSED.items()}
    phrases |= {one.name: set(one.phrases()) for one in (WORLD_FACTS, REGISTER)}
    for one, other in itertools.combinations(phrases.values(), 2):
        assert one & other <= {".", "?"}  # the end of a sentence
    forms = [form for one in CLOSED.values() for of in one.phrasings.values() for form in of]
    assert len(set(forms)) == len(forms) == 2 * 12 * 3


@pytest.mark.parametrize("language", [*CLOSED.values(), REGISTER], ids=(*CLOSED, REGISTER.name))
def test_cues_of_the_same_role_are_called_the_same(language):
    assert tuple(language.cues) == tuple(INVENTED_WORLD.cues)
    assert language.hints == INVENTED_WORLD.hints == ("gossip", "friend", "guide", "chronicle")
    ratios = [language.cues[kind].likelihood_ratio for kind in language.hints]
    assert ratios == sorted(ratios)
    assert ratios[0] > 1
    placebos = [kind for kind, cue in language.cues.items() if cue.placebo]
    assert placebos == [kind for kind, cue in CUES.items() if cue.placebo]
    assert [kind for kind, cue in language.cues.items() if cue.names_gold] == ["right"]
    friend, right = language.cues["friend"], language.cues["right"]
    assert (right.before, right.after, right.likelihood_ratio) == dataclasses.astuple(friend)[1:4]


def test_a_question_reads_as_a_sentence():
    def asked(language, kind):
        task, _ = world_of(language)
        item = next(i for i in task.splits["test"] if i.cue_kind == kind and i.stratum.endswith(RELATION))
        return item.prompt_with_cue.replace(item.group.split("/")[1], "Abc").replace(item.cued, "Xyz")

    RELATION = ("birthplace", "port")
    forms = INVENTED_WORLD.phrasings["person_birthplace"]
    assert asked(INVENTED_WORLD, "gossip") in {
        f"{form} Abc. Some would have it that it is Xyz, or something like that." for form in forms
    }
    forms = SECOND_WORLD.phrasings["ship_port"]
    assert asked(SECOND_WORLD, "guide") in {
        f"{form} Abc? The ferryman, who gets around, said Xyz to me." for form in forms
    }


@pytest.mark.parametrize("language", [*CLOSED.values(), REGISTER], ids=(*CLOSED, REGISTER.name))
def test_explanations_read_back_and_are_no_sentences_of_another_world(language):
    grammar = language.grammar
    others = [ExplanationGrammar(), *(one.grammar for one in CLOSED.values() if one is not language)]
    for choice in (*grammar.all_explanations(("Xa", "Xb")), Explanation(False, NONE)):
        sentence = grammar.render(choice)
        assert grammar.parse(sentence) == choice
        assert not any(other.parse(sentence).valid for other in others)
        assert grammar.parse(f"{sentence}.") != choice


def test_what_an_explanation_says():
    say = INVENTED_WORLD.grammar.render
    assert say(Explanation(True, "X")) == "Something different, namely X"
    assert say(Explanation(False, "X")) == "The same, namely X"
    assert say(Explanation(False, NONE)) == "The same, namely none of these"
    say = SECOND_WORLD.grammar.render
    assert say(Explanation(True, "X")) == "Then I would go for X"
    assert say(Explanation(False, NONE)) == "Then I would still hold to something not on offer"


@both_worlds
def test_a_language_is_a_value(language):
    assert dataclasses.replace(language) == language
    with pytest.raises(dataclasses.FrozenInstanceError):
        language.name = "another"
