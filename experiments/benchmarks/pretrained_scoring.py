"""Candidates scored by a pretrained model, against lm-evaluation-harness on the same requests.

All candidates of items of `configs/smollm2.py`'s task are scored, with and without the cue. No two items
share a fact, so no prompt recurs. Both sides get the same tokens and compute in float32 on all cores; the
harness's HFLM sorts them by length, in batches of `batch_size`. Their log-probabilities must agree.
"""

import dataclasses
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.benchmarks.matrix_products import Product, forward_products, limit_numbers, product_limit
from experiments.benchmarks.peer_process import Peer, peers_python
from experiments.benchmarks.pretrained_case import TINY_MODEL, load_model
from experiments.benchmarks.timing import Measure, spread
from introspection.errors import RunError
from introspection.models.config import ModelConfig
from introspection.models.model import Model
from introspection.probes.scored import behavior_requests
from introspection.probes.scoring import ScoreRequest, score
from introspection.runtime.config import cache_dir
from introspection.runtime.session import Session
from introspection.tasks.items import Item
from introspection.tasks.registry import load_task
from introspection.weights.export import export_model

SCRIPT = "speed_scoring.py"
TOLERANCE = 1e-3  # nats of a summed log-probability
RELATIONS = (
    "country_capital",
    "country_continent",
    "country_currency",
    "country_language",
    "element_symbol",
)


@dataclasses.dataclass(frozen=True)
class Size:
    model: ModelConfig | None = None  # None: SmolLM2, fetched; else random numbers and tokens
    items: int = 64
    candidates: int = 4
    batch_size: int = 16  # of the harness; the fastest of 8, 16, 32 and 64 here
    rounds: int = 2
    warm_up: int = 64  # untimed requests that the harness answers first


TINY = Size(TINY_MODEL, items=3, candidates=2, batch_size=4, rounds=1, warm_up=4)


def run(size: Size | None = None) -> list[Measure]:
    """One comparison.

    Raises:
      InputError: SmolLM2 has not been fetched, or there are no peers.
      RunError: the peer fails, or a log-probability differs.
    """
    size = size or Size()
    peers_python()
    model = load_model(size.model)
    requests = random_requests(size) if size.model else item_requests(size, model)
    pairs = [[list(map(int, r.prompt)), list(map(int, said))] for r in requests for said in r.continuations]
    session = Session()
    seconds: dict[str, list[float]] = {"ours": [], "harness": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export_model(folder / "model", model.config, model.variables["params"], {}, {})
        (folder / "requests.json").write_text(json.dumps(pairs), encoding="utf-8")
        score(model, requests, session)  # compiles
        with Peer(SCRIPT, folder) as peer:
            peer.ask(count=size.warm_up, batch_size=size.batch_size)
            for _ in range(size.rounds):
                start = time.perf_counter()
                scores = score(model, requests, session)
                seconds["ours"].append(time.perf_counter() - start)
                answer = peer.ask(count=len(pairs), batch_size=size.batch_size)
                seconds["harness"].append(answer["seconds"])
                difference = check_scores(np.concatenate(scores), np.array(answer["logprobs"]))
            versions = peer.versions
    ours, theirs = (statistics.median(seconds[side]) for side in ("ours", "harness"))
    products = needed_products(model.config, requests)
    achieved = sum(product.flops for product in products) / ours / 1e9
    return [
        Measure(
            name="pretrained_scoring",
            value=round(len(pairs) / ours, 2),
            unit="candidates/s",
            reference=round(len(pairs) / theirs, 2),
            ratio=theirs / ours,
            extra={
                "ratio_is": "ours / lm-evaluation-harness",
                "target": ">= 4",
                "items": size.items,
                "requests": len(pairs),
                "harness_batch_size": size.batch_size,
                "max_abs_difference_nats": difference,
                "executables": session.programs.count("score_continuations"),
                "tokens_ratio": round(sum(len(c) + len(said) - 1 for c, said in pairs) / products[0].rows, 2),
                **spread("ours", seconds["ours"]),
                **spread("harness", seconds["harness"]),
                **limit_numbers(achieved, product_limit(products)),
                **versions,
            },
        )
    ]


def item_requests(size: Size, model: Model) -> list[ScoreRequest]:
    """Both prompts of items about different facts, with alternating kinds of cues."""
    section = {"name": "world_facts", "relations": RELATIONS, "phrasings": 1, "repeats": 1}
    section |= {"train_facts": size.items, "validation_facts": 1, "test_facts": 1}
    task, _ = load_task(section | {"candidates": size.candidates}, cache_dir())
    by_fact: dict[str, list[Item]] = defaultdict(list)
    for item in task.splits["train"]:
        by_fact[item.group].append(item)
    items = [own[number % len(own)] for number, own in enumerate(by_fact.values())]
    return behavior_requests(model.tokenizer, items)


def random_requests(size: Size) -> list[ScoreRequest]:
    """Random tokens, two requests per item."""
    assert size.model is not None
    rng, vocabulary = np.random.default_rng(0), size.model.vocab_size

    def tokens(most: int) -> list[int]:
        return rng.integers(4, vocabulary, rng.integers(1, most + 1)).tolist()

    return [
        ScoreRequest(tokens(9), [tokens(3) for _ in range(size.candidates)]) for _ in range(2 * size.items)
    ]


def needed_products(config: ModelConfig, requests: Sequence[ScoreRequest]) -> list[Product]:
    """The products of reading every prompt once and every candidate after it, without padding."""
    said = [continuation for request in requests for continuation in request.continuations]
    tokens = sum(len(request.prompt) for request in requests) + sum(len(one) - 1 for one in said)
    # A prompt's last position predicts the first token of all its candidates.
    return forward_products(config, tokens, len(requests) + sum(len(one) - 1 for one in said))


def check_scores(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference in nats. Raises RunError if it exceeds rounding error."""
    difference = float(np.abs(ours - theirs).max())
    if not difference <= TOLERANCE:
        raise RunError(f"log-probabilities differ from the harness's by {difference:.2e} nats")
    return difference
