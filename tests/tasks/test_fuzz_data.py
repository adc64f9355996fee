"""Mutated data files: every reader takes them or refuses them in a line, and never ends in another error."""

import contextlib
import gzip
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mmlu_cases import hinted as hinted_row

from introspection.errors import InputError
from introspection.tasks.aita.files import read_posts
from introspection.tasks.facts.table import FACTS_TABLE, read_facts_table
from introspection.tasks.hint_mmlu.files import question_files, read_questions
from introspection.tasks.hint_mmlu.hinted import hinted_files, read_hinted
from introspection.tasks.jsonl.files import format_problems, problems_of
from introspection.tasks.raw_files import raw_source
from introspection.tasks.refusal.files import read_requests, read_spans

MUTANTS = 25  # of each file
SAMPLES = {task: raw_source("sample", Path(), task) for task in ("aita", "refusal", "hint_mmlu", "jsonl")}
# What a mutation may put in: ends and openings of all formats, names, numbers, and bytes that are no text.
TOKENS = [
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r", b"\x00", b"\\", b"null", b"NaN", b"-Infinity"),
    *(b"true", b"1e999", b"9" * 400, b"\\ud800", b"\xff\xfe", b"\xed\xa0\x80", b"PAR1", b"[" * 2000, b"{}"),
    *(
        b'"id":',
        b'"text":',
        b'"prompt":',
        b'"candidates":',
        b"\xff\xff\xff\x7f",
        b"\x80" * 9,
        b"\xef\xbb\xbf",
    ),
]


def files_of(folder: Path) -> dict[str, tuple[bytes, str, Callable[[Path], object]]]:
    """Contents, name and reader of a small file of every one of `KINDS`."""
    posts = [json.loads(line) for line in next(SAMPLES["aita"].glob("*.jsonl")).read_text().splitlines()]
    table = "\r\n".join(
        ["id,post,verdict,is_asshole", *(f'{i},"I sang, {i}",YTA,1' for i in range(9))]
    ).encode()
    flat = [{"id": post["id"], "text": post["text"], "label": post["label"]} for post in posts]
    pq.write_table(pa.Table.from_pylist(flat), folder / "posts.parquet")
    pq.write_table(
        pa.Table.from_pylist([hinted_row(i, answer=i % 4) for i in range(9)]), folder / "hinted.parquet"
    )
    with tarfile.open(folder / "data.tar", "w") as archive:
        archive.add(SAMPLES["hint_mmlu"] / "data" / "test", "data/test")
    lines = b"".join(json.dumps(post).encode() + b"\n" for post in posts)
    mmlu = {path.suffix: path for path in question_files(SAMPLES["hint_mmlu"] / "all", ("test",))}[".parquet"]
    wild = next(SAMPLES["refusal"].rglob("wildguard_test.parquet"))
    benign = SAMPLES["refusal"] / "false_reject" / "test.jsonl"
    csv = next((SAMPLES["hint_mmlu"] / "data" / "test").glob("nutrition*.csv"))
    own = b"\n".join(next(SAMPLES["jsonl"].glob("*.jsonl")).read_bytes().split(b"\n")[:6])
    spans = b"".join(json.dumps({"id": f"{i}", "span": "x"}).encode() + b"\n" for i in range(9))

    def questions(path: Path) -> object:
        return read_questions([path], ("test",))

    def hinted(path: Path) -> object:
        return read_hinted(hinted_files(path) or [path])

    return {
        "anecdotes": (lines, "a.jsonl", lambda path: read_posts([path])),
        "anecdotes, packed": (gzip.compress(lines), "a.jsonl.gz", lambda path: read_posts([path])),
        "a list of anecdotes": (json.dumps(posts[:5]).encode(), "a.json", lambda path: read_posts([path])),
        "a table of posts": (table, "a.csv", lambda path: read_posts([path])),
        "posts in parquet": (
            (folder / "posts.parquet").read_bytes(),
            "a.parquet",
            lambda path: read_posts([path]),
        ),
        "requests": (benign.read_bytes(), "a.jsonl", lambda path: read_requests([path])),
        "requests in parquet": (wild.read_bytes(), "a.parquet", lambda path: read_requests([path])),
        "spans": (spans, "a.jsonl", read_spans),
        "own rows": (
            own,
            "a.jsonl",
            lambda path: format_problems(problems_of(path)),
        ),
        "questions": (csv.read_bytes(), "test/nutrition_test.csv", questions),
        "questions in parquet": (mmlu.read_bytes(), "test-0.parquet", questions),
        "questions in an archive": ((folder / "data.tar").read_bytes(), "data.tar", questions),
        "hinted questions": ((folder / "hinted.parquet").read_bytes(), "train.parquet", hinted),
        "facts": (b"\n".join(FACTS_TABLE.read_bytes().split(b"\n")[:90]), "facts.tsv", read_facts_table),
    }


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The data with one to four cuts, copies, flipped bits or tokens put in, half of them near an end."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        near = rng.choice((0, max(len(out) - 200, 0), rng.randrange(len(out) + 1)))
        at = min(near + rng.randrange(200), len(out))
        kind = rng.randrange(5)
        if kind == 0:
            del out[at:]
        elif kind == 1:
            del out[at : at + rng.randrange(40)]
        elif kind == 2:
            out[at:at] = out[at : at + rng.randrange(400)]
        elif kind == 3 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        else:
            out[at : at + rng.choice((0, 4))] = rng.choice(TOKENS)
    return bytes(out)


KINDS = (
    *("anecdotes", "anecdotes, packed", "a list of anecdotes", "a table of posts", "posts in parquet"),
    *("requests", "requests in parquet", "spans", "own rows", "questions", "questions in parquet"),
    *("questions in an archive", "hinted questions", "facts"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mutated_file_is_read_or_refused_in_a_line(tmp_path, kind):
    data, name, read = files_of(tmp_path)[kind]
    path = tmp_path / "mutant" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    read(path)  # the file itself is good
    for seed in range(MUTANTS):
        path.write_bytes(mutated(data, random.Random(f"{kind} {seed}")))
        print(f"{kind}: seed {seed}")  # shown if this fails
        with contextlib.suppress(InputError):
            read(path)
