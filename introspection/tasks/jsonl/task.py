"""`jsonl`: the user's own questions, candidates or judge, and cues, from a file (schema: `jsonl.files`).

For any task with a removable cue beyond the paper's four. Choices:

- Splits are given in the file (`split`) or drawn by group. Groups that ask the same without the cue are kept
  together (`near_duplicates`), so that no question is in two splits.
- One sentence, `explanation_question`, asks for the explanation in the whole file; it should name the cue.
"""

import dataclasses
import hashlib
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from introspection.errors import InputError
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.items import Item
from introspection.tasks.jsonl.files import format_problems, jsonl_paths, problems_of, read_jsonl
from introspection.tasks.jsonl.rows import JsonlRow
from introspection.tasks.raw_files import raw_source
from introspection.tasks.splits import NearDuplicates, merge_near_duplicates
from introspection.tasks.task import SPLITS, Task, left_out

NAME = "jsonl"


@dataclasses.dataclass(frozen=True)
class JsonlConfig:
    data: str = ""  # a file or a folder of .jsonl files; "" is raw/jsonl beside the data sets; or "sample"
    seed: int = 0  # draws the splits, and the groups to drop when fewer items are asked for
    train_items: int = 0  # at most; 0 is all remaining
    validation_items: int = 0  # likewise
    test_items: int = 0  # likewise
    validation_share: float = 0.1  # of the groups, if the file has no splits
    test_share: float = 0.3  # likewise
    # Which questions count as one: "exact" (same words), or "minhash" (also similar ones). Prompts that share
    # long instructions are similar even if their questions differ.
    near_duplicates: str = "exact"
    # Asks for the explanation in all items; name the cue as your prompts do.
    explanation_question: str = ExplanationGrammar().question

    def __post_init__(self):
        for split in SPLITS:
            if (size := getattr(self, f"{split}_items")) < 0:
                raise InputError(f"config.task.{split}_items is {size}; it must be 0 (all) or more")
        if not (
            self.validation_share > 0 and self.test_share > 0 and self.validation_share + self.test_share < 1
        ):
            raise InputError(
                f"config.task: validation_share is {self.validation_share} and test_share {self.test_share}; "
                "both must be above 0, and their sum below 1"
            )
        NearDuplicates(self.near_duplicates)
        if not self.explanation_question.strip():
            raise InputError("config.task.explanation_question is empty; name the cue in a question")


def problems(config: JsonlConfig, data_dir: Path) -> tuple[Path, list[str]]:
    """The file and its problems, one per line, then their number. Raises InputError if it has no rows."""
    source = raw_source(config.data, data_dir, NAME)
    return source, format_problems(problems_of(source))


def build_jsonl(config: JsonlConfig, data_dir: Path) -> Task:
    """The task of a file.

    Raises:
      InputError: the file has no rows or a bad row, too few groups to split, or splits that ask the same.
    """
    source = raw_source(config.data, data_dir, NAME)
    rows = read_jsonl(source)
    splits = _given_splits(rows, config) if rows[0].split else _drawn_splits(_merged(rows, config), config)
    rng = np.random.default_rng([config.seed, 41])
    chosen = {split: _some(splits[split], getattr(config, f"{split}_items"), rng) for split in SPLITS}
    return Task(
        name=NAME,
        template_version=f"{NAME}/1/{_digest(source, config.explanation_question)}",
        grammar=ExplanationGrammar(question=config.explanation_question),
        splits={split: tuple(map(_item, some)) for split, some in chosen.items()},
        notes=left_out({split: len(some) for split, some in chosen.items()}, len(rows), "rows"),
    )


def _merged(rows: Sequence[JsonlRow], config: JsonlConfig) -> list[JsonlRow]:
    """The rows, with one group for all that ask the same."""
    asked = [str(row.prompt_without_cue).removeprefix("user: ") for row in rows]
    joined = merge_near_duplicates([row.group for row in rows], asked, NearDuplicates(config.near_duplicates))
    return [dataclasses.replace(row, group=joined[row.group]) for row in rows]


def _given_splits(rows: Sequence[JsonlRow], config: JsonlConfig) -> dict[str, list[JsonlRow]]:
    """The rows by split. Raises InputError if a split has none, or two splits ask the same but for signs."""
    asked: dict[str, JsonlRow] = {}
    for row in rows:
        said = unicodedata.normalize("NFC", str(row.prompt_without_cue).removeprefix("user: ").casefold())
        one = asked.setdefault("".join(filter(str.isalnum, said)) or said, row)
        if one.split != row.split:
            raise InputError(
                f"{row.file}: {row.unit} {row.line} asks in {row.split} what {one.unit} {one.line} asks in "
                f"{one.split}: put both into one split, or leave one out"
            )
    splits = {split: [row for row in rows if row.split == split] for split in SPLITS}
    for split, there in splits.items():
        if not there:
            raise InputError(f"{rows[0].file}: no row has the split {split!r}; every split needs a row")
    return {split: _merged(there, config) for split, there in splits.items()}


def _drawn_splits(rows: Sequence[JsonlRow], config: JsonlConfig) -> dict[str, list[JsonlRow]]:
    """The rows by split, drawn by group."""
    groups = sorted({row.group for row in rows})
    if len(groups) < len(SPLITS):
        raise InputError(
            f"{rows[0].file}: only {len(groups)} groups ask different questions, but {len(SPLITS)} splits "
            "need one each: give each question its own `group`"
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
        splits[split_of[row.group]].append(row)
    return splits


def _some(rows: Sequence[JsonlRow], count: int, rng: np.random.Generator) -> list[JsonlRow]:
    """`count` rows (0: all) from as few drawn groups as possible, in the file's order."""
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
        case_counts=row.case_counts,
    )


def _digest(source: Path, question: str) -> str:
    """16 hex digits of the files and the question; labels made from others are refused."""
    digest = hashlib.sha256(question.encode())
    for path in jsonl_paths(source):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
