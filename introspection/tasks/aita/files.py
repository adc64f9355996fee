"""Posts of r/AmItheAsshole with their verdicts, as Scruples publishes them or as a plain table.

Scruples Anecdotes (Lourie, Le Bras and Choi, 2021, arXiv:2008.09094): `train.`, `dev.` and
`test.scruples-anecdotes.jsonl`, one object a line with `id`, `post_id`, `action`, `title`, `text`,
`post_type` (HISTORICAL, HYPOTHETICAL), `label_scores` and `label` (AUTHOR, OTHER, EVERYBODY, NOBODY, INFO),
`binarized_label_scores` and `binarized_label` (RIGHT sums OTHER and NOBODY, WRONG sums AUTHOR and EVERYBODY).
The plain table is a CSV with the columns `post` and `verdict`, and `id` and `title` if it likes.
"""

import dataclasses
import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from introspection.errors import InputError
from introspection.tasks.raw_files import RawRow, csv_rows, json_lines, refuse_rows, row_id, shared_folder

VERDICTS = ("AUTHOR", "OTHER", "EVERYBODY", "NOBODY", "INFO")  # who is in the wrong
BINARY = {"AUTHOR": "WRONG", "EVERYBODY": "WRONG", "OTHER": "RIGHT", "NOBODY": "RIGHT"}  # the author
# What the community and its flairs call them; a table may use any of these, in any case.
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
_PATTERNS = ("*.jsonl", "*.csv")

DOWNLOAD = (
    "download the Scruples Anecdotes of the Allen Institute for AI "
    "(https://storage.googleapis.com/ai2-mosaic-public/projects/scruples/v1.0/data/anecdotes.tar.gz; "
    "github.com/allenai/scruples, Apache-2.0; the posts are their authors', for research) and unpack it "
    "there, or put a CSV with the columns post and verdict there"
)


@dataclasses.dataclass(frozen=True)
class Post:
    """One post and what the community says of it."""

    id: str
    title: str  # "" where the file has none
    text: str
    verdict: str  # of VERDICTS; "" where the file knows the binary verdict alone
    binary: str  # "WRONG" or "RIGHT", of the author; "" where it is unknown
    votes: int  # that the five verdicts got; 0 where the file does not say
    share: float  # of the binary votes that the binary verdict got; 0 where the file does not say
    hypothetical: bool  # the author has not done it yet


def read_posts(paths: Sequence[Path]) -> list[Post]:
    """The posts of `.jsonl` and `.csv` files, in their order.

    Raises:
      InputError: a file can't be read or lacks a column; rows without text or with an unknown verdict, or an
        id that recurs (all bad rows in one message).
    """
    posts, problems, first_seen = [], [], {}
    for path in paths:
        for row in _rows(path):
            post, wrong = _post(row, row_id(paths, path, row), _columns_of(path))
            if post is not None:
                first = first_seen.setdefault(post.id, row)
                if first is not row:
                    wrong = [f"id {post.id!r} is already in {first.place}"]
            if wrong:
                problems += [f"{row.place}: {', '.join(wrong)}"]
            elif post is not None:
                posts.append(post)
    refuse_rows(paths, problems)
    if not posts:
        raise InputError(f"{shared_folder(paths)}: the files hold no posts")
    return posts


def raw_paths(source: Path) -> list[Path]:
    """The file itself, or all `.jsonl` and `.csv` files below a folder, by name.

    Raises:
      InputError: there are none; the message says what to download.
    """
    if source.is_file():
        if source.suffix not in (".jsonl", ".csv"):
            raise InputError(f"{source}: posts are read from .jsonl or .csv files")
        return [source]
    found = sorted(path for pattern in _PATTERNS for path in source.rglob(pattern))
    if not found:
        raise InputError(f"{source}: no raw data of aita (.jsonl or .csv): {DOWNLOAD}")
    return found


def _rows(path: Path) -> Iterator[RawRow]:
    return json_lines(path) if path.suffix == ".jsonl" else csv_rows(path)


def _columns_of(path: Path) -> dict[str, str]:
    """The names that a file's layout has for our fields; those marked ! must be there."""
    if path.suffix == ".jsonl":
        return {"id": "id!", "title": "title!", "text": "text!", "verdict": "label!"}
    return {"id": "id", "title": "title", "text": "post!", "verdict": "verdict!"}


def _post(row: RawRow, name: str, columns: Mapping[str, str]) -> tuple[Post | None, list[str]]:
    """One post (called `name` if it brings no id), or None and what is wrong with its row."""
    fields = row.fields
    missing = [name[:-1] for name in columns.values() if name.endswith("!") and name[:-1] not in fields]
    if missing:
        there = ", ".join(sorted(map(str, fields))) or "none"
        raise InputError(f"{row.place}: has no column {missing[0]!r}, only {there}")
    values = {ours: fields.get(name.rstrip("!"), "") for ours, name in columns.items()}
    wrong = [f"{name} is no text" for name, value in values.items() if not isinstance(value, str)]
    if wrong:
        return None, wrong
    text = _plain(values["text"])
    if not text or text in _GONE:
        wrong.append(f"{columns['text'].rstrip('!')} is empty")
    verdict, binary = _verdicts(values["verdict"], fields.get("binarized_label"))
    if not verdict and not binary:
        wrong.append(
            f"verdict {values['verdict']!r} is unknown (choose from YTA, NTA, ESH, NAH, INFO, wrong, right "
            f"or {', '.join(VERDICTS)})"
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
    """Reddit's text as people read it: HTML entities written out, zero-width spaces taken out."""
    return html.unescape(text).replace("\u200b", "").strip()


def _verdicts(name: str, binarized: Any) -> tuple[str, str]:
    """The five-way and the binary verdict; "" for one that is unknown.

    The binary one is the publisher's where there is one: most votes for a side may go to its two labels
    together while another label has most by itself.
    """
    folded = name.strip().casefold()
    if folded in ("wrong", "right"):
        return "", folded.upper()
    verdict = name.strip().upper() if name.strip().upper() in VERDICTS else _OTHER_NAMES.get(folded, "")
    known = binarized if binarized in ("WRONG", "RIGHT") else ""
    return verdict, (known or BINARY.get(verdict, "")) if verdict else ""


def _votes(fields: Mapping[str, Any], binary: str) -> tuple[int, float, list[str]]:
    """How many votes a post got and the share of the binary ones that its binary verdict got."""
    counted = []
    for name in ("label_scores", "binarized_label_scores"):
        scores = fields.get(name) or {}
        if not isinstance(scores, Mapping) or not all(isinstance(n, int) and n >= 0 for n in scores.values()):
            return 0, 0.0, [f"{name} holds no numbers of votes"]
        counted.append(scores)
    five, two = counted
    return sum(five.values()), two.get(binary, 0) / max(sum(two.values()), 1), []
