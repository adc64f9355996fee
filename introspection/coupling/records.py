"""One record per item, arm and seed: the lines of `predictions.jsonl`, the source of every metric."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from introspection.errors import InputError
from introspection.runtime.workdir import whole
from introspection.tasks.items import Decisions, Explanation


@dataclasses.dataclass(frozen=True)
class PredictionRecord:
    """A line of `predictions.jsonl` (design.md §7), plus the prompts, which reports show."""

    arm: str
    seed: int
    id: str
    group: str
    cue_kind: str
    candidates: tuple[str, ...]
    gold: str
    cued: str
    prompt_with_cue: str
    prompt_without_cue: str
    teacher: Decisions
    initial: Decisions
    current: Decisions
    explanation_text: str
    explanation: Explanation
    subset: str = ""  # the item's; missing in older files
    shifted: bool = False  # whether the arm's shift trains this item's group

    def to_json(self) -> dict[str, Any]:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields["candidates"] = list(self.candidates)
        for name in ("teacher", "initial", "current"):
            fields[name] = fields[name]._asdict()
        fields["explanation"] = {"text": fields.pop("explanation_text"), **self.explanation._asdict()}
        return fields

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "PredictionRecord":
        fields = dict(fields)
        explanation = fields.pop("explanation")
        for name in ("teacher", "initial", "current"):
            fields[name] = Decisions(**fields[name])
        return cls(
            **{**fields, "candidates": tuple(fields["candidates"])},
            explanation_text=explanation["text"],
            explanation=Explanation(explanation["changed"], explanation["answer"]),
        )


def check_one_arm(records: Sequence[PredictionRecord]) -> None:
    """Raises InputError if there are no records, several arms, or two records of one item and seed."""
    if not records:
        raise InputError("there are no prediction records: a result needs at least one item")
    arms = sorted({r.arm for r in records})
    if len(arms) > 1:
        raise InputError(f"prediction records of several arms in one result: {', '.join(arms)}")
    count = Counter((r.seed, r.id) for r in records)
    (seed, item), times = count.most_common(1)[0]
    if times > 1:
        raise InputError(f"arm {arms[0]} has {times} prediction records of item {item}, seed {seed}")


def write_records(path: Path, records: Iterable[PredictionRecord]) -> None:
    """Writes one JSON object per line, atomically."""
    with whole(path) as temporary, temporary.open("w", encoding="utf-8") as lines:
        for record in records:
            lines.write(json.dumps(record.to_json(), ensure_ascii=False) + "\n")


def read_records(path: Path) -> list[PredictionRecord]:
    with path.open(encoding="utf-8") as lines:
        return [PredictionRecord.from_json(json.loads(line)) for line in lines]
