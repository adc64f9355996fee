"""Posts of r/AmItheAsshole with their verdicts, as Scruples publishes them or as a plain CSV.

Scruples Anecdotes (Lourie, Le Bras and Choi, 2021, arXiv:2008.09094): `train.`, `dev.` and
`test.scruples-anecdotes.jsonl`, one object per line with `id`, `post_id`, `action`, `title`, `text`,
`post_type` (HISTORICAL, HYPOTHETICAL), `label_scores` and `label` (AUTHOR, OTHER, EVERYBODY, NOBODY, INFO),
`binarized_label_scores` and `binarized_label` (RIGHT sums OTHER and NOBODY, WRONG sums AUTHOR and EVERYBODY).
The CSV has the columns `post` and `verdict`, and optionally `id` and `title`.
"""

import dataclasses
import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from introspection.errors import InputError
from introspection.tasks.raw_files import RawRow, csv_rows, json_lines, read_rows

VERDICTS = ("AUTHOR", "OTHER", "EVERYBODY", "NOBODY", "INFO")  # who is in the wrong
BINARY = {"AUTHOR": "WRONG", "EVERYBODY": "WRONG", "OTHER": "RIGHT", "NOBODY": "RIGHT"}  # the author
# The community's names and flairs for the verdicts; case is ignored.
_OTHER_NAMES = {
    "yta": "AUTHOR",
    "ywbta": "AUTHOR",
    "asshole": "AUTHOR",
    "nta": "OTHER",
    "ywnbta": "OTHER",
    "not the a-hole": "OTHER",
    "not the asshole": "OTHER",
    "esh": "EVERYBODY",
    "everyone sucks": "EVERYBODY",
    "everyone sucks here": "EVERYBODY",
    "nah": "NOBODY",
    "no a-holes here": "NOBODY",
    "no assholes here": "NOBODY",
    "not enough info": "INFO",
}
_GONE = ("[removed]", "[deleted]")
SUFFIXES = (".jsonl", ".csv")


DOWNLOAD = (
    "download the Scruples Anecdotes of the Allen Institute for AI "
    "(https://storage.googleapis.com/ai2-mosaic-public/projects/scruples/v1.0/data/anecdotes.tar.gz; "
    "github.com/allenai/scruples, Apache-2.0; the posts are their authors', for research) and unpack it "
    "there, or put a CSV with the columns post and verdict there"
)


@dataclasses.dataclass(frozen=True)
class Post:
    id: str
    title: str  # "" where the file has none
    text: str
    verdict: str  # of VERDICTS; "" where the file has only the binary verdict
    binary: str  # "WRONG" or "RIGHT", of the author; "" if unknown
    votes: int  # for the five verdicts together; 0 if unknown
    share: float  # of the binary votes that went to the binary verdict; 0 if unknown
    hypothetical: bool  # the author has not done it yet


def read_posts(paths: Sequence[Path]) -> list[Post]:
    """The posts of `.jsonl` and `.csv` files, in order.

    Raises:
      InputError: a file can't be read or lacks a column; rows have no text, an unknown verdict or a repeated
        id (one message lists all bad rows); or there are no posts.
    """
    return read_rows(paths, _rows, lambda row, name, path: _post(row, name, _columns_of(path)), "posts")


def _rows(path: Path) -> Iterator[RawRow]:
    return json_lines(path) if path.suffix == ".jsonl" else csv_rows(path)


def _columns_of(path: Path) -> dict[str, str]:
    """The file's column for each of our fields; "!" marks a required one."""
    if path.suffix == ".jsonl":
        return {"id": "id!", "title": "title!", "text": "text!", "verdict": "label!"}
    return {"id": "id", "title": "title", "text": "post!", "verdict": "verdict!"}


def _post(row: RawRow, name: str, columns: Mapping[str, str]) -> tuple[Post | None, list[str]]:
    """One post (called `name` if it has no id), or None, and what is wrong with its row."""
    fields = row.fields
    missing = [name[:-1] for name in columns.values() if name.endswith("!") and name[:-1] not in fields]
    if missing:
        present = ", ".join(sorted(map(str, fields))) or "none"
        raise InputError(f"{row.place}: the column {missing[0]!r} is missing; the columns are: {present}")
    values = {ours: fields.get(name.rstrip("!"), "") for ours, name in columns.items()}
    wrong = [f"{name} is not text" for name, value in values.items() if not isinstance(value, str)]
    if wrong:
        return None, wrong
    text = _plain(values["text"])
    if not text or text in _GONE:
        wrong.append(f"{columns['text'].rstrip('!')} is empty")
    verdict, binary = _verdicts(values["verdict"], fields.get("binarized_label"))
    if not verdict and not binary:
        wrong.append(
            f"verdict {values['verdict']!r} is unknown (use YTA, NTA, ESH, NAH, INFO, wrong, right or "
            f"{', '.join(VERDICTS)})"
        )
    votes, share, unusable = _votes(fields, binary)
    wrong += unusable
    return Post(
        id=values["id"] or name,
        title=_plain(values["title"]),
        text=text,
        verdict=verdict,
        binary=binary,
        votes=votes,
        share=share,
        hypothetical=fields.get("post_type") == "HYPOTHETICAL",
    ), wrong


def _plain(text: str) -> str:
    """Reddit's text as readers see it: HTML entities decoded, zero-width spaces removed."""
    return html.unescape(text).replace("\u200b", "").strip()


def _verdicts(name: str, binarized: Any) -> tuple[str, str]:
    """The five-way and the binary verdict; "" for an unknown one.

    The publisher's binary verdict takes precedence: the two labels of one side may have most votes together
    while a label of the other side has the most votes by itself.
    """
    folded = name.strip().casefold()
    if folded in ("wrong", "right"):
        return "", folded.upper()
    verdict = name.strip().upper() if name.strip().upper() in VERDICTS else _OTHER_NAMES.get(folded, "")
    known = binarized if binarized in ("WRONG", "RIGHT") else ""
    return verdict, (known or BINARY.get(verdict, "")) if verdict else ""


def _votes(fields: Mapping[str, Any], binary: str) -> tuple[int, float, list[str]]:
    """The number of votes, the share of the binary votes for the binary verdict, and what is wrong."""
    counted = []
    for name in ("label_scores", "binarized_label_scores"):
        scores = fields.get(name) or {}
        if not isinstance(scores, Mapping) or not all(isinstance(n, int) and n >= 0 for n in scores.values()):
            return 0, 0.0, [f"{name} must map labels to numbers of votes"]
        counted.append(scores)
    five, two = counted
    return sum(five.values()), two.get(binary, 0) / max(sum(two.values()), 1), []
