"""Requests that look harmful and requests that are: FalseReject and WildGuardMix as published.

FalseReject (Zhang et al., 2025, arXiv:2505.08054): `train.jsonl` and `test.jsonl` with `prompt`, `category`
(a number), `category_text` and, in the training part, `instruct_response` and `cot_response`; all are benign.
WildGuardMix (Han et al., 2024, arXiv:2406.18495): `train/wildguard_train.parquet` and
`test/wildguard_test.parquet` with `prompt`, `adversarial`, `response`, `prompt_harm_label` (harmful,
unharmful, or none if annotators disagree), `response_refusal_label` (refusal, compliance, or none),
`response_harm_label`, `subcategory`. Both may be JSON lines, CSV or parquet, and may have our column
`span`: the part of the prompt that looks harmful, verbatim.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from introspection.errors import InputError, brief
from introspection.tasks.cells import boolean, cell, is_missing, name, text
from introspection.tasks.raw_files import RawRow, json_lines, read_rows
from introspection.tasks.table_files import table_rows

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
_HARM = {"harmful": True, "unharmful": False}
_REFUSED = {"refusal": True, "compliance": False}

DOWNLOAD = (
    "put FalseReject there (train.jsonl and test.jsonl of huggingface.co/datasets/AmazonScience/FalseReject, "
    "CC BY-NC 4.0), WildGuardMix (train/wildguard_train.parquet and test/wildguard_test.parquet of "
    "huggingface.co/datasets/allenai/wildguardmix, ODC-BY, after accepting AI2's terms), or both"
)


@dataclasses.dataclass(frozen=True)
class Request:
    """A user's request, whether it is harmful, and perhaps a reply of known class."""

    id: str
    source: str  # of SOURCES
    prompt: str
    harmful: bool | None  # None: annotators disagree
    category: str  # of harm, as the publisher names it; "benign" if it names none
    adversarial: bool  # written to circumvent refusals
    span: str  # the part that looks harmful, if marked; else ""
    response: str  # a model's reply; "" if there is none
    refused: bool | None  # whether that reply refuses; None: unknown


def read_requests(paths: Sequence[Path]) -> list[Request]:
    """The requests of `.jsonl`, `.csv` and `.parquet` files, in order.

    Raises:
      InputError: a file can't be read or has an unknown layout; rows have no prompt, an unknown label, a span
        that does not occur exactly once in the prompt, or a repeated id (one message lists all bad rows).
    """
    return read_rows(paths, _rows, lambda row, default, path: _request(row, default), "requests")


def read_spans(path: Path) -> dict[str, str]:
    """Spans found by a model: `{"id": .., "span": ..}` per line (`hygiene.find_spans.write_spans`).

    Raises:
      InputError: the file can't be read, or a line lacks one of the fields.
    """
    spans = {}
    for row in json_lines(path):
        wrong: list[str] = []
        named, span = cell(row.fields, "id", name, wrong), cell(row.fields, "span", text, wrong)
        if not named or not span:
            raise InputError(f"{path}: {row.place}: must have the text fields id and span")
        spans[named] = span
    return spans


def _rows(path: Path) -> Iterator[RawRow]:
    return table_rows(path, _COLUMNS)


def _request(row: RawRow, default: str) -> tuple[Request | None, list[str]]:
    """One request (called `default` if it has no id), or None, and what is wrong with its row."""
    fields, source, wrong = row.fields, _source(row), []
    prompt = (cell(fields, "prompt", text, wrong) or "").strip()
    if not prompt and not wrong:
        wrong.append("prompt is empty")
    span = cell(fields, "span", text, wrong) or ""
    if span and prompt.count(span) != 1:
        wrong.append(f"span {span!r} must occur in the prompt once, not {prompt.count(span)} times")
    if source == FALSE_REJECT:
        response = cell(fields, "instruct_response", text, wrong)
        category = cell(fields, "category_text", text, wrong)
        harmful, refused = False, False if response else None
    else:
        response = cell(fields, "response", text, wrong)
        category = cell(fields, "subcategory", text, wrong)
        harmful = _labelled(fields, "prompt_harm_label", _HARM, wrong)
        refused = _labelled(fields, "response_refusal_label", _REFUSED, wrong)
    return Request(
        id=cell(fields, "id", name, wrong) or default,
        source=source,
        prompt=prompt,
        harmful=harmful,
        category=category or "benign",
        adversarial=cell(fields, "adversarial", boolean, wrong) or False,
        span=span,
        response=response or "",
        refused=refused,
    ), wrong


def _source(row: RawRow) -> str:
    """The publisher whose layout a row has. Raises InputError if there is none."""
    fields = row.fields
    if "prompt" in fields and "prompt_harm_label" in fields:
        return WILDGUARDMIX
    if "prompt" in fields and "category_text" in fields:
        return FALSE_REJECT
    present = ", ".join(sorted(map(str, fields))) or "none"
    raise InputError(
        f"{row.place}: needs the columns prompt and category_text (FalseReject) or prompt and "
        f"prompt_harm_label (WildGuardMix); the columns are: {present}"
    )


def _labelled(
    fields: Mapping[str, Any], column: str, known: Mapping[str, bool], wrong: list[str]
) -> bool | None:
    """What a label says; None if there is none or it is unknown, which is added to the row's problems."""
    label = fields.get(column)
    if is_missing(label) or label == "":
        return None
    if not isinstance(label, str) or label.strip().lower() not in known:
        wrong.append(f"{column} {brief(label)} is unknown (choose from {', '.join(known)}, or leave it out)")
        return None
    return known[label.strip().lower()]
