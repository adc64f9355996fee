"""Posts of r/AmItheAsshole with their verdicts, as Scruples or others publish them.

Scruples Anecdotes (Lourie, Le Bras and Choi, 2021, arXiv:2008.09094): `train.`, `dev.` and
`test.scruples-anecdotes.jsonl`, one object per line with `id`, `post_id`, `action`, `title`, `text`,
`post_type` (HISTORICAL, HYPOTHETICAL), `label_scores` and `label` (AUTHOR, OTHER, EVERYBODY, NOBODY, INFO),
`binarized_label_scores` and `binarized_label` (RIGHT sums OTHER and NOBODY, WRONG sums AUTHOR and EVERYBODY).
Other tables (CSV, parquet or JSON) have a text and a verdict under one of the names of `COLUMNS`, and perhaps
an id and a title. Posts without a text, which their authors or moderators removed, are skipped and counted.
"""

import dataclasses
import html
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from introspection.errors import InputError, brief
from introspection.tasks.cells import boolean, cell, integer, name, text
from introspection.tasks.raw_files import RawRow, read_rows
from introspection.tasks.table_files import table_rows

VERDICTS = ("AUTHOR", "OTHER", "EVERYBODY", "NOBODY", "INFO")  # who is in the wrong
BINARY = {"AUTHOR": "WRONG", "EVERYBODY": "WRONG", "OTHER": "RIGHT", "NOBODY": "RIGHT"}  # the author
# The community's names and flairs for the verdicts; case is ignored.
_OTHER_NAMES = {
    "yta": "AUTHOR",
    "ywbta": "AUTHOR",
    "asshole": "AUTHOR",
    "a-hole": "AUTHOR",
    "you're the asshole": "AUTHOR",
    "you're the a-hole": "AUTHOR",
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
    "not enough information": "INFO",
}
# The columns of published tables, by meaning; of several, the first that a row has.
COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id", "submission_id"),
    "title": ("title", "submission_title"),
    "text": ("post", "text", "body", "selftext", "submission_text"),
    "verdict": ("verdict", "label", "link_flair_text", "top_comment_1_classification"),
}
SCRUPLES = ("id", "title", "text", "label")  # all there, if a row has `post_type`
_SCRUPLES_ONLY = ("post_type", "label_scores", "binarized_label", "binarized_label_scores")
BINARY_COLUMN = "is_asshole"  # a boolean, for a table without any column of verdicts
# What stands in place of a removed post; "nan" and the like where a program wrote a missing text.
_GONE = re.compile(r"|nan|none|null|\[\s*(?:removed|deleted)(?:\s+by\s+[^\]]*)?\s*\]", re.IGNORECASE)
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


class ReadPosts(NamedTuple):
    posts: list[Post]
    removed: int  # rows without a text, skipped
    unjudged: int  # rows without a verdict, skipped
    contradicted: int  # rows whose `is_asshole` differs from their verdict, which stands


def read_posts(paths: Sequence[Path]) -> ReadPosts:
    """The posts of `.jsonl`, `.csv` and `.parquet` files, in order.

    Raises:
      InputError: a file can't be read or lacks a column; rows have an unknown verdict, a repeated id or cells
        that can't be read (one message lists all bad rows); or there are no posts.
    """
    counts = Counter[str]()

    def parse(row: RawRow, default: str, path: Path) -> tuple[Post | None, list[str]]:
        return _post(row, default, counts)

    posts = read_rows(paths, _rows, parse, "posts with a text and a verdict")
    return ReadPosts(posts, counts["removed"], counts["unjudged"], counts["contradicted"])


def _rows(path: Path) -> Iterator[RawRow]:
    return table_rows(path, [*itertools.chain(*COLUMNS.values()), *_SCRUPLES_ONLY, BINARY_COLUMN])


def _post(row: RawRow, default: str, counts: Counter[str]) -> tuple[Post | None, list[str]]:
    """One post (called `default` if it has no id), and what is wrong with its row.

    There is no post if the row has no text or no verdict; `counts` counts these, and contradictions.
    """
    fields, wrong = row.fields, []
    column = _columns(row)

    def read(meaning: str, kind: Callable[[Any], str | None]) -> str:
        return cell(fields, column[meaning], kind, wrong) or "" if column[meaning] else ""

    post_text, said = _plain(read("text", text)), read("verdict", text).strip()
    said = "" if _GONE.fullmatch(said) else said
    asshole = cell(fields, BINARY_COLUMN, boolean, wrong)
    if not wrong and (_GONE.fullmatch(post_text) or (not said and asshole is None)):
        counts["removed" if _GONE.fullmatch(post_text) else "unjudged"] += 1
        return None, []
    verdict, binary = _verdicts(said, fields.get("binarized_label"))
    from_boolean = {None: "", True: "WRONG", False: "RIGHT"}[asshole]
    if not said:
        binary = from_boolean
    elif not verdict and not binary:
        wrong.append(
            f"verdict {brief(said)} is unknown (use YTA, NTA, ESH, NAH, INFO, wrong, right or "
            f"{', '.join(VERDICTS)})"
        )
    counts["contradicted"] += bool(binary) and from_boolean not in ("", binary)
    votes, share = _votes(fields, binary, wrong)
    post = Post(
        id=read("id", name) or default,
        title=_plain(read("title", text)),
        text=post_text,
        verdict=verdict,
        binary=binary,
        votes=votes,
        share=share,
        hypothetical=fields.get("post_type") == "HYPOTHETICAL",
    )
    return post, wrong


def _columns(row: RawRow) -> dict[str, str]:
    """The row's column of each meaning; "" if it has none.

    Raises:
      InputError: it lacks the text, the verdict, or one that Scruples has.
    """
    fields = row.fields
    found = {meaning: next((one for one in names if one in fields), "") for meaning, names in COLUMNS.items()}
    lacks = [one for one in SCRUPLES if one not in fields] if "post_type" in fields else []
    also = ""
    for meaning in ("text", "verdict"):
        if not lacks and not found[meaning] and not (meaning == "verdict" and BINARY_COLUMN in fields):
            lacks, also = [COLUMNS[meaning][0]], f" (it may be called {', '.join(COLUMNS[meaning][1:])}, too)"
    if lacks:
        there = ", ".join(sorted(map(str, fields))) or "none"
        raise InputError(f"{row.place}: the column {lacks[0]!r} is missing; the columns are: {there}{also}")
    return found


def _plain(found: str) -> str:
    """Reddit's text as readers see it: HTML entities decoded, zero-width spaces removed.

    Decoded twice: of an entity that the Markdown itself has, such as `&#x200B;` for a blank line, Reddit
    escapes the `&` once more.
    """
    return html.unescape(html.unescape(found)).replace("\u200b", "").strip()


def _verdicts(said: str, binarized: Any) -> tuple[str, str]:
    """The five-way and the binary verdict; "" for an unknown one.

    The publisher's binary verdict takes precedence: the two labels of one side may have most votes together
    while a label of the other side has the most votes by itself.
    """
    folded = said.strip().casefold().replace("\u2019", "'").removesuffix(" poo mode")
    if folded in ("wrong", "right"):
        return "", folded.upper()
    verdict = folded.upper() if folded.upper() in VERDICTS else _OTHER_NAMES.get(folded, "")
    known = binarized if binarized in ("WRONG", "RIGHT") else ""
    return verdict, (known or BINARY.get(verdict, "")) if verdict else ""


def _votes(fields: Mapping[str, Any], binary: str, wrong: list[str]) -> tuple[int, float]:
    """The number of votes, and the share of the binary votes for the binary verdict."""
    counted = []
    for column in ("label_scores", "binarized_label_scores"):
        scores, bad = fields.get(column) or {}, []
        votes = dict[str, int]()
        if isinstance(scores, Mapping):
            votes = {one: cell(scores, one, integer, bad) or 0 for one in scores}
        if not isinstance(scores, Mapping) or bad or min(votes.values(), default=0) < 0:
            wrong.append(f"{column} must map labels to numbers of votes")
            return 0, 0.0
        counted.append(votes)
    five, two = counted
    return min(sum(five.values()), 2**63 - 1), two.get(binary, 0) / max(sum(two.values()), 1)
