"""Which parts of a model an answer depends on: ablate each and measure the cost.

A part is ablated by zeroing the parameters through which it writes to the residual stream. So its output is
zero (not its mean), every ablation reuses the programs that probe the whole model, and a norm after attention
(`post_norms`) rescales the rest as if it were complete.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from introspection.models.config import ModelConfig
from introspection.models.model import Model
from introspection.probes.explanation import score_explanations
from introspection.probes.scored import probe_behavior
from introspection.runtime.session import Session
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.items import Item


class Part(NamedTuple):
    """A query head of a layer or, if `head` is None, the layer's MLP."""

    layer: int
    head: int | None

    @property
    def name(self) -> str:
        return f"layer {self.layer} " + ("mlp" if self.head is None else f"head {self.head}")

    @property
    def block(self) -> str:
        """The name shared by comparable parts: the heads of one layer."""
        return f"layer {self.layer} " + ("mlp" if self.head is None else "heads")


class AblationEffects(NamedTuple):
    """The cost of ablating each part on each item, in nats; negative if the answer becomes more likely."""

    with_cue: Float[np.ndarray, "parts items"]  # of the whole model's decision on x
    without_cue: Float[np.ndarray, "parts items"]  # of its decision on x\C
    explanation: Float[np.ndarray, "parts items"]  # of its most likely explanation

    @property
    def behavior(self) -> Float[np.ndarray, "parts items"]:
        """The mean of both decisions."""
        return (self.with_cue + self.without_cue) / 2


def parts(config: ModelConfig) -> list[Part]:
    """For each layer, its query heads and then its MLP."""
    return [
        Part(layer, head) for layer in range(config.layers) for head in (*range(config.query_heads), None)
    ]


def ablate(variables: dict[str, dict], config: ModelConfig, part: Part) -> dict[str, dict]:
    """The variables without a part, with the same shapes and placement; its adapters are zeroed too."""
    projection = "down" if part.head is None else "output"
    start = 0 if part.head is None else part.head * config.head_dim
    count = config.mlp_width if part.head is None else config.head_dim

    def silence(leaf: jax.Array) -> jax.Array:
        kept = np.ones((*leaf.shape[:2], 1), np.float32)  # layers, inputs
        kept[part.layer, start : start + count] = 0
        return jax.device_put(leaf * kept.astype(leaf.dtype), leaf.sharding)

    def without(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rows = (f"params/layers/{projection}/kernel", f"lora/layers/{projection}/A")
        return silence(leaf) if name in rows else leaf

    return jax.tree_util.tree_map_with_path(without, variables)


def ablation_effects(
    model: Model,
    items: Sequence[Item],
    grammar: ExplanationGrammar,
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
) -> AblationEffects:
    """The drop in log-probability of the whole model's decisions and explanation, part by part.

    `progress` is called with parts done.
    """
    # These labels are only scored; they do not affect the choice.
    anything = [grammar.all_explanations(item.candidates)[0] for item in items]
    said, _ = score_explanations(model, items, grammar, anything, session)
    said = [one if one.valid else any_one for one, any_one in zip(said, anything, strict=True)]  # of equals
    decided = [
        tuple(int(np.argmax(row)) for row in behavior) for behavior in probe_behavior(model, items, session)
    ]

    def logprobs(model: Model) -> Float[np.ndarray, "answers items"]:
        behaviors = probe_behavior(model, items, session)
        explained = score_explanations(model, items, grammar, said, session)[1]
        with_cue = [b.with_cue[choice] for b, (choice, _) in zip(behaviors, decided, strict=True)]
        without_cue = [b.without_cue[choice] for b, (_, choice) in zip(behaviors, decided, strict=True)]
        return np.array([with_cue, without_cue, explained], np.float64)

    whole, drops = logprobs(model), []
    for part in parts(model.config):
        ablated = model.with_variables(ablate(model.variables, model.config, part))
        drops.append(whole - logprobs(ablated))
        progress(1)
    return AblationEffects(*np.stack(drops, axis=1))
