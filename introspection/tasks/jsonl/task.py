"""`jsonl`: the user's own questions, candidates or judge, and cue, from a file (schema: `jsonl_files`).

The paper's tasks are four; whatever else has a cue that can be taken away comes in here. Choices:

- Splits are the file's own (`split`), or drawn by group. Groups that ask the same without the cue are then
  kept together (`near_duplicates`), so that no question is on both sides.
- Candidates are put into the order that controls rely on: the right one, the one that the cue names, the
  others. A judge's classes keep theirs.
- The explanation is asked for in one sentence for the whole file, `explanation_question`: it should name the
  cue by what it is there.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from introspection.errors import InputError
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.items import Item
from introspection.tasks.jsonl.files import format_problems, jsonl_paths, problems_of, read_jsonl
from introspection.tasks.jsonl.rows import JsonlRow
from introspection.tasks.splits import NearDuplicates, merge_near_duplicates
from introspection.tasks.task import SPLITS, Task

NAME = "jsonl"
SAMPLE = Path(__file__).parent / "sample"


@dataclasses.dataclass(frozen=True)
class JsonlConfig:
    """Which file, and how it is split."""

    data: str = ""  # a file, or a folder of .jsonl files; "" is raw/jsonl beside the data sets; or "sample"
    seed: int = 0  # draws the splits, and which groups are left out where fewer items are asked for
    train_items: int = 0  # at most; 0 is all that is left
    validation_items: int = 0  # likewise
    test_items: int = 0  # likewise
    validation_share: float = 0.1  # of the groups, where the file has no splits
    test_share: float = 0.3  # likewise
    # Which questions count as one: "exact", or "minhash" for similar ones too. Where all prompts share long
    # instructions, different questions are similar.
    near_duplicates: str = "exact"
    # How the explanation is asked for, in all items: it names the cue by what it is in your prompts.
    explanation_question: str = ExplanationGrammar().question

    def __post_init__(self):
        for split in SPLITS:
            if getattr(self, f"{split}_items") < 0:
                raise InputError(f"config.task.{split}_items is {getattr(self, f'{split}_items')}; 0 is all")
        if not (
            self.validation_share > 0 and self.test_share > 0 and self.validation_share + self.test_share < 1
        ):
            raise InputError(
                f"config.task: validation_share is {self.validation_share} and test_share {self.test_share}; "
                "give shares above 0 that leave something to train on"
            )
        NearDuplicates(self.near_duplicates)
        if not self.explanation_question.strip():
            raise InputError("config.task.explanation_question is empty")


def jsonl_source(data: str, data_dir: Path) -> Path:
    """The file or folder that `JsonlConfig.data` means."""
    if data == "sample":
        return SAMPLE
    return Path(data).expanduser() if data else data_dir / "raw" / NAME


def problems(config: JsonlConfig, data_dir: Path) -> tuple[Path, list[str]]:
    """The file and its rows' problems, then a count. Raises InputError if there is nothing to read."""
    source = jsonl_source(config.data, data_dir)
    return source, format_problems(problems_of(source))


def build_jsonl(config: JsonlConfig, data_dir: Path) -> Task:
    """The task of a file.

    Raises:
      InputError: there is nothing to read, a row is bad, or there are too few groups to split.
    """
    source = jsonl_source(config.data, data_dir)
    rows = read_jsonl(source)
    splits = _given_splits(rows) if rows[0].split else _drawn_splits(rows, config)
    rng = np.random.default_rng([config.seed, 41])
    return Task(
        name=NAME,
        template_version=f"{NAME}/1/{_digest(source, config.explanation_question)}",
        grammar=ExplanationGrammar(question=config.explanation_question),
        splits={
            split: tuple(map(_item, _some(splits[split], getattr(config, f"{split}_items"), rng)))
            for split in SPLITS
        },
    )


def _given_splits(rows: Sequence[JsonlRow]) -> dict[str, list[JsonlRow]]:
    splits = {split: [row for row in rows if row.split == split] for split in SPLITS}
    for split, there in splits.items():
        if not there:
            raise InputError(f"{rows[0].file}: no row has the split {split!r}; every split needs some")
    return splits


def _drawn_splits(rows: Sequence[JsonlRow], config: JsonlConfig) -> dict[str, list[JsonlRow]]:
    """The rows by split, drawn by group; groups that ask the same stay together."""
    asked = [str(row.prompt_without_cue).removeprefix("user: ") for row in rows]
    joined = merge_near_duplicates([row.group for row in rows], asked, NearDuplicates(config.near_duplicates))
    groups = sorted(set(joined.values()))
    if len(groups) < len(SPLITS):
        raise InputError(
            f"{rows[0].file}: has {len(groups)} groups of different questions; "
            f"{len(SPLITS)} splits need one each: give `group` by question"
        )
    order = [groups[i] for i in np.random.default_rng([config.seed, 40]).permutation(len(groups))]
    test = max(round(config.test_share * len(groups)), 1)
    validation = min(max(round(config.validation_share * len(groups)), 1), len(groups) - 2)
    test = min(test, len(groups) - 1 - validation)
    split_of = dict.fromkeys(order, "train")
    split_of |= dict.fromkeys(order[:test], "test")
    split_of |= dict.fromkeys(order[test : test + validation], "validation")
    splits = {split: [] for split in SPLITS}
    for row in rows:
        splits[split_of[joined[row.group]]].append(row)
    return splits


def _some(rows: Sequence[JsonlRow], count: int, rng: np.random.Generator) -> list[JsonlRow]:
    """`count` rows (0: all) of as few drawn groups as hold them, in the file's order."""
    if not count or count >= len(rows):
        return list(rows)
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.group, []).append(place)
    groups = list(places.values())
    drawn = [place for i in rng.permutation(len(groups)) for place in groups[i]]
    return [rows[place] for place in sorted(drawn[:count])]


def _item(row: JsonlRow) -> Item:
    return Item(
        id=row.id,
        group=row.group,
        stratum=row.stratum,
        cue_kind=row.cue_kind,
        prompt_with_cue=row.prompt_with_cue,
        prompt_without_cue=row.prompt_without_cue,
        candidates=row.candidates,
        gold=row.gold,
        cued=row.cued,
    )


def _digest(source: Path, question: str) -> str:
    """16 hex digits that change when a file or the question does: labels of others are refused."""
    digest = hashlib.sha256(question.encode())
    for path in jsonl_paths(source):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
