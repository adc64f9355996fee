"""Points of a sweep: hand-worked lists, what a config file may add, and what a point does to a config."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from introspection.errors import InputError
from introspection.sweeps.grid import Point as SweepPoint
from introspection.sweeps.grid import (
    chain,
    collect_points,
    labels,
    point_config,
    product,
    vary,
    varying_fields,
    zipped,
)


def test_lists_combine_as_worked_by_hand():
    seeds, ranks = vary("pretrain.seed", (3, 4)), vary("lora.rank", (0, 8))
    assert seeds == [{"pretrain.seed": 3}, {"pretrain.seed": 4}]
    assert product(seeds, ranks) == [
        {"pretrain.seed": 3, "lora.rank": 0},
        {"pretrain.seed": 3, "lora.rank": 8},
        {"pretrain.seed": 4, "lora.rank": 0},
        {"pretrain.seed": 4, "lora.rank": 8},
    ]
    assert zipped(seeds, ranks) == [
        {"pretrain.seed": 3, "lora.rank": 0},
        {"pretrain.seed": 4, "lora.rank": 8},
    ]
    assert chain(seeds, ranks) == [
        {"pretrain.seed": 3},
        {"pretrain.seed": 4},
        {"lora.rank": 0},
        {"lora.rank": 8},
    ]
    assert product() == [{}]
    assert product(seeds, []) == zipped() == chain() == vary("a", ()) == []


@given(st.lists(st.lists(st.integers(), max_size=4, unique=True), min_size=1, max_size=4))
def test_a_product_has_every_combination_once_in_order(values):
    lists = [vary(f"field{i}", column) for i, column in enumerate(values)]
    combined = product(*lists)
    assert [tuple(point.values()) for point in combined] == list(itertools.product(*values))
    assert all(list(point) == [f"field{i}" for i in range(len(values))] for point in combined)
    assert product(product(*lists[:1]), product(*lists[1:])) == combined


@given(st.lists(st.tuples(st.integers(), st.text(), st.booleans()), max_size=6))
def test_zipped_undoes_taking_columns_apart(rows):
    columns = [[row[i] for row in rows] for i in range(3)]
    points = zipped(*(vary(name, column) for name, column in zip("abc", columns, strict=True)))
    assert [tuple(point.values()) for point in points] == rows


def test_lists_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"lists of one length; these have 2, 3 points"):
        zipped(vary("a", (1, 2)), vary("b", (1, 2, 3)))
    for combine in (product, zipped):
        with pytest.raises(InputError, match="a is given twice in one point, as 1 and as 2"):
            combine(vary("a", [1]), vary("a", [2]))
        assert combine(vary("a", [1]), [{"a": 1, "b": 2}]) == [{"a": 1, "b": 2}]
    with pytest.raises(InputError, match="takes several values"):
        vary("name", "kl")


def test_combining_leaves_the_lists_alone():
    first, second = vary("a", (1, 2)), vary("b", (3, 4))
    for combined in (product(first, second), zipped(first, second), chain(first, second)):
        for point in combined:
            point["a"] = point["c"] = 0
    assert (first, second) == (vary("a", (1, 2)), vary("b", (3, 4)))


def test_points_are_collected_in_order_with_their_names():
    def sweep(add):
        add({"point": "kl-1", "train.steps": 3})
        add({"train.steps": np.int64(4), "seeds": [0, np.int32(1)]})

    points = collect_points(sweep, "tiny")
    assert points == (
        SweepPoint(0, "kl-1", {"train.steps": 3}),
        SweepPoint(1, "001", {"train.steps": 4, "seeds": (0, 1)}),
    )
    assert type(points[1].overrides["train.steps"]) is int
    many = collect_points(lambda add: [add({"a": i}) for i in range(1200)], "")
    assert [many[i].name for i in (0, 999, 1000)] == ["000", "999", "1000"]


def test_the_argument_goes_to_a_sweep_that_takes_it():
    given_arguments = []
    collect_points(lambda add, argument: (given_arguments.append(argument), add({})), "tiny")
    collect_points(lambda add, argument="x": (given_arguments.append(argument), add({})), "")
    collect_points(lambda add, *, other="x": (given_arguments.append(other), add({})), "tiny")
    assert given_arguments == ["tiny", "", "x"]


def names(*given_names):
    return lambda add: [add({"point": name}) for name in given_names]


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (None, "no function sweep"),
        (lambda add: None, "adds no point"),
        (lambda add: add(3), "a mapping of dotted fields"),
        (lambda add: 1 / 0, "sweep fails: ZeroDivisionError"),
        (lambda add: zipped([], [{}]), "these have 0, 1 points"),
        (lambda add: add({3: 4}), "3 is no field"),
        (lambda add: add({"": 4}), "'' is no field"),
        (names("a", "b", "a"), "points 0 and 2 are both named 'a'"),
        (names("a", "A"), "both named"),
        (lambda add: (add({"point": "001"}), add({})), "points 0 and 1 are both named '001'"),
    ],
)
def test_a_sweep_that_cannot_be_used(sweep, message):
    with pytest.raises(InputError, match=message):
        collect_points(sweep, "")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "-flag",
        "a/b",
        "a\\b",
        "a:b",
        "a@3",
        "a,b",
        "a b",
        "a\n",
        "a.",
        "é",
        "a" * 101,
        3,
    ],
)
def test_names_that_no_folder_or_model_can_have(name):
    with pytest.raises(InputError, match="can't name point 0"):
        collect_points(names(name), "")


def small_config():
    config = ConfigDict(
        dict(
            steps=10,
            rate=0.5,
            name="a",
            on=True,
            seeds=(0, 1),
            parts=[1],
            nothing=None,
            arms=dict(kl=dict(w=1.0)),
        )
    )
    return config.lock()


def changed(**overrides):
    return point_config(
        small_config(), SweepPoint(0, "p", {k.replace("__", "."): v for k, v in overrides.items()})
    )


def test_a_point_changes_its_fields_and_leaves_the_config_alone():
    config = small_config()
    point = SweepPoint(
        0, "p", {"steps": 3, "rate": 1, "seeds": [5], "parts": (2,), "arms.kl.w": 0.0, "nothing": 4}
    )
    result = point_config(config, point)
    assert result.to_dict() == dict(
        steps=3, rate=1.0, name="a", on=True, seeds=(5,), parts=[2], nothing=4, arms=dict(kl=dict(w=0.0))
    )
    assert type(result.rate) is float
    assert config.to_dict() == small_config().to_dict()


def test_fields_that_refer_to_another_follow_it():
    config = small_config().unlock()
    config.half = config.get_ref("steps") / 2
    result = point_config(config, SweepPoint(0, "p", {"steps": 4}))
    assert (result.half, config.half) == (2, 5)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "steps": st.integers(),
            "rate": st.floats(allow_nan=False),
            "name": st.text(),
            "on": st.booleans(),
            "seeds": st.lists(st.integers()).map(tuple),
            "arms.kl.w": st.floats(allow_nan=False),
        },
    )
)
def test_what_a_point_gives_is_what_the_config_has(overrides):
    result = point_config(small_config(), SweepPoint(0, "p", overrides))
    for field in ("steps", "rate", "name", "on", "seeds", "arms.kl.w"):
        value, known = result, small_config()
        for part in field.split("."):
            value, known = value[part], known[part]
        assert value == overrides.get(field, known)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (dict(stepz=3), r"stepz: the config has no field 'stepz' there; did you mean 'steps'\?"),
        (dict(zzz=3), "no field 'zzz' there; choose from"),
        (dict(arms__kl__v=3), "arms.kl.v: the config has no field 'v'"),
        (dict(arms=dict(kl=1)), "arms is a section; override its fields: arms.kl"),
        (dict(arms__kl=ConfigDict()), "arms.kl is a section; override its fields: arms.kl.w"),
        (dict(steps="3"), "steps is 10 in the config, and '3' here is no int"),
        (dict(steps=1.5), "1.5 here is no int"),
        (dict(steps=True), "True here is no int"),
        (dict(rate=True), "True here is no float"),
        (dict(on=1), "1 here is no bool"),
        (dict(name=3), "3 here is no str"),
        (dict(steps=None), "None here is no int"),
        (dict(seeds=3), "3 here is no tuple"),
        ({"seeds[0]": 3}, r"seeds\[0\]: a point gives a field its whole value"),
        (dict(seeds__a=3), "seeds is no section"),
    ],
)
def test_overrides_that_cannot_be_used(overrides, message):
    with pytest.raises(InputError, match=message):
        changed(**overrides)


def test_points_without_a_name_are_shown_with_what_varies():
    given = (
        {"train.steps": 3, "pretrain.steps": 5, "seeds": (0, 1)},
        {"train.steps": 4, "pretrain.steps": 5, "seeds": (0, 1)},
        {"train.steps": 4, "arms.kl.learning_rate": 1e-4, "seeds": (0, 1)},
        {"point": "named", "pretrain.steps": 6, "seeds": (0, 1)},
    )
    points = collect_points(lambda add: [add(point) for point in given], "")
    fields = ["train.steps", "pretrain.steps", "arms.kl.learning_rate"]
    assert varying_fields([point.overrides for point in points]) == fields
    assert list(labels(points).values()) == [
        "000 train.steps=3 pretrain.steps=5",
        "001 train.steps=4 pretrain.steps=5",
        "002 train.steps=4 learning_rate=0.0001",
        "named",
    ]
    assert labels(points[:2]) == {"000": "000 steps=3", "001": "001 steps=4"}
