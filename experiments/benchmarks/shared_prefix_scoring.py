"""K continuations of one prompt: the shared-prefix scorer against scoring every pair separately."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from experiments.benchmarks.timing import Measure, alternate
from introspection.errors import RunError
from introspection.models.config import ModelConfig
from introspection.models.decoder import forward, initialize
from introspection.models.head import head_matrix, target_logprobs
from introspection.probes.scoring import HEAD_CHUNK, continuation_logprobs

# Largest difference of a continuation's summed log-probability (nats) from rounding.
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Size:
    prompt: int = 384  # tokens; a bucket, so neither side pads
    continuations: int = 16
    continuation: int = 8  # tokens
    layers: int = 12
    width: int = 256
    query_heads: int = 8
    kv_heads: int = 4
    mlp_width: int = 688
    vocab_size: int = 4096
    runs: int = 9

    def model(self) -> ModelConfig:
        return ModelConfig(
            vocab_size=self.vocab_size,
            width=self.width,
            layers=self.layers,
            query_heads=self.query_heads,
            kv_heads=self.kv_heads,
            head_dim=self.width // self.query_heads,
            mlp_width=self.mlp_width,
            context_length=self.prompt + self.continuation,
            compute_dtype="float32",
        )


TINY = Size(8, 2, 3, 1, 16, 2, 1, 16, 64, runs=2)


def naive_logprobs(
    config: ModelConfig,
    variables,
    tokens: Int[Array, "rows time"],
    lengths: Int[Array, " rows"],
    scored: Int[Array, "rows scored"],
    targets: Int[Array, "rows scored"],
) -> Float[Array, " rows"]:
    """A row is a prompt and one continuation; the head sees only the scored positions.

    Apart from the shared prompt, all is as in the scorer: one jitted batch of a bucket's shape, right
    padding, the same decoder and head.
    """
    index = jnp.arange(tokens.shape[1])
    segments = jnp.where(index < lengths[:, None], 0, -1)
    positions = jnp.broadcast_to(index, tokens.shape)
    hidden = forward(config, variables, tokens, positions, segments).hidden
    hidden = jnp.take_along_axis(hidden, scored[:, :, None], axis=1)
    head = head_matrix(variables, config)
    logprobs = target_logprobs(
        head, hidden.reshape(-1, config.width), targets.reshape(-1, 1), HEAD_CHUNK, config.final_softcap
    )
    return logprobs.reshape(targets.shape).sum(axis=1)


def run(size: Size | None = None) -> list[Measure]:
    """One request of random tokens; both sides see the same model, tokens and number of scored positions.

    The naive side has no padding: its time axis is the pairs' length minus the last token, which is never
    read. Raises RunError if the two sides' log-probabilities differ by more than `TOLERANCE`.
    """
    size = size or Size()
    config = size.model()
    variables = jax.jit(lambda key: initialize(config, key))(jax.random.key(0))
    rng = np.random.default_rng(0)
    prompt = rng.integers(0, size.vocab_size, size.prompt)
    said = rng.integers(0, size.vocab_size, (size.continuations, size.continuation))
    pairs = np.concatenate([np.broadcast_to(prompt, (len(said), size.prompt)), said[:, :-1]], axis=1)
    scored = np.broadcast_to(size.prompt - 1 + np.arange(size.continuation), said.shape)

    def placed(*arrays):
        return [jnp.asarray(array, jnp.int32) for array in arrays]

    shared_inputs = placed(prompt[None], [size.prompt], said[None], [[size.continuation] * len(said)])
    naive_inputs = placed(pairs, [pairs.shape[1]] * len(said), scored, said)
    shared = jax.jit(lambda *arrays: continuation_logprobs(config, *arrays))
    naive = jax.jit(lambda *arrays: naive_logprobs(config, *arrays))
    ways = {
        "naive": lambda: naive(variables, *naive_inputs),
        "shared": lambda: shared(variables, *shared_inputs),
    }
    difference = float(jnp.abs(ways["shared"]()[0] - ways["naive"]()).max())
    if not difference <= TOLERANCE:
        raise RunError(f"shared-prefix and naive log-probabilities differ by {difference:.2e}")
    times = alternate(ways, size.runs)
    tokens = {"naive": pairs.size, "shared": size.prompt + said[:, :-1].size}
    return [
        Measure(
            name="shared_prefix_scoring",
            value=round(times["shared"].median * 1e3, 3),
            unit="ms a request",
            reference=round(times["naive"].median * 1e3, 3),
            ratio=times["naive"].median / times["shared"].median,
            extra={
                "ratio_is": "naive / shared",
                "target": ">= 10",
                "tokens_ratio": round(tokens["naive"] / tokens["shared"], 2),
                "max_abs_difference_nats": difference,
                **times["shared"].numbers("shared"),
                **times["naive"].numbers("naive"),
            },
        )
    ]
