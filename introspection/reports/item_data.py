"""The items of a run as the page embeds them: prompts told apart, safe inside HTML."""

import json
import re
from collections.abc import Sequence
from typing import Any

from introspection.coupling.records import PredictionRecord
from introspection.reports.run_files import ExplainedItem
from introspection.tasks.spans import prompt_difference

# What an explanation agrees with: the values of the page's verdict filter.
VERDICTS = {
    "both": "matches both",
    "current": "matches current only",
    "teacher": "matches teacher only",
    "neither": "matches neither",
    "invalid": "invalid",
}


def verdict(record: PredictionRecord) -> str:
    """What the explanation agrees with, a key of `VERDICTS`."""
    said = record.explanation
    if not said.valid:
        return "invalid"
    current, teacher = said == record.current.explanation, said == record.teacher.explanation
    if current and teacher:
        return "both"
    return "current" if current else "teacher" if teacher else "neither"


def item_table(
    predictions: Sequence[ExplainedItem],
    controls: Sequence[ExplainedItem],
    page_size: int,
) -> dict[str, Any]:
    """What the page's script needs: every item once, and a row for each explanation of it."""
    places: dict[tuple[Any, ...], int] = {}
    items: list[dict[str, Any]] = []
    rows = []
    for entry in (*predictions, *controls):
        record = entry.record
        key = (record.id, record.cue_kind, record.prompt_with_cue, record.prompt_without_cue)
        if key not in places:
            places[key] = len(items)
            items.append(
                {
                    "id": record.id,
                    "group": record.group,
                    "kind": record.cue_kind,
                    "candidates": record.candidates,
                    "gold": record.gold,
                    "cued": record.cued,
                    "prompt": prompt_difference(record.prompt_with_cue, record.prompt_without_cue),
                }
            )
        rows.append(
            {
                "item": places[key],
                "arm": record.arm,
                "seed": str(record.seed),
                "control": entry.control,
                "teacher": record.teacher,
                "initial": record.initial,
                "current": record.current,
                "text": record.explanation_text,
                "said": record.explanation,
                "verdict": verdict(record),
            }
        )
    return {"verdicts": VERDICTS, "page_size": page_size, "items": items, "rows": rows}


def script_json(value: Any) -> str:
    """JSON that can stand inside a `<script>` element: nothing in it can end or open an element.

    A JSON string may write any character as \\uXXXX, and the escaped ones occur only inside strings. Half of
    a surrogate pair, which is no text and which browsers stumble over, becomes the replacement character.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    whole = re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", whole)
