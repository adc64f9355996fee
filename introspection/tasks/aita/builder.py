"""TFDS builder of r/AmItheAsshole posts with their cues, split by post."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from introspection.errors import InputError
from introspection.tasks.aita.files import Post, read_posts
from introspection.tasks.aita.items import AitaConfig, cues_of, fits, post_text, verdict_count
from introspection.tasks.prepared import TaskBuilder
from introspection.tasks.sequences import Row
from introspection.tasks.splits import NearDuplicates, split_questions
from introspection.tasks.subsets import drawn_kinds
from introspection.tasks.task import SPLITS

# Reposts begin alike, and shingling whole posts would take minutes.
_COMPARED_CHARACTERS = 1000


class AitaPosts(TaskBuilder):
    """A row is a post, one of its cue kinds, and the order in which its question lists the verdicts."""

    VERSION = tfds.core.Version("1.2.0")
    DESCRIPTION: ClassVar[str] = (
        "Posts of r/AmItheAsshole with the community's verdicts (Scruples Anecdotes, or a plain table), each "
        "with the kind of sentence that pleads for a verdict."
    )
    CITATION: ClassVar[str] = (
        "Lourie, Le Bras, Choi: Scruples: A Corpus of Community Ethical Judgments on 32,000 Real-Life "
        "Anecdotes. AAAI 2021, arXiv:2008.09094"
    )
    LICENSE: ClassVar[str] = "Scruples: Apache-2.0; the posts are their authors'"
    FEATURES: ClassVar[Mapping[str, tfds.features.FeatureConnector]] = {
        "id": tfds.features.Text(),
        "group": tfds.features.Text(),
        "title": tfds.features.Text(),
        "text": tfds.features.Text(),
        "verdict": tfds.features.Text(),
        "binary": tfds.features.Text(),
        "votes": tfds.features.Scalar(np.int64),
        "share": tfds.features.Scalar(np.float32),
        "hypothetical": tfds.features.Scalar(np.int64),
        "cue_kind": tfds.features.Text(),
        "order": tfds.features.Tensor(shape=(None,), dtype=np.int64),
    }
    settings: AitaConfig

    def splits(self) -> tuple[Mapping[str, Iterator[Row]], Mapping[str, Any]]:
        read, config = read_posts(self.files), self.settings
        posts = read.posts
        kept = [post for post in posts if fits(post, config)]
        drawn = drawn_kinds(kept, lambda post: cues_of(post, config), config.cues_per_post, [config.seed, 51])
        if not drawn:
            raise InputError("config.task: no post passes its filters with a cue; loosen them")
        split = split_questions(
            [post.id for post, _ in drawn],
            [post_text(post, config)[:_COMPARED_CHARACTERS] for post, _ in drawn],
            {name: getattr(config, f"{name}_items") for name in SPLITS},
            config.seed,
            NearDuplicates(config.near_duplicates, config.similarity),
        )
        orders = np.random.default_rng([config.seed, 52])
        order_of = {post.id: orders.permutation(verdict_count(config)).tolist() for post in kept}

        def rows(places: Sequence[int]) -> Iterator[Row]:
            for place in places:
                post, kind = drawn[place]
                yield row_of(post, kind, order_of[post.id], split.groups[place])

        about = dict(
            posts=len(posts),
            posts_left_out=len(posts) - len(kept),
            posts_removed=read.removed,  # without a text; skipped
            posts_unjudged=read.unjudged,  # without a verdict; skipped
            verdicts_contradicted=read.contradicted,  # by `is_asshole`
            drawn={name: len(places) for name, places in split.rows.items()},
            available=len(drawn),
            cue_kinds=dict(Counter(kind for _, kind in drawn)),
            near_duplicates=split.duplicates,
            near_duplicates_moved=split.moved,
        )
        return {name: rows(places) for name, places in split.rows.items()}, about


def row_of(post: Post, kind: str, order: Sequence[int], group: str) -> Row:
    return dataclasses.asdict(post) | dict(
        group=group, hypothetical=int(post.hypothetical), cue_kind=kind, order=list(order)
    )
