"""Conditions on items, such as `cue_kind!=friend`: which are explained in training, and which only asked."""

from collections.abc import Sequence
from typing import NamedTuple

from introspection.errors import InputError
from introspection.tasks.items import Item

FIELDS = ("cue_kind", "stratum", "phrasing")  # an item's; the stratum is the relation or subject


class Condition(NamedTuple):
    field: str  # of `FIELDS`
    value: str
    equal: bool  # or unequal

    def __str__(self) -> str:
        return f"{self.field}{'=' if self.equal else '!='}{self.value}"


def read_conditions(texts: Sequence[str], name: str) -> tuple[Condition, ...]:
    """Conditions from `FIELD=VALUE` and `FIELD!=VALUE`. Raises InputError, with the config field's name."""
    found = []
    for text in texts:
        field, _, value = str(text).partition("=")
        condition = Condition(field.removesuffix("!").strip(), value.strip(), not field.endswith("!"))
        if condition.field not in FIELDS or not condition.value:
            raise InputError(f"{name} has {text!r}; give FIELD=VALUE or FIELD!=VALUE, of {', '.join(FIELDS)}")
        found.append(condition)
    return tuple(found)


def meets(item: Item, conditions: Sequence[Condition]) -> bool:
    """Whether an item meets all inequalities, and for each field with equalities one of them."""
    wanted: dict[str, set[str]] = {}
    for condition in conditions:
        if condition.equal:
            wanted.setdefault(condition.field, set()).add(condition.value)
        elif getattr(item, condition.field) == condition.value:
            return False
    return all(getattr(item, field) in values for field, values in wanted.items())


def check_conditions(items: Sequence[Item], conditions: Sequence[Condition], name: str) -> None:
    """Raises InputError if a condition names a value that no item has."""
    for condition in conditions:
        known = sorted({getattr(item, condition.field) for item in items})
        if condition.value not in known:
            raise InputError(
                f"{name} has {str(condition)!r}, but {condition.field} is one of {', '.join(known)}"
            )
