"""The facts as a prepared data set: made once by the TFDS builder, then read back, whole or not at all."""

import contextlib
import io
import os
import tempfile
from pathlib import Path

import tensorflow_datasets as tfds

from introspection.errors import RunError
from introspection.tasks.facts import COLUMNS, FACTS_TABLE, SPLIT, Fact, read_facts_table
from introspection.tasks.world_facts_builder import prepared_folder, world_facts

_ATTEMPTS = 3  # to prepare: another process may replace the data set just before it is read


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
