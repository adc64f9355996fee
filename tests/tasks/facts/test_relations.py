"""Facts of chosen relations alone."""

import pytest

from introspection.errors import InputError
from introspection.runtime.config import cache_dir
from introspection.tasks.facts.table import read_facts_table
from introspection.tasks.facts.world_facts import PHRASINGS, facts_of_relations
from introspection.tasks.registry import load_task

SECTION = dict(name="world_facts", train_facts=6, validation_facts=2, test_facts=4, seed=0, repeats=1)


def test_a_task_asks_only_the_relations_that_it_names(tmp_path):
    chosen = ["country_capital", "element_symbol"]
    config = {"task": SECTION | {"relations": chosen}, "cache_dir": str(tmp_path)}
    task, questions = load_task(config["task"], cache_dir())
    assert {q.fact.relation for q in questions} == set(chosen)
    assert len(questions) == sum(fact.relation in chosen for fact in read_facts_table())
    assert {item.stratum for items in task.splits.values() for item in items} <= set(chosen)


def test_no_relation_named_is_all_of_them():
    facts = read_facts_table()
    assert facts_of_relations(facts, ()) == facts
    assert {fact.relation for fact in facts} == set(PHRASINGS)


def test_an_unknown_relation_is_named():
    with pytest.raises(
        InputError, match=r"config\.task\.relations has 'capital'; choose from .*country_capital"
    ):
        facts_of_relations(read_facts_table(), ("capital",))
