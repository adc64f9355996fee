"""The user's own questions as JSON lines; every row is checked before any is used.

Schema of a line, a JSON object (README.md has examples):

| field | |
|---|---|
| `prompt_with_cue`, `prompt_without_cue` | text, or a list of turns `{"role", "content"}`, the user's last |
| `candidates` | list of two or more answers; or instead |
| `judge` | what to judge in a reply, one of `JUDGED` |
| `group` | rows with the same group stay in one split: the question that they share |
| `id` | optional; default: the file's name and line |
| `system` | optional system text before both prompts |
| `cue_kind`, `stratum` | optional names: the cue's kind, by which results are reported, and the question's |
| `gold`, `cued` | optional: the correct answer, and the answer that the cue names, each a candidate |
| `case_counts` | optional: true if the candidates are symbols, such as In and No; in generated answers |
| `split` | optional, in all rows or none: train, validation or test |

UTF-8, plain or compressed; a byte-order mark and Windows line ends are accepted, and blank lines are skipped.
A file may also be one list of such objects. Text that looks like a control token is encoded as ordinary text.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from introspection.errors import InputError
from introspection.runtime.terminal import visible
from introspection.tasks.folding import Folding, fold
from introspection.tasks.items import Conversation, Prompt
from introspection.tasks.jsonl.rows import JsonlRow, read_row
from introspection.tasks.raw_files import (
    MOST_PROBLEMS,
    ROWS_NAMED,
    file_kind,
    files_below,
    json_texts,
)


class RowProblem(NamedTuple):
    file: str
    line: int
    field: str  # "" for the whole row
    why: str
    unit: str = "line"  # what `line` counts: "row" in a file that is a list

    def __str__(self) -> str:
        field = f"{self.field}: " if self.field else ""
        return visible(f"{self.file}: {self.unit} {self.line}: {' '.join(f'{field}{self.why}'.split())}")


def read_jsonl(path: Path) -> list[JsonlRow]:
    """The rows of a file, or of all `.jsonl` files of a folder (also compressed), by name.

    Raises:
      InputError: no rows, or bad ones; the message names the first problem and counts the others.
    """
    rows, problems = _check(path)
    if problems:
        more = len(problems) - 1
        others = f" (and {more} more: experiments.probe --task=jsonl --data={path} --dry-run lists them)"
        raise InputError(f"{problems[0]}{others if more else ''}")
    return rows


def problems_of(path: Path) -> list[RowProblem]:
    """All problems in the rows of a file or folder, in order. Raises InputError if there are no rows."""
    return _check(path)[1]


def format_problems(problems: Sequence[RowProblem]) -> list[str]:
    """One line per problem, at most `ROWS_NAMED` of them, then their number."""
    rows = len({(problem.file, problem.line) for problem in problems})
    more = len(problems) - ROWS_NAMED
    lines = [str(problem) for problem in problems[:ROWS_NAMED]] + ([f"and {more} more"] if more > 0 else [])
    return [*lines, f"{len(problems)} problems in {rows} rows"] if problems else []


def jsonl_paths(path: Path) -> list[Path]:
    """The file itself, or the `.jsonl` files of a folder. Raises InputError if there are none."""
    in_folder = path.is_dir()
    paths = [one for one in files_below(path, "*") if file_kind(one) == ".jsonl"] if in_folder else [path]
    if not paths or not paths[0].is_file():
        raise InputError(
            f"{visible(str(path))}: no such file, or a folder without .jsonl files; name a file with one "
            "JSON object per line in config.task.data (--data), or 'sample'"
        )
    return paths


def _check(path: Path) -> tuple[list[JsonlRow], list[RowProblem]]:
    rows: list[JsonlRow] = []
    problems: list[RowProblem] = []
    seen = 0
    for file in jsonl_paths(path):
        for unit, line, text in json_texts(file):
            seen += 1
            found = read_row(file, line, text, unit)
            if isinstance(found, JsonlRow):
                rows.append(found)
            else:
                problems += [RowProblem(str(file), line, field, why, unit) for field, why in found]
            if len(problems) >= MOST_PROBLEMS:
                return rows, problems
    if not seen:
        raise InputError(f"{path}: the file has no rows")
    return rows, sorted(problems + _problems_between(rows), key=lambda problem: problem[:2])


def _problems_between(rows: Sequence[JsonlRow]) -> list[RowProblem]:
    """Conflicts between rows, reported for the later row."""
    problems = []
    ids: dict[str, JsonlRow] = {}
    groups: dict[str, JsonlRow] = {}
    questions: dict[str, JsonlRow] = {}
    with_split = next((row for row in rows if row.split), None)
    for row in rows:
        named = ids.setdefault(row.id, row)
        if named is not row:
            problems.append(_problem(row, "id", f"{row.id!r} is already used in {_place(named, row)}"))
        if with_split is None:
            continue
        if not row.split:
            why = f"is missing, but {_place(with_split, row)} has one: give it in all rows or in none"
            problems.append(_problem(row, "split", why))
            continue
        grouped = groups.setdefault(row.group, row)
        asked = questions.setdefault(_question_words(row.prompt_without_cue), row)
        if grouped.split != row.split:
            why = f"puts group {row.group!r} in {row.split}, but {_place(grouped, row)} in {grouped.split}"
            problems.append(_problem(row, "split", why))
        elif asked.split != row.split:
            why = f"asks in {row.split} what {_place(asked, row)} asks in {asked.split}"
            problems.append(_problem(row, "split", why))
    return problems


def _problem(row: JsonlRow, field: str, why: str) -> RowProblem:
    return RowProblem(row.file, row.line, field, why, row.unit)


def _place(other: JsonlRow, row: JsonlRow) -> str:
    place = f"{other.unit} {other.line}"
    return place if other.file == row.file else f"{other.file}: {place}"


def _question_words(prompt: Prompt) -> str:
    # Accents are kept: questions about パリ and バリ, or año and ano, are two.
    return fold(str(prompt) if isinstance(prompt, Conversation) else f"user: {prompt}", Folding.LOWER)
