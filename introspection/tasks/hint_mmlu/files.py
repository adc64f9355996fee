"""MMLU's questions as their publishers distribute them: the CSV archive and the hub's parquet files.

The archive (Hendrycks et al., 2021, arXiv:2009.03300), packed or unpacked: `data/<part>/<subject>_<part>.csv`
in the parts dev, val, test and auxiliary_train, without a header: question, four options, answer letter.
The hub's `cais/mmlu`: `all/<part>-00000-of-00001.parquet`, or the same in a folder for each subject, with
`question`, `subject`, `choices` (four) and `answer` (0 to 3).

A malformed row is refused, since the files are then not MMLU's. A question that can't be asked because two
of its options read the same, or one is empty, is passed over and counted: it is not for users to mend the
publishers' files.
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

from introspection.errors import InputError
from introspection.tasks.raw_files import parquet_rows, refuse_rows

LETTERS = ("A", "B", "C", "D")
# The publishers' splits, by the hub's names, and how the archive calls them.
PARTS = {"dev": "dev", "validation": "val", "test": "test", "auxiliary_train": "auxiliary_train"}
COLUMNS = ("question", "subject", "choices", "answer")
ARCHIVE = "data.tar"
DOWNLOAD = (
    "download https://people.eecs.berkeley.edu/~hendrycks/data.tar (MMLU by Hendrycks et al., MIT licence, "
    "166 MB; it need not be unpacked), or the folder all/ of https://huggingface.co/datasets/cais/mmlu, and "
    "put it there, or give its place in config.task.data"
)


@dataclasses.dataclass(frozen=True, order=True)
class MmluQuestion:
    """One question with its four options."""

    part: str  # of PARTS
    subject: str
    number: int  # of its subject's rows in its part, from 1
    text: str
    options: tuple[str, ...]
    answer: int  # the place of the right option

    @property
    def id(self) -> str:
        return f"{self.part}/{self.subject}/{self.number}"


class ReadQuestions(NamedTuple):
    questions: list[MmluQuestion]  # ordered by part, subject and number, whatever the layout
    unusable: int  # passed over: two options read the same, or one is empty


class _RawQuestion(NamedTuple):
    place: str  # for messages
    part: str
    subject: str
    number: int
    values: tuple[Any, ...]  # question, four options, answer (letter or 0 to 3)


def question_files(source: Path, parts: Sequence[str]) -> tuple[Path, ...]:
    """The files below `source` that hold these parts: the archive, CSV files or parquet files.

    Raises:
      InputError: there are none, or none of a part; the message says what to download.
    """
    if source.is_file():
        return (source,)
    if (source / ARCHIVE).is_file():
        return (source / ARCHIVE,)
    found: list[Path] = []
    for part in parts:
        of_part = _csv_files(source, part) or _parquet_files(source, part)
        if not of_part and found:
            raise InputError(f"{source}: holds no questions of the part {part!r} (config.task.parts)")
        found += of_part
    if not found:
        raise InputError(f"{source}: MMLU is not there: {DOWNLOAD}")
    return tuple(found)


def read_questions(files: Sequence[Path], parts: Sequence[str]) -> ReadQuestions:
    """The questions of these parts.

    Raises:
      InputError: a file is of no known layout or not UTF-8; rows with missing columns, without a question or
        with an answer outside A to D (all bad rows in one message); a part without questions.
    """
    questions, problems, unusable = [], [], 0
    for raw in _raw_questions(files, parts):
        wrong = _problem(raw)
        if wrong:
            problems.append(f"{raw.place}: {wrong}")
            continue
        text, *options, answer = raw.values
        options = tuple(_clean(option) for option in options)
        place = answer if isinstance(answer, int) else LETTERS.index(answer.strip())
        if "" in options or len({_as_read(option) for option in options}) < len(options):
            unusable += 1
            continue
        questions.append(MmluQuestion(raw.part, raw.subject, raw.number, _clean(text), options, place))
    refuse_rows(files, problems)
    missing = [part for part in parts if not any(question.part == part for question in questions)]
    if missing:
        raise InputError(f"{files[0]}: holds no questions of the part {missing[0]!r} (config.task.parts)")
    return ReadQuestions(sorted(questions), unusable)


def _csv_files(source: Path, part: str) -> list[Path]:
    folders = (folder / PARTS[part] for folder in (source / "data", source))
    return next((found for folder in folders if (found := sorted(folder.glob("*.csv")))), [])


def _parquet_files(source: Path, part: str) -> list[Path]:
    folders = ("all/", "", "data/", "*/")  # the hub's folder of all subjects, or one a subject
    return next(
        (found for folder in folders if (found := sorted(source.glob(f"{folder}{part}-*.parquet")))), []
    )


def _raw_questions(files: Sequence[Path], parts: Sequence[str]) -> Iterator[_RawQuestion]:
    names = {ours: part for part, ours in PARTS.items() if part in parts}
    counts: Counter[tuple[str, str]] = Counter()  # a part may lie in several parquet files
    for path in files:
        if path.suffix == ".csv":
            if path.parent.name not in names:
                raise InputError(f"{path}: a CSV file lies in a folder that is named by its part; {DOWNLOAD}")
            part = names[path.parent.name]
            yield from _csv_questions(_bytes_of(path), path.parent, path.name, path.stem, part)
        elif path.suffix == ".parquet":
            yield from _parquet_questions(path, parts, counts)
        else:
            yield from _archived_questions(path, names)


def _archived_questions(path: Path, names: dict[str, str]) -> Iterator[_RawQuestion]:
    """Those of a tar archive, which is read and never unpacked."""
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name)
                # Archives made on a Mac hold a ._ file beside every file.
                wanted = member.isfile() and name.suffix == ".csv" and not name.name.startswith("._")
                if wanted and name.parent.name in names:
                    opened, part = archive.extractfile(member), names[name.parent.name]
                    data = opened.read() if opened else b""
                    full = f"{path.name}: {member.name}"
                    yield from _csv_questions(data, path.parent, full, name.stem, part)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise InputError(f"{path}: no readable .csv, .parquet or tar file ({error}); {DOWNLOAD}") from error


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from error


def _csv_questions(data: bytes, folder: Path, name: str, stem: str, part: str) -> Iterator[_RawQuestion]:
    subject = stem.removesuffix(f"_{PARTS[part]}")
    reader = csv.reader(io.StringIO(_decoded(data, f"{folder}/{name}"), newline=""))
    try:
        for number, values in enumerate(filter(None, reader), start=1):
            yield _RawQuestion(f"{name}: row {number}", part, subject, number, tuple(values))
    except csv.Error as error:
        raise InputError(f"{folder}/{name}: line {reader.line_num}: {error}") from error


def _decoded(data: bytes, place: str) -> str:
    """Text without its byte-order mark. Raises InputError where it is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start + 3 * data.startswith(b"\xef\xbb\xbf")  # the mark is not counted
        line, byte = data.count(b"\n", 0, start) + 1, start - data.rfind(b"\n", 0, start)
        raise InputError(
            f"{place}: line {line}, byte {byte}: {data[start : start + 1]!r} is not UTF-8 (is the file "
            "Latin-1?); save it as UTF-8"
        ) from error


def _parquet_questions(
    path: Path, parts: Iterable[str], counts: Counter[tuple[str, str]]
) -> Iterator[_RawQuestion]:
    """`counts` are the questions so far of each part and subject; these are added."""
    part = path.name.partition("-")[0]
    if part not in parts:
        raise InputError(f"{path}: the name must begin with one of {', '.join(parts)} (config.task.parts)")
    for row in parquet_rows(path, COLUMNS):
        missing = [column for column in COLUMNS if column not in row.fields]
        if missing:
            raise InputError(f"{path}: has no column {missing[0]!r}; MMLU's are {', '.join(COLUMNS)}")
        question, subject, choices, answer = (row.fields[column] for column in COLUMNS)
        subject = subject if isinstance(subject, str) and subject else part  # auxiliary_train has none
        counts[part, subject] += 1
        choices = choices if isinstance(choices, list) else [choices]
        yield _RawQuestion(row.place, part, subject, counts[part, subject], (question, *choices, answer))


def _problem(raw: _RawQuestion) -> str:
    """What is wrong with a row; "" if nothing is."""
    if len(raw.values) != 6:
        return f"has {len(raw.values)} fields instead of 6: a question, four options and the answer"
    text, *options, answer = raw.values
    if not all(isinstance(value, str) for value in (text, *options)):
        return "the question or an option is no text"
    if not text.strip():
        return "the question is empty"
    known = answer.strip() in LETTERS if isinstance(answer, str) else type(answer) is int and 0 <= answer < 4
    if not known:
        return f"the answer is {answer!r}, not {', '.join(LETTERS)} (CSV files have no header) or 0 to 3"
    return ""


def _clean(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def _as_read(text: str) -> str:
    """A text up to what no reader sees; case and signs matter ("Aa" and "AA" are two genotypes)."""
    return " ".join(unicodedata.normalize("NFC", text).split())
