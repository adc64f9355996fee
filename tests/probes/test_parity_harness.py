"""Log-likelihoods and greedy flags are those of lm-evaluation-harness, on mixed requests in mixed batches."""

import collections
import json

import numpy as np
import pytest
from peers_environment import run_peer
from tiny import mesh_of, tiny_tokenizer

from introspection.models.model import Model
from introspection.probes.decoding import decode
from introspection.probes.scoring import ScoreRequest, score
from introspection.runtime.session import Session
from introspection.weights.load import load_folder

FAMILIES = ("llama31", "llama32", "mistral", "qwen2", "qwen3", "gemma2", "gemma3")
pytestmark = pytest.mark.parity
TOLERANCE = 1e-3  # nats of a summed log-likelihood
KINDS = {"short", "trailing space", "long", "long continuation", "empty", "shared", "unicode", "greedy"}


@pytest.fixture(scope="session")
def answers(tmp_path_factory):
    """A folder a family: a model, and the requests that HFLM answered with it."""
    folder = tmp_path_factory.mktemp("harness")
    for family in FAMILIES:
        (folder / family).mkdir()
    return run_peer("harness.py", folder)


@pytest.fixture
def harness(answers, family):
    config, params = load_folder(answers / family / "model", mesh_of())
    # The harness encoded the texts: scoring is of its tokens, and needs no tokenizer.
    model = Model(config, tiny_tokenizer(), {"params": params})
    return model, json.loads((answers / family / "requests.json").read_text())


@pytest.mark.parametrize("family", FAMILIES)
def test_two_hundred_loglikelihoods(harness):
    model, requests = harness
    assert len(requests) == 200
    assert {request["kind"] for request in requests} > KINDS
    by_context = collections.defaultdict(list)  # requests of one context are continuations of one prompt
    for index, request in enumerate(requests):
        by_context[tuple(request["context"])].append(index)
    shared = [ScoreRequest(c, [requests[i]["continuation"] for i in own]) for c, own in by_context.items()]
    assert max(len(request.continuations) for request in shared) >= 4
    found = np.zeros(len(requests))
    for own, logprobs in zip(by_context.values(), score(model, shared, Session(mesh_of())), strict=True):
        found[own] = logprobs
    expected = np.array([request["logprob"] for request in requests])
    assert np.ptp(expected) > 500
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("family", ["llama32"])  # the others' replies are held against transformers'
def test_greedy_flags(harness):
    """What the model says by itself begins with the continuation exactly where the harness has a flag."""
    model, requests = harness
    chosen = [request for request in requests if len(request["continuation"]) <= 4]
    flags = [request["greedy"] for request in chosen]
    assert sum(flags) >= 20
    assert len(flags) - sum(flags) >= 80
    replies = decode(model, [request["context"] for request in chosen], 4, Session(mesh_of()))
    found = [
        list(reply.tokens[: len(request["continuation"])]) == request["continuation"]
        for reply, request in zip(replies, chosen, strict=True)
    ]
    assert found == flags
