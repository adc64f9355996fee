"""TFDS builder of requests with their cues, split by request."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from introspection.errors import InputError
from introspection.tasks.prepared import TaskBuilder
from introspection.tasks.refusal.files import Request, read_requests, read_spans
from introspection.tasks.refusal.items import (
    RefusalConfig,
    balanced_requests,
    cues_of,
    distinct_requests,
    fits,
    with_spans,
)
from introspection.tasks.sequences import Row
from introspection.tasks.splits import NearDuplicates, split_questions
from introspection.tasks.subsets import drawn_kinds
from introspection.tasks.task import SPLITS


class RefusalRequests(TaskBuilder):
    """A row is a request and one of its cue kinds."""

    VERSION = tfds.core.Version("1.1.0")
    DESCRIPTION: ClassVar[str] = (
        "Requests that are harmful, that only look so, and that do not (FalseReject, WildGuardMix), each "
        "with a kind of cue that makes a refusal likelier or less likely."
    )
    CITATION: ClassVar[str] = (
        "Zhang et al.: FalseReject, COLM 2025, arXiv:2505.08054. "
        "Han et al.: WildGuard, NeurIPS 2024, arXiv:2406.18495"
    )
    LICENSE: ClassVar[str] = "FalseReject: CC BY-NC 4.0; WildGuardMix: ODC-BY"
    FEATURES: ClassVar[Mapping[str, tfds.features.FeatureConnector]] = {
        "id": tfds.features.Text(),
        "group": tfds.features.Text(),
        "source": tfds.features.Text(),
        "prompt": tfds.features.Text(),
        "harmful": tfds.features.Scalar(np.int64),
        "category": tfds.features.Text(),
        "adversarial": tfds.features.Scalar(np.int64),
        "span": tfds.features.Text(),
        "cue_kind": tfds.features.Text(),
    }
    settings: RefusalConfig

    def splits(self) -> tuple[Mapping[str, Iterator[Row]], Mapping[str, Any]]:
        config = self.settings
        files, spans = (self.files[:-1], self.files[-1]) if config.spans else (self.files, None)
        read = read_requests(files)
        requests = with_spans(read, read_spans(spans), str(spans)) if spans else read
        kept = [
            request
            for request in distinct_requests(requests)
            if fits(request, config) and cues_of(request, config)
        ]
        if config.balanced:
            kept = balanced_requests(kept, np.random.default_rng([config.seed, 53]))
        drawn = drawn_kinds(
            kept, lambda one: cues_of(one, config), config.cues_per_request, [config.seed, 54]
        )
        if not drawn:
            raise InputError(
                "config.task: no request passes its filters with a cue, or (balanced) all are harmful or none"
                " is; loosen them"
            )
        split = split_questions(
            [request.id for request, _ in drawn],
            [request.prompt for request, _ in drawn],
            {name: getattr(config, f"{name}_items") for name in SPLITS},
            config.seed,
            NearDuplicates(config.near_duplicates, config.similarity),
        )

        def rows(places: Sequence[int]) -> Iterator[Row]:
            return (row_of(*drawn[place], split.groups[place]) for place in places)

        about = dict(
            requests=len(requests),
            requests_left_out=len(requests) - len(kept),
            harmful=sum(bool(request.harmful) for request in kept),
            sources=dict(Counter(request.source for request in kept)),
            cue_kinds=dict(Counter(kind for _, kind in drawn)),
            drawn={name: len(places) for name, places in split.rows.items()},
            available=len(drawn),
            near_duplicates=split.duplicates,
            near_duplicates_moved=split.moved,
        )
        return {name: rows(places) for name, places in split.rows.items()}, about


def row_of(request: Request, kind: str, group: str) -> Row:
    row = dataclasses.asdict(request) | dict(
        group=group,
        harmful=int(bool(request.harmful)),
        adversarial=int(request.adversarial),
        cue_kind=kind,
    )
    return {name: row[name] for name in RefusalRequests.FEATURES}
