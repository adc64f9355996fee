"""Requests that look harmful and requests that are: FalseReject and WildGuardMix as published.

FalseReject (Zhang et al., 2025, arXiv:2505.08054): `train.jsonl` and `test.jsonl` with `prompt`, `category`
(a number), `category_text` and, in the training part, `instruct_response` and `cot_response`; all are benign.
WildGuardMix (Han et al., 2024, arXiv:2406.18495): `train/wildguard_train.parquet` and
`test/wildguard_test.parquet` with `prompt`, `adversarial`, `response`, `prompt_harm_label` (harmful,
unharmful, or none if annotators disagree), `response_refusal_label` (refusal, compliance, or none),
`response_harm_label`, `subcategory`. Both may be JSON lines or parquet, and may have our column `span`: the
part of the prompt that looks harmful, verbatim.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from introspection.errors import InputError
from introspection.tasks.raw_files import RawRow, json_lines, parquet_rows, read_rows

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

SUFFIXES = (".jsonl", ".parquet")
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
    """The requests of `.jsonl` and `.parquet` files, in order.

    Raises:
      InputError: a file can't be read or has an unknown layout; rows have no prompt, an unknown label, a span
        that does not occur exactly once in the prompt, or a repeated id (one message lists all bad rows).
    """
    return read_rows(paths, _rows, lambda row, name, path: _request(row, name), "requests")


def read_spans(path: Path) -> dict[str, str]:
    """Spans found by a model: `{"id": .., "span": ..}` per line (`hygiene.find_spans.write_spans`).

    Raises:
      InputError: the file can't be read, or a line lacks one of the fields.
    """
    spans = {}
    for row in json_lines(path):
        name, span = row.fields.get("id"), row.fields.get("span")
        if not isinstance(name, str) or not isinstance(span, str) or not span:
            raise InputError(f"{path}: {row.place}: must have the text fields id and span")
        spans[name] = span
    return spans


def _rows(path: Path) -> Iterator[RawRow]:
    return json_lines(path) if path.suffix == ".jsonl" else parquet_rows(path, _COLUMNS)


def _request(row: RawRow, name: str) -> tuple[Request | None, list[str]]:
    """One request (called `name` if it has no id), or None, and what is wrong with its row."""
    fields, source = row.fields, _source(row)
    prompt, span, name = fields.get("prompt"), fields.get("span") or "", fields.get("id") or name
    if not isinstance(prompt, str) or not isinstance(span, str) or not isinstance(name, str):
        return None, ["prompt, span and id must be text"]
    prompt, wrong = prompt.strip(), []
    if not prompt:
        wrong.append("prompt is empty")
    if span and prompt.count(span) != 1:
        wrong.append(f"span {span!r} must occur in the prompt once, not {prompt.count(span)} times")
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


def _unknown(name: str, label: Any, known: Mapping[Any, Any]) -> list[str]:
    choices = ", ".join(str(choice) for choice in known if choice)
    fits = label is None or (isinstance(label, str) and label in known)
    return [] if fits else [f"{name} {label!r} is unknown (choose from {choices}, or leave it out)"]
