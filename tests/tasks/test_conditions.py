"""Conditions on items: what they mean, and what is refused."""

import pytest
from tiny import tiny_task

from introspection.errors import InputError
from introspection.tasks.conditions import check_conditions, meets, read_conditions

NAME = "config.train.explained_where"


def chosen(*texts):
    return [item for item in tiny_task().splits["train"] if meets(item, read_conditions(texts, NAME))]


def test_inequalities_all_hold_and_equalities_of_one_field_are_alternatives():
    items = tiny_task().splits["train"]
    kinds = sorted({item.cue_kind for item in items})
    relations = sorted({item.stratum for item in items})
    assert chosen() == list(items)
    assert {i.cue_kind for i in chosen(f"cue_kind!={kinds[0]}", f"cue_kind!={kinds[1]}")} == {*kinds[2:]}
    both = chosen(f"cue_kind={kinds[0]}", f"cue_kind = {kinds[1]}", f"stratum={relations[0]}")
    assert {(i.cue_kind, i.stratum) for i in both} == {(kind, relations[0]) for kind in kinds[:2]}
    assert {i.phrasing for i in chosen("phrasing!=0")} == {i.phrasing for i in items} - {"0"}


@pytest.mark.parametrize("text", ["cue=a", "cue_kind", "cue_kind=", "gold=Oslo", "=a"])
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(InputError, match=r"explained_where has .*cue_kind, stratum, phrasing"):
        read_conditions((text,), NAME)


def test_a_value_that_no_item_has_is_refused_with_those_that_there_are():
    with pytest.raises(InputError, match="has 'cue_kind!=frend', but cue_kind is one of "):
        check_conditions(tiny_task().splits["train"], read_conditions(("cue_kind!=frend",), NAME), NAME)
