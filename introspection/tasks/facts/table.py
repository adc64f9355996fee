"""The table of true facts behind `world_facts`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from introspection.errors import InputError
from introspection.tasks.file_bytes import decode_text, read_bytes
from introspection.tasks.items import NONE
from introspection.tasks.raw_files import ROWS_NAMED

FACTS_TABLE = Path(__file__).parent / "world_facts.tsv"
COLUMNS = ("relation", "entity", "answer")


@dataclasses.dataclass(frozen=True, order=True)
class Fact:
    relation: str
    entity: str
    answer: str

    @property
    def id(self) -> str:
        return f"{self.relation}/{self.entity}"


def read_facts_table(path: Path = FACTS_TABLE) -> list[Fact]:
    """The facts of a tab-separated table, in order.

    Raises:
      InputError: the file can't be read or has bad rows; one message lists them all.
    """
    text = decode_text(read_bytes(path), str(path))  # line ends stay, so that stray ones are reported
    header, *rows = text.removesuffix("\n").split("\n")
    if header != "\t".join(COLUMNS):
        raise InputError(f"{path}: line 1: the header must be {' '.join(COLUMNS)}, separated by tabs")
    if not rows:
        raise InputError(f"{path}: the table has no facts")
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
        more = len(problems) - ROWS_NAMED
        named = problems[:ROWS_NAMED] + ([f"and {more} more bad rows"] if more > 0 else [])
        raise InputError(f"{path}: {'; '.join(named)}")
    return facts


def _problems_of_row(values: Sequence[str]) -> list[str]:

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
        wrong.append(f"answer must not be {NONE!r}, which is reserved for answers outside the candidates")
    return wrong
