"""Requests that look harmful and requests that are: FalseReject and WildGuardMix as they are published.

FalseReject (Zhang et al., 2025, arXiv:2505.08054): `train.jsonl` and `test.jsonl` with `prompt`, `category`
(a number), `category_text` and, in training, `instruct_response` and `cot_response`; every prompt is benign.
WildGuardMix (Han et al., 2024, arXiv:2406.18495): `train/wildguard_train.parquet` and
`test/wildguard_test.parquet` with `prompt`, `adversarial`, `response`, `prompt_harm_label` (harmful,
unharmful, or none where annotators disagree), `response_refusal_label` (refusal, compliance, or none),
`response_harm_label`, `subcategory`. Either may come as JSON lines or parquet, and may hold a column of ours,
`span`: the part of the prompt that looks harmful, word for word.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from introspection.errors import InputError
from introspection.tasks.raw_files import RawRow, json_lines, parquet_rows, refuse_rows, row_id, shared_folder

FALSE_REJECT, WILDGUARDMIX = SOURCES = ("false_reject", "wildguardmix")
_COLUMNS = (
    "id",
    "prompt",
    "span",
    "category",
    "category_text",
    "instruct_response",
    "adversarial",
    "response",
    "prompt_harm_label",
    "response_refusal_label",
    "subcategory",
)
_HARM = {"harmful": True, "unharmful": False, None: None, "": None}
_REFUSED = {"refusal": True, "compliance": False, None: None, "": None}

DOWNLOAD = (
    "put FalseReject there (train.jsonl and test.jsonl of huggingface.co/datasets/AmazonScience/FalseReject, "
    "CC BY-NC 4.0), WildGuardMix (train/wildguard_train.parquet and test/wildguard_test.parquet of "
    "huggingface.co/datasets/allenai/wildguardmix, ODC-BY, after accepting AI2's terms), or both"
)


@dataclasses.dataclass(frozen=True)
class Request:
    """What a user asks for, whether it is harmful, and a reply whose class is known, if there is one."""

    id: str
    source: str  # of SOURCES
    prompt: str
    harmful: bool | None  # None: annotators disagree
    category: str  # of harm, as the publisher names it; "benign" where it names none
    adversarial: bool  # written to get round a model's refusal
    span: str  # the part that looks harmful, where somebody marked it; else ""
    response: str  # a model's reply; "" if there is none
    refused: bool | None  # whether that reply refuses; None: unknown


def read_requests(paths: Sequence[Path]) -> list[Request]:
    """The requests of `.jsonl` and `.parquet` files, in their order.

    Raises:
      InputError: a file can't be read or is of neither layout; rows without a prompt, with an unknown label,
        with a span that does not stand in the prompt once, or with an id that recurs (all in one message).
    """
    requests, problems, first_seen = [], [], {}
    for path in paths:
        for row in _rows(path):
            request, wrong = _request(row, row_id(paths, path, row))
            if request is not None:
                first = first_seen.setdefault(request.id, row)
                if first is not row:
                    wrong = [f"id {request.id!r} is already in {first.place}"]
            if wrong:
                problems += [f"{row.place}: {', '.join(wrong)}"]
            elif request is not None:
                requests.append(request)
    refuse_rows(paths, problems)
    if not requests:
        raise InputError(f"{shared_folder(paths)}: the files hold no requests")
    return requests


def raw_paths(source: Path) -> list[Path]:
    """The file itself, or all `.jsonl` and `.parquet` files below a folder, by name.

    Raises:
      InputError: there are none; the message says what to download.
    """
    if source.is_file():
        if source.suffix not in (".jsonl", ".parquet"):
            raise InputError(f"{source}: requests are read from .jsonl or .parquet files")
        return [source]
    found = sorted(path for pattern in ("*.jsonl", "*.parquet") for path in source.rglob(pattern))
    if not found:
        raise InputError(f"{source}: no raw data of refusal (.jsonl or .parquet): {DOWNLOAD}")
    return found


def read_spans(path: Path) -> dict[str, str]:
    """Spans found by a model: `{"id": .., "span": ..}` a line (`hygiene.find_spans.write_spans`).

    Raises:
      InputError: the file can't be read, or a line lacks one of the two.
    """
    spans = {}
    for row in json_lines(path):
        name, span = row.fields.get("id"), row.fields.get("span")
        if not isinstance(name, str) or not isinstance(span, str) or not span:
            raise InputError(f"{path}: {row.place}: needs the texts id and span")
        spans[name] = span
    return spans


def _rows(path: Path) -> Iterator[RawRow]:
    return json_lines(path) if path.suffix == ".jsonl" else parquet_rows(path, _COLUMNS)


def _request(row: RawRow, name: str) -> tuple[Request | None, list[str]]:
    """One request (called `name` if it brings no id), or None and what is wrong with its row."""
    fields, source = row.fields, _source(row)
    prompt, span, name = fields.get("prompt"), fields.get("span") or "", fields.get("id") or name
    if not isinstance(prompt, str) or not isinstance(span, str) or not isinstance(name, str):
        return None, ["prompt, span and id must be texts"]
    prompt, wrong = prompt.strip(), []
    if not prompt:
        wrong.append("prompt is empty")
    if span and prompt.count(span) != 1:
        wrong.append(f"span {span!r} must stand in the prompt once, not {prompt.count(span)} times")
    if source == FALSE_REJECT:
        harmful, refused = False, False if fields.get("instruct_response") else None
        category, response = fields.get("category_text"), fields.get("instruct_response")
    else:
        harm, refusal = fields["prompt_harm_label"], fields.get("response_refusal_label")
        wrong += _unknown("prompt_harm_label", harm, _HARM) + _unknown(
            "response_refusal_label", refusal, _REFUSED
        )
        harmful, refused = (None, None) if wrong else (_HARM[harm], _REFUSED[refusal])
        category, response = fields.get("subcategory"), fields.get("response")
    return Request(
        id=name,
        source=source,
        prompt=prompt,
        harmful=harmful,
        category=str(category or "benign"),
        adversarial=fields.get("adversarial") is True,
        span=span,
        response=str(response or ""),
        refused=refused,
    ), wrong


def _source(row: RawRow) -> str:
    """Whose layout a row has. Raises InputError for a row of neither."""
    fields = row.fields
    if "prompt" in fields and "prompt_harm_label" in fields:
        return WILDGUARDMIX
    if "prompt" in fields and "category_text" in fields:
        return FALSE_REJECT
    there = ", ".join(sorted(map(str, fields))) or "none"
    raise InputError(
        f"{row.place}: has neither the columns prompt and category_text (FalseReject) nor prompt and "
        f"prompt_harm_label (WildGuardMix), only {there}"
    )


def _unknown(name: str, label: Any, known: Mapping[Any, Any]) -> list[str]:
    choices = ", ".join(str(choice) for choice in known if choice)
    fits = label is None or (isinstance(label, str) and label in known)
    return [] if fits else [f"{name} {label!r} is unknown (choose from {choices}, or leave it out)"]
