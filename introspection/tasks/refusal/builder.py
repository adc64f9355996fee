"""The TFDS builder of requests with their cues, in splits by request."""

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
from introspection.tasks.task import SPLITS


class RefusalRequests(TaskBuilder):
    """A row is a request and a cue kind that it gets."""

    VERSION = tfds.core.Version("1.0.0")
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
        kept = [one for one in distinct_requests(requests) if fits(one, config) and cues_of(one, config)]
        if config.balanced:
            kept = balanced_requests(kept, np.random.default_rng([config.seed, 53]))
        drawn = draw_cues(kept, config)
        if not drawn:
            raise InputError(
                "config.task: no request fits it, or none has a cue, or (balanced) all are harmful or none "
                "is: widen its fields"
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
            harmful=sum(bool(one.harmful) for one in kept),
            sources=dict(Counter(one.source for one in kept)),
            cue_kinds=dict(Counter(kind for _, kind in drawn)),
            near_duplicates=split.duplicates,
            near_duplicates_moved=split.moved,
        )
        return {name: rows(places) for name, places in split.rows.items()}, about


def draw_cues(requests: Sequence[Request], config: RefusalConfig) -> list[tuple[Request, str]]:
    """The requests with the cue kinds drawn for each."""
    rng = np.random.default_rng([config.seed, 54])
    drawn = []
    for request in requests:
        kinds = cues_of(request, config)
        chosen = rng.permutation(len(kinds))[: config.cues_per_request or len(kinds)]
        drawn += [(request, kinds[place]) for place in sorted(chosen)]
    return drawn


def row_of(request: Request, kind: str, group: str) -> Row:
    return dict(
        id=request.id,
        group=group,
        source=request.source,
        prompt=request.prompt,
        harmful=int(bool(request.harmful)),
        category=request.category,
        adversarial=int(request.adversarial),
        span=request.span,
        cue_kind=kind,
    )
