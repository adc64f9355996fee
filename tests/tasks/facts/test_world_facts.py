"""The items of world_facts: splits, cues, candidates."""

import dataclasses
import hashlib

import pytest

from introspection.errors import InputError
from introspection.tasks.facts.language import CUES
from introspection.tasks.facts.questions import Question, draw_questions
from introspection.tasks.facts.table import Fact, read_facts_table
from introspection.tasks.facts.world_facts import PHRASINGS, WORLD_FACTS, WorldFactsConfig, world_facts_task
from introspection.tasks.items import NONE
from introspection.tasks.task import Task

GRAMMAR = WORLD_FACTS.grammar
FACTS = read_facts_table()


def questions(count=60, candidates=4, seed=3):
    return draw_questions(FACTS, count, candidates, seed)


def task(**changes):
    chosen = {"train_facts": 30, "validation_facts": 10, "test_facts": 20, "seed": 3, **changes}
    return world_facts_task(WorldFactsConfig(**chosen), questions())


def items(of=None):
    return [item for split in (of or task()).splits.values() for item in split]


def digest(of):
    """Of every item's id, words and candidates, in order."""
    lines = [f"{item.id}\t{item.prompt_with_cue}\t{item.candidates}" for item in items(of)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def entity_task(**changes):
    """All facts of 20 entities, about six each."""
    entities = sorted({fact.entity for fact in FACTS})[::15][:20]
    asked = [q for q in draw_questions(FACTS, 0, 4, 0) if q.fact.entity in entities]
    sizes = {"train_facts": 50, "validation_facts": 15, "test_facts": 45, **changes}
    assert len(asked) >= 110
    return world_facts_task(WorldFactsConfig(seed=3, repeats=1, **sizes), asked), asked


def entity(item):
    return item.group.split("/", 1)[1]


@pytest.mark.parametrize(
    ("changes", "expected"), [({}, "33e767e8b73d6023"), ({"seed": 4, "repeats": 1}, "5f3acff6d1392501")]
)
def test_the_items_of_a_seed_stay_what_they_are(changes, expected):
    assert digest(task(**changes)) == expected
    assert digest(task(**changes, cue_kinds=tuple(CUES), held_out_entities=0, phrasings=3)) == expected
    assert {item.subset for item in items()} == {""}


def test_nothing_about_a_held_out_entity_is_trained_or_validated():
    built, asked = entity_task(held_out_entities=4)
    groups = {split: {item.group for item in of} for split, of in built.splits.items()}
    assert {split: len(of) for split, of in groups.items()} == {"train": 50, "validation": 15, "test": 45}
    known = {entity(item) for split in ("train", "validation") for item in built.splits[split]}
    test = built.splits["test"]
    held_out = {entity(item) for item in test if item.subset == "held_out"}
    assert not held_out & known
    assert {entity(item) for item in test if item.subset == "seen"} <= known
    assert {item.subset for item in test} == {"held_out", "seen"}
    # Of the four drawn, every fact is asked in the test.
    whole = {e for e in held_out if {q.fact.id for q in asked if q.fact.entity == e} <= groups["test"]}
    assert len(whole) >= 4
    assert {item.subset for split in ("train", "validation") for item in built.splits[split]} == {""}


def test_without_held_out_entities_facts_of_test_entities_are_trained():
    built, _ = entity_task()
    assert {entity(item) for item in built.splits["test"]} & {entity(i) for i in built.splits["train"]}
    assert {item.subset for item in items(built)} == {""}


def test_an_entity_that_no_other_split_asks_about_counts_as_held_out_though_it_was_not_drawn():
    built, _ = entity_task(train_facts=3, validation_facts=1, held_out_entities=1)
    test = built.splits["test"]
    assert len({entity(item) for item in test if item.subset == "held_out"}) > 1


def test_held_out_entities_must_fit_the_test_split():
    with pytest.raises(
        InputError, match=r"the 15 drawn entities have \d+ facts, more than task.test_facts \(45\)"
    ):
        entity_task(held_out_entities=15)
    with pytest.raises(InputError, match="held_out_entities is 21, but there are 20"):
        entity_task(held_out_entities=21)


def test_fewer_phrasings_use_the_first_forms():
    for count in (1, 2, 3):
        of_relations = {item.stratum: set() for item in items()}
        for item in items(task(phrasings=count)):
            form = item.prompt_without_cue.removesuffix(f" {entity(item)}?")
            of_relations[item.stratum].add(PHRASINGS[item.stratum].index(form))
        assert set.union(*of_relations.values()) == set(range(count))
        assert {len(forms) for forms in of_relations.values()} == {count}
    for count in (0, 4):
        with pytest.raises(InputError, match=f"phrasings is {count}; for world_facts it must be 1 to 3"):
            task(phrasings=count)


def test_no_group_is_in_two_splits_and_sizes_are_those_asked_for():
    groups = {split: {item.group for item in chosen} for split, chosen in task().splits.items()}
    assert {split: len(of) for split, of in groups.items()} == {"train": 30, "validation": 10, "test": 20}
    assert len(set.union(*groups.values())) == 60


def test_the_prompts_differ_in_the_cue_alone():
    for item in items():
        cue = CUES[item.cue_kind]
        assert item.prompt_with_cue == f"{item.prompt_without_cue} {cue.before} {item.cued}{cue.after}"


def test_candidates_are_distinct_answers_of_the_relation_in_alphabetical_order():
    answers = {}
    for fact in FACTS:
        answers.setdefault(fact.relation, set()).add(fact.answer)
    for item in items():
        assert item.candidates == tuple(sorted(set(item.candidates)))
        assert len(item.candidates) == 4
        assert item.gold in item.candidates
        assert set(item.candidates) <= answers[item.stratum]
        assert item.cued in item.candidates
        assert (item.cued == item.gold) == CUES[item.cue_kind].names_gold


def test_with_named_only_a_prompt_names_the_only_other_candidate():
    named = task(named_only=True)
    assert (task().template_version, named.template_version) == ("world_facts/1", "world_facts/1/named")
    for item in items(named):
        assert len(item.candidates) == 2
        assert {item.gold, item.cued} <= set(item.candidates)
    without = [[dataclasses.replace(item, candidates=()) for item in items(of)] for of in (task(), named)]
    assert without[0] == without[1]
    asked = {}  # nothing in such a prompt says which other candidate it has: it has one in all repeats
    for item in items(named):
        if CUES[item.cue_kind].names_gold:
            assert asked.setdefault((item.group, item.cue_kind), item.candidates) == item.candidates
    assert asked


def test_listed_candidates_stand_in_the_explanation_question_alone():
    listed = task(candidates_listed=True)
    assert listed.template_version == "world_facts/1/listed"
    for item in items(listed):
        assert item.explanation_question.startswith(f"The choices are {', '.join(sorted(item.candidates))}. ")
        assert item.explanation_question.endswith(listed.grammar.question)
    without = [dataclasses.replace(item, explanation_question="") for item in items(listed)]
    assert without == list(items())  # what behaviour is asked is the same


def named_by(of, repeat=None):
    """By group, which wrong answers each cue kind names, in the order of repeats."""
    named = {}
    for item in of:
        if item.cued != item.gold and repeat in (None, int(item.id.rsplit("/", 1)[1])):
            named.setdefault(item.group, {}).setdefault(item.cue_kind, []).append(item.cued)
    return named


def test_repeats_name_every_wrong_candidate():
    of_groups = named_by(items())
    assert len(of_groups) == 60
    for kinds in of_groups.values():
        assert all(len(set(cued)) == len(cued) == 3 for cued in kinds.values())
        assert len(kinds) == sum(not cue.names_gold for cue in CUES.values())
    # With more repeats than wrong answers they come by turns.
    for kinds in named_by(items(task(repeats=7))).values():
        assert all(cued[:3] == cued[3:6] and cued[6] == cued[0] for cued in kinds.values())


def test_cue_kinds_of_a_fact_do_not_all_name_the_same_wrong_answer():
    kinds_of = [{cued for (cued,) in kinds.values()} for kinds in named_by(items(task(repeats=1))).values()]
    assert min(map(len, kinds_of)) < max(map(len, kinds_of)) == 3
    assert sum(len(named) == 1 for named in kinds_of) < 3  # of 60, by chance


def test_test_items_can_have_their_own_number_of_repeats():
    for test_repeats, expected in ((1, 1), (5, 5), (0, 2)):
        built = task(repeats=2, test_repeats=test_repeats)
        sizes = {split: len(of) / len({i.group for i in of}) for split, of in built.splits.items()}
        assert sizes == {"train": 14, "validation": 14, "test": 7 * expected}


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
    with pytest.raises(InputError, match="the splits ask for 80 facts, but there are 60"):
        task(train_facts=50)
    with pytest.raises(InputError, match="9999"):
        questions(count=9999)
    with pytest.raises(InputError, match=r"country_continent.*6 answers, fewer than task.candidates"):
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

    refused("is in both train and test", good)
    other = dataclasses.replace(good, group="other")
    refused("reserved", dataclasses.replace(other, candidates=(*good.candidates, NONE)))
    refused("reserved", dataclasses.replace(other, candidates=(*good.candidates, GRAMMAR.neither)))
    refused("two or more distinct", dataclasses.replace(other, candidates=(good.gold, good.gold)))
    refused("must be candidates", dataclasses.replace(other, gold="Atlantis"))


def test_a_question_reads_as_a_sentence():
    fact = Fact("country_capital", "Norway", "Oslo")
    config = WorldFactsConfig(
        train_facts=0, validation_facts=0, test_facts=1, repeats=1, cue_kinds=("unsure",)
    )
    (item,) = world_facts_task(config, [Question(fact, ("Bergen",))]).splits["test"]
    assert item.prompt_with_cue.endswith("Norway? I think it is Bergen, but I am not sure.")
