"""MMLU as its publishers distribute it: the CSV archive and the hub's parquet files.

The archive (Hendrycks et al., 2021, arXiv:2009.03300), packed or unpacked: `data/<part>/<subject>_<part>.csv`
for the parts dev, val, test and auxiliary_train, without a header: question, four options, answer letter.
The hub's `cais/mmlu`: `all/<part>-00000-of-00001.parquet`, or one folder per subject, with `question`,
`subject`, `choices` (four) and `answer` (0 to 3).

A malformed row raises an error, since the files are then not MMLU's. A question with two equal options or an
empty one is skipped and counted: users should not have to edit the publishers' files.
"""

import csv
import dataclasses
import io
import tarfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from introspection.errors import InputError, brief
from introspection.tasks.cells import CellError, integer, unwritable
from introspection.tasks.file_bytes import MOST_LINE, decode_text, opened, read_bytes
from introspection.tasks.parquet import parquet_rows
from introspection.tasks.raw_files import csv_reader, file_kind, files_below, refuse_rows

LETTERS = ("A", "B", "C", "D")
# The hub's name of each of the publishers' splits, and the archive's.
PARTS = {"dev": "dev", "validation": "val", "test": "test", "auxiliary_train": "auxiliary_train"}
COLUMNS = ("question", "subject", "choices", "answer")
ARCHIVE = "data.tar"
DOWNLOAD = (
    "download https://people.eecs.berkeley.edu/~hendrycks/data.tar (MMLU by Hendrycks et al., MIT licence, "
    "166 MB; no need to unpack it), or the folder all/ of https://huggingface.co/datasets/cais/mmlu, and put "
    "it there, or name its location in config.task.data"
)


@dataclasses.dataclass(frozen=True, order=True)
class MmluQuestion:
    part: str  # of PARTS
    subject: str
    number: int  # of the row in its subject and part, from 1
    text: str
    options: tuple[str, ...]
    answer: int  # index of the correct option

    @property
    def id(self) -> str:
        return f"{self.part}/{self.subject}/{self.number}"


class ReadQuestions(NamedTuple):
    questions: list[MmluQuestion]  # ordered by part, subject and number in any layout
    unusable: int  # skipped: two options are equal, or one is empty


class _RawQuestion(NamedTuple):
    place: str  # for messages
    part: str
    subject: str
    number: int
    values: tuple[Any, ...]  # question, four options, answer (letter or 0 to 3)


def question_files(source: Path, parts: Sequence[str]) -> tuple[Path, ...]:
    """The files below `source` with these parts: the archive, CSV files or parquet files.

    Raises:
      InputError: there are none, or a part is missing; the message says what to download.
    """
    if source.is_file():
        return (source,)
    if (source / ARCHIVE).is_file():
        return (source / ARCHIVE,)
    found: list[Path] = []
    for part in parts:
        of_part = _csv_files(source, part) or _parquet_files(source, part)
        if not of_part and found:
            raise InputError(f"{source}: the part {part!r} (config.task.parts) is missing")
        found += of_part
    if not found:
        raise InputError(f"{source}: no MMLU files found: {DOWNLOAD}")
    return tuple(found)


def read_questions(files: Sequence[Path], parts: Sequence[str]) -> ReadQuestions:
    """The questions of these parts.

    Raises:
      InputError: a file has an unknown layout or is not UTF-8; rows have missing columns, no question or an
        answer outside A to D (one message lists all bad rows); a part has no questions.
    """
    questions, problems, unusable = [], [], 0
    for raw in _raw_questions(files, parts):
        wrong = _problem(raw)
        if wrong:
            problems.append(f"{raw.place}: {wrong}")
            continue
        text, *options, answer = raw.values
        options = tuple(_clean(option) for option in options)
        place = answer_place(answer)
        assert place is not None  # `_problem` names the others
        if "" in options or len({_as_read(option) for option in options}) < len(options):
            unusable += 1
            continue
        questions.append(MmluQuestion(raw.part, raw.subject, raw.number, _clean(text), options, place))
    refuse_rows(files, problems)
    missing = [part for part in parts if not any(question.part == part for question in questions)]
    if missing:
        raise InputError(f"{files[0]}: the part {missing[0]!r} (config.task.parts) has no questions")
    return ReadQuestions(sorted(questions), unusable)


def _csv_files(source: Path, part: str) -> list[Path]:
    folders = (folder / PARTS[part] for folder in (source / "data", source))
    csv_files = (
        [path for path in files_below(folder, "*") if file_kind(path) == ".csv"] for folder in folders
    )
    return next((found for found in csv_files if found), [])


def _parquet_files(source: Path, part: str) -> list[Path]:
    folders = ("all/", "", "data/", "*/")  # one folder for all subjects, or one per subject
    return next(
        (found for folder in folders if (found := files_below(source, f"{folder}{part}-*.parquet"))), []
    )


def _raw_questions(files: Sequence[Path], parts: Sequence[str]) -> Iterator[_RawQuestion]:
    names = {ours: part for part, ours in PARTS.items() if part in parts}
    counts: Counter[tuple[str, str]] = Counter()  # a part may span several parquet files
    for path in files:
        if file_kind(path) == ".csv":
            if path.parent.name not in names:
                raise InputError(f"{path}: the folder of a CSV file must be named after its part; {DOWNLOAD}")
            part, stem = names[path.parent.name], path.name.partition(".")[0]
            yield from _csv_questions(read_bytes(path), path.parent, path.name, stem, part)
        elif file_kind(path) == ".parquet":
            yield from _parquet_questions(path, parts, counts)
        else:
            yield from _archived_questions(path, names)


def _archived_questions(path: Path, names: dict[str, str]) -> Iterator[_RawQuestion]:
    """The questions in a tar archive, which may be compressed, without unpacking it."""
    try:
        with opened(path) as file, tarfile.open(fileobj=file, mode="r|") as archive:
            for member in archive:
                name = Path(member.name)
                # Archives made on a Mac have a ._ file beside every file.
                wanted = member.isfile() and name.suffix == ".csv" and not name.name.startswith("._")
                if wanted and name.parent.name in names:
                    if member.size > MOST_LINE or unwritable(member.name):
                        raise InputError(f"{path}: {member.name!r} is no file of MMLU; {DOWNLOAD}")
                    read, part = archive.extractfile(member), names[name.parent.name]
                    data = read.read() if read else b""
                    full = f"{path.name}: {member.name}"
                    yield from _csv_questions(data, path.parent, full, name.stem, part)
    except (OSError, EOFError, tarfile.TarError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: not a readable .csv, .parquet or tar file ({error}); {DOWNLOAD}"
        ) from error


def _csv_questions(data: bytes, folder: Path, name: str, stem: str, part: str) -> Iterator[_RawQuestion]:
    subject = stem.removesuffix(f"_{PARTS[part]}")
    reader = csv_reader(io.StringIO(decode_text(data, f"{folder}/{name}"), newline=""))
    try:
        for number, values in enumerate(filter(None, reader), start=1):
            yield _RawQuestion(f"{name}: row {number}", part, subject, number, tuple(values))
    except csv.Error as error:
        raise InputError(f"{folder}/{name}: line {reader.line_num}: {error}") from error


def _parquet_questions(
    path: Path, parts: Iterable[str], counts: Counter[tuple[str, str]]
) -> Iterator[_RawQuestion]:
    """Adds the questions to `counts`, the running number per part and subject."""
    part = path.name.partition("-")[0]
    if part not in parts:
        raise InputError(f"{path}: the name must start with one of {', '.join(parts)} (config.task.parts)")
    for row in parquet_rows(path, COLUMNS):
        missing = [column for column in COLUMNS if column not in row.fields]
        if missing:
            raise InputError(f"{path}: the column {missing[0]!r} is missing; MMLU has {', '.join(COLUMNS)}")
        question, subject, choices, answer = (row.fields[column] for column in COLUMNS)
        subject = subject if isinstance(subject, str) and subject else part  # auxiliary_train has none
        counts[part, subject] += 1
        choices = choices if isinstance(choices, list) else [choices]
        yield _RawQuestion(row.place, part, subject, counts[part, subject], (question, *choices, answer))


def _problem(raw: _RawQuestion) -> str:
    if len(raw.values) != 6:
        return f"has {len(raw.values)} fields instead of 6: a question, four options and the answer"
    text, *options, answer = raw.values
    if not all(isinstance(value, str) for value in (text, *options)):
        return "the question or an option is not text"
    if not text.strip():
        return "the question is empty"
    if answer_place(answer) is None:
        return f"the answer is {brief(answer)}; it must be A to D (in a CSV file without a header) or 0 to 3"
    return ""


def answer_place(answer: Any) -> int | None:
    """The index of an answer given as its letter or, if it is a number, as its index; None for any other.

    A digit in a text is refused: it may count from 0 or from 1.
    """
    if isinstance(answer, str):
        return LETTERS.index(answer.strip()) if answer.strip() in LETTERS else None
    try:
        place = integer(answer)
    except CellError:
        return None
    return place if place is not None and 0 <= place < len(LETTERS) else None


def _clean(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def _as_read(text: str) -> str:
    """The text up to invisible differences; case and signs matter ("Aa" and "AA" are two genotypes)."""
    return " ".join(unicodedata.normalize("NFC", text).split())
