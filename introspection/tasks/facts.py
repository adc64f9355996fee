"""The table of true facts that the `world_facts` task asks about, and its prepared data set."""

import contextlib
import dataclasses
import hashlib
import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from introspection.errors import InputError, RunError
from introspection.tasks.items import NONE

FACTS_TABLE = Path(__file__).parent / "data" / "world_facts.tsv"
COLUMNS = ("relation", "entity", "answer")
SPLIT = "facts"  # the only split: which facts train and which test is decided later, by group

_ROWS_NAMED = 20  # bad rows that an error message names; the others are counted
_ATTEMPTS = 3  # to prepare: another process may replace the data set just before it is read


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


def table_digest(path: Path) -> str:
    """16 hex digits that change when the table does."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def load_facts(data_dir: Path, table: Path = FACTS_TABLE) -> list[Fact]:
    """The facts of the data set under `data_dir`, which is prepared first where it is missing; sorted.

    A data set is used only if it holds exactly what the table holds, so one that was damaged, or made
    from another table, is replaced. Any number of processes may call this at the same time.
    Raises `InputError` for a bad table and `RunError` if no data set can be prepared.
    """
    facts = sorted(read_facts_table(table))
    attempts = 0
    while problem := _problem_of_prepared(data_dir, table, facts):
        if attempts == _ATTEMPTS:
            raise RunError(f"{data_dir}: the data set world_facts stays unusable: {problem!r}") from problem
        attempts += 1
        try:
            _prepare(data_dir, table, facts)
        except OSError as error:
            raise RunError(f"{data_dir}: the data set world_facts can't be prepared: {error}") from error
    return facts


def _read_prepared(data_dir: Path, table: Path) -> list[Fact]:
    """The facts of the data set made from `table`, sorted."""
    # Imported here: the builder imports this module, and reading a table alone needs no TFDS.
    import tensorflow_datasets as tfds

    from introspection.tasks.world_facts_builder import prepared_folder

    builder = tfds.builder_from_directory(prepared_folder(data_dir, table))
    source = builder.as_data_source(split=SPLIT)
    rows = source.__getitems__(range(len(source)))
    return sorted(Fact(*(row[column].decode() for column in COLUMNS)) for row in rows)


def _problem_of_prepared(data_dir: Path, table: Path, facts: list[Fact]) -> Exception | None:
    """Why the data set can't be used; None where it holds exactly `facts`."""
    try:
        prepared = _read_prepared(data_dir, table)
    except Exception as error:  # half a data set fails anywhere: as JSON, as a split, in the record reader
        return error
    return None if prepared == facts else ValueError("it does not hold the facts of the table")


def _prepare(data_dir: Path, table: Path, facts: list[Fact]) -> None:
    """Prepares the data set aside and moves it into place, so that nobody ever sees half of one."""
    import tensorflow_datasets as tfds

    from introspection.tasks.world_facts_builder import prepared_folder, world_facts

    tfds.disable_progress_bar()
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".world_facts-", dir=data_dir) as staging:
        builder = world_facts(Path(staging), table)
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces itself; a program's output is ours
            builder.download_and_prepare(download_dir=Path(staging) / "downloads")
        target = prepared_folder(data_dir, table)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Looked at once more: while this one was made, another process may have mended it.
        if target.exists() and _problem_of_prepared(data_dir, table, facts) is not None:
            with contextlib.suppress(FileNotFoundError):  # another process took the damaged one away
                os.rename(target, Path(staging) / "damaged")
        with contextlib.suppress(OSError):  # another process put its own there; the caller reads that one
            os.rename(builder.data_path, target)
