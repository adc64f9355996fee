"""A run's files as they lie in a bucket's copy, for the tests of buckets."""

import os
from pathlib import Path

# As a run leaves them, and in this order; a * is in a folder that appears by a rename.
FILES = (
    "config.json",
    "tokenizer.json",
    "checkpoints/kl/model.json",
    "checkpoints/kl/0/metadata/d/1",  # *
    "checkpoints/kl/0/trainable/d/2",  # *
    "labels/kl/labels.array_record",  # *
    "labels/kl/metadata.json",  # *
    "metrics.jsonl",
    "tensorboard/kl-seed0/events",
    "checkpoints/kl/20/metadata/d/3",  # *
    "checkpoints/kl/20/trainable/d/4",  # *
    "arms/kl/records.jsonl",
    "results.json",
)


def write_files(folder: Path, names=FILES, text: str = "") -> None:
    for age, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}{name}")
        os.utime(path, ns=(age * 10**9, age * 10**9))


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}
