"""One record per item, arm and seed: the lines of `predictions.jsonl`, the source of every metric."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from introspection.errors import InputError
from introspection.runtime.digests import check_digest, digested_lines
from introspection.runtime.json_files import json_lines
from introspection.tasks.items import Decisions, Explanation

# A run writes its predictions and controls from its arms' records, and those from its checkpoints.
WRITE_AGAIN = "delete the run's results.json and give its command again, which writes it anew"


class CueEffects(NamedTuple):
    """`probes.scored.cue_effect` of three models, in nats; null where behaviour has no log-probabilities."""

    teacher: float | None
    initial: float | None
    current: float | None


class Said(NamedTuple):
    """What an emitter says of an item."""

    text: str
    explanation: Explanation
    logprobs: tuple[float, ...] | None = None  # None: an emitter without probabilities, or not scored


@dataclasses.dataclass(frozen=True)
class PredictionRecord:
    """A line of `predictions.jsonl` (workdir_files.md), plus the prompts, which reports show."""

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
    # Log-probabilities (nats) of all explanations, ends included: changed with each candidate and with
    # `none`, then unchanged; no key in older files and where an emitter has none.
    explanation_logprobs: tuple[float, ...] | None = None
    # How far the cue lowers the log-odds (nats) of the decision without it; no key in older files.
    cue_effects: CueEffects | None = None

    def saying(self, said: Said) -> "PredictionRecord":
        """The record with what another emitter says."""
        return dataclasses.replace(
            self,
            explanation_text=said.text,
            explanation=said.explanation,
            explanation_logprobs=said.logprobs,
        )

    @property
    def said(self) -> Said:
        return Said(self.explanation_text, self.explanation, self.explanation_logprobs)

    def to_json(self) -> dict[str, Any]:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields["candidates"] = list(self.candidates)
        for name in ("teacher", "initial", "current"):
            fields[name] = fields[name]._asdict()
        fields["explanation"] = {"text": fields.pop("explanation_text"), **self.explanation._asdict()}
        logprobs, effects = fields.pop("explanation_logprobs"), fields.pop("cue_effects")
        if logprobs is not None:
            fields["explanation"]["logprobs"] = list(logprobs)
        return fields if effects is None else {**fields, "cue_effects": effects._asdict()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "PredictionRecord":
        """The record that `to_json` wrote.

        Raises:
          ValueError, KeyError, TypeError, AttributeError: a key is missing or unknown, or its value is of
            another type.
        """
        fields = dict(fields)
        explanation = fields.pop("explanation")
        _check_types(fields, explanation)
        for name in _DECISIONS:
            fields[name] = Decisions(**fields[name])
        effects, logprobs = fields.get("cue_effects"), explanation.get("logprobs")
        fields["cue_effects"] = None if effects is None else CueEffects(**effects)
        return cls(
            **{**fields, "candidates": tuple(fields["candidates"])},
            explanation_text=explanation["text"],
            explanation=Explanation(explanation["changed"], explanation["answer"]),
            explanation_logprobs=None if logprobs is None else tuple(logprobs),
        )


_DECISIONS = ("teacher", "initial", "current")
_KINDS = {
    field.name: field.type for field in dataclasses.fields(PredictionRecord) if field.type in (str, int, bool)
}


def _check_types(fields: dict[str, Any], explanation: dict[str, Any]) -> None:
    """Raises ValueError, which names the field. By hand, and not by `json_values`: a study reads millions."""
    wrong = [name for name, kind in _KINDS.items() if name in fields and type(fields[name]) is not kind]
    wrong += [name for name in _DECISIONS if any(type(one) is not str for one in fields[name].values())]
    wrong += ["candidates"] * any(type(one) is not str for one in fields["candidates"])
    wrong += ["explanation.text"] * (type(explanation["text"]) is not str)
    wrong += ["explanation.changed"] * (type(explanation["changed"]) not in (bool, type(None)))
    wrong += ["explanation.answer"] * (type(explanation["answer"]) not in (str, type(None)))
    logprobs, effects = explanation.get("logprobs"), fields.get("cue_effects")
    wrong += ["explanation.logprobs"] * any(type(one) is not float for one in logprobs or ())
    wrong += ["cue_effects"] * any(type(one) not in (float, type(None)) for one in (effects or {}).values())
    if wrong:
        raise ValueError(f"{wrong[0]} is of another type than records have there")


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
    """Writes one JSON object per line, atomically, and a digest beside them."""
    with digested_lines(path) as write:
        for record in records:
            write(json.dumps(record.to_json(), ensure_ascii=False))


def read_records(path: Path, advice: str = WRITE_AGAIN) -> list[PredictionRecord]:
    """The records of a file that `write_records` wrote.

    Raises:
      InputError: the file is missing, was changed, or can't be read; the message ends with `advice`.
    """
    check_digest(path, advice)
    return list(json_lines(path, PredictionRecord.from_json, advice))
