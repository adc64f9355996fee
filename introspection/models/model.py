"""A model at hand: its shape, its tokenizer and its variables."""

import dataclasses

import jax

from introspection.models.config import ModelConfig
from introspection.text.tokenizer import ChatTokenizer


@dataclasses.dataclass(frozen=True)
class Model:
    """`variables` is `{"params": ...}` and, where there are adapters, `{"lora": ...}`."""

    config: ModelConfig
    tokenizer: ChatTokenizer
    variables: dict[str, dict]

    def with_variables(self, variables: dict[str, dict]) -> "Model":
        return dataclasses.replace(self, variables=variables)


def select_seed(stacked, index: int):
    """One seed's tree out of a tree whose leaves have a leading seed axis."""
    return jax.tree.map(lambda leaf: leaf[index], stacked)
