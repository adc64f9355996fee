"""One row of the user's questions, checked field by field; `jsonl.files` has the schema."""

import dataclasses
import difflib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from introspection.tasks.cells import CellError, boolean, is_missing, kind_of, name, text, unwritable
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.folding import Folding, fold
from introspection.tasks.items import NONE, ROLES, Conversation, Prompt, Turn
from introspection.tasks.refusal.phrases import CLASSES
from introspection.tasks.task import SPLITS

# What a judge can decide about a reply, and its classes, which become the candidates.
JUDGED: dict[str, tuple[str, ...]] = {"refusal": CLASSES}
PROMPTS = ("prompt_with_cue", "prompt_without_cue")
NAMES = ("group", "id", "cue_kind", "stratum")  # texts, or whole numbers
TEXTS = (*NAMES, "system", "gold", "cued", "split", "judge")
FIELDS = (*PROMPTS, "candidates", *TEXTS, "case_counts")
RESERVED = (NONE, ExplanationGrammar().neither)
_MOST_UNKNOWN = 20  # fields of a row that are named; the rest are counted


@dataclasses.dataclass(frozen=True)
class JsonlRow:
    """One valid row; "" for an optional field that is missing."""

    file: str
    line: int
    id: str
    group: str
    prompt_with_cue: Prompt
    prompt_without_cue: Prompt
    candidates: tuple[str, ...]  # the judge's classes, if a judge is named
    judge: str
    cue_kind: str
    stratum: str
    gold: str
    cued: str
    split: str
    case_counts: bool
    unit: str  # what `line` counts: "line", or "row" of a list


def read_row(file: Path, line: int, data: bytes, unit: str = "line") -> JsonlRow | list[tuple[str, str]]:
    """The row of a line, or its problems as (field, reason)."""
    fields, problems = _read_object(data)
    given, case_counts, unreadable = _read_cells(fields)
    problems += _problems_of_names(given) + unreadable
    for field in PROMPTS:
        if field in given:
            problems += [(field, why) for why in _problems_of_prompt(given[field], "system" in given)]
    problems += _problems_of_answers(given, case_counts)
    if problems:
        return problems
    texts = {field: given.get(field, "") for field in TEXTS if field != "system"}
    with_cue, without_cue = (_prompt(given[field], given.get("system")) for field in PROMPTS)
    if str(with_cue).split() == str(without_cue).split():
        return [("prompt_with_cue", "equals prompt_without_cue: there is no cue")]
    answers = JUDGED[texts["judge"]] if texts["judge"] else tuple(given["candidates"])
    texts["id"] = texts["id"] or f"{file.name}:{line}"
    return JsonlRow(
        str(file),
        line,
        candidates=answers,
        prompt_with_cue=with_cue,
        prompt_without_cue=without_cue,
        case_counts=case_counts,
        unit=unit,
        **texts,
    )


def _read_object(data: bytes) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The object of a line ({} if it can't be read), and its problems as JSON."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start + 1} (0x{data[error.start]:02x})"
        return {}, [("", f"{byte} is not UTF-8 (is the file Latin-1?): save it as UTF-8")]
    names: list[str] = []

    def keep_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names[:] = [name for name, _ in pairs]  # the outermost object comes last
        return dict(pairs)

    try:
        fields = json.loads(text, object_pairs_hook=keep_names)
    except json.JSONDecodeError as error:
        return {}, [("", f"is not JSON: {error.msg}, column {error.colno}")]
    except (ValueError, RecursionError) as error:
        return {}, [("", f"is not readable JSON: {error}")]
    if not isinstance(fields, dict):
        return {}, [("", f"is {kind_of(fields)}, not a JSON object")]
    if not fields:
        return {}, [("", "is an empty object")]
    return fields, [(name, "is given twice") for name, times in Counter(names).items() if times > 1]


def _read_cells(fields: Mapping[str, Any]) -> tuple[dict[str, Any], bool, list[tuple[str, str]]]:
    """The fields that are given, `case_counts`, and problems of texts.

    null, NaN as programs write it, and an empty text mean "not given".
    """
    given = {field: value for field, value in fields.items() if not is_missing(value)}
    problems = []
    for field in (*TEXTS, "case_counts"):
        reader = boolean if field == "case_counts" else name if field in NAMES else text
        try:
            value = reader(given.get(field))
        except CellError as error:
            problems.append((field, str(error)))
            continue
        if isinstance(value, str) and not value.strip():
            value = None
        choices = {"split": SPLITS, "judge": tuple(JUDGED)}.get(field, ())
        if value is not None and choices and value not in choices:
            problems.append((field, f"is {value!r}; choose from {', '.join(choices)}"))
        if value is None:
            given.pop(field, None)
        else:
            given[field] = value
    return given, bool(given.get("case_counts")), problems


def _problems_of_names(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Unknown and missing fields; nothing for a row that could not be read."""
    problems, unknown = [], [field for field in given if field not in FIELDS]
    for field in unknown[:_MOST_UNKNOWN]:
        near = difflib.get_close_matches(field, FIELDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(FIELDS)}"
        problems.append((field, f"is not a known field; {hint}"))
    if (more := len(unknown) - _MOST_UNKNOWN) > 0:
        problems.append(("", f"has {more:,} more unknown fields"))
    if given:
        problems += [(field, "is missing") for field in (*PROMPTS, "group") if field not in given]
        both = [field in given for field in ("candidates", "judge")]
        if not any(both):
            problems.append(("candidates", "is missing (or name a judge)"))
        elif all(both):
            problems.append(("judge", "is given together with candidates; give only one of them"))
    return problems


def _problems_of_prompt(value: Any, has_system: bool) -> list[str]:
    if isinstance(value, str):
        return ["is empty"] if not value.strip() else [why for why in [unwritable(value)] if why]
    if not isinstance(value, list):
        return [f"is {kind_of(value)}, neither text nor a list of chat turns"]
    problems = []
    for number, turn in enumerate(value, start=1):
        if not isinstance(turn, dict) or turn.keys() != {"role", "content"}:
            problems.append(f'turn {number} is not {{"role": …, "content": …}}')
        elif turn["role"] not in ROLES:
            problems.append(f"turn {number}: the role is {turn['role']!r}; choose from {', '.join(ROLES)}")
        elif not isinstance(turn["content"], str):
            problems.append(f"turn {number}: the content is {kind_of(turn['content'])}, not text")
        elif not turn["content"].strip():
            problems.append(f"turn {number} is empty")
        elif why := unwritable(turn["content"]):
            problems.append(f"turn {number} {why}")
        elif turn["role"] == "system" and (number > 1 or has_system):
            problems.append(f"turn {number} is a system text; only the first turn can be, and only one")
    if not value:
        problems.append("has no turns")
    elif not problems and value[-1]["role"] != "user":
        problems.append("must end with the user's turn")
    return problems


def _problems_of_answers(given: Mapping[str, Any], case_counts: bool) -> list[tuple[str, str]]:
    """Problems of the candidates, and of answers that must be among them."""
    candidates = given.get("candidates")
    if candidates is not None:
        problems = _problems_of_candidates(candidates, case_counts)
        if problems:
            return [("candidates", why) for why in problems]
    elif given.get("judge") in tuple(JUDGED):
        candidates = JUDGED[given["judge"]]
    else:
        return []
    return [
        (name, f"is {given[name]!r}; it must be one of the candidates {', '.join(map(repr, candidates))}")
        for name in ("gold", "cued")
        if isinstance(given.get(name), str) and given[name].strip() and given[name] not in candidates
    ]


def _problems_of_candidates(candidates: Any, case_counts: bool) -> list[str]:
    if not isinstance(candidates, list):
        return [f"is {kind_of(candidates)}, not a list of texts"]
    problems, first = [], {}
    weakest = Folding.UNIFIED if case_counts else Folding.LOWER  # what keeps candidates apart at the least
    if len(candidates) < 2:
        problems.append(f"has {len(candidates)}; give two or more")
    for number, candidate in enumerate(candidates, start=1):
        if not isinstance(candidate, str):
            problems.append(f"number {number} is {kind_of(candidate)}, not text")
        elif candidate != candidate.strip() or not fold(candidate):
            problems.append(f"number {number} is {candidate!r}: it is empty or has white space around it")
        elif why := unwritable(candidate):
            problems.append(f"number {number} {why}")
        elif fold(candidate) in RESERVED:
            problems.append(f"number {number} is {candidate!r}, which is a reserved answer: reword it")
        elif (other := first.setdefault(fold(candidate, weakest), number)) != number:
            same = "white space" if case_counts else "case and white space"
            problems.append(f"number {number} equals number {other} up to {same}")
    return problems


def _prompt(value: Any, system: str | None) -> Prompt:
    if isinstance(value, str) and system is None:
        return value
    turns = (
        [Turn("user", value)] if isinstance(value, str) else [Turn(t["role"], t["content"]) for t in value]
    )
    return Conversation((*([] if system is None else [Turn("system", system)]), *turns))
