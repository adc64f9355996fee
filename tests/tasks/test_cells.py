"""One reader of text, names, booleans and numbers: what published files write, and nothing by accident."""

import datetime
import decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from introspection.errors import brief
from introspection.tasks.cells import CellError, boolean, cell, integer, name, text

NAN = float("nan")


@pytest.mark.parametrize(
    "value", [True, 1, 1.0, "1", "1.0", "True", "TRUE", " yes ", "Y", "t", decimal.Decimal(1)]
)
def test_what_is_true(value):
    assert boolean(value) is True


@pytest.mark.parametrize(
    "value", [False, 0, 0.0, -0.0, "0", "0.0", "FALSE", "No", "n", "f", decimal.Decimal(0)]
)
def test_what_is_false(value):
    assert boolean(value) is False


@pytest.mark.parametrize(
    "value", [None, NAN, "", "  ", "nan", "None", "NULL", "N/A", "<NA>", decimal.Decimal("sNaN")]
)
def test_what_is_missing(value):
    assert boolean(value) is None
    assert integer(value) is None
    assert text(value) is None or isinstance(value, str)  # a text may say so: NA is sodium


@pytest.mark.parametrize(
    "value", [2, -1, 0.5, "2", "maybe", "yes and no", "truе", [], {}, b"1", float("inf")]
)
def test_what_is_no_boolean(value):
    with pytest.raises(CellError, match="write true or false"):
        boolean(value)


@pytest.mark.parametrize("value", [3, 3.0, "3", " 3 ", "3.0", "+3", "3e0", decimal.Decimal("3.00")])
def test_what_is_three(value):
    assert integer(value) == 3
    assert type(integer(value)) is int


NO_NUMBERS = [True, 3.5, "3.5", "1,234", "1_234", "٣", "three", "0x3", [3], 2**63, "1e400", 1e308, b"3"]


@pytest.mark.parametrize("value", [*NO_NUMBERS, float("inf"), pytest.param(10**5000, id="5,001 digits")])
def test_what_is_no_whole_number(value):
    with pytest.raises(CellError, match="write a whole number without separators"):
        integer(value)


@pytest.mark.parametrize(
    ("value", "named"), [("x7", "x7"), (7, "7"), (7.0, "7"), (" ", None), (None, None), (NAN, None)]
)
def test_names_of_rows(value, named):
    assert name(value) == named


@pytest.mark.parametrize(
    "value", [True, 1.5, [], {}, b"x", datetime.datetime(2020, 1, 1), "\ud800", np.array([1, 2])]
)
def test_what_is_no_name_and_no_text(value):
    for read in (name, text):
        with pytest.raises(CellError):
            read(value)


def test_a_row_collects_what_is_wrong_by_column():
    wrong: list[str] = []
    row = {"edited": "perhaps", "votes": "1,234", "title": 7}
    assert cell(row, "edited", boolean, wrong) is None
    assert cell(row, "votes", integer, wrong) is None
    assert cell(row, "title", text, wrong) is None
    assert cell(row, "absent", text, wrong) is None
    assert wrong == [
        "edited is 'perhaps'; write true or false (or yes or no, 1 or 0)",
        "votes is '1,234'; write a whole number without separators, such as 1234",
        'title is a number, not text; write it as text: "7"',
    ]


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.decimals()
    | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@given(anything)
def test_every_cell_is_read_missing_or_refused_in_one_printable_line(value):
    for read, kind in ((text, str), (name, str), (boolean, bool), (integer, int)):
        wrong: list[str] = []
        found = cell({"a": value}, "a", read, wrong)
        assert found is None or (type(found) is kind and not wrong)
        assert not any("\n" in line for line in wrong)
    assert len(brief(value)) <= 201
