"""The table of true facts that the `world_facts` task asks about."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from introspection.errors import InputError
from introspection.tasks.items import NONE

FACTS_TABLE = Path(__file__).parent / "world_facts.tsv"
COLUMNS = ("relation", "entity", "answer")

_ROWS_NAMED = 20  # bad rows that an error message names; the others are counted


@dataclasses.dataclass(frozen=True, order=True)
class Fact:
    """One true statement: the `answer` to what `relation` asks about `entity`."""

    relation: str
    entity: str
    answer: str

    @property
    def id(self) -> str:
        return f"{self.relation}/{self.entity}"


def read_facts_table(path: Path = FACTS_TABLE) -> list[Fact]:
    """The facts of a tab-separated table, in its order.

    Raises `InputError` with one message that names every bad row, so that a table is mended in one go.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: line {line} is not UTF-8; save the table as UTF-8") from error
    header, *rows = text.removesuffix("\n").split("\n")
    if header != "\t".join(COLUMNS):
        raise InputError(f"{path}: line 1: the header must be {' '.join(COLUMNS)}, separated by tabs")
    if not rows:
        raise InputError(f"{path}: holds no facts")
    facts, problems, first_seen = [], [], {}
    for number, row in enumerate(rows, start=2):
        values = row.split("\t")
        wrong = _problems_of_row(values)
        if not wrong:
            fact = Fact(*values)
            facts.append(fact)
            first = first_seen.setdefault((fact.relation, fact.entity), number)
            if first != number:
                wrong = [f"entity {fact.entity!r} already has an answer for {fact.relation} in line {first}"]
        if wrong:
            problems.append(f"line {number}: {', '.join(wrong)}")
    if problems:
        more = len(problems) - _ROWS_NAMED
        named = problems[:_ROWS_NAMED] + ([f"and {more} more bad rows"] if more > 0 else [])
        raise InputError(f"{path}: {'; '.join(named)}")
    return facts


def _problems_of_row(values: Sequence[str]) -> list[str]:
    """What is wrong with one row by itself, field by field."""
    if len(values) != len(COLUMNS):
        return [f"has {len(values)} columns instead of {len(COLUMNS)}"]
    wrong = []
    for column, value in zip(COLUMNS, values, strict=True):
        if not value.strip():
            wrong.append(f"{column} is empty")
        elif value != " ".join(value.split()):
            wrong.append(f"{column} {value!r} has stray white space")
        elif not value.isprintable():
            wrong.append(f"{column} {value!r} has an invisible character")
    if values[-1].casefold() == NONE:
        wrong.append(f"answer must not be {NONE!r}, the name of the decision for no candidate")
    return wrong
